//! Other people's programs beside the registry: a browser that shows its page, and podman, which takes an image and brings it back.

use std::io::Write as _;
use std::path::Path;

use berth_testkit::{Berth, Outcome, Registry};

use crate::{BERTH, registry::serve};

/// Whether a program is installed. A test that cannot be made without it says so past the harness, which `scripts/test` counts.
fn is_there(program: &str) -> bool {
    let there = ["/usr/bin", "/usr/local/bin"].iter().any(|directory| Path::new(directory).join(program).exists());
    if !there {
        let test = std::thread::current();
        let line = format!("NOT TESTED: {}: {program} is not installed\n", test.name().unwrap_or_default());
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    there
}

#[test]
fn a_browser_shows_repositories_tags_and_layers() {
    if !is_there("chromium") {
        return;
    }
    let server = serve(&[]);
    server.image("team/app", "v1", b"layer");
    let profile = server.sandbox.path().join("profile");
    let show = |page: &str| {
        let mut command = server.sandbox.command("chromium");
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]);
        command.arg(format!("--user-data-dir={}", profile.display()));
        command.arg(format!("http://{}{page}", server.registry.address())).env("HOME", server.sandbox.path());
        Outcome::of(&mut command, b"").succeeds()
    };
    let list = show("/");
    assert!(list.contains(r#"<a href="/ui/team/app">team/app</a>"#), "{list}");
    // Nothing in it needs a script.
    assert!(!list.contains("<script"), "{list}");
    let repository = show("/ui/team/app");
    assert!(repository.contains("v1") && !repository.contains("<script"), "{repository}");
}

#[test]
fn podman_brings_back_the_image_that_it_took() {
    if !is_there("podman") {
        return;
    }
    let berth = Berth::start(BERTH);
    let sandbox = berth.sandbox();
    let registry = Registry::start(BERTH, sandbox, 5000, &[]);
    berth.run("tag busybox 127.0.0.1:5000/a/busybox:1").succeeds();
    berth.run("push -q 127.0.0.1:5000/a/busybox:1").succeeds();
    let podman = |words: &str| {
        let mut command = sandbox.command("podman");
        for option in ["root", "runroot", "tmpdir"] {
            command.arg(format!("--{option}={}", sandbox.path().join("podman").join(option).display()));
        }
        command.arg("--storage-driver=vfs").args(words.split(' ')).env("TMPDIR", sandbox.path());
        Outcome::of(&mut command, b"").succeeds()
    };
    podman("pull -q --tls-verify=false 127.0.0.1:5000/a/busybox:1");
    podman("tag 127.0.0.1:5000/a/busybox:1 127.0.0.1:5000/b/busybox:2");
    podman("push -q --tls-verify=false 127.0.0.1:5000/b/busybox:2");
    let digest = |target: &str| {
        registry.request("HEAD", target, &[], b"").expect(200).header("docker-content-digest").to_owned()
    };
    assert_eq!(digest("/v2/b/busybox/manifests/2"), digest("/v2/a/busybox/manifests/1"));
    berth.run("pull -q 127.0.0.1:5000/b/busybox:2").succeeds();
    berth.run("run --rm --network none 127.0.0.1:5000/b/busybox:2 true").exits(0);
}
