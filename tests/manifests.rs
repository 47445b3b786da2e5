//! Manifest lists made by hand, beside docker's client: each goes on with what the other has begun.

use berth_testkit::{Berth, Outcome};
use serde_json::Value;

use crate::{platforms::publish, start};

const OWN: &str = "localhost:5000/multi:own";
const OTHER: &str = "localhost:5000/multi:other";

/// Docker's client with the same configuration directory. It asks registries itself.
fn docker(berth: &Berth, words: &str) -> Outcome {
    let mut docker = berth.sandbox().command("docker");
    docker.arg("manifest").args(words.split(' '));
    docker.env("HOME", berth.sandbox().path()).env("DOCKER_CONFIG", berth.sandbox().path().join("client"));
    Outcome::of(&mut docker, b"")
}

/// What a client keeps of a manifest in a list.
fn kept(berth: &Berth, list: &str, manifest: &str) -> Value {
    let name = |reference: &str| reference.replace(':', "-").replace('/', "_");
    let file = berth.sandbox().path().join("client/manifests").join(name(list)).join(name(manifest));
    serde_json::from_slice(&std::fs::read(file).expect("kept")).expect("a document")
}

#[test]
fn both_clients_make_the_same_lists_and_see_each_others() {
    let berth = start();
    let (_registry, _) = publish(&berth);
    let (theirs, ours) = ("localhost:5000/multi:theirs", "localhost:5000/multi:ours");
    let said = docker(&berth, &format!("create --insecure {theirs} {OWN} {OTHER}")).succeeds();
    let expected = format!("{}\n", said.replace("theirs", "ours"));
    berth.run(&format!("manifest create {ours} {OWN} {OTHER}")).prints(&expected);
    for manifest in [OWN, OTHER] {
        assert_eq!(kept(&berth, ours, manifest), kept(&berth, theirs, manifest));
    }
    // Each changes the other's.
    let change = "--variant v2 --os-features one,two --os-version 10";
    docker(&berth, &format!("annotate {change} {ours} {OTHER}")).succeeds();
    berth.run(&format!("manifest annotate {change} {theirs} {OTHER}")).prints("");
    assert_eq!(kept(&berth, ours, OTHER), kept(&berth, theirs, OTHER));
    for words in [ours, &format!("-v {ours}"), &format!("{ours} {OTHER}"), &format!("-v {theirs} {OWN}")] {
        let docker = docker(&berth, &format!("inspect {words}")).succeeds();
        berth.run(&format!("manifest inspect {words}")).prints(&format!("{docker}\n"));
    }
    let digest = docker(&berth, &format!("push --insecure {ours}")).succeeds();
    berth.run(&format!("manifest push {theirs}")).prints(&format!("{digest}\n"));
    let (status, found) = berth.api("GET", &format!("/v1.47/distribution/{theirs}/json"), None);
    assert_eq!((status, found["Descriptor"]["digest"].as_str()), (200, Some(digest.as_str())), "{found}");
    let again = "refusing to amend an existing manifest list with no --amend flag";
    berth.run(&format!("manifest create {ours} {OWN}")).fails(1, again);
    assert!(docker(&berth, &format!("create {ours} {OWN}")).stderr.contains(again));
    // What was said about one stays, though it is named again.
    berth.run(&format!("manifest create -a {ours} {OTHER}")).succeeds();
    assert_eq!(kept(&berth, ours, OTHER), kept(&berth, theirs, OTHER));
    berth.run(&format!("manifest rm {ours} {theirs}")).prints("");
    let gone = docker(&berth, &format!("rm {ours}"));
    berth.run(&format!("manifest rm {ours}")).fails(1, gone.stderr.trim());
    berth.run(&format!("manifest push {ours}")).fails(1, &format!("No such manifest: {ours}"));
}

#[test]
fn a_list_brings_its_images_from_other_repositories() {
    let berth = start();
    let (_registry, host) = publish(&berth);
    let list = "localhost:5000/elsewhere/list:1";
    berth.run(&format!("manifest create {list} {OWN} {OTHER}")).succeeds();
    let said = berth.run(&format!("manifest push --purge {list}")).succeeds();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 3 && lines[2].starts_with("sha256:"), "{said}");
    for line in &lines[..2] {
        let (reference, digest) =
            line.strip_prefix("Pushed ref ").and_then(|line| line.split_once(" with digest: ")).expect("a line");
        assert_eq!(reference, format!("localhost:5000/elsewhere/list@{digest}"));
    }
    berth.run(&format!("manifest push {list}")).fails(1, &format!("No such manifest: {list}"));
    berth.run(&format!("pull {list}")).shows("Downloaded newer image");
    berth.run(&format!("run --rm {list} uname -m")).succeeds();
    berth.run(&format!("image inspect -f {{{{.Architecture}}}} {list}")).prints(&format!("{host}\n"));
}

#[test]
fn lists_that_cannot_be_are_refused() {
    let berth = start();
    let (_registry, _) = publish(&berth);
    let list = "localhost:5000/multi:list";
    berth.run("manifest create X y").fails(1, "error parsing name for manifest list X");
    let nested = format!("manifest create {list} localhost:5000/multi:1");
    berth.run(&nested).fails(1, "localhost:5000/multi:1 is a manifest list");
    berth.run(&format!("manifest create {list} localhost:5000/multi:none")).fails(1, "no such manifest");
    berth.run(&format!("manifest create {list} {OWN}")).succeeds();
    let missing = format!("manifest for image {OTHER} does not exist in {list}");
    berth.run(&format!("manifest annotate --arch arm {list} {OTHER}")).fails(1, &missing);
    let odd = "manifest entry for image has unsupported os/arch combination: linux/pdp11";
    berth.run(&format!("manifest annotate --os linux --arch pdp11 {list} {OWN}")).fails(1, odd);
    assert!(docker(&berth, &format!("annotate --os linux --arch pdp11 {list} {OWN}")).stderr.contains(odd));
    let elsewhere = "127.0.0.1:5000/multi:list";
    berth.run(&format!("manifest create {elsewhere} {OWN}")).succeeds();
    let different =
        "cannot use source images from a different registry than the target image: localhost:5000 != 127.0.0.1:5000";
    berth.run(&format!("manifest push {elsewhere}")).fails(1, different);
    assert!(docker(&berth, &format!("push --insecure {elsewhere}")).stderr.contains(different));
}
