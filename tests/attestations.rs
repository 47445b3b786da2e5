//! Images that come with statements about how they were built, as BuildKit stores them: they go wherever their image goes.

use berth_testkit::{Berth, Registry};
use serde_json::{Value, json};

use crate::{BERTH, registry_clients::push_blob, start};

const NAME: &str = "localhost:5000/built:1";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const PROVENANCE: &str = "https://slsa.dev/provenance/v0.2";
const CONTENTS: &str = "https://spdx.dev/Document";

/// Puts `busybox` with two statements about it at a registry, and removes it here. Gives the digest of the manifest that they are about.
fn publish(berth: &Berth, registry: &Registry) -> String {
    berth.run("tag busybox localhost:5000/built:plain").succeeds();
    berth.run("push localhost:5000/built:plain").succeeds();
    let plain = registry.request("GET", "/v2/built/manifests/plain", &[], b"");
    let (digest, kind) = (plain.expect(200).header("docker-content-digest"), plain.header("content-type"));
    let layer = |predicate: &str, statement: &Value| {
        let bytes = statement.to_string().into_bytes();
        json!({
            "mediaType": "application/vnd.in-toto+json", "digest": push_blob(registry, "built", &bytes), "size": bytes.len(),
            "annotations": {"in-toto.io/predicate-type": predicate},
        })
    };
    let config = br#"{"architecture":"unknown","os":"unknown","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let attestation = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": push_blob(registry, "built", config), "size": config.len()},
        "layers": [layer(PROVENANCE, &statement(PROVENANCE)), layer(CONTENTS, &statement(CONTENTS))],
    })
    .to_string();
    let put = |reference: &str, kind: &str, document: &str| {
        let target = format!("/v2/built/manifests/{reference}");
        let answer = registry.request("PUT", &target, &[("Content-Type", kind)], document.as_bytes());
        answer.expect(201).header("docker-content-digest").to_owned()
    };
    let about = put("attestation", MANIFEST, &attestation);
    let host = berth.run("image inspect -f {{.Architecture}} busybox").succeeds();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": kind, "digest": digest, "size": plain.text().len(), "platform": {"os": "linux", "architecture": host.trim()}},
        {
            "mediaType": MANIFEST, "digest": about, "size": attestation.len(), "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest},
        },
    ]});
    put("1", INDEX, &index.to_string());
    berth.run("rmi localhost:5000/built:plain busybox").succeeds();
    digest.to_owned()
}

fn statement(predicate: &str) -> Value {
    json!({"_type": "https://in-toto.io/Statement/v0.1", "predicateType": predicate, "predicate": {"a": [1, 2]}})
}

fn attestations(berth: &Berth, name: &str, query: &str) -> (u16, Value) {
    berth.api("GET", &format!("/v1.55/images/{name}/attestations{query}"), None)
}

/// That all statements of the image are here.
fn check(berth: &Berth, name: &str, subject: &str) {
    let (status, found) = attestations(berth, name, "?statement=true");
    assert_eq!(status, 200, "{found}");
    for (shown, predicate) in found.as_array().expect("a list").iter().zip([PROVENANCE, CONTENTS]) {
        assert_eq!((&shown["PredicateType"], &shown["Statement"]), (&json!(predicate), &statement(predicate)));
        assert_eq!(shown["Descriptor"]["mediaType"], "application/vnd.in-toto+json");
    }
    let (status, image) = berth.api("GET", &format!("/v1.48/images/{name}/json?manifests=1"), None);
    let manifests = image["Manifests"].as_array().expect("a list");
    let kinds: Vec<_> = manifests.iter().map(|one| (&one["Kind"], &one["Available"])).collect();
    assert_eq!((status, kinds), (200, vec![(&json!("image"), &json!(true)), (&json!("attestation"), &json!(true))]));
    assert_eq!(manifests[1]["AttestationData"]["For"], subject);
    let (_, list) = berth.api("GET", "/v1.48/images/json?manifests=1", None);
    assert_eq!(list[0]["Manifests"][1]["AttestationData"]["For"], subject);
}

#[test]
fn what_is_said_about_an_image_goes_where_it_goes() {
    let berth = start();
    let registry = Registry::start(BERTH, berth.sandbox(), 5000, &[]);
    let subject = publish(&berth, &registry);
    berth.run(&format!("pull {NAME}")).shows("Downloaded newer image");
    check(&berth, NAME, &subject);
    // The tree shows platforms; a statement is none.
    let tree = berth.run("images --tree").succeeds();
    assert!(tree.contains("linux/") && !tree.contains("unknown"), "{tree}");
    berth.run(&format!("run --rm {NAME} echo runs")).prints("runs\n");
    // Pushed elsewhere, saved and loaded, it is still there.
    berth.run(&format!("tag {NAME} localhost:5000/copy:1")).succeeds();
    berth.run("push localhost:5000/copy:1").shows("1: digest: sha256:");
    let archive = berth.sandbox().path().join("built.tar");
    berth.run(&format!("save -o {} {NAME}", archive.display())).succeeds();
    berth.run(&format!("rmi {NAME} localhost:5000/copy:1")).succeeds();
    berth.run("fsck").prints("0 images, 0 blobs, 0 layers: all good\n");
    berth.run(&format!("load -i {}", archive.display())).prints(&format!("Loaded image: {NAME}\n"));
    check(&berth, NAME, &subject);
    berth.run(&format!("rmi {NAME}")).succeeds();
    berth.run("pull localhost:5000/copy:1").succeeds();
    check(&berth, "localhost:5000/copy:1", &subject);
    berth.run("fsck").shows("all good");
}

#[test]
fn statements_are_chosen_by_predicate_and_platform() {
    let berth = start();
    let registry = Registry::start(BERTH, berth.sandbox(), 5000, &[]);
    assert_eq!(attestations(&berth, "busybox", ""), (200, json!([])));
    publish(&berth, &registry);
    berth.run(&format!("pull -q {NAME}")).succeeds();
    let (status, found) = attestations(&berth, NAME, &format!("?type={CONTENTS}&type=other"));
    assert_eq!((status, found.as_array().map(Vec::len)), (200, Some(1)), "{found}");
    assert_eq!(found[0]["PredicateType"], CONTENTS);
    assert!(found[0].get("Statement").is_none(), "only who asks for it gets it: {found}");
    assert_eq!(attestations(&berth, NAME, "?type=none"), (200, json!([])));
    let arm = "platform=%7B%22os%22:%22linux%22,%22architecture%22:%22s390x%22%7D";
    for (name, query, status, says) in [
        ("nosuch", String::new(), 404, "No such image: nosuch:latest"),
        (NAME, format!("?{arm}"), 404, "does not provide the specified platform (linux/s390x)"),
        (NAME, format!("?{arm}&{arm}"), 400, "only one platform"),
        (NAME, "?platform=arm".to_owned(), 400, "failed to parse platform"),
    ] {
        let (found, answer) = attestations(&berth, name, &query);
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(found == status && message.contains(says), "{query}: {found} {message}");
    }
}
