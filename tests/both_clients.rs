//! The unmodified `docker` client beside ours: the same words, the same output, the same exit.

use berth_testkit::{Berth, Client, Outcome};

use crate::start;

fn docker_is_installed() -> bool {
    std::process::Command::new("docker").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Both clients must print the same and end the same way, after `normal` took out what cannot be the same.
#[track_caller]
fn same(berth: &Berth, words: &str, normal: impl Fn(&str) -> String) {
    let [ours, theirs] = [Client::Berth, Client::Docker].map(|client| {
        let Outcome { code, stdout, stderr, .. } = berth.run_as(client, words);
        (code, normal(&stdout), normal(&stderr))
    });
    assert_eq!(ours, theirs, "{words}");
}

fn plain(text: &str) -> String {
    text.replace("docker", "berth").replace("Docker", "Berth")
}

#[test]
fn containers_are_driven_the_same_way() {
    if !docker_is_installed() {
        eprintln!("docker is not installed: not compared");
        return;
    }
    let berth = start();
    for words in [
        "run --rm busybox echo hello",
        "run --rm busybox sh -c 'echo a; echo b >&2; exit 3'",
        "run --rm --network none busybox true",
        "run --rm busybox nosuch",
        "run --rm -u nosuch busybox",
        "run --rm -m 1k busybox",
        "ps -a --format '{{.Names}} {{.Status}}'",
        "ps",
        "inspect nosuch",
        "rm nosuch",
        "stop nosuch",
        "logs nosuch",
        "exec nosuch true",
        "volume ls",
        "images --format '{{.Repository}}:{{.Tag}}'",
    ] {
        same(&berth, words, plain);
    }
    berth.docker("run -d --name made-by-docker busybox sleep 600").succeeds();
    same(&berth, "exec made-by-docker echo in", plain);
    same(&berth, "exec made-by-docker nosuch", plain);
    same(&berth, "ps --format '{{.Names}} {{.Image}} {{.Command}} {{.State}}'", plain);
    same(
        &berth,
        "inspect -f '{{json .Config}} {{json .HostConfig}} {{json .Mounts}} {{json .State}}' made-by-docker",
        plain,
    );
    same(&berth, "top made-by-docker -o pid,comm", plain);
    same(&berth, "logs made-by-docker", plain);
    berth.docker("rm -f made-by-docker").prints("made-by-docker\n");
}

#[test]
fn the_docker_client_gets_streams_and_codes() {
    if !docker_is_installed() {
        eprintln!("docker is not installed: not compared");
        return;
    }
    let berth = start();
    let outcome =
        Outcome::of(&mut berth.command(Client::Docker, &["run", "--rm", "-i", "busybox", "cat"]), b"through\n");
    outcome.prints("through\n");
    berth.docker("run --name ll busybox sh -c 'echo 1; echo 2 >&2'").exits(0);
    let logs = berth.docker("logs ll");
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("1\n", "2\n"));
    berth.docker("start -a ll").prints("1\n");
    berth.docker("wait ll").prints("0\n");
    berth.docker("rename ll mm").succeeds();
    berth.docker("version --format {{.Server.APIVersion}}").succeeds();
    berth.docker("info --format {{.Driver}}").succeeds();
    berth.docker("system df").succeeds();
}
