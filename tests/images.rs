//! Images: import, load, save, tag, rmi, history, inspect.

use berth_testkit::Client;

use crate::start;

#[test]
fn save_and_load_keep_the_image() {
    let berth = start();
    let id = berth.run("images -q --no-trunc busybox").succeeds();
    let file = berth.sandbox().path().join("image.tar");
    berth.run(&format!("save -o {} busybox", file.display())).succeeds();
    berth.run("rmi busybox").shows("Untagged: busybox:latest");
    berth.run("images -q").prints("");
    berth.run(&format!("load -i {}", file.display())).prints("Loaded image: busybox:latest\n");
    assert_eq!(berth.run("images -q --no-trunc busybox").succeeds(), id);
    berth.run("run --rm busybox echo back").prints("back\n");
}

#[test]
fn tags_come_and_go() {
    let berth = start();
    berth.run("tag busybox other:1").succeeds();
    berth.run("tag nosuch other:2").fails(1, "No such image: nosuch:latest");
    berth.run("rmi other:1").prints("Untagged: other:1\n");
    berth.run("run -d --name user busybox sleep 600").succeeds();
    berth.run("rmi busybox").fails(1, "conflict");
    berth.run("rmi nosuch").fails(1, "No such image: nosuch");
}

#[test]
fn history_and_inspect_tell_of_it() {
    let berth = start();
    berth.run("history -q busybox").succeeds();
    berth.run("image inspect -f '{{json .Config.Cmd}} {{.Os}}' busybox").prints("[\"sh\"] linux\n");
    berth.run("image inspect nosuch").fails(1, "No such image: nosuch");
}

#[test]
fn other_people_s_tools_read_what_we_save() {
    let berth = start();
    let path = berth.sandbox().path();
    berth.run(&format!("save -o {}/saved.tar busybox", path.display())).succeeds();
    let copied = std::process::Command::new("skopeo")
        .args(["--insecure-policy", "copy"])
        .arg(format!("docker-archive:{}/saved.tar", path.display()))
        .arg(format!("oci:{}/layout:busybox", path.display()))
        .output();
    let Ok(copied) = copied else {
        eprintln!("skopeo is not installed: not compared");
        return;
    };
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    berth.run("rmi busybox").succeeds();
    let packed = std::process::Command::new("tar")
        .args(["-C", &format!("{}/layout", path.display()), "-cf", &format!("{}/layout.tar", path.display()), "."])
        .status();
    assert!(packed.is_ok_and(|status| status.success()));
    berth.run(&format!("load -i {}/layout.tar", path.display())).exits(0);
    assert_ne!(berth.run("images -q").succeeds(), "");
}

/// Debian's tools as judges of what is committed and saved: each sees the same files, and none that were removed.
#[test]
fn other_people_s_tools_see_what_was_committed() {
    let berth = start();
    berth
        .run(
            "run --name made busybox sh -c 'echo new > /etc/new; chown 5:6 /etc/new; rm -r /root; ln -s new /etc/link'",
        )
        .succeeds();
    berth.run("commit -c 'CMD [\"/etc/new\"]' -c 'ENV a=b' made committed:7").succeeds();
    berth.run("rm made").succeeds();
    let path = berth.sandbox().path();
    berth.run(&format!("save -o {}/saved.tar committed:7", path.display())).succeeds();
    std::fs::write(path.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("a file");
    assert_eq!(
        berth.sandbox().shell(&format!("mkdir {0}/layout && tar -C {0}/layout -xf {0}/saved.tar", path.display())),
        ""
    );
    let tool = |line: &str| {
        let program = line.split(' ').next().unwrap_or_default();
        if !std::path::Path::new("/usr/bin").join(program).exists() {
            eprintln!("{program} is not installed: not compared");
            return None;
        }
        let mut command = berth.sandbox().command("sh");
        let line = format!("cd {} && export TMPDIR=$PWD HOME=$PWD && {line}", path.display());
        Some(berth_testkit::Outcome::of(command.args(["-c", &line]), b"").succeeds())
    };
    let look = "cat etc/new && stat -c %u:%g etc/new && readlink etc/link && test ! -e root && test -x bin/busybox && echo all";
    let expected = "new\n5:6\nnew\nall\n";
    for kind in ["docker-archive:saved.tar", "oci-archive:saved.tar"] {
        let Some(found) = tool(&format!("skopeo inspect --config {kind}")) else { continue };
        let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
        assert_eq!(found["config"]["Cmd"], serde_json::json!(["/etc/new"]), "{kind}");
        assert_eq!(found["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(2), "{kind}");
    }
    if tool("umoci unpack --image layout:7 bundle").is_some() {
        assert_eq!(berth.sandbox().shell(&format!("cd {}/bundle/rootfs && {look}", path.display())), expected);
    }
    let buildah = "buildah --root $PWD/store --runroot $PWD/run-store --storage-driver vfs";
    if tool(&format!("{buildah} from --signature-policy policy.json --name judge oci-archive:saved.tar")).is_some() {
        let found = tool(&format!("buildah --version > /dev/null && cd \"$({buildah} mount judge)\" && {look}"));
        assert_eq!(found.as_deref(), Some(expected.trim_end()));
        tool(&format!("{buildah} umount judge && {buildah} rm judge"));
    }
}

/// The one file below a directory whose name begins so.
fn blob_of_at_least(directory: &std::path::Path, bytes: u64) -> std::path::PathBuf {
    let entries = std::fs::read_dir(directory).expect("blobs").flatten();
    let large = entries.map(|entry| entry.path()).find(|path| path.metadata().is_ok_and(|data| data.len() >= bytes));
    large.expect("a blob of that size")
}

#[test]
fn fsck_finds_and_repairs_what_is_damaged() {
    let berth = start();
    berth.run("fsck").prints("1 images, 3 blobs, 1 layers: all good\n");
    let layers = berth.root().join("snapshots/layers");
    let layer = std::fs::read_dir(&layers).expect("layers").next().expect("one").expect("entry").path();
    // A file of a layer is changed, another is gone.
    std::fs::write(layer.join("etc/passwd"), "evil").expect("write");
    std::fs::remove_file(layer.join("bin/busybox")).expect("remove");
    let found = berth.run("fsck");
    found.exits(1);
    assert!(found.stdout.contains("/bin/busybox is missing, and 1 more"), "{found:#?}");
    assert!(found.stdout.ends_with("1 images, 3 blobs, 1 layers: 1 faults, 1 left\n"), "{found:#?}");
    berth.run("fsck --repair").shows("unpacked again").shows("1 faults, all repaired");
    berth.run("fsck").prints("1 images, 3 blobs, 1 layers: all good\n");
    berth.run("run --rm busybox cat /etc/group").exits(0);
    // A layer that programs run from is not replaced under their feet.
    berth.run("run -d --name user busybox sleep 600").succeeds();
    let layer = std::fs::read_dir(&layers).expect("layers").next().expect("one").expect("entry").path();
    std::fs::set_permissions(
        layer.join("tmp"),
        <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700),
    )
    .expect("mode");
    let busy = berth.run("fsck --repair");
    assert!(
        busy.exits(1)
            .stdout
            .contains("/tmp has mode 700 instead of 1777; a running container or a mount uses it: end that first")
    );
    berth.run("rm -f user").succeeds();
    berth.run("fsck --repair").shows("unpacked again");
    // A blob that cannot be fetched again is told, with the reason.
    let blob = blob_of_at_least(&berth.root().join("content/blobs/sha256"), 1 << 20);
    let mut bytes = std::fs::read(&blob).expect("read");
    bytes[600] ^= 1;
    std::fs::write(&blob, bytes).expect("write");
    let found = berth.run("fsck");
    assert!(found.exits(1).stdout.contains("is damaged: its bytes are sha256:"), "{found:#?}");
    let found = berth.run("fsck --repair");
    assert!(found.exits(1).stdout.contains("cannot be fetched again"), "{found:#?}");
}

#[test]
fn fsck_fetches_what_is_embedded_again() {
    let berth = start();
    berth.run("pull hello-world").succeeds();
    let blobs = berth.root().join("content/blobs/sha256");
    // Its layer is the largest after busybox's.
    let small = |data: std::fs::Metadata| (data.len() < 100_000).then_some(data.len());
    let entries = std::fs::read_dir(&blobs).expect("blobs").flatten().map(|entry| entry.path());
    let layer = entries.max_by_key(|path| path.metadata().ok().and_then(small)).expect("its layer");
    std::fs::write(&layer, "damaged").expect("write");
    berth.run("fsck --repair").shows("fetched again").shows("all repaired");
    berth.run("fsck").shows("all good");
    berth.run("run --rm hello-world").shows("Hello from Berth!");
}

#[test]
fn prune_tells_what_it_would_remove_before_it_does() {
    let berth = start();
    berth.run("tag busybox other:1").succeeds();
    berth.run("create --name made busybox").succeeds();
    berth.run("commit -c 'LABEL keep=1' made committed:1").succeeds();
    berth.run("rm made").succeeds();
    let told = berth.run("image prune -a --dry-run --filter label!=keep");
    told.shows("would untag: busybox:latest\n").shows("would untag: other:1\n").shows("would delete: sha256:");
    assert!(!told.stdout.contains("committed"), "{told:#?}");
    let space = |outcome: &berth_testkit::Outcome| {
        let line = outcome.stdout.lines().last().map(str::to_owned).unwrap_or_default();
        line.split(": ").nth(1).map(str::to_owned)
    };
    assert_eq!(berth.run("images -q").succeeds().lines().count(), 3, "nothing is gone yet");
    // The layer is the committed image's too: what goes is the name and the documents.
    let done = berth.run("image prune -a -f --filter label!=keep");
    assert_eq!(space(&told), space(&done), "{told:#?} {done:#?}");
    berth.run("image prune -a --dry-run").shows("would untag: committed:1");
    berth.run("image prune -a -f").shows("untagged: committed:1");
    berth.run("image prune -a --dry-run").prints("Total reclaimable space: 0B\n");
}

#[test]
fn the_tree_shows_platforms() {
    let berth = start();
    berth.run("create --name user busybox").succeeds();
    let shown = berth.run("images --tree").succeeds();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert!(
        lines[0].starts_with("IMAGE") && lines[1].starts_with("busybox:latest") && lines[1].ends_with('U'),
        "{shown}"
    );
    assert!(lines[2].starts_with("└─ linux/"), "{shown}");
    berth.run("images --tree -q").fails(1, "--quiet is not yet supported with --tree");
}

/// Bytes that no compression makes fewer, others for each seed (xorshift64).
fn noise(seed: &str, bytes: usize) -> Vec<u8> {
    let mut state = seed.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| state.rotate_left(8) ^ u64::from(byte));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(bytes).collect()
}

#[test]
fn the_store_stays_within_its_budget() {
    // The configuration file says it; the flags of the same names say it as well, but not both.
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("daemon.json");
    let daemon = |words: &[&str]| {
        let output = std::process::Command::new(crate::BERTH).args(["daemon", "--validate"]).args(words).output();
        let output = output.expect("run");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let path = file.to_string_lossy();
    for (text, refused) in [
        (r#"{"gc-max-size": "much"}"#, "gc-max-size"),
        (r#"{"gc-max-size": 9000000, "gc-keep": "soon"}"#, "gc-keep"),
        (r#"{"gc-max": 1}"#, "unknown field `gc-max`"),
        (r#"{"max-download-attempts": 0}"#, "a download is tried once at least"),
        (r#"{"max-concurrent-downloads": "x"}"#, "invalid type"),
    ] {
        std::fs::write(&file, text).expect("write");
        let (is_fine, said) = daemon(&["--config-file", &path]);
        assert!(!is_fine && said.contains(refused), "{text}: {said}");
    }
    let options = r#"{"gc-max-size": 9000000, "gc-keep": "0s", "max-concurrent-downloads": 2, "max-concurrent-uploads": 1,
                      "max-download-attempts": 2}"#;
    std::fs::write(&file, options).expect("write");
    assert!(daemon(&["--config-file", &path]).0);
    assert!(daemon(&["--config-file", &path, "--gc-max-size", "9MB"]).1.contains("--gc-max-size"));
    assert!(daemon(&["--max-download-attempts", "0"]).1.contains("max-download-attempts"));
    let berth = berth_testkit::Berth::start_empty(crate::BERTH, &["--config-file", &path]);
    let tar = berth.sandbox().path().join("one.tar");
    let import = |name: &str| {
        let mut builder = tar::Builder::new(Vec::new());
        let content = noise(name, 1 << 20);
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, "file", &content[..]).expect("memory");
        std::fs::write(&tar, builder.into_inner().expect("memory")).expect("room");
        berth.run(&format!("import -c 'CMD [\"/x\"]' {} {name}", tar.display())).succeeds();
    };
    // Each takes 2 MB, blob and layer.
    import("first");
    import("second");
    import("third");
    berth.run("image pin first").prints("first\n");
    berth.run("create --name user second").succeeds();
    import("fourth");
    import("fifth");
    let names = || berth.run("images --format '{{.Repository}}'").succeeds();
    crate::eventually("the oldest that may go went", || !names().contains("third"));
    crate::eventually("it fits again", || names().lines().count() <= 4);
    let left = names();
    assert!(left.contains("first") && left.contains("second"), "pinned and used ones stay: {left}");
    berth.run("image unpin first").succeeds();
    import("sixth");
    crate::eventually("an unpinned one goes", || !names().contains("first"));
    assert!(names().contains("second") && names().contains("sixth"));
    berth.run("rm user").succeeds();
}

#[test]
fn search_asks_a_registry_by_a_word() {
    let berth = start();
    let registry = berth_testkit::Registry::start(crate::BERTH, berth.sandbox(), 5000, &[]);
    let address = registry.address();
    for name in ["tools/box", "tools/hammer", "other"] {
        berth.run(&format!("tag busybox {address}/{name}:1")).succeeds();
        berth.run(&format!("push -q {address}/{name}:1")).exits(0);
    }
    for client in [berth_testkit::Client::Berth, berth_testkit::Client::Docker] {
        if client == berth_testkit::Client::Docker && std::process::Command::new("docker").arg("-v").output().is_err() {
            continue;
        }
        let search = |words: &str| berth.run_as(client, &format!("search --format '{{{{.Name}}}}' {words}"));
        search(&format!("{address}/box")).prints("tools/box\n");
        assert_eq!(search(&format!("{address}/tools")).succeeds().lines().count(), 2);
        assert_eq!(search(&format!("--limit 1 {address}/tools")).succeeds().lines().count(), 1);
        search(&format!("--filter stars=1 {address}/box")).prints("");
        search("--limit 1000 x").fails(1, "limit 1000 is outside the range of [1, 100]");
        search("--filter bogus=1 x").fails(1, "invalid filter 'bogus'");
    }
    assert!(berth.run("search nosuch").exits(1).stderr.contains("index.docker.io"));
}

#[test]
fn search_finds_what_only_users_may_see() {
    let berth = start();
    let passwords = berth.sandbox().path().join("users");
    let mut add = std::process::Command::new(crate::BERTH);
    add.args(["registry", "user", "add"]).arg(&passwords).arg("ann");
    berth_testkit::Outcome::of(&mut add, b"one\n").succeeds();
    let options = ["--htpasswd", &passwords.to_string_lossy()];
    let registry = berth_testkit::Registry::start(crate::BERTH, berth.sandbox(), 5000, &options);
    let address = registry.address();
    let search = || berth.run(&format!("search --format '{{{{.Name}}}}' {address}/box"));
    search().prints("");
    berth.run(&format!("login -u ann -p one {address}")).exits(0);
    berth.run(&format!("tag busybox {address}/tools/box:1")).succeeds();
    berth.run(&format!("push -q {address}/tools/box:1")).exits(0);
    search().prints("tools/box\n");
    berth.run(&format!("logout {address}")).exits(0);
    search().prints("");
}

#[test]
fn import_fetches_what_has_a_url() {
    let berth = start();
    let tar = berth.sandbox().path().join("served/box.tar");
    std::fs::create_dir(tar.parent().expect("a directory")).expect("directory");
    std::fs::copy(berth.sandbox().path().join("busybox.tar"), &tar).expect("the image's archive");
    let directory = berth.sandbox().path().join("served");
    let mut server = berth.sandbox().command("/bin/busybox");
    let server = server.args(["httpd", "-f", "-p", "127.0.0.1:8000", "-h"]).arg(&directory).spawn();
    let mut server = server.expect("busybox-static");
    crate::eventually("it serves", || {
        berth.run("import -c 'CMD [\"sh\"]' http://127.0.0.1:8000/box.tar fetched").code == 0
    });
    berth.run("run --rm fetched echo hello").prints("hello\n");
    berth.run("history --format '{{.Comment}}' fetched").prints("Imported from http://127.0.0.1:8000/box.tar\n");
    berth.run("import http://127.0.0.1:8000/nosuch.tar x").fails(1, "404 Not Found");
    berth.run("import http://127.0.0.1:1/x.tar x").fails(1, "connection refused");
    let _ = server.kill();
    let _ = server.wait();
}

#[test]
fn a_container_whose_image_lost_its_name_shows_the_image_s_id() {
    let berth = start();
    berth.run("run -d --name old busybox sleep 600").succeeds();
    let id = berth.run("inspect -f {{.Image}} old").succeeds();
    let short = &id["sha256:".len()..][..12];
    let shown = |expected: &str| {
        for client in [Client::Berth, Client::Docker] {
            berth.run_as(client, "ps --format {{.Image}}").prints(&format!("{expected}\n"));
            berth.run_as(client, "ps --size --format {{.Image}}").prints(&format!("{expected}\n"));
        }
    };
    shown("busybox");
    berth.run("tag busybox kept:1").succeeds();
    berth.run("rmi busybox").succeeds();
    shown(short);
    berth.run("ps --no-trunc --format {{.Image}}").prints(&format!("{id}\n"));
    berth.run("inspect -f '{{.Config.Image}} {{.Image}}' old").prints(&format!("busybox {id}\n"));
    berth.run("tag kept:1 busybox").succeeds();
    shown("busybox");
}
