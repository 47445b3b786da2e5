//! What cannot be done is said in one line that names the object and the reason, with the status and the exit code that clients know; and it
//! leaves nothing behind, neither for this daemon nor for the next.

use std::{os::unix::process::CommandExt, path::Path, process::Command};

use berth_testkit::{Berth, Client, Outcome};
use serde_json::{Value, json};

use crate::start;

/// Runs refusals and looks whether the engine is as it was, now and after a restart.
#[track_caller]
fn leaves_nothing(berth: &mut Berth, refusals: impl FnOnce(&Berth)) {
    let before =
        (berth.footprint(), berth.run("ps -aq --no-trunc").succeeds(), berth.run("images -aq --no-trunc").succeeds());
    refusals(berth);
    berth.footprint_is(&before.0);
    assert_eq!(
        (berth.run("ps -aq --no-trunc").succeeds(), berth.run("images -aq --no-trunc").succeeds()),
        (before.1, before.2)
    );
    berth.stop_daemon();
    berth.start_daemon();
    berth.footprint_is(&before.0);
}

/// It must have failed with this code and one line.
#[track_caller]
fn in_one_line(outcome: &Outcome, code: i32, message: &str) {
    outcome.fails(code, message);
    assert_eq!(outcome.stderr.lines().filter(|line| !is_advice(line)).count(), 1, "{outcome:#?}");
}

/// Docker's clients say in further lines what they do meanwhile, and where help is.
fn is_advice(line: &str) -> bool {
    line.is_empty() || line.starts_with("Unable to find image") || line.starts_with("Run '")
}

#[test]
fn of_run() {
    let mut berth = start();
    leaves_nothing(&mut berth, |berth| {
        for (words, code, message) in [
            ("run nosuch:tag true", 125, "nosuch:tag"),
            ("run UPPER:: true", 125, "invalid reference format: repository name (library/UPPER) must be lowercase"),
            ("run --rm busybox nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH"),
            ("run --rm busybox /no/such", 127, "exec: \"/no/such\": stat /no/such: no such file or directory"),
            ("run --rm busybox /etc/passwd", 126, "exec: \"/etc/passwd\": permission denied"),
            ("run --rm busybox /etc", 126, "exec: \"/etc\": is a directory"),
            (
                "run --rm -u nobodyknows busybox true",
                125,
                "unable to find user nobodyknows: no matching entries in passwd file",
            ),
            (
                "run --rm -u 0:nobodyknows busybox true",
                125,
                "unable to find group nobodyknows: no matching entries in group file",
            ),
            ("run --rm -m 1k busybox true", 125, "Minimum memory limit allowed is 6MB"),
            (
                "run --rm -m lots busybox true",
                125,
                "invalid argument \"lots\" for \"-m, --memory\" flag: invalid size: 'lots'",
            ),
            ("run --rm --cpus 9999 busybox true", 125, "range of CPUs is from 0.01 to"),
            ("run --rm --cpus few busybox true", 125, "invalid argument \"few\" for \"--cpus\" flag"),
            (
                "run --rm --cpuset-cpus 9999 busybox true",
                125,
                "Requested CPUs are not available - requested 9999, available: 0",
            ),
            (
                "run --rm --mount type=bind,src=/no/such/place,dst=/x busybox true",
                125,
                "bind source path does not exist: /no/such/place",
            ),
            (
                "run --rm --mount type=bind,dst=/x busybox true",
                125,
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            ("run --rm --mount type=odd,dst=/x busybox true", 125, "odd"),
            ("run --rm -v relative/path:/x busybox true", 125, "relative/path"),
            ("run --rm -v /a:/b:odd busybox true", 125, "invalid mode: odd"),
            ("run --rm -v /a:relative busybox true", 125, "invalid volume specification: '/a:relative'"),
            ("run --rm --tmpfs /t:size=odd busybox true", 125, "odd"),
            ("run --rm --network nosuch busybox true", 125, "network nosuch not found"),
            ("run --rm --network container:nosuch busybox true", 125, "No such container: nosuch"),
            (
                "run --rm --name 'a b' busybox true",
                125,
                "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            ),
            ("run --restart sometimes busybox true", 125, "sometimes"),
            ("run --rm --cap-add ODD busybox true", 125, "CAP_ODD"),
            ("run --rm --security-opt seccomp=/no/such busybox true", 125, "/no/such"),
            ("run --rm --device /dev/nosuch busybox true", 127, "/dev/nosuch"),
            ("run --rm --log-driver odd busybox true", 125, "odd"),
            ("run --rm --env-file /no/such busybox true", 125, "/no/such"),
            ("run --rm --stop-signal ODD busybox true", 125, "ODD"),
            ("run --rm --ulimit odd=1 busybox true", 125, "odd"),
            ("run --rm --sysctl odd busybox true", 125, "odd"),
            ("run --rm -w relative busybox true", 125, "relative"),
            ("run --rm --odd busybox true", 125, "unknown flag: --odd"),
            ("run --rm -v /etc/passwd:/etc busybox true", 125, "mounting /etc/passwd at /etc: not a directory"),
            ("run --rm -v /etc:/etc/passwd busybox true", 125, "mounting /etc at /etc/passwd: not a directory"),
            ("run --rm -w /etc/passwd busybox true", 125, "Cannot mkdir: /etc/passwd is not a directory"),
            ("run --rm -w /etc/passwd/x busybox true", 125, "working directory \"/etc/passwd/x\": not a directory"),
            ("run", 1, "requires at least 1 argument"),
        ] {
            let outcome = berth.run(words);
            outcome.fails(code, message);
            if !outcome.stderr.contains("Usage:") {
                in_one_line(&outcome, code, message);
            }
        }
        berth.run("volume ls -q").prints("");
    });
}

#[test]
fn of_the_api() {
    let mut berth = start();
    berth.run("run -d --name taken busybox sleep 600").succeeds();
    leaves_nothing(&mut berth, |berth| {
        let host = |host: Value| Some(json!({"Image": "busybox", "HostConfig": host}));
        for (method, path, body, status, message) in [
            ("POST", "/containers/create", Some(json!({"Image": "nosuch"})), 404, "No such image: nosuch:latest"),
            (
                "POST",
                "/containers/create",
                Some(json!({})),
                400,
                "config cannot be empty in order to create a container",
            ),
            ("POST", "/containers/create", Some(json!("text")), 400, "invalid JSON"),
            ("POST", "/containers/create", None, 400, "invalid JSON"),
            (
                "POST",
                "/containers/create?name=taken",
                host(json!({})),
                409,
                "Conflict. The container name \"/taken\" is already in use by container",
            ),
            ("POST", "/containers/create?name=a%20b", host(json!({})), 400, "Invalid container name (a b)"),
            ("POST", "/containers/create", host(json!({"Memory": 5})), 400, "Minimum memory limit allowed is 6MB"),
            ("POST", "/containers/create", host(json!({"Memory": "much"})), 400, "invalid JSON"),
            ("POST", "/containers/create", host(json!({"NanoCpus": -1})), 400, "range of CPUs is from 0.01 to"),
            (
                "POST",
                "/containers/create",
                host(json!({"CpuQuota": 5})),
                400,
                "CPU cfs quota can not be less than 1ms (i.e. 1000)",
            ),
            ("POST", "/containers/create", host(json!({"Binds": ["/a:/b:odd"]})), 400, "invalid mode: odd"),
            ("POST", "/containers/create", host(json!({"Binds": ["a"]})), 400, "invalid volume specification: 'a'"),
            (
                "POST",
                "/containers/create",
                host(json!({"Mounts": [{"Type": "bind", "Source": "/no/such", "Target": "/x"}]})),
                400,
                "bind source path does not exist: /no/such",
            ),
            ("POST", "/containers/create", host(json!({"Mounts": [{"Type": "odd", "Target": "/x"}]})), 400, "odd"),
            // The anonymous volume that was made before the wrong mount goes again.
            (
                "POST",
                "/containers/create",
                host(
                    json!({"Mounts": [{"Type": "volume", "Target": "/a"}, {"Type": "bind", "Source": "/no/such", "Target": "/x"}]}),
                ),
                400,
                "/no/such",
            ),
            (
                "POST",
                "/containers/taken/exec",
                Some(json!({"Cmd": ["true"], "User": "nosuch"})),
                400,
                "unable to find user nosuch: no matching entries in passwd file",
            ),
            ("POST", "/containers/taken/exec", Some(json!({"Cmd": []})), 400, "No exec command specified"),
            (
                "POST",
                "/containers/taken/rename?name=taken",
                None,
                400,
                "Renaming a container with the same name as its current name",
            ),
            (
                "POST",
                "/containers/taken/update",
                Some(json!({"Memory": 5})),
                400,
                "Minimum memory limit allowed is 6MB",
            ),
            ("POST", "/containers/taken/kill?signal=ODD", None, 400, "invalid signal: ODD"),
            ("DELETE", "/containers/taken", None, 409, "container is running"),
            ("POST", "/volumes/create", Some(json!({"Name": "a!b"})), 400, "a!b"),
            ("POST", "/volumes/create", Some(json!({"Name": "vv", "Driver": "odd"})), 404, "plugin \"odd\" not found"),
            ("POST", "/images/busybox/tag?repo=UPPER", None, 400, "must be lowercase"),
            ("DELETE", "/images/busybox", None, 409, "unable to delete busybox:latest (must be forced)"),
        ] {
            let (found, answer) = berth.api(method, path, body.as_ref());
            let text = answer["message"].as_str().unwrap_or_default();
            assert!(
                found == status && text.contains(message) && !text.contains('\n'),
                "{method} {path} {body:?}: {found} {answer}"
            );
        }
    });
    berth.run("exec taken echo here").prints("here\n");
}

#[test]
fn a_socket_that_is_not_for_everybody() {
    let berth = start();
    let mut command = berth.command(Client::Berth, &["ps"]);
    let directory = tempfile::tempdir().expect("a directory");
    command.uid(65534).gid(65534).current_dir("/").env("HOME", directory.path());
    in_one_line(
        &Outcome::of(&mut command, b""),
        1,
        "permission denied while trying to connect to the berth API at unix://",
    );
}

#[test]
fn a_socket_that_nobody_listens_at() {
    let mut berth = start();
    berth.kill_daemon();
    let at = berth.sandbox().socket().display().to_string();
    for words in ["ps", "version -f {{.Server}}", "info -f {{.ID}}", "images", "stop x"] {
        in_one_line(&berth.run(words), 1, &at);
    }
    in_one_line(&berth.run("run busybox true"), 125, &at);
}

/// Packs members into a tar as they are given, whatever they are called.
fn raw_tar(members: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, link, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        archive.append(&header, *content).expect("memory");
    }
    archive.into_inner().expect("memory")
}

#[test]
fn archives_that_escape() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let mut berth = start();
    let path = berth.sandbox().path().to_owned();
    let outside = path.join("outside");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("secret"), "secret").expect("written");
    let (target, secret) = (outside.display().to_string(), outside.join("secret").display().to_string());
    let evil = format!("{target}/evil");
    let up = format!("../../../../../../../../../../../..{target}/evil");
    let file = path.join("evil.tar");
    leaves_nothing(&mut berth, |berth| {
        for (members, refused) in [
            (raw_tar(&[(up.as_str(), Regular, "", b"x")]), true),
            (raw_tar(&[("a/../../evil", Regular, "", b"x")]), true),
            (raw_tar(&[("hard", Link, secret.as_str(), b""), ("hard", Regular, "", b"changed")]), true),
            (raw_tar(&[("hard", Link, "../../secret", b"")]), true),
            // Absolute names and links are taken from the image's root: they lead nowhere else.
            (raw_tar(&[(evil.as_str(), Regular, "", b"x")]), false),
            (raw_tar(&[("link", Symlink, target.as_str(), b""), ("link/evil", Regular, "", b"x")]), false),
            (
                raw_tar(&[
                    ("d", Directory, "", b""),
                    ("d/up", Symlink, "../../../..", b""),
                    ("d/up/evil", Regular, "", b"x"),
                ]),
                false,
            ),
        ] {
            std::fs::write(&file, members).expect("written");
            let outcome = berth.run(&format!("import {} escaped", file.display()));
            if refused {
                in_one_line(&outcome, 1, "");
                berth.run("images -q escaped").prints("");
            } else if outcome.code == 0 {
                berth.run("rmi escaped").succeeds();
            }
            assert_eq!(std::fs::read_dir(&outside).expect("there").count(), 1);
            assert_eq!(std::fs::read_to_string(&secret).expect("there"), "secret");
        }
    });
}

#[test]
fn archives_that_end_too_early() {
    let mut berth = start();
    let path = berth.sandbox().path().to_owned();
    berth.run(&format!("save -o {}/saved.tar busybox", path.display())).succeeds();
    berth.run("rmi busybox").succeeds();
    let saved = std::fs::read(path.join("saved.tar")).expect("saved");
    let plain = berth_testkit::busybox_tar();
    leaves_nothing(&mut berth, |berth| {
        for (command, whole) in [("load -i", &saved), ("import", &plain)] {
            for length in [1, 511, 700, whole.len() / 2, whole.len() * 9 / 10] {
                std::fs::write(path.join("short.tar"), &whole[..length]).expect("written");
                in_one_line(&berth.run(&format!("{command} {}/short.tar", path.display())), 1, "");
                berth.run("images -aq").prints("");
            }
        }
        for noise in [
            vec![7; 4096],
            vec![0; 4096],
            b"\x1f\x8b\x08\0\0\0\0\0garbage".to_vec(),
            b"\x28\xb5\x2f\xfdgarbage".to_vec(),
        ] {
            std::fs::write(path.join("noise.tar"), noise).expect("written");
            in_one_line(&berth.run(&format!("load -i {}/noise.tar", path.display())), 1, "");
        }
        in_one_line(&berth.run("load -i /no/such.tar"), 1, "/no/such.tar");
        in_one_line(&berth.run("import /no/such.tar x"), 1, "/no/such.tar");
    });
}

/// Changes files of a saved image, and packs it again.
fn changed(saved: &Path, change: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().expect("a directory");
    tar::Archive::new(std::fs::File::open(saved).expect("saved")).unpack(directory.path()).expect("unpacked");
    change(directory.path());
    let packed = Command::new("tar")
        .arg("-C")
        .arg(directory.path())
        .arg("-cf")
        .arg(saved.with_file_name("changed.tar"))
        .arg(".")
        .status();
    assert!(packed.is_ok_and(|status| status.success()));
}

#[test]
fn archives_whose_content_is_not_what_its_digest_says() {
    let mut berth = start();
    let path = berth.sandbox().path().to_owned();
    let saved = path.join("saved.tar");
    berth.run(&format!("save -o {} busybox", saved.display())).succeeds();
    berth.run("rmi busybox").succeeds();
    let blobs = |root: &Path| {
        let entries = std::fs::read_dir(root.join("blobs/sha256")).expect("a layout").flatten();
        let mut blobs: Vec<_> = entries.map(|entry| (entry.metadata().expect("there").len(), entry.path())).collect();
        blobs.sort();
        blobs
    };
    leaves_nothing(&mut berth, |berth| {
        let refused = |message: &str| {
            in_one_line(&berth.run(&format!("load -i {}/changed.tar", path.display())), 1, message);
            berth.run("images -aq").prints("");
        };
        for which in 0..3 {
            // One byte of the document, or of the layer.
            changed(&saved, |root| {
                let (_, blob) = &blobs(root)[which];
                let mut bytes = std::fs::read(blob).expect("a blob");
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(blob, bytes).expect("written");
            });
            refused("but should have sha256:");
        }
        changed(&saved, |root| std::fs::remove_file(&blobs(root)[2].1).expect("there"));
        refused("is missing");
        changed(&saved, |root| std::fs::write(root.join("index.json"), "{").expect("written"));
        refused("index.json");
    });
    berth.run(&format!("load -i {}", saved.display())).prints("Loaded image: busybox:latest\n");
    berth.run("run --rm busybox echo whole").prints("whole\n");
}
