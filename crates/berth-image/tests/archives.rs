//! Archives in and out: every form there is, and every way to be wrong.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use berth_archive::{Kind, Member, TarReader, TarWriter};
use berth_image::ListOptions;
use support::*;

fn layer(n: u8) -> Vec<u8> {
    tar(&[(&format!("file{n}"), &[n; 100])])
}

#[test]
fn docker_archives_load_in_every_compression() {
    let archive = docker_archive("app:1", &[&layer(1), &layer(2)]);
    let ids: Vec<_> = [archive.clone(), gzip(&archive), zstd::encode_all(&archive[..], 1).unwrap()]
        .iter()
        .map(|archive| {
            let fixture = Fixture::new();
            let loaded = fixture.load(archive).unwrap();
            assert_eq!(loaded[0].names[0].familiar(), "app:1");
            assert_eq!(fixture.counts(), [4, 0, 2]);
            loaded[0].id.clone()
        })
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "the same archive makes the same image");
}

#[test]
fn layouts_keep_their_digests() {
    let fixture = Fixture::new();
    let layout = Layout::new(Some("docker.io/library/app:1"), &[&layer(1)]);
    assert_eq!(fixture.load_says(&layout.archive()), "Loaded image: app:1\n");
    assert_eq!(*fixture.images.resolve("app:1").unwrap().id(), layout.manifest);
    let nameless = Layout::new(None, &[&layer(1)]);
    assert_eq!(fixture.load_says(&nameless.archive()), format!("Loaded image ID: {}\n", layout.manifest));
    let other = Layout::new(Some("docker.io/library/app:1"), &[&layer(2)]);
    assert_eq!(
        fixture.load_says(&other.archive()),
        format!(
            "The image app:1 already exists, renaming the old one with ID {} to empty string\nLoaded image: app:1\n",
            layout.manifest
        )
    );
}

#[test]
fn old_archives_link_to_layers_they_hold_once() {
    let fixture = Fixture::new();
    let (one, config) = (layer(1), config(&[&layer(1), &layer(1)], ""));
    let mut writer = TarWriter::new(Vec::new());
    let mut file =
        |name: &str, data: &[u8]| writer.append_bytes(&Member::new(name.as_bytes(), Kind::File), data).unwrap();
    file("config.json", &config);
    file("aa/layer.tar", &one);
    file("aa/VERSION", b"1.0");
    file("manifest.json", br#"[{"Config":"config.json","RepoTags":null,"Layers":["aa/layer.tar","bb/layer.tar"]}]"#);
    let mut link = Member::new(b"bb/layer.tar", Kind::Symlink);
    link.link = b"../aa/layer.tar".to_vec();
    writer.append_bytes(&link, b"").unwrap();
    let loaded = fixture.load(&writer.finish().unwrap()).unwrap();
    assert_eq!(loaded[0].names, []);
    fixture.images.collect(&[]).unwrap();
    assert_eq!(fixture.counts(), [3, 0, 2]);
}

#[test]
fn layers_in_any_order_come_to_lie_where_they_belong() {
    let lower = {
        let mut writer = TarWriter::new(Vec::new());
        let mut link = Member::new(b"lib", Kind::Symlink);
        link.link = b"usr/lib".to_vec();
        let mut tmp = Member::new(b"tmp", Kind::Directory);
        tmp.mode = 0o1777;
        writer.append_bytes(&link, b"").unwrap();
        writer.append_bytes(&tmp, b"").unwrap();
        writer.append_bytes(&Member::new(b"usr/lib/old", Kind::File), b"old").unwrap();
        writer.finish().unwrap()
    };
    // The one fits on whatever lies below, the other only where the link leads.
    let (fits, differs) = (tar(&[("tmp/x", b"x")]), tar(&[("lib/new", b"new")]));
    let config = config(&[&lower, &fits, &differs], "");
    let manifest = br#"[{"Config":"c.json","RepoTags":["app:1"],"Layers":["0.tar","1.tar","2.tar"]}]"#;
    let archive = tar(&[
        ("2.tar", &gzip(&differs)),
        ("1.tar", &fits),
        ("c.json", &config),
        ("0.tar", &lower),
        ("manifest.json", manifest),
    ]);
    let fixture = Fixture::new();
    fixture.load(&archive).unwrap();
    let rootfs = fixture.images.rootfs(&fixture.images.resolve("app:1").unwrap()).unwrap();
    let [_, middle, upper] = rootfs.chain() else { panic!("three layers") };
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(middle.join("tmp")).unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o1777);
    assert_eq!(std::fs::read(upper.join("usr/lib/new")).unwrap(), b"new");
    assert!(!upper.join("lib").exists());
    drop(rootfs);
    assert_eq!(fixture.counts(), [5, 0, 3]);
}

#[test]
fn a_layer_that_nobody_wants_leaves_nothing() {
    let fixture = Fixture::new();
    let wanted = docker_archive("app:1", &[&layer(1)]);
    // Not of any image, but it looks as if it were.
    let mut archive = tar(&[("stray.tar", &layer(2))]);
    archive.truncate(archive.len() - 1024);
    archive.extend(wanted);
    fixture.load(&archive).unwrap();
    fixture.images.collect(&[]).unwrap();
    assert_eq!(fixture.counts(), [3, 0, 1]);
}

#[test]
fn archives_that_are_wrong_leave_nothing() {
    let fixture = Fixture::new();
    let layout = Layout::new(Some("docker.io/library/app:1"), &[&layer(1)]);
    let changed = |at: usize, change: &dyn Fn(&mut Vec<u8>)| {
        let mut layout = Layout::new(Some("docker.io/library/app:1"), &[&layer(1)]);
        change(&mut layout.files[at].1);
        layout.archive()
    };
    let without = |name: &str| {
        let files: Vec<_> = layout.files.iter().filter(|(path, _)| !path.contains(name)).collect();
        tar(&files.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect::<Vec<_>>())
    };
    let index = layout.files.len() - 1;
    let replace = |from: &'static str, to: &'static str| {
        move |bytes: &mut Vec<u8>| *bytes = String::from_utf8(bytes.clone()).unwrap().replace(from, to).into_bytes()
    };
    let whole = layout.archive();
    let wrong_layer = {
        let config = config(&[&layer(9)], "");
        let manifest = br#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]"#;
        tar(&[("c.json", &config), ("l.tar", &layer(1)), ("manifest.json", manifest)])
    };
    let escaping = docker_archive("x:1", &[&tar(&[("../../evil", b"x")])]);
    for (archive, message) in [
        (Vec::new(), "unrecognized image format"),
        (tar(&[]), "unrecognized image format"),
        (tar(&[("some", b"file")]), "unrecognized image format"),
        (b"garbage".to_vec(), "unexpected EOF"),
        (vec![b'x'; 5000], "unrecognized image format"),
        (whole[..whole.len() / 2 + 100].to_vec(), "unexpected EOF: the archive ends inside "),
        (gzip(&whole)[..400].to_vec(), "unexpected EOF: the archive ends inside its gzip data"),
        (changed(2, &|bytes| bytes[20] ^= 1), "content has digest sha256:"),
        (changed(index, &replace("\"size\":", "\"size\":1")), "but should have 1"),
        (
            changed(index, &replace("image.manifest.v1", "image.index.v1")),
            "but was announced as application/vnd.oci.image.index.v1+json",
        ),
        (changed(index, &|bytes| bytes.truncate(20)), "index.json of the archive: "),
        (without(layout.manifest.hex()), "is missing"),
        (without(&layout.files[2].0), "is missing"),
        (tar(&[("manifest.json", br#"[{"Config":"../c","Layers":[]}]"#)]), "leads out of the root"),
        (tar(&[("manifest.json", br#"[{"Config":"c","Layers":[]}]"#)]), "names the file \"c\", but does not hold it"),
        (wrong_layer, "but the image's configuration says"),
        (escaping, "refusing archive member \"../../evil\": it leads out of the root"),
    ] {
        let said = fixture.load_says(&archive);
        assert!(said.starts_with("error: ") && said.contains(message), "{said:?} should contain {message:?}");
        assert_eq!(said.lines().count(), 1);
        fixture.images.collect(&[]).unwrap();
        assert_eq!(fixture.counts(), [0, 0, 0], "{message}");
    }
    assert_eq!(fixture.images.list(ListOptions::default()).unwrap().len(), 0);
}

#[test]
fn a_platform_that_is_missing_is_told_after_loading() {
    let fixture = Fixture::new();
    let archive = Layout::new(Some("docker.io/library/app:1"), &[&layer(1)]).archive();
    let other: berth_model::Platform = "linux/s390x".parse().unwrap();
    let error = fixture.images.load(archive.as_slice(), &[other], &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "image app:1 was loaded, but doesn't provide the requested platform ([linux/s390x])");
    assert!(fixture.images.resolve("app:1").is_ok());
}

#[test]
fn save_writes_what_the_recorded_engine_writes_and_load_reads_it() {
    let fixture = Fixture::new();
    let layout = Layout::new(Some("docker.io/library/g-im1:v1"), &[&layer(1), &layer(2)]);
    fixture.load(&layout.archive()).unwrap();
    fixture.images.tag("g-im1:v1", &"g-im1:two".parse().unwrap()).unwrap();
    let mut saved = Vec::new();
    let names = ["g-im1:v1".to_owned(), "g-im1:two".to_owned()];
    let ids = fixture.images.save(&names, &[], &mut saved).unwrap();
    assert_eq!(ids, [layout.manifest.clone()]);
    let members = members(&saved);
    let paths: Vec<&str> = members.iter().map(|(member, _)| std::str::from_utf8(&member.name).unwrap()).collect();
    let mut blobs: Vec<&str> =
        layout.files.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("blobs")).collect();
    blobs.sort_unstable();
    let expected: Vec<&str> = ["blobs/", "blobs/sha256/"]
        .into_iter()
        .chain(blobs)
        .chain(["index.json", "manifest.json", "oci-layout"])
        .collect();
    assert_eq!(paths, expected);
    let modes: Vec<u32> = members.iter().map(|(member, _)| member.mode).collect();
    assert_eq!((modes[0], modes[2], modes[modes.len() - 3], modes[modes.len() - 1]), (0o755, 0o444, 0o644, 0o444));
    let document = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&members[paths.iter().position(|path| *path == name).unwrap()].1).unwrap()
    };
    let index = document("index.json");
    assert_eq!(
        index["manifests"][0]["annotations"],
        serde_json::json!({
            "io.containerd.image.name": "docker.io/library/g-im1:v1", "org.opencontainers.image.ref.name": "v1"
        })
    );
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(document("manifest.json")[0]["RepoTags"], serde_json::json!(["g-im1:v1", "g-im1:two"]));
    assert_eq!(document("manifest.json").as_array().unwrap().len(), 1);
    assert_eq!(document("oci-layout"), serde_json::json!({"imageLayoutVersion": "1.0.0"}));
    let other = Fixture::new();
    assert_eq!(other.load_says(&saved), "Loaded image: g-im1:v1\nLoaded image: g-im1:two\n");
    // By its id an image has no name.
    let mut by_id = Vec::new();
    other.images.save(&[layout.manifest.to_string()], &[], &mut by_id).unwrap();
    assert_eq!(other.load_says(&by_id), format!("Loaded image ID: {}\n", layout.manifest));
    let none = fixture.images.save(&["g-none".to_owned()], &[], &mut Vec::new()).unwrap_err();
    assert_eq!(none.to_string(), "No such image: g-none:latest");
    let mut empty = Vec::new();
    fixture.images.save(&[], &[], &mut empty).unwrap();
    let sizes: Vec<(Vec<u8>, usize)> = support_members(&empty);
    assert_eq!(sizes, [(b"index.json".to_vec(), 88), (b"oci-layout".to_vec(), 30)]);
}

fn support_members(archive: &[u8]) -> Vec<(Vec<u8>, usize)> {
    members(archive).into_iter().map(|(member, data)| (member.name, data.len())).collect()
}

fn members(archive: &[u8]) -> Vec<(Member, Vec<u8>)> {
    let mut reader = TarReader::new(archive);
    let mut found = Vec::new();
    while let Some(member) = reader.next_member().unwrap() {
        let data = reader.read_all(1 << 20).unwrap();
        found.push((member, data));
    }
    found
}
