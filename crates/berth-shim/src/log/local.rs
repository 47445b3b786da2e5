//! The entries of a `local` log, as Docker writes them, and what a loss of power may have left of the last one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use berth_proto::local_log::{LENGTH, LogAttr, LogEntry, PartialLogEntryMetadata, entry_length};

use crate::stdio::Stream;

/// Bytes in the name of a line that comes in pieces; it is written as hex digits.
const LINE_ID: usize = 32;

/// Makes entries, and knows which lines are under way in pieces.
#[derive(Debug)]
pub struct Entries {
    attributes: Vec<LogAttr>,
    stdout: Option<Piece>,
    stderr: Option<Piece>,
}

/// The piece of a line that was written last.
#[derive(Clone, Debug)]
struct Piece {
    line: String,
    ordinal: i32,
}

impl Entries {
    /// Every entry carries the attributes, in order of their names.
    pub fn new<'a>(attributes: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let attribute = |(key, value): (&String, &String)| LogAttr { key: key.clone(), value: value.clone() };
        Self { attributes: attributes.into_iter().map(attribute).collect(), stdout: None, stderr: None }
    }

    /// Appends the entry of a piece of output; one without a line break is a part of its line.
    pub fn push(&mut self, out: &mut Vec<u8>, piece: &[u8], stream: Stream, time: i64) {
        let last = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let (line, ends) = match piece.strip_suffix(b"\n") {
            Some(line) => (line, true),
            None => (piece, false),
        };
        let number = match last.take() {
            Some(before) => Some(Piece { ordinal: before.ordinal.saturating_add(1), ..before }),
            None if ends => None,
            None => Some(Piece { line: line_id(), ordinal: 1 }),
        };
        let metadata =
            number.clone().map(|Piece { line: id, ordinal }| PartialLogEntryMetadata { last: ends, id, ordinal });
        *last = number.filter(|_| !ends);
        self.entry(line, stream, time, metadata).push_framed(out);
    }

    /// The entry of a whole line.
    pub fn whole(&self, line: &[u8], stream: Stream, time: i64) -> Vec<u8> {
        let mut out = Vec::new();
        self.entry(line, stream, time, None).push_framed(&mut out);
        out
    }

    fn entry(&self, line: &[u8], stream: Stream, time: i64, metadata: Option<PartialLogEntryMetadata>) -> LogEntry {
        LogEntry {
            source: stream.name().to_owned(),
            time_nano: time,
            line: line.to_vec(),
            partial: metadata.is_some(),
            partial_log_metadata: metadata,
            attrs: self.attributes.clone(),
        }
    }
}

fn line_id() -> String {
    let mut bytes = [0; LINE_ID];
    // Without randomness all lines have the same name; the numbers of their pieces still tell them apart.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes.iter().fold(String::with_capacity(2 * LINE_ID), |text, byte| text + &format!("{byte:02x}"))
}

/// Cuts off what is no whole entry at the end of a file: the machine lost power, and a new entry behind it could not be found.
///
/// # Errors
/// If the file cannot be read or cut.
pub fn repair(path: &Path) -> io::Result<()> {
    let file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let length = file.metadata()?.len();
    if length == 0 || last_entry(&file, length)?.is_some() {
        return Ok(());
    }
    let mut whole = 0;
    while let Some(next) = entry_end(&file, whole, length)? {
        whole = next;
    }
    file.set_len(whole)
}

/// Where the entry begins that ends at `end`; `None` if none does.
fn last_entry(file: &File, end: u64) -> io::Result<Option<u64>> {
    let mut footer = [0; LENGTH];
    let Some(at) = end.checked_sub(LENGTH as u64) else { return Ok(None) };
    file.read_exact_at(&mut footer, at)?;
    let start = entry_length(footer).and_then(|entry| at.checked_sub((LENGTH + entry) as u64));
    match start {
        Some(start) if entry_end(file, start, end)? == Some(end) => Ok(Some(start)),
        _ => Ok(None),
    }
}

/// Where the entry ends that begins at `start`; `None` if there is no whole one before `length`.
fn entry_end(file: &File, start: u64, length: u64) -> io::Result<Option<u64>> {
    if start + LENGTH as u64 > length {
        return Ok(None);
    }
    let (mut header, mut footer) = ([0; LENGTH], [0; LENGTH]);
    file.read_exact_at(&mut header, start)?;
    let Some(entry) = entry_length(header) else { return Ok(None) };
    let end = start + (2 * LENGTH + entry) as u64;
    if end > length {
        return Ok(None);
    }
    file.read_exact_at(&mut footer, end - LENGTH as u64)?;
    Ok((footer == header).then_some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: &[u8]) -> (String, bool, i32) {
        let entry = LogEntry::of_framed(bytes).unwrap();
        let ordinal = entry.partial_log_metadata.as_ref().map_or(0, |piece| piece.ordinal);
        (String::from_utf8(entry.line.clone()).unwrap(), entry.ends_line(), ordinal)
    }

    #[test]
    fn pieces_of_a_line_are_numbered_for_each_stream() {
        let mut entries = Entries::new([(&"tag".to_owned(), &"x".to_owned())]);
        let mut push = |piece: &[u8], stream| {
            let mut out = Vec::new();
            entries.push(&mut out, piece, stream, 1);
            let shown = entry(&out);
            (shown, LogEntry::of_framed(&out).unwrap())
        };
        let text = str::to_owned;
        assert_eq!(push(b"whole\n", Stream::Stdout).0, (text("whole"), true, 0));
        let (first, one) = push(b"a", Stream::Stdout);
        assert_eq!(first, (text("a"), false, 1));
        assert_eq!(push(b"err\n", Stream::Stderr).0, (text("err"), true, 0));
        assert_eq!(push(b"b", Stream::Stdout).0, (text("b"), false, 2));
        let (last, three) = push(b"\n", Stream::Stdout);
        assert_eq!(last, (text(""), true, 3));
        assert_eq!(one.attrs, [LogAttr { key: text("tag"), value: text("x") }]);
        let id = |entry: LogEntry| entry.partial_log_metadata.unwrap().id;
        assert_eq!(id(one), id(three));
        assert_eq!(push(b"next\n", Stream::Stdout).0, (text("next"), true, 0));
    }

    #[test]
    fn a_torn_end_is_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("container.log");
        repair(&path).unwrap();
        assert!(!path.exists());
        let entries = Entries::new([]);
        let two = [entries.whole(b"one", Stream::Stdout, 1), entries.whole(b"two", Stream::Stdout, 2)].concat();
        let one = entries.whole(b"one", Stream::Stdout, 1).len();
        for (left, kept) in [(two.len(), two.len()), (two.len() - 1, one), (one + 3, one), (one - 1, 0), (0, 0)] {
            std::fs::write(&path, &two[..left]).unwrap();
            repair(&path).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), &two[..kept], "{left}");
        }
        // Blocks that were given to the file but never written are zeros.
        std::fs::write(&path, [&two[..], &[0; 100]].concat()).unwrap();
        repair(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), two);
    }
}
