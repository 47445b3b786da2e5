//! Pulling from and pushing to a registry that misbehaves.
#![allow(missing_docs, clippy::unwrap_used, clippy::semicolon_if_nothing_returned, reason = "tests")]

#[path = "support/faulty.rs"]
mod faulty;
mod support;

use std::{io::Write as _, sync::Arc, time::Duration};

use berth_distribution::{Credentials, HostSettings, Registries};
use berth_image::{
    ImageError, Progress, PullOptions, Pulled, PushOptions, Pushed, RegistryResolver, RemoveOptions, Width,
};
use berth_model::{Cancel, ErrorKind, ImageRef};
use berth_oci::image::media_type;
use faulty::{Fault, Faulty};
use support::*;

/// Bytes that gzip cannot make smaller.
fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn descriptor(kind: &str, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, sha256(bytes), bytes.len())
}

/// Puts an image of such layers there, and gives its manifest.
fn publish(registry: &Faulty, tag: &str, tars: &[Vec<u8>]) -> Vec<u8> {
    let tars: Vec<&[u8]> = tars.iter().map(Vec::as_slice).collect();
    let config = config(&tars, "");
    registry.blob(&config);
    let layers: Vec<String> = tars
        .iter()
        .map(|tar| {
            let blob = gzip(tar);
            registry.blob(&blob);
            descriptor(media_type::LAYER_GZIP, &blob)
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        media_type::MANIFEST,
        descriptor(media_type::CONFIG, &config),
        layers.join(",")
    );
    registry.manifest(tag, media_type::MANIFEST, manifest.as_bytes());
    manifest.into_bytes()
}

fn registries() -> Registries {
    Registries::new(HostSettings::default())
}

fn options(reference: &ImageRef, credentials: &Credentials) -> PullOptions {
    let cancel = Cancel::default();
    let source = RegistryResolver::open(&registries(), reference, credentials, &cancel).unwrap();
    PullOptions { source: Some(Arc::new(source)), cancel, ..PullOptions::default() }
}

fn pull(fixture: &Fixture, name: &str) -> Result<Pulled, ImageError> {
    let reference: ImageRef = name.parse().unwrap();
    fixture.images.pull(&reference, &options(&reference, &Credentials::default()), &mut |_| {})
}

fn big_layer(seed: u64) -> Vec<u8> {
    tar(&[("data", &noise(3 << 20, seed)), ("small", b"x")])
}

fn check_rootfs(fixture: &Fixture, name: &str, seed: u64) {
    let image = fixture.images.resolve(name).unwrap();
    let rootfs = fixture.images.rootfs(&image).unwrap();
    assert_eq!(std::fs::read(rootfs.chain()[0].join("data")).unwrap(), noise(3 << 20, seed));
}

#[test]
fn a_connection_that_breaks_again_and_again_costs_nothing() {
    let (registry, fixture) = (Faulty::start(), Fixture::new());
    publish(&registry, "1", &[big_layer(1), big_layer(2)]);
    let size: u64 = registry.with(|state| state.blobs.values().map(|blob| blob.len() as u64).sum());
    registry.with(|state| state.every_blob = Some(Fault::Cut(300_000)));
    pull(&fixture, &registry.name("app:1")).unwrap();
    check_rootfs(&fixture, &registry.name("app:1"), 1);
    let sent = registry.with(|state| state.sent);
    assert_eq!(sent, size, "nothing is fetched twice");
    assert_eq!(fixture.counts()[1], 0);
}

#[test]
fn what_came_before_the_engine_died_is_not_fetched_again() {
    let (registry, mut fixture) = (Faulty::start(), Fixture::new());
    publish(&registry, "1", &[big_layer(3)]);
    let name = registry.name("app:1");
    for round in 0..2 {
        let sent = registry.with(|state| {
            // The configuration comes first, and only once; then a part of the layer, and nothing more.
            let faults = [Fault::NoRanges, Fault::Cut(1 << 20)];
            state.blob_faults = faults[round..].to_vec().into();
            state.every_blob = Some(Fault::Stall(0));
            state.sent
        });
        let reference: ImageRef = name.parse().unwrap();
        let options = options(&reference, &Credentials::default());
        let (cancel, images) = (options.cancel.clone(), fixture.images.clone());
        let pulling = std::thread::spawn(move || images.pull(&reference, &options, &mut |_| {}));
        let wait = std::time::Instant::now();
        while registry.with(|state| state.sent) < sent + (1 << 20) && wait.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(5));
        }
        // What arrived has a moment to be kept; then it is over.
        std::thread::sleep(Duration::from_millis(300));
        cancel.cancel();
        assert_eq!(pulling.join().unwrap().unwrap_err().to_string(), "context canceled");
        fixture = fixture.reopen();
        assert_eq!(fixture.counts()[1], 2, "a partial blob and its map");
    }
    registry.with(|state| state.every_blob = None);
    pull(&fixture, &name).unwrap();
    check_rootfs(&fixture, &name, 3);
    let (sent, size) =
        registry.with(|state| (state.sent, state.blobs.values().map(|blob| blob.len() as u64).sum::<u64>()));
    assert!(sent <= size + 2 * berth_content::PIECE, "{sent} bytes for {size}");
    assert_eq!(fixture.counts()[1], 0);
}

#[test]
fn layers_that_were_whole_when_the_engine_died_are_not_fetched_again() {
    let (registry, mut fixture) = (Faulty::start(), Fixture::new());
    publish(&registry, "1", &[big_layer(13), big_layer(14)]);
    let name = registry.name("app:1");
    registry.with(|state| {
        // The configuration and the first layer come, the second does not.
        state.blob_faults = [Fault::NoRanges, Fault::NoRanges].into();
        state.every_blob = Some(Fault::Stall(0));
    });
    let reference: ImageRef = name.parse().unwrap();
    let options = options(&reference, &Credentials::default());
    let options = PullOptions { width: Width { layers: 1, connections: 1, attempts: 1 }, ..options };
    let cancel = options.cancel.clone();
    fixture
        .images
        .pull(&reference, &options, &mut |progress| {
            if format!("{progress:?}").contains("Pull complete") {
                cancel.cancel();
            }
        })
        .unwrap_err();
    fixture = fixture.reopen();
    fixture.images.reconcile(&[]).unwrap();
    registry.with(|state| state.every_blob = None);
    pull(&fixture, &name).unwrap();
    check_rootfs(&fixture, &name, 13);
    let (sent, size) =
        registry.with(|state| (state.sent, state.blobs.values().map(|blob| blob.len() as u64).sum::<u64>()));
    // Documents are so small that they are not kept.
    assert!(sent <= size + 2_000, "{sent} bytes for {size}");
    assert_eq!(fixture.counts()[1], 0);
}

#[test]
fn layers_come_in_every_form_and_from_where_their_makers_keep_them() {
    let (registry, elsewhere, fixture) = (Faulty::start(), Faulty::start(), Fixture::new());
    let tars = [tar(&[("one", b"1")]), tar(&[("two", b"2")]), tar(&[("three", b"3")])];
    let (zstd, gzipped) = (zstd::encode_all(&tars[1][..], 1).unwrap(), gzip(&tars[2]));
    let config = config(&tars.each_ref().map(Vec::as_slice), "");
    for blob in [&config, &tars[0], &zstd] {
        registry.blob(blob);
    }
    // Its owner does not let it be handed on.
    let place = format!("http://{}", elsewhere.name(&format!("v2/own/blobs/{}", elsewhere.blob(&gzipped))));
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::MANIFEST,
        "config": {"mediaType": media_type::CONFIG, "digest": sha256(&config).to_string(), "size": config.len()},
        "layers": [
            {"mediaType": media_type::LAYER, "digest": sha256(&tars[0]).to_string(), "size": tars[0].len()},
            {"mediaType": media_type::LAYER_ZSTD, "digest": sha256(&zstd).to_string(), "size": zstd.len()},
            {
                "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "digest": sha256(&gzipped).to_string(), "size": gzipped.len(), "urls": [place],
            },
        ],
    });
    registry.manifest("1", media_type::MANIFEST, manifest.to_string().as_bytes());
    pull(&fixture, &registry.name("app:1")).unwrap();
    let rootfs = fixture.images.rootfs(&fixture.images.resolve(&registry.name("app:1")).unwrap()).unwrap();
    for (layer, (name, bytes)) in rootfs.chain().iter().zip([("one", b"1"), ("two", b"2"), ("three", b"3")]) {
        assert_eq!(std::fs::read(layer.join(name)).unwrap(), bytes);
    }
    assert_eq!(elsewhere.with(|state| state.sent), gzipped.len() as u64);
}

#[test]
fn two_pulls_of_the_same_layer_share_one_download() {
    let (registry, fixture) = (Faulty::start(), Fixture::new());
    publish(&registry, "1", &[big_layer(4), tar(&[("one", b"1")])]);
    publish(&registry, "2", &[big_layer(4), tar(&[("two", b"2")])]);
    registry.with(|state| state.every_blob = Some(Fault::Cut(200_000)));
    let size: u64 = registry.with(|state| state.blobs.values().map(|blob| blob.len() as u64).sum());
    std::thread::scope(|scope| {
        for tag in ["1", "2", "1", "2"] {
            let (fixture, name) = (&fixture, registry.name(&format!("app:{tag}")));
            scope.spawn(move || pull(fixture, &name).unwrap());
        }
    });
    let sent = registry.with(|state| state.sent);
    // Small documents may be fetched by each.
    assert!(sent < size + 10_000, "{sent} bytes for {size}");
    check_rootfs(&fixture, &registry.name("app:2"), 4);
    assert_eq!(fixture.counts()[1..], [0, 3]);
}

#[test]
fn a_server_without_ranges_and_a_busy_one_are_enough() {
    let (registry, fixture) = (Faulty::start(), Fixture::new());
    publish(&registry, "1", &[big_layer(5)]);
    registry.with(|state| {
        state.faults = [Fault::Status(429, ""), Fault::Status(503, ""), Fault::Status(429, "")].into();
        state.blob_faults = [Fault::NoRanges, Fault::Status(503, ""), Fault::Cut(1 << 20), Fault::NoRanges].into();
    });
    pull(&fixture, &registry.name("app:1")).unwrap();
    check_rootfs(&fixture, &registry.name("app:1"), 5);
}

#[test]
fn lies_are_found_out_and_leave_nothing() {
    let (registry, fixture) = (Faulty::start(), Fixture::new());
    let manifest = String::from_utf8(publish(&registry, "1", &[big_layer(6)])).unwrap();
    let message = |tag: &str| pull(&fixture, &registry.name(&format!("app:{tag}"))).unwrap_err().to_string();
    let blob = gzip(&big_layer(6));
    let (digest, size) = (sha256(&blob).to_string(), blob.len());
    registry.with(|state| state.every_blob = Some(Fault::Lie));
    let text = message("1");
    assert!(
        text.starts_with("content sha256:") && text.contains("has digest") || text.contains("should have"),
        "{text}"
    );
    registry.with(|state| state.every_blob = None);
    for (tag, from, to, said) in [
        ("larger", format!("\"size\":{size}"), format!("\"size\":{}", size + 5), "bytes, but should have"),
        ("smaller", format!("\"size\":{size}"), format!("\"size\":{}", size - 5), "should have"),
        ("huge", format!("\"size\":{size}"), format!("\"size\":{}", u64::MAX / 2), "is larger than"),
        ("other", digest.clone(), format!("sha256:{}", "ab".repeat(32)), "not found"),
        ("kind", media_type::LAYER_GZIP.to_owned(), "text/plain".to_owned(), "is no image"),
        ("index", media_type::MANIFEST.to_owned(), media_type::INDEX.to_owned(), "index"),
    ] {
        let lie = manifest.replacen(&from, &to, 1);
        registry.manifest(tag, media_type::MANIFEST, lie.as_bytes());
        let text = message(tag);
        assert!(text.contains(said), "{tag}: {text}");
    }
    // A diff id that is another layer's.
    let config = config(&[b"something else"], "");
    registry.blob(&config);
    let lie = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        descriptor(media_type::CONFIG, &config),
        descriptor(media_type::LAYER_GZIP, &blob)
    );
    registry.manifest("diff", media_type::MANIFEST, lie.as_bytes());
    let text = message("diff");
    assert!(text.contains("unpacks to"), "{text}");
    assert_eq!(fixture.images.list(Default::default()).unwrap().len(), 0);
    assert_eq!(fixture.counts()[2], 0, "no layer is seen");
}

#[test]
fn an_index_leads_to_the_platform_and_nowhere_else() {
    let (registry, fixture) = (Faulty::start(), Fixture::new());
    let ours = publish(&registry, "one", &[tar(&[("a", b"1")])]);
    let other = publish(&registry, "two", &[tar(&[("b", b"2")])]);
    let host = berth_model::Platform::host().architecture;
    let entry = |bytes: &[u8], architecture: &str| {
        let inner = descriptor(media_type::MANIFEST, bytes);
        format!(r#"{},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#, inner.trim_end_matches('}'))
    };
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{},{}]}}"#,
        media_type::INDEX,
        entry(&other, "s390x"),
        entry(&ours, &host)
    );
    registry.manifest("multi", media_type::INDEX, index.as_bytes());
    let pulled = pull(&fixture, &registry.name("app:multi")).unwrap();
    assert_eq!(pulled.id, sha256(index.as_bytes()));
    let image = fixture.images.resolve(&registry.name("app:multi")).unwrap();
    assert_eq!(image.manifest_descriptor().digest, sha256(&ours));
    let by_digest = registry.name(&format!("app@{}", sha256(index.as_bytes())));
    assert!(pull(&fixture, &by_digest).unwrap().newer);
    let reference: ImageRef = registry.name("app:multi").parse().unwrap();
    let wanted = |platform: &str| {
        let mut options = options(&reference, &Credentials::default());
        options.platform = Some(platform.parse().unwrap());
        fixture.images.pull(&reference, &options, &mut |_| {})
    };
    wanted("linux/s390x").unwrap();
    let error = wanted("linux/ppc64le").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().starts_with("no matching manifest for linux/ppc64le"), "{error}");
    // An index whose only entry is an index, and so on for ever.
    let mut inner = index.into_bytes();
    for _ in 0..6 {
        let entry = descriptor(media_type::INDEX, &inner);
        let entry = format!(r#"{},"platform":{{"os":"linux","architecture":"{host}"}}}}"#, entry.trim_end_matches('}'));
        inner =
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{entry}]}}"#, media_type::INDEX).into_bytes();
        registry.manifest("deep", media_type::INDEX, &inner);
    }
    let error = pull(&fixture, &registry.name("app:deep")).unwrap_err();
    assert!(error.to_string().contains("lies too deep"), "{error}");
}

#[test]
fn refusals_have_docker_s_words() {
    let (registry, fixture) = (Faulty::start(), Fixture::new());
    publish(&registry, "1", &[tar(&[("a", b"1")])]);
    let full = |tag: &str| registry.name(&format!("app:{tag}"));
    let said = |tag: &str| pull(&fixture, &full(tag)).unwrap_err();
    let error = said("nosuch");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), format!("failed to resolve reference \"{0}\": {0}: not found", full("nosuch")));
    registry.with(|state| state.every = Some(Fault::Html));
    let text = said("1").to_string();
    assert!(text.contains("answers with a web page (text/html)"), "{text}");
    registry.with(|state| state.every = Some(Fault::Basic));
    let text = said("1").to_string();
    assert!(text.ends_with("may require authorization: authorization failed: no basic auth credentials"), "{text}");
    registry.with(|state| state.every = Some(Fault::Status(401, "{}")));
    let text = said("1").to_string();
    assert!(text.contains("no basic auth credentials"), "{text}");
    let limit = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"you have reached your pull rate limit"}]}"#;
    registry.with(|state| state.every = Some(Fault::Status(429, limit)));
    let text = said("1").to_string();
    assert!(text.contains("429 Too Many Requests"), "{text}");
    registry.with(|state| {
        state.every = Some(Fault::Status(403, r#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#))
    });
    assert_eq!(said("1").kind(), ErrorKind::NotFound);
}

#[test]
fn credentials_stay_with_whom_they_belong_to() {
    let (registry, other, fixture) = (Faulty::start(), Faulty::start(), Fixture::new());
    publish(&registry, "1", &[tar(&[("a", b"1")])]);
    publish(&other, "1", &[tar(&[("a", b"1")])]);
    registry.with(|state| {
        state.every = Some(Fault::Basic);
        state.every_blob = Some(Fault::Redirect(format!("http://127.0.0.1:{}", other.port)));
    });
    let reference: ImageRef = registry.name("app:1").parse().unwrap();
    let credentials = Credentials { username: "me".into(), password: "secret".into(), ..Credentials::default() };
    fixture.images.pull(&reference, &options(&reference, &credentials), &mut |_| {}).unwrap();
    let asked = |registry: &Faulty| registry.with(|state| state.asked.concat().to_ascii_lowercase());
    assert!(asked(&registry).contains("authorization: basic"), "the registry itself was told");
    assert!(asked(&other).contains("get /v2/app/blobs/"), "the other one was asked");
    assert!(!asked(&other).contains("authorization"), "and was not told");
    // A host that asks for them after a redirect does not get them either.
    let fixture = Fixture::new();
    other.with(|state| state.every = Some(Fault::Basic));
    assert!(fixture.images.pull(&reference, &options(&reference, &credentials), &mut |_| {}).is_err());
    assert!(!asked(&other).contains("authorization"));
}

#[test]
fn a_pull_tells_what_docker_tells() {
    let (registry, fixture) = (Faulty::start(), Fixture::new());
    publish(&registry, "1", &[tar(&[("a", b"1")]), tar(&[("b", b"2")])]);
    let reference: ImageRef = registry.name("app:1").parse().unwrap();
    let mut said = Vec::new();
    fixture
        .images
        .pull(&reference, &options(&reference, &Credentials::default()), &mut |progress| {
            if let Progress::Status { id, status, .. } = progress {
                said.push(format!("{id}: {status}"));
            }
        })
        .unwrap();
    let words: Vec<&str> = said.iter().map(|line| line.split_once(": ").unwrap().1).collect();
    assert_eq!(words[..3], ["Pulling from app", "Pulling fs layer", "Pulling fs layer"]);
    let count = |word: &str| words.iter().filter(|found| **found == word).count();
    assert_eq!((count("Download complete"), count("Pull complete")), (2, 2));
    assert!(words[words.len() - 1].starts_with("Status: Downloaded newer image for 127.0.0.1:"));
}

fn push(fixture: &Fixture, name: &str, all_tags: bool) -> Result<(Vec<Progress>, Vec<Pushed>), ImageError> {
    let reference: ImageRef = name.parse().unwrap();
    let cancel = Cancel::default();
    let registry = RegistryResolver::open(&registries(), &reference, &Credentials::default(), &cancel).unwrap();
    let options = PushOptions { platform: None, uploads: 5, cancel };
    let (mut said, mut pushed) = (Vec::new(), Vec::new());
    fixture.images.push(
        &reference,
        all_tags,
        &registry,
        &options,
        &mut |progress| said.push(progress),
        &mut |one| pushed.push(one.clone()),
    )?;
    Ok((said, pushed))
}

fn statuses(said: &[Progress]) -> Vec<&str> {
    said.iter()
        .filter_map(|p| if let Progress::Status { status, .. } = p { Some(status.as_str()) } else { None })
        .collect()
}

#[test]
fn a_push_sends_what_is_missing_and_goes_on_where_it_broke() {
    let (registry, fixture) = (Faulty::start(), Fixture::new());
    let layers = [tar(&[("data", &noise(6 << 20, 7))])];
    let manifest = publish(&registry, "1", &layers);
    pull(&fixture, &registry.name("app:1")).unwrap();
    let target = Faulty::start();
    target.with(|state| state.cut_upload = Some(2 << 20));
    let name = target.name("copy:1");
    fixture.images.tag(&registry.name("app:1"), &name.parse().unwrap()).unwrap();
    let (said, pushed) = push(&fixture, &name, false).unwrap();
    assert_eq!(pushed[0].digest, sha256(&manifest));
    let size = manifest.len();
    assert_eq!(statuses(&said).last().unwrap(), &format!("1: digest: {} size: {size}", sha256(&manifest)));
    assert!(statuses(&said).contains(&"Pushed"));
    assert!(matches!(said.last(), Some(Progress::Pushed { tag, .. }) if tag == "1"));
    let (blobs, received) = target.with(|state| (state.blobs.clone(), state.received));
    assert_eq!(blobs, registry.with(|state| state.blobs.clone()));
    let total: u64 = blobs.values().map(|blob| blob.len() as u64).sum();
    assert_eq!(received, total + size as u64, "nothing was sent twice");
    let (said, _) = push(&fixture, &name, false).unwrap();
    assert!(statuses(&said).contains(&"Layer already exists"));
    // A layer that the registry has in a repository that we know.
    fixture.images.tag(&name, &target.name("mountable:1").parse().unwrap()).unwrap();
    fixture.images.tag(&name, &target.name("third:1").parse().unwrap()).unwrap();
    fixture.images.tag(&name, &target.name("third:2").parse().unwrap()).unwrap();
    let (_, pushed) = push(&fixture, &target.name("third"), true).unwrap();
    assert_eq!(pushed.len(), 2);
    let text = push(&fixture, &target.name("third:9"), false).unwrap_err().to_string();
    assert_eq!(text, format!("tag does not exist: {}", target.name("third:9")));
}

#[test]
fn pulls_a_push_a_prune_and_removals_at_once_break_nothing() {
    let (registry, fixture) = (Faulty::start(), Fixture::new());
    publish(&registry, "1", &[big_layer(8), tar(&[("x", b"1")])]);
    let (name, copy) = (registry.name("app:1"), registry.name("copy:1"));
    pull(&fixture, &name).unwrap();
    fixture.images.tag(&name, &copy.parse().unwrap()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..8).for_each(|_| drop(pull(&fixture, &name).unwrap())));
        }
        scope.spawn(|| (0..4).for_each(|_| drop(push(&fixture, &copy, false).unwrap())));
        scope.spawn(|| (0..20).for_each(|_| drop(fixture.images.prune(&|image| image.names.is_empty(), &no_users))));
        scope.spawn(|| {
            (0..20).for_each(|_| drop(fixture.images.remove(&name, RemoveOptions { force: true }, &no_users)));
        });
    });
    pull(&fixture, &name).unwrap();
    check_rootfs(&fixture, &name, 8);
}
