//! The container's log: output of both streams becomes records in a file that is written here, by the shim itself.

mod compressor;
mod file;
mod json_file;
mod lines;
mod local;

use std::io;
use std::path::Path;

use berth_model::Timestamp;
use berth_proto::shim;
use rustix::process::Pid;

use file::{Limits, LogFile};
use lines::Lines;

use crate::stdio::Stream;

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    file: LogFile,
    format: Format,
    stdout: Lines,
    stderr: Lines,
}

/// How records are written.
#[derive(Debug)]
enum Format {
    /// Lines of JSON, with their attributes as JSON.
    JsonFile { attributes: Vec<u8> },
    /// Protocol buffers.
    Local(local::Entries),
}

impl Log {
    /// Opens the log that the manager asked for; `None` when it wants none.
    ///
    /// # Errors
    /// If the driver is not known or the file cannot be opened.
    pub fn open(wish: &shim::Log) -> io::Result<Option<Self>> {
        let path = Path::new(&wish.path);
        let format = match wish.driver.as_str() {
            "none" | "" => return Ok(None),
            "json-file" => Format::JsonFile { attributes: json_file::attributes(&wish.attrs) },
            "local" => {
                local::repair(path)?;
                Format::Local(local::Entries::new(&wish.attrs))
            }
            other => {
                let text = format!("the shim has no log driver {other:?}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let limits = Limits {
            max_size: (wish.max_size > 0).then_some(wish.max_size),
            max_files: wish.max_file.max(1),
            compress: wish.compress,
            backlog: usize::try_from(wish.non_blocking_buffer).ok().filter(|bytes| *bytes > 0),
        };
        let open = if wish.at_first_record { LogFile::open_at_first_record } else { LogFile::open };
        Ok(Some(Self { file: open(path, limits)?, format, stdout: Lines::default(), stderr: Lines::default() }))
    }

    /// Takes output as it was read.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        self.record(stream, now, |lines, record| lines.feed(bytes, now.nanos(), record));
    }

    /// Writes the unfinished line of a stream that has ended.
    pub fn finish(&mut self, stream: Stream, now: Timestamp) {
        self.record(stream, now, |lines, record| lines.finish(now.nanos(), record));
    }

    /// The beginning of a line that is not in the file yet.
    pub fn unfinished(&self, stream: Stream) -> &[u8] {
        match stream {
            Stream::Stdout => self.stdout.unfinished(),
            Stream::Stderr => self.stderr.unfinished(),
        }
    }

    /// Whether records wait for a file that would block (non-blocking mode).
    pub fn waits(&self) -> bool {
        self.file.waits()
    }

    /// Tries again to write what waits.
    pub fn flush_waiting(&mut self) {
        self.file.flush_waiting();
    }

    /// Where the next record goes.
    pub fn position(&self) -> shim::LogPosition {
        shim::LogPosition {
            path: self.file.path().to_string_lossy().into_owned(),
            offset: self.file.size(),
            rotation: self.file.counts().rotations,
        }
    }

    /// What became of the output so far.
    pub fn status(&self) -> shim::LogStatusResponse {
        let counts = self.file.counts();
        shim::LogStatusResponse {
            log: Some(self.position()),
            dropped_lines: counts.dropped_records,
            dropped_bytes: counts.dropped_bytes,
            written_bytes: counts.written_bytes,
        }
    }

    /// A child of the shim is gone.
    pub fn reaped(&mut self, pid: Pid) {
        self.file.reaped(pid);
    }

    fn record(&mut self, stream: Stream, now: Timestamp, cut: impl FnOnce(&mut Lines, &mut dyn FnMut(&[u8], i64))) {
        let Self { file, format, stdout, stderr } = self;
        let lines = match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        // Lines that came together share their time, and so its text.
        let (mut stamp, mut record) = (Stamp::of(now.nanos()), Vec::new());
        cut(lines, &mut |piece, time| {
            if time != stamp.nanos {
                stamp = Stamp::of(time);
            }
            record.clear();
            format.push(&mut record, piece, stream, &stamp);
            file.append(&record, |records, bytes, reason| {
                let line = format!("berth: {records} lines ({bytes} bytes) of output were dropped: {reason}\n");
                format.notice(&line, &stamp)
            });
        });
    }
}

/// A time, and its text.
struct Stamp {
    nanos: i64,
    text: String,
}

impl Stamp {
    fn of(nanos: i64) -> Self {
        Self { nanos, text: Timestamp::from_nanos(nanos).to_string() }
    }
}

impl Format {
    /// Appends the record of a piece of output.
    fn push(&mut self, out: &mut Vec<u8>, piece: &[u8], stream: Stream, stamp: &Stamp) {
        match self {
            Self::JsonFile { attributes } => json_file::push_record(out, piece, stream.name(), attributes, &stamp.text),
            Self::Local(entries) => entries.push(out, piece, stream, stamp.nanos),
        }
    }

    /// The record of a line of our own.
    fn notice(&self, line: &str, stamp: &Stamp) -> Vec<u8> {
        match self {
            Self::JsonFile { attributes } => {
                let mut record = Vec::new();
                json_file::push_record(&mut record, line.as_bytes(), Stream::Stderr.name(), attributes, &stamp.text);
                record
            }
            Self::Local(entries) => entries.whole(line.trim_end().as_bytes(), Stream::Stderr, stamp.nanos),
        }
    }
}
