//! The image store as the engine uses it.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use berth_image::{
    Detail, ImageError, ImageUser, ImportOptions, ListOptions, Progress, PullOptions, RemoveOptions, Removed,
};
use berth_model::{Digest, ErrorKind, ImageRef, Platform};
use support::*;

fn name(text: &str) -> ImageRef {
    text.parse().unwrap()
}

fn untag(names: &[&str], image: &Digest) -> Vec<Removed> {
    names.iter().map(|name| Removed::Untagged { name: (*name).to_owned(), image: image.clone() }).collect()
}

#[test]
fn hello_world_comes_from_the_embedded_layout() {
    let fixture = Fixture::new();
    let mut messages = Vec::new();
    let pulled = fixture
        .images
        .pull(&name("hello-world"), &PullOptions::default(), &mut |message| messages.push(message))
        .unwrap();
    assert!(pulled.newer);
    let Progress::Status { id: layer, .. } = &messages[1] else { panic!("{messages:?}") };
    let status =
        |id: &str, status: &str, detail| Progress::Status { id: id.to_owned(), status: status.to_owned(), detail };
    assert_eq!(
        messages,
        [
            status("latest", "Pulling from library/hello-world", Detail::None),
            status(layer, "Pulling fs layer", Detail::Empty),
            status(layer, "Download complete", Detail::Done),
            status(layer, "Pull complete", Detail::Done),
            status("", &format!("Digest: {}", pulled.id), Detail::None),
            status("", "Status: Downloaded newer image for hello-world:latest", Detail::None),
        ]
    );
    let image = fixture.images.resolve("hello-world").unwrap();
    let rootfs = fixture.images.rootfs(&image).unwrap();
    assert!(rootfs.chain()[0].join("hello").is_file());
    assert_eq!(image.config().cmd.as_deref(), Some(&["/hello".to_owned()][..]));
    messages.clear();
    let again = fixture
        .images
        .pull(&name("hello-world"), &PullOptions::default(), &mut |message| messages.push(message))
        .unwrap();
    assert!(!again.newer);
    assert_eq!(messages.len(), 3);
    assert_eq!(messages[2], status("", "Status: Image is up to date for hello-world:latest", Detail::None));
    let error = fixture.images.pull(&name("debian"), &PullOptions::default(), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().ends_with("docker.io/library/debian:latest: not found"), "{error}");
}

#[test]
fn images_are_found_by_every_way_to_name_them() {
    let fixture = Fixture::new();
    let layer = tar(&[("a", b"1")]);
    let loaded = fixture.load(&docker_archive("reg:5000/x/app:1", &[&layer])).unwrap();
    let id = loaded[0].id.clone();
    let config = fixture.images.resolve("reg:5000/x/app:1").unwrap().manifest().config.digest.clone();
    for given in [
        "reg:5000/x/app:1".to_owned(),
        id.to_string(),
        id.hex().to_owned(),
        id.short().to_owned(),
        format!("sha256:{}", id.short()),
        format!("reg:5000/x/app@{id}"),
        format!("reg:5000/x/app:other@{id}"),
        config.to_string(),
        config.short().to_owned(),
    ] {
        assert_eq!(*fixture.images.resolve(&given).unwrap_or_else(|e| panic!("{given}: {e}")).id(), id, "{given}");
    }
    let zeros = "0".repeat(64);
    for (given, message) in [
        ("app", "No such image: app:latest".to_owned()),
        ("reg:5000/x/app", "No such image: reg:5000/x/app:latest".to_owned()),
        ("deadbeef", "No such image: deadbeef:latest".to_owned()),
        (&zeros, format!("No such image: sha256:{zeros}")),
        (&format!("other@{id}"), format!("No such image: other@{id}")),
        ("UP", "invalid reference format: repository name (library/UP) must be lowercase".to_owned()),
        ("", "invalid reference format".to_owned()),
    ] {
        assert_eq!(fixture.images.resolve(given).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_name_wins_over_the_beginning_of_an_id() {
    let fixture = Fixture::new();
    let one = fixture.load(&docker_archive("one", &[&tar(&[("a", b"1")])])).unwrap()[0].id.clone();
    let two = fixture.load(&docker_archive(&one.hex()[..8], &[&tar(&[("a", b"2")])])).unwrap()[0].id.clone();
    assert_eq!(*fixture.images.resolve(&one.hex()[..8]).unwrap().id(), two);
    assert_eq!(*fixture.images.resolve(&one.hex()[..9]).unwrap().id(), one);
}

#[test]
fn list_inspect_and_history_tell_what_the_recorded_engine_tells() {
    let fixture = Fixture::new();
    let (low, high) = (tar(&[("etc/x", b"1"), ("a", &[b'a'; 23])]), tar(&[("z", b"2")]));
    let layout = Layout::new(Some("docker.io/library/g:1"), &[&low, &high]);
    fixture.load(&layout.archive()).unwrap();
    fixture.images.tag("g:1", &name("127.0.0.1:5000/g:2")).unwrap();
    let list = fixture.images.list(ListOptions { shared_size: true, manifests: true }).unwrap();
    assert_eq!(list.len(), 1);
    let content: usize = layout.files[1..layout.files.len() - 1].iter().map(|(_, bytes)| bytes.len()).sum();
    // A root directory each; etc, etc/x and a; z.
    let unpacked = 4096 * 4 + 4096 * 2;
    assert_eq!((list[0].size, list[0].shared_size), (content as u64 + unpacked, Some(0)));
    assert_eq!(list[0].names.iter().map(ImageRef::familiar).collect::<Vec<_>>(), ["127.0.0.1:5000/g:2", "g:1"]);
    assert_eq!(
        list[0].digests.iter().map(ImageRef::familiar).collect::<Vec<_>>(),
        [format!("127.0.0.1:5000/g@{}", layout.manifest), format!("g@{}", layout.manifest)]
    );
    assert_eq!(list[0].created.to_string(), "2024-01-02T03:04:05Z");
    assert_eq!(list[0].labels.as_ref().unwrap()["k"], "v");
    assert!(list[0].manifests[0].available);
    let details = fixture.images.inspect("g:1", None).unwrap();
    assert_eq!((details.id.clone(), details.size), (layout.manifest.clone(), list[0].size));
    assert_eq!(details.config().config.cmd.as_deref(), Some(&["/x".to_owned()][..]));
    assert!(details.last_tagged.is_some() && details.descriptor.annotations.is_empty());
    let history = fixture.images.history("g:1", None).unwrap();
    let told: Vec<_> =
        history.iter().map(|entry| (entry.created_by.as_str(), entry.size, entry.id.is_some())).collect();
    assert_eq!(told, [("", 8192, true), ("ENV", 0, false), ("one", 16384, false)]);
    let arm = "linux/s390x".parse().unwrap();
    assert_eq!(
        fixture.images.inspect("g:1", Some(&arm)).unwrap_err().to_string(),
        "image with reference g:1 was found but does not provide the specified platform (linux/s390x)"
    );
}

#[test]
fn removing_follows_docker_s_rules() {
    let fixture = Fixture::new();
    let id = fixture.load(&docker_archive("a:1", &[&tar(&[("a", b"1")])])).unwrap()[0].id.clone();
    fixture.images.tag("a:1", &name("b:2")).unwrap();
    let remove = |what: &str, force, users: &dyn Fn() -> Vec<ImageUser>| {
        fixture.images.remove(what, RemoveOptions { force }, users)
    };
    let short = id.short();
    assert_eq!(
        remove(id.as_str(), false, &no_users).unwrap_err().to_string(),
        format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories")
    );
    let container: berth_model::ContainerId = "ab".repeat(32).parse().unwrap();
    let user = |running| {
        vec![ImageUser { container: container.clone(), image: id.clone(), platform: Platform::host(), running }]
    };
    let (running, stopped) = (|| user(true), || user(false));
    // With another name left, one may go whoever uses the image.
    assert_eq!(remove("b:2", false, &running).unwrap(), untag(&["b:2"], &id));
    let in_use = format!(
        "conflict: unable to delete a:1 (must be forced) - container abababababab is using its referenced image {short}"
    );
    assert_eq!(remove("a:1", false, &running).unwrap_err().to_string(), in_use);
    assert_eq!(remove("a:1", false, &stopped).unwrap_err().to_string(), in_use);
    assert_eq!(
        remove(short, true, &running).unwrap_err().to_string(),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container abababababab"
        )
    );
    assert_eq!(
        remove(short, false, &stopped).unwrap_err().to_string(),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container abababababab"
        )
    );
    assert_eq!(remove("a:1", true, &running).unwrap(), untag(&["a:1"], &id));
    // It stays for its container, without a name.
    let list = fixture.images.list(ListOptions::default()).unwrap();
    assert!(list[0].is_dangling() && list[0].id == id);
    // Forced away by its id while a stopped container uses it: gone from the list, its layers stay for the container.
    let removed = remove(short, true, &stopped).unwrap();
    assert_eq!(removed.last(), Some(&Removed::Deleted(id.clone())));
    assert_eq!(fixture.images.list(ListOptions::default()).unwrap().len(), 0);
    assert_eq!(fixture.counts(), [3, 0, 1]);
    fixture.images.collect(&[]).unwrap();
    assert_eq!(fixture.counts(), [0, 0, 0]);
    assert_eq!(remove("a:1", false, &no_users).unwrap_err().to_string(), "No such image: a:1");
}

#[test]
fn layers_are_shared_and_go_with_their_last_image() {
    let fixture = Fixture::new();
    let (base, one, two) = (tar(&[("a", b"1")]), tar(&[("b", b"1")]), tar(&[("c", b"1")]));
    fixture.load(&docker_archive("one", &[&base, &one])).unwrap();
    fixture.load(&docker_archive("two", &[&base, &two])).unwrap();
    assert_eq!(fixture.counts(), [7, 0, 3]);
    let list = fixture.images.list(ListOptions { shared_size: true, manifests: false }).unwrap();
    assert!(list.iter().all(|image| image.shared_size == Some(8192)));
    let removed = fixture.images.remove("one", RemoveOptions::default(), &no_users).unwrap();
    assert_eq!(removed.len(), 2);
    assert_eq!(fixture.counts(), [4, 0, 2]);
    let image = fixture.images.resolve("two").unwrap();
    let held = fixture.images.rootfs(&image).unwrap();
    fixture.images.remove("two", RemoveOptions::default(), &no_users).unwrap();
    // A container is being made from it just now.
    assert_eq!(fixture.counts(), [4, 0, 2]);
    drop(held);
    let pruned = fixture.images.prune(&|_| true, &no_users).unwrap();
    assert_eq!(pruned.removed, []);
    fixture.images.collect(&[]).unwrap();
    assert_eq!(fixture.counts(), [0, 0, 0]);
}

#[test]
fn imports_make_one_layer_and_apply_changes() {
    let fixture = Fixture::new();
    let plain = tar(&[("etc/x", b"1")]);
    let options = |reference: Option<&str>| ImportOptions {
        reference: reference.map(name),
        changes: vec!["CMD [\"/a\"]".into(), "ENV A=b".into()],
        message: "Imported from -".into(),
        platform: None,
    };
    for (archive, kind) in [
        (plain.clone(), "application/vnd.oci.image.layer.v1.tar+gzip"),
        (gzip(&plain), "application/vnd.oci.image.layer.v1.tar+gzip"),
        (zstd::encode_all(&plain[..], 1).unwrap(), "application/vnd.oci.image.layer.v1.tar+zstd"),
    ] {
        let id = fixture.images.import(archive.as_slice(), options(Some("imp:1"))).unwrap();
        let image = fixture.images.resolve("imp:1").unwrap();
        assert_eq!(*image.id(), id);
        let layer = &image.manifest().layers[0];
        assert_eq!(layer.media_type, kind);
        let blob = std::fs::read(fixture.dir.path().join("content/blobs/sha256").join(layer.digest.hex())).unwrap();
        if archive == plain {
            let mut content = Vec::new();
            std::io::copy(&mut flate2::read::GzDecoder::new(&blob[..]), &mut content).unwrap();
            assert_eq!((layer.size, content), (blob.len() as u64, plain.clone()));
        } else {
            assert!(blob == archive, "{kind} is kept as it came");
        }
        assert_eq!(image.document().rootfs.diff_ids, [sha256(&plain)]);
        assert_eq!(
            (image.config().env.as_slice(), image.document().history[0].comment.as_deref()),
            (&["A=b".to_owned()][..], Some("Imported from -"))
        );
        assert!(fixture.images.rootfs(&image).unwrap().chain()[0].join("etc/x").is_file());
    }
    // The tag moved: the older ones have no name now.
    assert_eq!(
        fixture.images.list(ListOptions::default()).unwrap().iter().filter(|image| image.is_dangling()).count(),
        2
    );
    assert!(fixture.images.import(&b""[..], options(None)).is_ok(), "an empty tree");
    let before = fixture.counts();
    let bad = ImportOptions { changes: vec!["RUN x".into()], ..ImportOptions::default() };
    assert_eq!(
        fixture.images.import(plain.as_slice(), bad).unwrap_err().to_string(),
        "RUN is not a valid change command"
    );
    for broken in [&b"this is no tar at all"[..], &[7; 2000], &plain[..700], &gzip(&plain)[..60]] {
        assert!(fixture.images.import(broken, options(None)).is_err());
    }
    fixture.images.collect(&[]).unwrap();
    assert_eq!(fixture.counts(), before);
}

#[test]
fn a_store_opens_with_what_was_whole_and_forgets_the_rest() {
    let mut fixture = Fixture::new();
    let id = fixture.load(&docker_archive("a", &[&tar(&[("a", b"1")]), &tar(&[("b", b"1")])])).unwrap()[0].id.clone();
    // As a kill would leave it: a blob and a layer without records, a partial blob, a half unpacked layer.
    let root = fixture.dir.path();
    std::fs::write(root.join("content/blobs/sha256").join("0".repeat(64)), "x").unwrap();
    std::fs::write(root.join("content/ingest/half"), "x").unwrap();
    std::fs::create_dir(root.join("snapshots/layers").join("1".repeat(64))).unwrap();
    std::fs::create_dir(root.join("snapshots/unpack/half")).unwrap();
    fixture = fixture.reopen();
    assert_eq!(fixture.counts()[1..], [0, 2]);
    fixture.images.reconcile(&[]).unwrap();
    assert_eq!(fixture.counts(), [4, 0, 2]);
    // A layer that did not survive is unpacked again from its blob.
    let layers: Vec<_> =
        std::fs::read_dir(fixture.dir.path().join("snapshots/layers")).unwrap().map(|e| e.unwrap().path()).collect();
    std::fs::remove_dir_all(&layers[0]).unwrap();
    fixture = fixture.reopen();
    assert_eq!(fixture.counts(), [4, 0, 1]);
    fixture.images.reconcile(std::slice::from_ref(&id)).unwrap();
    assert_eq!(fixture.counts(), [4, 0, 2]);
    let image = fixture.images.resolve("a").unwrap();
    let paths = fixture.images.rootfs(&image).unwrap();
    assert!(paths.chain()[0].join("a").is_file() && paths.chain()[1].join("b").is_file());
}

#[test]
fn many_at_once_unpack_a_layer_once() {
    let fixture = Fixture::new();
    let layers: Vec<Vec<u8>> = (0..6).map(|n| tar(&[(format!("f{n}").as_str(), &vec![n; 300_000][..])])).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let archives: Vec<Vec<u8>> = (1..=6).map(|n| docker_archive(&format!("img{n}"), &layers[..n])).collect();
    std::thread::scope(|scope| {
        for archive in archives.iter().chain(&archives) {
            scope.spawn(|| fixture.load(archive).unwrap());
        }
        scope.spawn(|| (0..20).for_each(|_| assert!(fixture.images.collect(&[]).is_ok())));
    });
    assert_eq!(fixture.images.list(ListOptions::default()).unwrap().len(), 6);
    for n in 1..=6 {
        let image = fixture.images.resolve(&format!("img{n}")).unwrap();
        let rootfs = fixture.images.rootfs(&image).unwrap();
        assert!(rootfs.chain().iter().all(|path| path.is_dir()), "img{n}");
    }
    fixture.images.collect(&[]).unwrap();
    assert_eq!(fixture.counts(), [6 + 12, 0, 6]);
}

#[test]
fn an_import_without_a_name_is_an_image_of_its_own() {
    let fixture = Fixture::new();
    let layer = tar(&[("a", b"1")]);
    fixture.load(&docker_archive("base", &[&layer])).unwrap();
    for n in 0..40 {
        fixture
            .images
            .import(&layer[..], ImportOptions { message: n.to_string(), ..ImportOptions::default() })
            .unwrap();
    }
    let count = fixture.images.list(ListOptions::default()).unwrap().len();
    assert_eq!(count, 41);
    assert!(matches!(fixture.images.resolve("none"), Err(ImageError::NotFound(_))));
}
