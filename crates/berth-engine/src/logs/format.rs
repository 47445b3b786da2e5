//! The formats of log files: how a record is found, from the beginning and from the end, and what it says.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, Read},
    os::unix::fs::FileExt,
};

use berth_model::Timestamp;
use berth_proto::local_log::{LENGTH, LogEntry, entry_length};
use serde::Deserialize;

use super::{LogLine, LogStream};

/// How much is read from the end at once while looking for the last lines.
const BLOCK: u64 = 64 * 1024;

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A line of JSON for each record.
    JsonFile,
    /// Protocol buffers between two copies of their length (`berth_proto::local_log`).
    Local,
}

impl Format {
    /// The format that a driver writes; `None` if it writes no file.
    pub(crate) fn of_driver(driver: &str) -> Option<Self> {
        match driver {
            "json-file" => Some(Self::JsonFile),
            "local" => Some(Self::Local),
            _ => None,
        }
    }

    /// Appends to `record` until it is a whole one; `false` at the end of what is there.
    pub(super) fn read(self, reader: &mut dyn BufRead, record: &mut Vec<u8>) -> io::Result<bool> {
        match self {
            Self::JsonFile => {
                reader.read_until(b'\n', record)?;
                Ok(record.last() == Some(&b'\n'))
            }
            Self::Local => Ok(fill(reader, record, LENGTH)? && {
                let framed = framed_length(record).ok_or_else(damaged)?;
                fill(reader, record, framed)?
            }),
        }
    }

    /// What a record says. One that cannot be read (a torn write after a loss of power) is left out.
    pub(super) fn parse(self, record: &[u8]) -> Option<LogLine> {
        match self {
            Self::JsonFile => serde_json::from_slice::<JsonLine>(record).ok().map(LogLine::from),
            Self::Local => LogEntry::of_framed(record).map(LogLine::from),
        }
    }

    /// How many whole records there are.
    pub(super) fn count(self, reader: &mut dyn BufRead) -> io::Result<u64> {
        let (mut count, mut record) = (0, Vec::new());
        while self.read(reader, &mut record)? {
            record.clear();
            count += 1;
        }
        Ok(count)
    }

    /// Where the last `wanted` whole records before `end` begin, and how many there are.
    pub(super) fn tail(self, file: &File, end: u64, wanted: u64) -> io::Result<(u64, u64)> {
        match self {
            _ if wanted == 0 => Ok((end, 0)),
            Self::JsonFile => last_lines(file, end, wanted),
            Self::Local => match last_entries(file, end, wanted)? {
                Some(found) => Ok(found),
                // The last one is being written: its end cannot be told from the end.
                None => whole_entries(file, end, wanted),
            },
        }
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an entry has an impossible length: the file is damaged")
}

/// Reads until there are `length` bytes; `false` if there are not so many yet.
fn fill(reader: &mut dyn BufRead, bytes: &mut Vec<u8>, length: usize) -> io::Result<bool> {
    let missing = length.saturating_sub(bytes.len()) as u64;
    reader.take(missing).read_to_end(bytes)?;
    Ok(bytes.len() >= length)
}

/// The number of bytes of an entry with its lengths, of which the first is there.
fn framed_length(bytes: &[u8]) -> Option<usize> {
    Some(entry_length(*bytes.first_chunk::<LENGTH>()?)? + 2 * LENGTH)
}

/// A line begins behind the end of the one before it; behind the last end nothing is whole.
fn last_lines(file: &File, end: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut ends = 0;
    let mut position = end;
    let mut block = Vec::new();
    while position > 0 {
        let length = position.min(BLOCK);
        position -= length;
        block.resize(usize::try_from(length).expect("a block fits"), 0);
        file.read_exact_at(&mut block, position)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if ends == wanted {
                return Ok((position + index as u64 + 1, wanted));
            }
            ends += 1;
        }
    }
    Ok((0, ends))
}

/// Goes back from length to length; `None` if `end` is not the end of an entry.
fn last_entries(file: &File, end: u64, wanted: u64) -> io::Result<Option<(u64, u64)>> {
    let (mut start, mut found) = (end, 0);
    let mut length = [0; LENGTH];
    while start > 0 && found < wanted {
        let Some(footer) = start.checked_sub(LENGTH as u64) else { return Ok(None) };
        file.read_exact_at(&mut length, footer)?;
        let begin = entry_length(length).and_then(|entry| footer.checked_sub((entry + LENGTH) as u64));
        let Some(begin) = begin else { return Ok(None) };
        let mut header = [0; LENGTH];
        file.read_exact_at(&mut header, begin)?;
        if header != length {
            return Ok(None);
        }
        (start, found) = (begin, found + 1);
    }
    Ok(Some((start, found)))
}

/// Goes from length to length, from the beginning.
fn whole_entries(file: &File, end: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut starts = std::collections::VecDeque::new();
    let mut start = 0;
    let mut header = [0; LENGTH];
    while start + LENGTH as u64 <= end {
        file.read_exact_at(&mut header, start)?;
        let next = start + framed_length(&header).ok_or_else(damaged)? as u64;
        if next > end {
            break;
        }
        starts.push_back(start);
        if starts.len() as u64 > wanted {
            starts.pop_front();
        }
        start = next;
    }
    Ok((starts.front().copied().unwrap_or(start), starts.len() as u64))
}

/// A line of the json-file format.
#[derive(Deserialize)]
struct JsonLine {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    time: Timestamp,
}

impl From<JsonLine> for LogLine {
    fn from(line: JsonLine) -> Self {
        Self { stream: stream(&line.stream), at: line.time, text: line.log.into_bytes(), attributes: line.attrs }
    }
}

impl From<LogEntry> for LogLine {
    fn from(entry: LogEntry) -> Self {
        let ends = entry.ends_line();
        let mut text = entry.line;
        if ends {
            text.push(b'\n');
        }
        let attributes = entry.attrs.into_iter().map(|attribute| (attribute.key, attribute.value)).collect();
        Self { stream: stream(&entry.source), at: Timestamp::from_nanos(entry.time_nano), text, attributes }
    }
}

fn stream(name: &str) -> LogStream {
    if name == "stderr" { LogStream::Stderr } else { LogStream::Stdout }
}
