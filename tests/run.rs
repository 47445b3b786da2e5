//! `berth run` and `berth create`.

use crate::start;

#[test]
fn it_prints_what_the_program_prints_and_exits_as_it_does() {
    let berth = start();
    berth.run("run --rm busybox echo hello").prints("hello\n");
    berth.run("run --rm busybox sh -c 'echo out; echo err >&2; exit 7'").exits(7);
    let outcome = berth.run("run --rm busybox sh -c 'echo err >&2'");
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", "err\n"));
    assert_eq!(berth.run("ps -aq").succeeds(), "");
}

#[test]
fn hello_world_needs_nothing_but_the_program() {
    let berth = berth_testkit::Berth::start_empty(crate::BERTH, &[]);
    let outcome = berth.run("run --rm hello-world");
    assert!(outcome.stdout.contains("Hello"), "{outcome:#?}");
    assert!(outcome.stderr.contains("Unable to find image 'hello-world:latest' locally"), "{outcome:#?}");
}

#[test]
fn stdin_reaches_the_program_and_its_end_too() {
    let berth = start();
    let outcome = berth.run_with_input("run --rm -i busybox cat", b"one\ntwo\n");
    outcome.prints("one\ntwo\n");
    let megabytes = vec![b'x'; 3_000_000];
    berth.run_with_input("run --rm -i busybox wc -c", &megabytes).prints("3000000\n");
}

#[test]
fn missing_and_unusable_programs_have_their_own_codes() {
    let berth = start();
    berth.run("run --rm busybox nosuch").fails(127, "executable file not found in $PATH");
    berth.run("run --rm busybox /nosuch").fails(127, "no such file or directory");
    berth.run("run --rm busybox /etc/passwd").fails(126, "permission denied");
    berth.run("run --rm busybox /etc").fails(126, "");
    assert_eq!(berth.run("ps -aq").succeeds(), "", "--rm removes what could not be started");
}

#[test]
fn the_engine_s_refusals_end_with_125() {
    let berth = start();
    berth.run("run --rm nosuch:image true").fails(125, "nosuch:image");
    berth.run("run --nope busybox").fails(125, "unknown flag: --nope");
    berth.run("run -m 1k busybox").fails(125, "Minimum memory limit");
    berth.run("run --cpus 9999 busybox").fails(125, "CPUs");
    berth.run("run -v relative/path/is:bad:mode busybox").fails(125, "");
    berth
        .run("run --mount type=bind,src=/no/such/place,dst=/x busybox")
        .fails(125, "bind source path does not exist: /no/such/place");
    berth
        .run("run -u nobodyknows busybox true")
        .fails(125, "unable to find user nobodyknows: no matching entries in passwd file");
    berth.run("run -d --name taken busybox sleep 600").succeeds();
    berth.run("run --name taken busybox").fails(125, "The container name \"/taken\" is already in use by container");
}

#[test]
fn environment_user_directory_and_hostname_are_as_asked() {
    let berth = start();
    berth
        .run("run --rm -e A=1 -e PATH=/bin -h box busybox sh -c 'echo $A $PATH $HOSTNAME $HOME'")
        .prints("1 /bin box /root\n");
    berth
        .run("run --rm -u www-data busybox id")
        .prints("uid=33(www-data) gid=33(www-data) groups=29(audio),33(www-data)\n");
    berth.run("run --rm -u 1234:5678 busybox sh -c 'id -u; id -g'").prints("1234\n5678\n");
    berth.run("run --rm -w /made/for/it busybox pwd").prints("/made/for/it\n");
    berth.run("run --rm --entrypoint echo busybox a b").prints("a b\n");
    berth.run("run --rm --read-only busybox touch /x").fails(1, "Read-only file system");
    berth.run("run --rm --init busybox sh -c 'cat /proc/1/comm'").shows("init");
}

#[test]
fn a_container_is_confined() {
    let berth = start();
    berth.run("run --rm busybox sh -c 'grep -c . /proc/kcore; mount -t tmpfs x /tmp'").exits(1);
    berth.run("run --rm busybox sh -c 'echo 1 > /proc/sys/kernel/panic'").fails(1, "Read-only file system");
    let caps = berth.run("run --rm busybox grep CapEff /proc/self/status").succeeds();
    assert_eq!(caps, "CapEff:\t00000000a80425fb");
    let none = berth.run("run --rm --cap-drop ALL busybox grep CapEff /proc/self/status").succeeds();
    assert_eq!(none, "CapEff:\t0000000000000000");
    let user = berth.run("run --rm -u 33 busybox grep CapEff /proc/self/status").succeeds();
    assert_eq!(user, "CapEff:\t0000000000000000");
    berth.run("run --rm busybox grep Seccomp: /proc/self/status").prints("Seccomp:\t2\n");
    berth
        .run("run --rm --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status")
        .prints("Seccomp:\t0\n");
    berth
        .run("run --rm --security-opt no-new-privileges busybox grep NoNewPrivs /proc/self/status")
        .prints("NoNewPrivs:\t1\n");
    berth.run("run --rm --privileged busybox sh -c 'mount -t tmpfs x /tmp && echo mounted'").prints("mounted\n");
    berth.run("run --rm busybox sh -c 'ls /proc/self/fd | wc -l'").prints("4\n");
}

#[test]
fn create_prints_the_id_and_starts_nothing() {
    let berth = start();
    let id = berth.run("create --name later busybox echo done").succeeds();
    assert_eq!(id.len(), 64);
    berth.run("inspect -f {{.State.Status}} later").prints("created\n");
    berth.run("start -a later").prints("done\n");
    berth.run("inspect -f '{{.State.Status}} {{.State.ExitCode}}' later").prints("exited 0\n");
}

#[test]
fn a_detached_container_runs_on() {
    let berth = start();
    let id = berth.run("run -d --name bg busybox sleep 600").succeeds();
    assert_eq!(id.len(), 64);
    berth.run("ps -q --no-trunc").prints(&format!("{id}\n"));
    berth.run("rm bg").fails(1, "container is running: stop the container before removing or force remove");
    berth.run("rm -f bg").prints("bg\n");
}

#[test]
fn cidfile_gets_the_id() {
    let berth = start();
    let file = berth.sandbox().path().join("cid");
    berth.run(&format!("run -d --cidfile {} busybox true", file.display())).succeeds();
    let id = std::fs::read_to_string(&file).expect("written");
    assert_eq!(id.len(), 64);
    berth.run(&format!("run --cidfile {} busybox true", file.display())).fails(125, "container ID file found");
}
