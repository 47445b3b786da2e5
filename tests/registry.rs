//! `berth registry serve`: the distribution API, row by row, through the real binary.

use std::{
    io::{Read as _, Write as _},
    process::Command,
};

use berth_testkit::{Answer, Registry, Sandbox};
use serde_json::{Value, json};

use crate::BERTH;

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub(crate) struct Server {
    pub(crate) registry: Registry,
    pub(crate) sandbox: Sandbox,
}

pub(crate) fn serve(options: &[&str]) -> Server {
    let sandbox = Sandbox::new();
    Server { registry: Registry::start(BERTH, &sandbox, 5000, options), sandbox }
}

impl Server {
    pub(crate) fn get(&self, target: &str) -> Answer {
        self.registry.request("GET", target, &[], b"")
    }

    pub(crate) fn send(&self, method: &str, target: &str) -> Answer {
        self.registry.request(method, target, &[], b"")
    }

    /// Pushes a blob in one request; its digest.
    pub(crate) fn blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let target = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.registry.request("POST", &target, &[], bytes).expect(201);
        digest
    }

    pub(crate) fn manifest(&self, repository: &str, reference: &str, media_type: &str, document: &Value) -> Answer {
        let target = format!("/v2/{repository}/manifests/{reference}");
        self.registry.request("PUT", &target, &[("Content-Type", media_type)], document.to_string().as_bytes())
    }

    /// Pushes an image of one layer; its digest.
    pub(crate) fn image(&self, repository: &str, reference: &str, layer: &[u8]) -> String {
        let document = self.image_document(repository, layer);
        let answer = self.manifest(repository, reference, MANIFEST, &document);
        answer.expect(201).header("docker-content-digest").to_owned()
    }

    pub(crate) fn image_document(&self, repository: &str, layer: &[u8]) -> Value {
        let (config, layers) = (self.blob(repository, b"{}"), self.blob(repository, layer));
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config, "size": 2},
            "layers": [{"mediaType": LAYER, "digest": layers, "size": layer.len()}],
        })
    }

    /// Begins an upload; where it goes on.
    pub(crate) fn begin(&self, repository: &str) -> String {
        let answer = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"));
        assert_eq!(answer.expect(202).header("range"), "0-0");
        assert!(!answer.header("docker-upload-uuid").is_empty());
        answer.header("location").to_owned()
    }

    pub(crate) fn patch(&self, location: &str, range: &str, bytes: &[u8]) -> Answer {
        self.registry.request("PATCH", location, &[("Content-Range", range)], bytes)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    digest("sha256", bytes)
}

/// The judge is another implementation than ours.
fn digest(algorithm: &str, bytes: &[u8]) -> String {
    let mut command = Command::new(format!("{algorithm}sum"));
    let outcome = berth_testkit::Outcome::of(&mut command, bytes);
    let hex = outcome.succeeds().split(' ').next().unwrap_or_default().to_owned();
    format!("{algorithm}:{hex}")
}

#[test]
fn what_is_pushed_comes_back_byte_for_byte() {
    let server = serve(&[]);
    assert_eq!(server.get("/v2/").expect(200).header("docker-distribution-api-version"), "registry/2.0");
    let document = server.image_document("team/app", b"layer");
    let pushed = server.manifest("team/app", "v1", MANIFEST, &document);
    let digest = pushed.expect(201).header("docker-content-digest").to_owned();
    assert_eq!(digest, sha256(document.to_string().as_bytes()));
    assert_eq!(pushed.header("location"), format!("/v2/team/app/manifests/{digest}"));
    for reference in ["v1", digest.as_str()] {
        let target = format!("/v2/team/app/manifests/{reference}");
        let found = server.get(&target);
        assert_eq!(found.expect(200).text(), document.to_string());
        assert_eq!((found.header("content-type"), found.header("docker-content-digest")), (MANIFEST, digest.as_str()));
        let head = server.send("HEAD", &target);
        assert_eq!(head.expect(200).header("content-length"), document.to_string().len().to_string());
        assert!(head.body.is_empty());
        let etag = found.header("etag").to_owned();
        let again = server.registry.request("GET", &target, &[("If-None-Match", &etag)], b"");
        assert!(again.expect(304).body.is_empty());
    }
    let layer = sha256(b"layer");
    assert_eq!(server.get(&format!("/v2/team/app/blobs/{layer}")).expect(200).body, b"layer");
    server.get("/v2/team/app/manifests/v2").refuses(404, "MANIFEST_UNKNOWN");
    server.get(&format!("/v2/team/app/blobs/{}", sha256(b"other"))).refuses(404, "BLOB_UNKNOWN");
    // A blob is one of its repository, and of no other.
    server.get(&format!("/v2/other/blobs/{layer}")).refuses(404, "NAME_UNKNOWN");
}

#[test]
fn blobs_are_pushed_in_each_way_the_specification_names() {
    let server = serve(&[]);
    for (algorithm, parameter) in [("sha256", ""), ("sha512", "?digest-algorithm=sha512")] {
        let wanted = digest(algorithm, b"0123456789");
        let begun = server.send("POST", &format!("/v2/a/blobs/uploads/{parameter}"));
        let location = begun.expect(202).header("location").to_owned();
        for (range, bytes, end) in [("0-3", &b"0123"[..], "0-3"), ("4-8", b"45678", "0-8")] {
            assert_eq!(server.patch(&location, range, bytes).expect(202).header("range"), end);
        }
        assert_eq!(server.get(&location).expect(204).header("range"), "0-8");
        let last = [("Content-Range", "9-9")];
        let done = server.registry.request("PUT", &format!("{location}?digest={wanted}"), &last, b"9");
        assert_eq!(done.expect(201).header("location"), format!("/v2/a/blobs/{wanted}"));
        assert_eq!(server.get(done.header("location")).expect(200).body, b"0123456789");
        server.get(&location).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    }
    let location = server.begin("a");
    let stream = [("Transfer-Encoding", "chunked")];
    let chunked = b"4\r\nstre\r\n2\r\nam\r\n0\r\n\r\n";
    assert_eq!(server.registry.request("PATCH", &location, &stream, chunked).expect(202).header("range"), "0-5");
    server.send("PUT", &format!("{location}?digest={}", sha256(b"stream"))).expect(201);
    let empty = sha256(b"");
    server.send("PUT", &format!("{}?digest={empty}", server.begin("a"))).expect(201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{empty}")).expect(200).body, b"");
    // Which algorithm it is may come out only at the end.
    let location = server.begin("a");
    server.patch(&location, "0-2", b"abc").expect(202);
    server.send("PUT", &format!("{location}?digest={}", digest("sha512", b"abc"))).expect(201);
}

#[test]
fn a_chunk_out_of_order_is_told_where_to_go_on() {
    let server = serve(&[]);
    let location = server.begin("a");
    server.patch(&location, "0-3", b"0123").expect(202);
    for range in ["0-3", "5-8"] {
        let refused = server.patch(&location, range, b"4567");
        assert_eq!(refused.refuses(416, "BLOB_UPLOAD_INVALID").header("range"), "0-3");
        assert_eq!(refused.header("location"), location);
    }
    server.patch(&location, "4-9", b"4567").refuses(400, "SIZE_INVALID");
    server.patch(&location, "x-y", b"4567").refuses(400, "BLOB_UPLOAD_INVALID");
    let put = format!("{location}?digest={}", sha256(b"01234567"));
    server.registry.request("PUT", &put, &[("Content-Range", "9-12")], b"4567").refuses(416, "BLOB_UPLOAD_INVALID");
    server.registry.request("PUT", &put, &[("Content-Range", "4-7")], b"4567").expect(201);
}

#[test]
fn wrong_uploads_are_refused_and_leave_nothing() {
    let server = serve(&[]);
    let wrong = sha256(b"right");
    let target = format!("/v2/a/blobs/uploads/?digest={wrong}");
    let refused = server.registry.request("POST", &target, &[], b"wrong");
    assert!(refused.refuses(400, "DIGEST_INVALID").text().contains("did not match"), "{}", refused.text());
    let location = server.begin("a");
    server.send("PUT", &location).refuses(400, "DIGEST_INVALID");
    server.send("PUT", &format!("{location}?digest=md5:00")).refuses(400, "DIGEST_INVALID");
    server.registry.request("PUT", &format!("{location}?digest={wrong}"), &[], b"wrong").refuses(400, "DIGEST_INVALID");
    server.get(&location).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    server.send("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5").refuses(400, "DIGEST_INVALID");
    let location = server.begin("a");
    server.send("DELETE", &location).expect(204);
    server.send("DELETE", &location).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    // An upload is one of its repository.
    let other = server.begin("a").replace("/v2/a/", "/v2/b/");
    server.patch(&other, "0-0", b"0").refuses(404, "BLOB_UPLOAD_UNKNOWN");
    assert!(server.get(&format!("/v2/a/blobs/{wrong}")).status == 404);
    let uploads = server.registry.directory().join("uploads/a");
    assert_eq!(std::fs::read_dir(uploads).expect("uploads").count(), 1);
}

#[test]
fn names_are_never_paths() {
    let server = serve(&[]);
    for name in ["..", "a/../b", "A", "a//b", "a_", "%2e%2e%2fetc", "a%00b", "<script>", &"a".repeat(256)] {
        let answer = server.send("POST", &format!("/v2/{name}/blobs/uploads/"));
        assert!(matches!(answer.status, 400 | 404), "{name}: {}", answer.status);
        assert!(answer.header("content-type").starts_with("application/json") || answer.status == 400, "{name}");
    }
    server.send("POST", "/v2/a/../b/blobs/uploads/").refuses(400, "NAME_INVALID");
    server.get("/v2/a/manifests/.hidden").refuses(400, "TAG_INVALID");
    server.get("/v2/a/blobs/sha256:..").refuses(400, "DIGEST_INVALID");
    server.get("/v2/a/blobs/sha256:..%2f..%2fetc").expect(404);
    let location = server.begin("a");
    let elsewhere = format!("{}/..%2f..%2f..%2fetc%2fpasswd", location.rsplit_once('/').expect("a path").0);
    let answer = server.get(&elsewhere);
    assert!(matches!(answer.status, 400 | 404), "{}", answer.status);
}

#[test]
fn manifests_are_checked_before_they_are_kept() {
    let server = serve(&[]);
    let good = server.image_document("a", b"layer");
    let with = |path: &str, value: Value| {
        let mut document = good.clone();
        *document.pointer_mut(path).expect(path) = value;
        document
    };
    let missing = sha256(b"never pushed");
    let refused = server.manifest("a", "t", MANIFEST, &with("/layers/0/digest", json!(missing)));
    assert_eq!(refused.refuses(404, "MANIFEST_BLOB_UNKNOWN").json()["errors"][0]["detail"]["digest"], missing);
    let lie = server.manifest("a", "t", MANIFEST, &with("/layers/0/size", json!(6)));
    assert!(lie.refuses(400, "MANIFEST_INVALID").text().contains("has 6 bytes, but it has 5"), "{}", lie.text());
    server.manifest("a", "t", INDEX, &good).refuses(400, "MANIFEST_INVALID");
    server.manifest("a", "t", "text/html", &good).refuses(400, "MANIFEST_INVALID");
    server.manifest("a", &sha256(b"other"), MANIFEST, &good).refuses(400, "DIGEST_INVALID");
    let html =
        server.registry.request("PUT", "/v2/a/manifests/t", &[("Content-Type", MANIFEST)], b"<html>login</html>");
    assert!(html.refuses(400, "MANIFEST_INVALID").text().contains("not JSON"));
    let large = vec![b' '; (4 << 20) + 1];
    server
        .registry
        .request("PUT", "/v2/a/manifests/t", &[("Content-Type", MANIFEST)], &large)
        .refuses(413, "MANIFEST_INVALID");
    // None of them has left a tag.
    assert_eq!(server.get("/v2/a/tags/list").expect(200).json(), json!({"name": "a", "tags": []}));
    // A layer that must not be distributed is not here.
    let foreign = with(
        "/layers/0",
        json!({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": missing, "size": 9, "urls": ["https://example.com/x"]}),
    );
    server.manifest("a", "foreign", MANIFEST, &foreign).expect(201);
}

#[test]
fn mounts_share_a_blob_or_begin_an_upload() {
    let server = serve(&[]);
    let digest = server.blob("a", b"shared");
    for target in
        [format!("/v2/b/blobs/uploads/?mount={digest}&from=a"), format!("/v2/c/blobs/uploads/?mount={digest}")]
    {
        let answer = server.send("POST", &target);
        assert_eq!(server.get(answer.expect(201).header("location")).expect(200).body, b"shared");
    }
    let other = sha256(b"nowhere");
    let begun = server.send("POST", &format!("/v2/b/blobs/uploads/?mount={other}&from=a"));
    let location = begun.expect(202).header("location").to_owned();
    server.registry.request("PUT", &format!("{location}?digest={other}"), &[], b"nowhere").expect(201);
}

#[test]
fn tags_and_repositories_are_listed_in_pages() {
    let server = serve(&[]);
    server.image("a", "t0", b"layer");
    for tag in ["t10", "t2", "B", "a", "_x"] {
        server.image("a", tag, b"layer");
    }
    let all = json!(["B", "_x", "a", "t0", "t10", "t2"]);
    assert_eq!(server.get("/v2/a/tags/list").expect(200).json()["tags"], all);
    let (mut found, mut target) = (Vec::new(), "/v2/a/tags/list?n=4".to_owned());
    loop {
        let page = server.get(&target);
        found.extend(page.expect(200).json()["tags"].as_array().expect("tags").clone());
        match page.header("link").split_once('>') {
            Some((next, rest)) => {
                target = {
                    assert_eq!(rest, "; rel=\"next\"");
                    next[1..].to_owned()
                }
            }
            None => break,
        }
    }
    assert_eq!(json!(found), all);
    assert_eq!(server.get("/v2/a/tags/list?n=0").expect(200).json()["tags"], json!([]));
    assert_eq!(server.get("/v2/a/tags/list?last=a").expect(200).json()["tags"], json!(["t0", "t10", "t2"]));
    server.get("/v2/a/tags/list?n=-1").refuses(400, "PAGINATION_NUMBER_INVALID");
    server.get("/v2/none/tags/list").refuses(404, "NAME_UNKNOWN");
    server.image("b/c", "t", b"layer");
    assert_eq!(server.get("/v2/_catalog").expect(200).json(), json!({"repositories": ["a", "b/c"]}));
    let page = server.get("/v2/_catalog?n=1");
    assert_eq!(page.expect(200).header("link"), "</v2/_catalog?n=1&last=a>; rel=\"next\"");
    let results = server.get("/v1/search?q=C&n=10").expect(200).json();
    assert_eq!((&results["num_results"], &results["results"][0]["name"]), (&json!(1), &json!("b/c")));
}

#[test]
fn deleting_a_tag_keeps_the_manifest_and_the_other_way_round_does_not() {
    let server = serve(&[]);
    let digest = server.image("a", "one", b"layer");
    server.image("a", "two", b"layer");
    server.send("DELETE", "/v2/a/manifests/one").expect(202);
    server.get("/v2/a/manifests/one").refuses(404, "MANIFEST_UNKNOWN");
    server.get("/v2/a/manifests/two").expect(200);
    server.send("DELETE", &format!("/v2/a/manifests/{digest}")).expect(202);
    server.get("/v2/a/manifests/two").refuses(404, "MANIFEST_UNKNOWN");
    server.send("DELETE", &format!("/v2/a/manifests/{digest}")).refuses(404, "MANIFEST_UNKNOWN");
    let layer = format!("/v2/a/blobs/{}", sha256(b"layer"));
    server.send("DELETE", &layer).expect(202);
    server.send("DELETE", &layer).refuses(404, "BLOB_UNKNOWN");
    server.get(&layer).refuses(404, "BLOB_UNKNOWN");
    server.send("DELETE", "/v2/none/manifests/one").refuses(404, "NAME_UNKNOWN");
}

#[test]
fn several_tags_are_set_in_one_push() {
    let server = serve(&[]);
    let document = server.image_document("a", b"layer");
    let digest = sha256(document.to_string().as_bytes());
    let pushed = server.manifest("a", &format!("{digest}?tag=x&tag=y"), MANIFEST, &document);
    let tags: Vec<&str> =
        pushed.expect(201).headers.iter().filter(|(name, _)| name == "oci-tag").map(|(_, tag)| tag.as_str()).collect();
    assert_eq!(tags, ["x", "y"]);
    assert_eq!(server.get("/v2/a/tags/list").json()["tags"], json!(["x", "y"]));
    server.manifest("a", &format!("{digest}?tag=.x"), MANIFEST, &document).refuses(400, "TAG_INVALID");
}

#[test]
fn referrers_are_listed_by_kind() {
    let server = serve(&[]);
    let subject = server.image("a", "app", b"layer");
    let about = |kind: &str, annotation: &str| {
        let mut document = server.image_document("a", b"about");
        document["subject"] = json!({"mediaType": MANIFEST, "digest": subject, "size": 1});
        document["artifactType"] = json!(kind);
        document["annotations"] = json!({"note": annotation});
        let digest = sha256(document.to_string().as_bytes());
        let pushed = server.manifest("a", &digest, MANIFEST, &document);
        assert_eq!(pushed.expect(201).header("oci-subject"), subject);
        digest
    };
    let (bill, signature) = (about("application/bill", "b"), about("application/signature", "s"));
    let list = |query: &str| {
        let answer = server.get(&format!("/v2/a/referrers/{subject}{query}"));
        assert_eq!(answer.expect(200).header("content-type"), INDEX);
        answer
    };
    let digests = |answer: &Answer| {
        let entries = answer.json()["manifests"].as_array().expect("manifests").clone();
        entries.iter().map(|entry| entry["digest"].as_str().expect("a digest").to_owned()).collect::<Vec<_>>()
    };
    let mut both = vec![bill.clone(), signature];
    both.sort();
    assert_eq!(digests(&list("")), both);
    let filtered = list("?artifactType=application/bill");
    assert_eq!((digests(&filtered), filtered.header("oci-filters-applied")), (vec![bill.clone()], "artifactType"));
    let entry = &filtered.json()["manifests"][0];
    assert_eq!((&entry["artifactType"], &entry["annotations"]["note"]), (&json!("application/bill"), &json!("b")));
    server.send("DELETE", &format!("/v2/a/manifests/{bill}")).expect(202);
    assert_eq!(digests(&list("?artifactType=application/bill")), Vec::<String>::new());
    let nobody = server.get(&format!("/v2/none/referrers/{subject}"));
    assert_eq!(nobody.expect(200).json()["manifests"], json!([]));
    server.get("/v2/a/referrers/latest").refuses(400, "DIGEST_INVALID");
}

#[test]
fn parts_of_a_blob_are_what_was_asked_for() {
    let server = serve(&[]);
    let target = format!("/v2/a/blobs/{}", server.blob("a", b"0123456789"));
    let part = |range: &str| server.registry.request("GET", &target, &[("Range", range)], b"");
    for (range, content, bytes) in [
        ("bytes=2-4", "bytes 2-4/10", &b"234"[..]),
        ("bytes=7-", "bytes 7-9/10", b"789"),
        ("bytes=-2", "bytes 8-9/10", b"89"),
        ("bytes=8-100", "bytes 8-9/10", b"89"),
    ] {
        let answer = part(range);
        assert_eq!((answer.expect(206).header("content-range"), answer.body.as_slice()), (content, bytes), "{range}");
    }
    for range in ["bytes=10-", "bytes=5-2", "bytes=-0"] {
        assert_eq!(part(range).expect(416).header("content-range"), "bytes */10", "{range}");
    }
    let several = part("bytes=0-1,8-9");
    let boundary = several.expect(206).header("content-type").split("boundary=").nth(1).expect("a boundary").to_owned();
    let text = several.text();
    let parts: Vec<&str> = text
        .split(&format!("--{boundary}"))
        .filter_map(|part| part.split_once("\r\n\r\n"))
        .map(|(_, body)| body.trim_end())
        .collect();
    assert_eq!(parts, ["01", "89"]);
    let stale = [("Range", "bytes=0-1"), ("If-Range", "\"sha256:other\"")];
    assert_eq!(server.registry.request("GET", &target, &stale, b"").expect(200).body, b"0123456789");
}

#[test]
fn broken_requests_end_their_connection() {
    let server = serve(&[]);
    let raw = |bytes: &[u8]| {
        let mut stream = server.registry.connect();
        stream.write_all(bytes).expect("sent");
        Answer::read(&mut stream)
    };
    raw(b"nonsense\r\n\r\n").expect(400);
    raw(b"GET /v2/ HTTP/1.1\r\n\r\n").expect(400);
    raw(b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: r\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").expect(400);
    raw(&[b"GET / HTTP/1.1\r\nHost: r\r\nX: ".as_slice(), &[b'x'; 70_000], b"\r\n\r\n"].concat()).expect(431);
    // Several requests in one write are answered in order.
    let two = raw(b"GET /v2/ HTTP/1.1\r\nHost: r\r\n\r\nGET /healthz HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n");
    assert!(two.expect(200).text().starts_with("{}HTTP/1.1 200 OK") && two.text().ends_with("ok\n"));
    // A body is sent only once the server asks for it.
    let mut patient = server.registry.connect();
    let digest = sha256(b"x");
    write!(patient, "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: r\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").expect("sent");
    let mut leave = [0; 25];
    patient.read_exact(&mut leave).expect("an interim answer");
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    patient.write_all(b"x").expect("sent");
    Answer::read(&mut patient).expect(201);
}
