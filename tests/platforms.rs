//! Images for several platforms: pulled, saved, loaded and removed one platform at a time.

use berth_testkit::{Berth, Registry};
use serde_json::json;

use crate::{BERTH, start};

const MULTI: &str = "localhost:5000/multi:1";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Makes an image for this machine and for another one at a registry, and nothing here.
pub(crate) fn publish(berth: &Berth) -> (Registry, String) {
    let registry = Registry::start(BERTH, berth.sandbox(), 5000, &[]);
    let archive = berth.sandbox().path().join("other.tar");
    std::fs::write(berth.sandbox().path().join("other"), "for another machine").expect("a file");
    assert_eq!(
        berth.sandbox().shell(&format!("tar -C {} -cf {} other", berth.sandbox().path().display(), archive.display())),
        ""
    );
    berth.run("tag busybox localhost:5000/multi:own").succeeds();
    berth.run(&format!("import --platform linux/s390x {} localhost:5000/multi:other", archive.display())).succeeds();
    berth.run("push -a localhost:5000/multi").succeeds();
    let manifest = |tag: &str| {
        let answer = registry.request("GET", &format!("/v2/multi/manifests/{tag}"), &[], b"");
        let digest = answer.expect(200).header("docker-content-digest").to_owned();
        (digest, answer.header("content-type").to_owned(), answer.text().len())
    };
    let host = berth.run("image inspect -f {{.Architecture}} busybox").succeeds();
    let entries = [("own", host.trim()), ("other", "s390x")].map(|(tag, architecture)| {
        let (digest, kind, size) = manifest(tag);
        json!({"mediaType": kind, "digest": digest, "size": size, "platform": {"os": "linux", "architecture": architecture}})
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
    registry.request("PUT", "/v2/multi/manifests/1", &[("Content-Type", INDEX)], index.as_bytes()).expect(201);
    berth.run("rmi localhost:5000/multi:own localhost:5000/multi:other busybox").succeeds();
    (registry, host.trim().to_owned())
}

/// The architectures of the image that are here, sorted.
fn available(berth: &Berth, name: &str) -> Vec<String> {
    let (status, found) = berth.api("GET", &format!("/v1.48/images/{name}/json?manifests=1"), None);
    assert_eq!(status, 200, "{found}");
    let here = found["Manifests"].as_array().expect("a list").iter().filter(|manifest| manifest["Available"] == true);
    let word =
        |manifest: &serde_json::Value| manifest["ImageData"]["Platform"]["architecture"].as_str().map(str::to_owned);
    let mut here: Vec<String> = here.filter_map(word).collect();
    here.sort();
    here
}

#[test]
fn manifests_are_shown_as_docker_shows_them() {
    let berth = start();
    let (_registry, _) = publish(&berth);
    for words in ["localhost:5000/multi:own", "-v localhost:5000/multi:other", MULTI, &format!("-v {MULTI}")] {
        // Docker's client asks the registry itself.
        let mut docker = berth.sandbox().command("docker");
        docker.args(["manifest", "inspect", "--insecure"]).args(words.split(' '));
        docker.env("HOME", berth.sandbox().path()).env("DOCKER_CONFIG", berth.sandbox().path().join("client"));
        let docker = berth_testkit::Outcome::of(&mut docker, b"").succeeds();
        berth.run(&format!("manifest inspect {words}")).prints(&format!("{docker}\n"));
    }
    let missing = "no such manifest: localhost:5000/multi:none";
    berth.run("manifest inspect --insecure localhost:5000/multi:none").fails(1, missing);
    berth.run("manifest inspect 127.0.0.1:5999/x").fails(1, "connection refused");
    berth.run("manifest inspect X").fails(1, "must be lowercase");
}

#[test]
fn platforms_come_and_go_one_by_one() {
    let berth = start();
    let (registry, host) = publish(&berth);
    berth.run(&format!("pull {MULTI}")).succeeds();
    assert_eq!(available(&berth, MULTI), [host.clone()]);
    berth.run(&format!("pull --platform linux/s390x {MULTI}")).succeeds();
    assert_eq!(available(&berth, MULTI), [host.clone(), "s390x".to_owned()]);
    // One platform is pushed as an image of its own.
    berth.run(&format!("tag {MULTI} localhost:5000/single:1")).succeeds();
    berth.run("push --platform linux/s390x localhost:5000/single:1").shows("1: digest: sha256:");
    let single = registry.request("GET", "/v2/single/manifests/1", &[], b"");
    assert_eq!(single.expect(200).json()["config"]["digest"].as_str().map(|digest| &digest[..7]), Some("sha256:"));
    berth
        .run("push --platform linux/riscv64 localhost:5000/single:1")
        .fails(1, "does not provide the specified platform");
    berth.run("rmi localhost:5000/single:1").succeeds();
    let both = format!("linux/{host},linux/s390x");
    let path = |name: &str| berth.sandbox().path().join(name).display().to_string();
    berth.run(&format!("save --platform {both} -o {} {MULTI}", path("both.tar"))).succeeds();
    berth.run(&format!("save --platform linux/s390x -o {} {MULTI}", path("one.tar"))).succeeds();
    berth.run(&format!("save --platform linux/riscv64 -o {} {MULTI}", path("none.tar"))).fails(1, "linux/riscv64");
    let size = |name: &str| std::fs::metadata(path(name)).expect("saved").len();
    assert!(size("both.tar") > size("one.tar") + 500_000, "the other platform is far larger");
    // Of all images that have it: this must be meant.
    let forced =
        "Content will be removed from all images referencing this variant. Use \u{2014}-force to force delete.";
    berth.run(&format!("rmi --platform linux/s390x {MULTI}")).fails(1, forced);
    // With force, what is not there counts as removed, as docker's clients have it.
    let missing = berth.run(&format!("rmi -f --platform linux/riscv64 {MULTI}"));
    assert!(missing.exits(0).stderr.contains("does not provide the specified platform"), "{missing:#?}");
    berth.run(&format!("run -d --name user {MULTI} sleep 600")).succeeds();
    berth.run(&format!("rmi -f --platform linux/{host} {MULTI}")).fails(1, "image is being used by running container");
    let blobs = || std::fs::read_dir(berth.root().join("content/blobs/sha256")).expect("blobs").count();
    let before = blobs();
    let gone = berth.run(&format!("rmi -f --platform linux/s390x {MULTI}")).succeeds();
    assert!(gone.starts_with("Deleted: sha256:") && gone.lines().count() == 1, "{gone}");
    assert_eq!(blobs(), before - 3, "manifest, configuration and layer");
    assert_eq!(available(&berth, MULTI), [host.clone()]);
    berth.run(&format!("image inspect --platform linux/s390x {MULTI}")).fails(1, "does not provide");
    berth.run("exec user echo on").prints("on\n");
    berth.run("rm -f user").succeeds();
    // The last one takes the image with it.
    let gone = berth.run(&format!("rmi -f --platform linux/{host} {MULTI}")).succeeds();
    assert!(gone.contains(&format!("Untagged: {MULTI}\n")) && gone.contains("Deleted: sha256:"), "{gone}");
    berth.run("fsck").prints("0 images, 0 blobs, 0 layers: all good\n");
    berth.run(&format!("load -i {}", path("both.tar"))).prints(&format!("Loaded image: {MULTI}\n"));
    assert_eq!(available(&berth, MULTI), [host.clone(), "s390x".to_owned()]);
    berth.run(&format!("rmi {MULTI}")).succeeds();
    // Only what was asked for is kept.
    berth.run(&format!("load --platform linux/s390x -i {}", path("both.tar"))).succeeds();
    assert_eq!(available(&berth, MULTI), ["s390x"]);
    berth.run(&format!("load --platform linux/riscv64 -i {}", path("both.tar"))).fails(1, "requested platform");
    berth.run("fsck").shows("all good");
    berth.docker(&format!("image rm -f --platform linux/s390x {MULTI}")).shows("Deleted: sha256:");
}
