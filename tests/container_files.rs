//! What containers write, seen from outside: diff, export, commit, cp in both directions, through both clients.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use berth_testkit::Client;

use crate::start;

/// Both clients, as far as they are installed.
fn clients() -> Vec<Client> {
    let docker = std::process::Command::new("docker").arg("--version").output();
    let docker = docker.is_ok_and(|output| output.status.success());
    if docker { vec![Client::Berth, Client::Docker] } else { vec![Client::Berth] }
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

#[test]
fn diff_tells_what_became_of_the_image_s_files() {
    let berth = start();
    berth.run("run --name box busybox sh -c 'rm /bin/true; mkdir /d; echo x > /d/f; echo y >> /etc/passwd; rm -r /var; mkdir /var; chmod 755 /home'").succeeds();
    for client in clients() {
        let shown = berth.run_as(client, "diff box").succeeds();
        assert_eq!(shown, "C /bin\nD /bin/true\nA /d\nA /d/f\nC /etc\nC /etc/passwd\nC /var\nD /var/www", "{client:?}");
    }
    berth.run("create --name fresh busybox").succeeds();
    berth.run("diff fresh").prints("");
    berth.run("diff nosuch").fails(1, "No such container: nosuch");
}

#[test]
fn export_is_the_whole_tree_without_volumes() {
    let berth = start();
    berth.run("run -d --name box -v vol:/data busybox sh -c 'echo in > /data/x; echo new > /new; rm /bin/true; exec sleep 600'").succeeds();
    crate::eventually("it wrote", || {
        berth.run("exec box cat /new").stdout == "new\n" && berth.run("exec box ls /bin/true").code != 0
    });
    for client in clients() {
        let tar = berth.sandbox().path().join(format!("{client:?}.tar"));
        berth.run_as(client, &format!("export -o {} box", tar.display())).succeeds();
        let mut archive = tar::Archive::new(fs::File::open(&tar).expect("tar"));
        let names: Vec<String> = archive
            .entries()
            .expect("entries")
            .map(|entry| entry.expect("entry").path().expect("path").to_string_lossy().into_owned())
            .collect();
        let has = |name: &str| names.iter().any(|own| own.trim_end_matches('/') == name);
        assert!(has("new") && has("bin/busybox") && has(".dockerenv") && has("data"), "{names:?}");
        assert!(!has("data/x") && !has("bin/true"), "{names:?}");
        let mut sorted = names.clone();
        sorted.sort_by_key(|name| name.trim_end_matches('/').replace('/', "\0"));
        assert_eq!(names, sorted);
    }
    berth.run("rm -f box").succeeds();
    let tar = berth.sandbox().path().join("Berth.tar");
    berth.run(&format!("import {} again", tar.display())).succeeds();
    berth.run("run --rm again cat /new").prints("new\n");
    berth.run("volume rm vol").succeeds();
}

#[test]
fn commit_makes_an_image_of_what_was_written() {
    let berth = start();
    berth.run("run --name box -e OWN=1 busybox sh -c 'echo z > /z; rm /bin/true; rm -r /var/www; mkdir /var/www; echo w > /var/www/w'").succeeds();
    for client in clients() {
        let name = format!("{client:?}").to_lowercase();
        let id = berth
            .run_as(client, &format!("commit -a me -m word -c 'CMD [\"cat\", \"/z\"]' -c 'LABEL a=b' box {name}:1"))
            .succeeds();
        assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
        berth.run_as(client, &format!("run --rm {name}:1")).prints("z\n");
        berth.run_as(client, &format!("run --rm {name}:1 ls /bin/true /var/www")).exits(1).stderr.contains("/bin/true");
        let shown = berth
            .run_as(client, &format!("image inspect -f '{{{{.Author}}}} {{{{.Comment}}}} {{{{json .Config.Labels}}}} {{{{len .RootFS.Layers}}}} {{{{json .Config.Env}}}}' {name}:1"))
            .succeeds();
        assert!(shown.starts_with("me word {\"a\":\"b\"} 2 [\"OWN=1\""), "{shown}");
        let history = berth.run_as(client, &format!("history --format '{{{{.CreatedBy}}}}|{{{{.Comment}}}}' {name}:1"));
        history.shows("|word\n").shows("|Imported from -");
    }
    // What nothing was written to gets no layer.
    berth.run("create --name still busybox").succeeds();
    berth.run("commit still still:1").succeeds();
    berth.run("image inspect -f '{{len .RootFS.Layers}}' still:1").prints("1\n");
    berth.run("commit -c 'RUN x' box").fails(1, "RUN is not a valid change command");
    berth.run("commit nosuch").fails(1, "No such container: nosuch");
    berth.run("rm box still").succeeds();
}

#[test]
fn a_running_container_is_frozen_while_it_is_committed() {
    let berth = start();
    berth.run("run -d --name box busybox sleep 600").succeeds();
    for (flag, frozen) in [("", true), ("--no-pause", false)] {
        let from = berth.run("info -f '{{.SystemTime}}'").succeeds();
        berth.run(&format!("commit {flag} box made")).succeeds();
        let seen =
            berth.run(&format!("events --since {from} --until 0s --filter container=box --format '{{{{.Action}}}}'"));
        let actions: Vec<&str> = seen.stdout.lines().collect();
        assert_eq!(actions.contains(&"pause") && actions.contains(&"unpause"), frozen, "{actions:?}");
        assert!(actions.contains(&"commit"), "{actions:?}");
    }
    berth.run("inspect -f '{{.State.Status}}' box").prints("running\n");
    berth.run("rm -f box").succeeds();
}

#[test]
fn other_people_s_tools_read_what_we_commit() {
    let berth = start();
    berth.run("run --name box busybox sh -c 'echo z > /z; rm /bin/true'").succeeds();
    berth.run("commit box made:1").succeeds();
    let path = berth.sandbox().path();
    berth.run(&format!("save -o {}/made.tar made:1", path.display())).succeeds();
    let run = |program: &str, words: &[String]| std::process::Command::new(program).args(words).output();
    let layout = format!("{}/layout", path.display());
    fs::create_dir(&layout).expect("directory");
    let unpacked = run("tar", &["-xf".into(), format!("{}/made.tar", path.display()), "-C".into(), layout.clone()]);
    assert!(unpacked.is_ok_and(|output| output.status.success()));
    let copied = run(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            &format!("docker-archive:{}/made.tar", path.display()),
            &format!("oci:{layout}2:made"),
        ]
        .map(String::from),
    );
    let Ok(copied) = copied else {
        eprintln!("skopeo is not installed: not compared");
        return;
    };
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let bundle = format!("{}/bundle", path.display());
    let Ok(unpacked) = run("umoci", &["unpack", "--image", &format!("{layout}2:made"), &bundle].map(String::from))
    else {
        eprintln!("umoci is not installed: not compared");
        return;
    };
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
    assert_eq!(text(format!("{bundle}/rootfs/z")), "z\n");
    assert!(!Path::new(&format!("{bundle}/rootfs/bin/true")).exists());
    assert!(Path::new(&format!("{bundle}/rootfs/bin/busybox")).exists());
}

/// A small tree to copy.
fn tree(at: &Path) {
    fs::create_dir_all(at.join("sub")).expect("directory");
    fs::write(at.join("file"), "content").expect("file");
    fs::write(at.join("sub/deep"), "deep").expect("file");
    fs::set_permissions(at.join("file"), fs::Permissions::from_mode(0o640)).expect("mode");
    symlink("file", at.join("link")).expect("link");
}

#[test]
fn cp_follows_the_rules_of_paths_in_both_directions() {
    let berth = start();
    for client in clients() {
        for running in [true, false] {
            let here = berth.sandbox().path().join(format!("{client:?}-{running}"));
            tree(&here.join("s"));
            let cp = |words: &str| berth.run_as(client, &words.replace("HERE", &here.display().to_string()));
            berth.run("run -d --name box busybox sleep 600").succeeds();
            if !running {
                berth.run("stop -t 0 box").succeeds();
            }
            cp("cp HERE/s box:/as").succeeds();
            cp("cp HERE/s box:/tmp").succeeds();
            cp("cp HERE/s/. box:/home").succeeds();
            cp("cp HERE/s/file box:/tmp/renamed").succeeds();
            cp("cp HERE/s/link box:/tmp").succeeds();
            cp("cp -L HERE/s/link box:/tmp/followed").succeeds();
            cp("cp HERE/s/file box:/nosuch/").fails(1, "no such directory");
            cp("cp HERE/s box:/etc/passwd").fails(1, "cannot copy directory");
            cp("cp HERE/s/file box:/nosuch/dir/file").fails(1, "Could not find the file /nosuch/dir in container box");
            cp("cp HERE/nosuch box:/tmp").fails(1, "no such file or directory");
            if !running {
                berth.run("start box").succeeds();
            }
            berth.run("exec box sh -c 'cat /as/file /tmp/s/sub/deep /home/file /tmp/renamed /tmp/followed; readlink /tmp/link; stat -c %a /as/file'")
                .prints("contentdeepcontentcontentcontentfile\n640\n");
            if !running {
                berth.run("stop -t 0 box").succeeds();
            }
            cp("cp box:/as HERE/out").succeeds();
            cp("cp box:/as/file HERE/one").succeeds();
            cp("cp box:/as/. HERE/s").succeeds();
            cp("cp box:/as/link HERE/l").succeeds();
            cp("cp -L box:/as/link HERE/followed").succeeds();
            cp("cp box:/nosuch HERE").fails(1, "Could not find the file /nosuch in container box");
            cp("cp box:/as/file HERE/none/").fails(1, "");
            cp("cp nosuch:/x HERE").fails(1, "No such container: nosuch");
            cp("cp box:/a box:/b").fails(1, "copying between containers is not supported");
            cp("cp /a /b").fails(1, "must specify at least one container source");
            assert_eq!(text(here.join("out/sub/deep")), "deep");
            assert_eq!((text(here.join("one")), text(here.join("followed"))), ("content".into(), "content".into()));
            assert_eq!(fs::read_link(here.join("l")).expect("a link"), Path::new("file"));
            assert_eq!(fs::metadata(here.join("out/file")).expect("file").mode() & 0o777, 0o640);
            berth.run("rm -f box").succeeds();
        }
    }
}

#[test]
fn cp_moves_archives_through_stdin_and_stdout() {
    let berth = start();
    berth.run("run -d --name box busybox sleep 600").succeeds();
    let archive = berth.run("cp box:/etc/passwd -").stdout.into_bytes();
    let mut members = tar::Archive::new(&archive[..]);
    let names: Vec<_> =
        members.entries().expect("tar").map(|entry| entry.expect("entry").path().expect("path").into_owned()).collect();
    assert_eq!(names, [Path::new("passwd")]);
    berth.run_with_input("cp - box:/home", &archive).succeeds();
    berth.run("exec box cmp /home/passwd /etc/passwd").exits(0);
    berth.run_with_input("cp - box:/etc/passwd", &archive).fails(1, "must be a directory");
    berth.run_with_input("cp - box:/home", b"garbage").fails(1, "unexpected EOF");
    berth.run("rm -f box").succeeds();
}

#[test]
fn cp_sees_volumes_and_binds_and_respects_what_is_read_only() {
    let berth = start();
    let here = berth.sandbox().path().to_owned();
    fs::create_dir(here.join("bound")).expect("directory");
    fs::write(here.join("bound/b"), "bound").expect("file");
    fs::write(here.join("f"), "f").expect("file");
    let bound = here.join("bound").display().to_string();
    let file = here.join("f").display().to_string();
    berth.run(&format!("create --name box -v vol:/data -v {bound}:/bound:ro busybox sleep 600")).succeeds();
    berth.run("run -d --name ro --read-only -v vol:/data busybox sleep 600").succeeds();
    for _ in 0..2 {
        berth.run(&format!("cp {file} box:/data/f")).succeeds();
        berth.run(&format!("cp box:/bound/b {}", here.join("got").display())).succeeds();
        berth.run(&format!("cp {file} box:/bound/")).fails(1, "mounted volume is marked read-only");
        berth.run("start box").succeeds();
    }
    assert_eq!(text(here.join("got")), "bound");
    assert_eq!(text(berth.root().join("volumes/vol/_data/f")), "f");
    berth.run(&format!("cp {file} ro:/tmp")).fails(1, "container rootfs is marked read-only");
    berth.run(&format!("cp {file} ro:/data/of-ro")).succeeds();
    assert!(berth.root().join("volumes/vol/_data/of-ro").exists());
    berth.run("rm -f box ro").succeeds();
    berth.run("volume rm vol").succeeds();
}

/// CVE-2018-15664: a container that turns a directory into a link while files are copied must not lead the copy out of itself.
#[test]
fn cp_is_never_led_out_of_the_container_by_links_that_change() {
    let berth = start();
    let here = berth.sandbox().path().to_owned();
    fs::create_dir(here.join("outside")).expect("directory");
    fs::write(here.join("secret"), "secret of the host").expect("file");
    fs::write(here.join("outside/f"), "of the host").expect("file");
    fs::write(here.join("f"), "copied").expect("file");
    let outside = here.join("outside").display().to_string();
    // The same path exists on both sides, and the container exchanges what stands on the way to it.
    let swap = format!(
        "mkdir -p {outside} /w/real; echo inside > {outside}/f; echo inside > /w/real/f; cd /w; \
         while :; do ln -s {outside} l; mv -T l at 2>/dev/null; rm -rf at; mkdir at; echo inside > at/f; rm -rf at; done"
    );
    berth.run(&format!("run -d --name box busybox sh -c '{swap}'")).succeeds();
    for _ in 0..60 {
        let _ = berth.run(&format!("cp {} box:/w/at/f", here.join("f").display()));
        let got = berth.run("cp box:/w/at/f -");
        assert!(!got.stdout.contains("of the host"), "{}", got.stdout);
    }
    assert_eq!(text(here.join("outside/f")), "of the host");
    berth.run("kill box").succeeds();
    // And with links that do not change: absolute, upward, and through /proc.
    berth.run("create --name still busybox").succeeds();
    let secret = here.join("secret").display().to_string();
    symlink(&secret, here.join("abs")).expect("link");
    symlink(format!("../../../../../..{secret}"), here.join("up")).expect("link");
    for link in ["abs", "up"] {
        berth.run(&format!("cp {} still:/{link}", here.join(link).display())).succeeds();
        berth.run(&format!("cp -L still:/{link} {}", here.join("got").display())).fails(1, "Could not find the file");
        berth.run(&format!("cp {} still:/{link}", here.join("f").display())).fails(1, "Could not find the file");
    }
    assert_eq!(text(&secret), "secret of the host");
    berth.run("rm -f box still").succeeds();
}

/// CVE-2019-14271: a library or a user database of the container must never be used by what runs as root outside.
#[test]
fn cp_runs_and_loads_nothing_of_the_container() {
    let berth = start();
    let here = berth.sandbox().path().to_owned();
    let plant = "mkdir -p /lib /lib64 /usr/lib; for f in /lib/libnss_files.so.2 /lib64/libnss_files.so.2 /bin/tar /usr/bin/tar; do \
                 printf \"#!/bin/sh\\ntouch /ran\\n\" > $f; chmod 755 $f; done; echo \"passwd: evil\" > /etc/nsswitch.conf; mkfifo /etc/pipe; exec sleep 600";
    berth.run(&format!("run -d --name box busybox sh -c '{plant}'")).succeeds();
    crate::eventually("it is planted", || berth.run("exec box test -p /etc/pipe").code == 0);
    fs::write(here.join("f"), "f").expect("file");
    berth.run(&format!("cp {} box:/tmp/f", here.join("f").display())).succeeds();
    // A pipe in the tree is copied as one; nobody waits for a writer.
    berth.run(&format!("cp box:/etc {}", here.join("etc").display())).succeeds();
    berth.run("cp box:/etc/pipe -").exits(0);
    berth.run("exec box test -e /ran").exits(1);
    let daemon = fs::read_to_string(format!("/proc/{}/maps", berth.daemon_pid())).expect("maps");
    assert!(!daemon.contains("libnss"), "the daemon has loaded a library");
    berth.run("rm -f box").succeeds();
}

#[test]
fn an_archive_that_would_leave_the_container_is_refused() {
    let berth = start();
    berth.run("create --name box busybox").succeeds();
    for (name, link, message) in [
        ("../../evil", None, "it leads out of the root"),
        ("x/../../../evil", None, "it leads out of the root"),
        ("hard", Some("../../../../etc/passwd"), "leads out of the root"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        header.set_entry_type(if link.is_some() { tar::EntryType::Link } else { tar::EntryType::Regular });
        header.as_gnu_mut().expect("gnu").name[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            header.as_gnu_mut().expect("gnu").linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        archive.extend_from_slice(&[0; 1024]);
        berth.run_with_input("cp - box:/tmp", &archive).fails(1, message);
    }
    berth.run("diff box").prints("");
    berth.run("rm box").succeeds();
}

#[test]
fn a_container_can_be_removed_while_it_is_copied() {
    let berth = start();
    berth.run("run -d --name box busybox sh -c 'head -c 50000000 /dev/zero > /big; exec sleep 600'").succeeds();
    crate::eventually("it wrote", || berth.run("exec box stat -c %s /big").stdout == "50000000\n");
    let out = berth.sandbox().path().join("big");
    let mut copying =
        berth.command(Client::Berth, &["cp", "box:/big", &out.display().to_string()]).spawn().expect("berth");
    berth.run("rm -f box").succeeds();
    // Either it was read in time, or the copy says that it was not; the daemon goes on.
    let ended = copying.wait().expect("ended");
    if ended.success() {
        assert_eq!(fs::metadata(&out).expect("file").len(), 50_000_000);
    }
    berth.run("run --rm busybox true").succeeds();
}

#[test]
fn cp_gives_files_to_the_container_s_user_when_asked() {
    let berth = start();
    let here = berth.sandbox().path().to_owned();
    fs::write(here.join("f"), "f").expect("file");
    berth.run("run -d --name box -u www-data busybox sleep 600").succeeds();
    for client in clients() {
        berth.run_as(client, &format!("cp -a {} box:/tmp/{client:?}", here.join("f").display())).succeeds();
        berth.run(&format!("exec box stat -c %u:%g /tmp/{client:?}")).prints("33:33\n");
    }
    berth.run("rm -f box").succeeds();
}
