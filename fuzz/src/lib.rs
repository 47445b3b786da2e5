//! What is fuzzed: one function per target, each given any bytes. It must end, must not panic, and must keep what it says.
//!
//! `scripts/fuzz TARGET` looks for new inputs (see CONTRIBUTING.md, "Fuzzing"); `cargo test -p berth-fuzz` replays the seeds in
//! `corpus/TARGET/`, among them every input that ever broke something.
#![forbid(unsafe_code)]

use std::{fmt::Display, fs::File, path::Path, str::FromStr};

use berth_archive::{ApplyOptions, BlobHash, LayerView, Limits, TarReader, unpack};
use berth_model::Algorithm;
use berth_proto::ttrpc;
use serde::{Serialize, de::DeserializeOwned};

/// A target's name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 16] = [
    ("reference", reference),
    ("layer", layer),
    ("tar", tar),
    ("documents", documents),
    ("request", request),
    ("netlink", netlink),
    ("ttrpc", ttrpc),
    ("seccomp", seccomp),
    ("template", template),
    ("log", log),
    ("local_log", local_log),
    ("http", http),
    ("dns", dns),
    ("resolv_conf", resolv_conf),
    ("registry", registry),
    ("ports", ports),
];

/// Names of images and of what else users name: what is accepted is understood again as it is shown in full.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(name) = text.parse::<berth_model::ImageRef>() {
        // Not always as the same: without its registry, `docker.io/a.b/c` looks like one of the registry `a.b`, here as in Docker.
        assert!(name.familiar().parse::<berth_model::ImageRef>().is_ok(), "{text:?} is shown as {:?}", name.familiar());
    }
    shown_is_understood::<berth_model::ImageRef>(text);
    shown_is_understood::<berth_model::Digest>(text);
    shown_is_understood::<berth_model::Platform>(text);
    shown_is_understood::<berth_model::Signal>(text);
    shown_is_understood::<berth_model::Timestamp>(text);
    shown_is_understood::<berth_model::ContainerName>(text);
}

fn shown_is_understood<T: FromStr<Err: std::fmt::Debug> + Display + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let shown = value.to_string();
        assert_eq!(shown.parse::<T>().expect("what is shown"), value, "{text:?} is shown as {shown:?}");
    }
}

/// A layer, in any compression, is unpacked into its root and nowhere else.
pub fn layer(data: &[u8]) {
    let outside = tempfile::tempdir().expect("a directory");
    let root = outside.path().join("root");
    std::fs::create_dir(&root).expect("made");
    std::fs::write(outside.path().join("file"), "untouched").expect("written");
    let directory = File::open(&root).expect("there");
    let lower = LayerView::open::<&Path>(&[]).expect("nothing below");
    let limits = Limits { max_bytes: Some(1 << 20), ..Limits::default() };
    let _ = unpack(data, directory.into(), lower, ApplyOptions::default(), BlobHash::Known, Algorithm::Sha256, limits);
    let mut names: Vec<_> =
        std::fs::read_dir(outside.path()).expect("there").flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(names, ["file", "root"]);
    assert_eq!(std::fs::read(outside.path().join("file")).expect("there"), b"untouched");
}

/// A tar is read member by member, with its extensions, to its end or to the first thing that is wrong.
pub fn tar(data: &[u8]) {
    let mut archive = TarReader::new(data);
    while let Ok(Some(_)) = archive.next_member() {
        while let Ok(chunk) = archive.fill() {
            let length = chunk.len();
            if length == 0 {
                break;
            }
            archive.consume(length);
        }
    }
}

/// Documents of images and bundles: what was read is written so that it is read as the same again.
pub fn documents(data: &[u8]) {
    written_is_read::<berth_oci::runtime::Spec>(data);
    written_is_read::<berth_oci::runtime::State>(data);
    written_is_read::<berth_oci::image::ImageConfig>(data);
    written_is_read::<berth_oci::image::Manifest>(data);
    written_is_read::<berth_oci::image::Index>(data);
}

fn written_is_read<T: DeserializeOwned + Serialize>(data: &[u8]) {
    let Ok(document) = serde_json::from_slice::<T>(data) else { return };
    let once = serde_json::to_vec(&document).expect("it came from JSON");
    let again: T = serde_json::from_slice(&once).expect("what was written is read");
    let twice = serde_json::to_vec(&again).expect("it came from JSON");
    assert_eq!(String::from_utf8_lossy(&once), String::from_utf8_lossy(&twice));
}

/// A request line and websocket frames, as a client may send them.
pub fn request(data: &[u8]) {
    if let Ok(line) = std::str::from_utf8(data) {
        let (method, target) = line.split_once(' ').unwrap_or(("GET", line));
        berth_daemon::fuzz::request_line(method, target);
    }
    berth_daemon::fuzz::websocket_frames(data);
}

/// Answers of the kernel about links, addresses, routes and rules.
pub fn netlink(data: &[u8]) {
    berth_net::fuzz::netlink_answer(data);
}

/// Frames of a shim's connection: however they are cut into pieces, they are the same frames.
pub fn ttrpc(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    let whole = frames(data, data.len());
    assert_eq!(frames(data, usize::from(piece)), whole, "in pieces of {piece} bytes");
}

fn frames(data: &[u8], piece: usize) -> Vec<ttrpc::Frame> {
    let mut decoder = ttrpc::Decoder::default();
    let mut frames = Vec::new();
    for piece in data.chunks(piece.max(1)) {
        decoder.feed(piece);
        frames.extend(std::iter::from_fn(|| decoder.next()));
    }
    frames
}

/// A seccomp profile made out of the bytes: its filter answers every call as the profile reads.
pub fn seccomp(data: &[u8]) {
    berth_runtime::seccomp::fuzz::faithful(data);
}

/// A template of `--format`, run on a document like those of `inspect`.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let document = serde_json::json!({
        "Id": "4f5c", "Names": ["/a", "/b"], "Size": 12, "Ratio": 0.5, "Running": true, "Nothing": null,
        "Labels": {"a": "b", "c.d": ""}, "Mounts": [{"Type": "bind", "RW": false}],
    });
    berth_cli::fuzz::template(text, &document);
}

/// A log in the json-file format, damaged anywhere: every tail of it is the end of the whole.
pub fn log(data: &[u8]) {
    read_log(data, "json-file");
}

/// The same of a log in the `local` format.
pub fn local_log(data: &[u8]) {
    let _ = berth_proto::local_log::LogEntry::of_framed(data);
    read_log(data, "local");
}

/// The first byte says how many of the others are in a file that was rotated away.
fn read_log(data: &[u8], driver: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("container.log");
    let (&rotated, data) = data.split_first().unwrap_or((&0, data));
    let (older, newer) = data.split_at(data.len().min(usize::from(rotated)));
    if rotated > 0 {
        std::fs::write(directory.path().join("container.log.1"), older).expect("written");
    }
    std::fs::write(&path, newer).expect("written");
    berth_engine::fuzz::log(&path, driver);
}

/// The answer of a server: however it is cut into pieces, it is the same answer.
pub fn http(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    let whole = answer(Pieces { data, piece: usize::MAX });
    assert_eq!(answer(Pieces { data, piece: usize::from(piece).max(1) }), whole, "in pieces of {piece} bytes");
}

/// Reads an answer to its end; gives its head, its body and how that ended.
fn answer(stream: Pieces<'_>) -> Option<(berth_http::Head, Vec<u8>, Result<(), std::io::ErrorKind>)> {
    let mut connection = berth_http::Buffered::new(stream);
    let head = berth_http::Head::read(&mut connection, 1 << 16).ok()?;
    let mut remaining = berth_http::Remaining::of(&head, false);
    let (mut body, mut buffer) = (Vec::new(), [0; 64]);
    loop {
        match remaining.read(&mut connection, &mut buffer) {
            Ok(0) => return Some((head, body, Ok(()))),
            Ok(count) => body.extend_from_slice(&buffer[..count]),
            Err(error) => return Some((head, body, Err(error.kind()))),
        }
    }
}

/// Gives at most so many bytes at once.
struct Pieces<'a> {
    data: &'a [u8],
    piece: usize,
}

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.piece.min(buffer.len()).min(self.data.len());
        let (now, later) = self.data.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.data = later;
        Ok(count)
    }
}

/// A query of a container and the answer of a server; the first byte is the query's length.
pub fn dns(data: &[u8]) {
    let Some((&length, data)) = data.split_first() else { return };
    let (query, response) = data.split_at(data.len().min(usize::from(length)));
    berth_dns::fuzz::exchange(query, response);
}

/// The file that names the host's resolvers.
pub fn resolv_conf(data: &[u8]) {
    berth_dns::fuzz::resolv_conf(&String::from_utf8_lossy(data));
}

/// What a registry says of itself in headers, and what a person says of it in `hosts.toml`.
pub fn registry(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    berth_distribution::fuzz::said_by_a_registry(&text);
    berth_distribution::fuzz::hosts(&text);
}

/// Published ports: what the client takes, the daemon takes too, and shows again as it was asked.
pub fn ports(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(asked) = berth_cli::fuzz::published(text) {
        let shown = berth_daemon::fuzz::published(&asked).unwrap_or_else(|error| panic!("-p {text:?}: {error}"));
        assert!(shown == asked, "-p {text:?} is shown in another way");
    }
}
