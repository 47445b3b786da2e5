//! What a registry has acknowledged stays: over kills, broken connections, collections of garbage; and is a plain layout once it is stopped.

use std::io::Write as _;

use berth_testkit::{Registry, Sandbox};
use serde_json::{Value, json};

use crate::{BERTH, eventually, registry::*};

#[test]
fn a_killed_server_has_lost_nothing_it_acknowledged() {
    let mut server = serve(&[]);
    let image = server.image("a", "kept", b"layer");
    let location = server.begin("a");
    server.patch(&location, "0-3", b"0123").expect(202);
    // In the middle of a chunk: what came is kept, as far as the server says.
    let mut broken = server.registry.connect();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: r\r\nContent-Range: 4-9\r\nContent-Length: 6\r\n\r\n45");
    broken.write_all(head.as_bytes()).expect("sent");
    let uploads = server.registry.directory().join("uploads/a");
    let size = || {
        std::fs::read_dir(&uploads)
            .expect("uploads")
            .flatten()
            .map(|e| e.metadata().map_or(0, |d| d.len()))
            .sum::<u64>()
    };
    drop(broken);
    eventually("what came before the break is written", || size() == 6);
    server.registry.kill();
    server.registry.restart();
    assert_eq!(server.get(&location).expect(204).header("range"), "0-5");
    server.patch(&location, "6-9", b"6789").expect(202);
    server.send("PUT", &format!("{location}?digest={}", sha256(b"0123456789"))).expect(201);
    server.registry.kill();
    server.registry.restart();
    server.get(&format!("/v2/a/blobs/{}", sha256(b"0123456789"))).expect(200);
    assert_eq!(server.send("HEAD", "/v2/a/manifests/kept").expect(200).header("docker-content-digest"), image);
}

/// Killed at any moment of many pushes, five times over: whatever was acknowledged is there, whole, and in its layout.
#[test]
fn whatever_was_acknowledged_survives_kills_at_any_moment() {
    let mut server = serve(&[]);
    let acknowledged = std::sync::Mutex::new(Vec::new());
    for round in 0..5_u64 {
        std::thread::scope(|scope| {
            let registry = &server.registry;
            for pusher in 0..3 {
                let acknowledged = &acknowledged;
                scope.spawn(move || push_until_it_dies(registry, &format!("{round} {pusher}"), acknowledged));
            }
            std::thread::sleep(std::time::Duration::from_millis(150 + 37 * round));
            registry.kill_in_place();
        });
        server.registry.kill();
        server.registry.restart();
        for (kind, digest) in acknowledged.lock().expect("no panic").iter() {
            let found = server.get(&format!("/v2/a/{kind}/{digest}"));
            assert_eq!(&sha256(&found.expect(200).body), digest);
        }
    }
    server.registry.stop();
    let blobs = server.registry.directory().join("repositories/a/blobs");
    let acknowledged = acknowledged.into_inner().expect("no panic");
    assert!(!acknowledged.is_empty());
    assert!(acknowledged.iter().all(|(_, digest)| blobs.join(digest.replace(':', "/")).exists()));
}

fn push_until_it_dies(registry: &Registry, mark: &str, acknowledged: &std::sync::Mutex<Vec<(&'static str, String)>>) {
    for n in 0.. {
        let blob = format!("{mark} {n}").repeat(500);
        let digest = sha256(blob.as_bytes());
        let target = format!("/v2/a/blobs/uploads/?digest={digest}");
        if registry.try_request("POST", &target, &[], blob.as_bytes()).is_none_or(|answer| answer.status != 201) {
            return;
        }
        acknowledged.lock().expect("no panic").push(("blobs", digest.clone()));
        let layer = json!({"mediaType": LAYER, "digest": digest, "size": blob.len()});
        let document = json!({"schemaVersion": 2, "config": layer, "layers": []}).to_string();
        let kind = [("Content-Type", MANIFEST)];
        let target = format!("/v2/a/manifests/t{n}");
        if registry.try_request("PUT", &target, &kind, document.as_bytes()).is_none_or(|answer| answer.status != 201) {
            return;
        }
        acknowledged.lock().expect("no panic").push(("manifests", sha256(document.as_bytes())));
    }
}

#[test]
fn a_full_disk_refuses_what_does_not_fit_and_keeps_what_it_has() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path().join("registry-5000");
    std::fs::create_dir(&directory).expect("a directory");
    assert_eq!(sandbox.shell(&format!("mount -t tmpfs -o size=8m none {}", directory.display())), "");
    let mut server = Server { registry: Registry::start(BERTH, &sandbox, 5000, &[]), sandbox };
    let kept = server.image("app", "v1", b"layer");
    let large = vec![7; 12 << 20];
    let target = format!("/v2/app/blobs/uploads/?digest={}", sha256(&large));
    let refused = server.registry.request("POST", &target, &[], &large);
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert!(refused.text().contains("no space left"), "{}", refused.text());
    // What did not fit is gone, and there is room for what does.
    let next = server.image("app", "v2", &vec![8; 2 << 20]);
    server.registry.kill();
    server.registry.restart();
    for (tag, digest) in [("v1", kept), ("v2", next)] {
        let found = server.get(&format!("/v2/app/manifests/{tag}"));
        assert_eq!(found.expect(200).header("docker-content-digest"), digest);
    }
}

#[test]
fn a_broken_connection_costs_only_what_was_not_sent() {
    let server = serve(&[]);
    let location = server.begin("a");
    let mut broken = server.registry.connect();
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: r\r\nContent-Length: 1000000\r\n\r\n");
    broken.write_all(head.as_bytes()).and_then(|()| broken.write_all(&[7; 600_000])).expect("sent");
    drop(broken);
    eventually("the server has noticed", || server.get(&location).header("range") == "0-599999");
    server.patch(&location, "600000-999999", &[7; 400_000]).expect(202);
    server.send("PUT", &format!("{location}?digest={}", sha256(&[7; 1_000_000]))).expect(201);
}

#[test]
fn the_same_blob_from_two_clients_is_one_blob() {
    let server = serve(&[]);
    let bytes = vec![3; 1 << 20];
    let digest = sha256(&bytes);
    std::thread::scope(|scope| {
        for repository in ["a", "b", "a", "b"] {
            let (server, bytes, digest) = (&server, &bytes, &digest);
            scope.spawn(move || {
                let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
                server.registry.request("POST", &target, &[], bytes).expect(201);
            });
        }
    });
    for repository in ["a", "b"] {
        assert_eq!(server.get(&format!("/v2/{repository}/blobs/{digest}")).expect(200).body, bytes);
    }
}

#[test]
fn garbage_is_collected_while_the_registry_serves() {
    let server = serve(&[]);
    let kept = server.image("a", "t", b"kept");
    let orphan = server.blob("a", b"nobody needs this");
    let gc = |words: &str| {
        let directory = server.registry.directory().display().to_string();
        let mut command = server.sandbox.command(BERTH);
        command.args(["registry", "gc", &directory]).args(words.split_whitespace());
        berth_testkit::Outcome::of(&mut command, b"").succeeds()
    };
    // Somebody may be about to push a manifest that needs it.
    assert!(gc("").contains("0 blobs of repositories, 0 files"), "{}", gc(""));
    assert!(gc("--grace 0").contains("1 blobs of repositories, 1 files with 17 bytes"));
    server.get(&format!("/v2/a/blobs/{orphan}")).refuses(404, "BLOB_UNKNOWN");
    server.get(&format!("/v2/a/blobs/{}", sha256(b"kept"))).expect(200);
    server.image("a", "t", b"newer");
    server.get(&format!("/v2/a/manifests/{kept}")).expect(200);
    assert!(gc("--grace 0").starts_with("removed 0 manifests"));
    assert!(gc("--grace 0 --untagged").starts_with("removed 1 manifests, 1 blobs"));
    server.get(&format!("/v2/a/manifests/{kept}")).refuses(404, "MANIFEST_UNKNOWN");
    server.get(&format!("/v2/a/blobs/{}", sha256(b"newer"))).expect(200);
}

#[test]
fn a_stopped_registry_is_a_set_of_plain_layouts() {
    let mut server = serve(&[]);
    let digest = server.image("team/app", "v1", b"layer");
    server.image("gone", "t", b"other");
    let gone = server.image("gone", "t", b"other");
    server.send("DELETE", &format!("/v2/gone/manifests/{gone}")).expect(202);
    for bytes in [&b"{}"[..], b"other"] {
        server.send("DELETE", &format!("/v2/gone/blobs/{}", sha256(bytes))).expect(202);
    }
    server.registry.stop();
    let repositories = server.registry.directory().join("repositories");
    let layout = repositories.join("team+app");
    assert_eq!(
        std::fs::read_to_string(layout.join("oci-layout")).expect("layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#
    );
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).expect("index")).expect("JSON");
    assert_eq!(index["manifests"][0]["digest"], digest);
    assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "v1");
    for digest in [digest, sha256(b"layer"), sha256(b"{}")] {
        let blob = layout.join("blobs").join(digest.replace(':', "/"));
        assert_eq!(sha256(&std::fs::read(&blob).expect("a blob")), digest);
    }
    assert!(!repositories.join("gone").exists());
}
