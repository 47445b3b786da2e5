//! The log's file: records appended whole or not at all, rotated, and what a full disk makes of it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::process::Pid;

use super::compressor::Compressor;

/// How a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A file that has reached this many bytes is rotated before the next record; `None` never.
    pub max_size: Option<u64>,
    /// Files kept, the current one included; at least one.
    pub max_files: u32,
    /// Whether rotated files are compressed.
    pub compress: bool,
    /// Bytes that may wait for a file that would block; `None` lets the container wait instead.
    pub backlog: Option<usize>,
}

/// What became of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that were dropped.
    pub dropped_records: u64,
    /// Their bytes, as they would have been in the file.
    pub dropped_bytes: u64,
    /// Bytes in files.
    pub written_bytes: u64,
    /// Rotations.
    pub rotations: u64,
}

/// A log that is being written.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    /// Open, unless nothing has been written to a file that is to be made with the first record.
    file: Option<OwnedFd>,
    size: u64,
    limits: Limits,
    counts: Counts,
    /// Drops that no line in the log tells of yet.
    untold: Untold,
    waiting: VecDeque<Vec<u8>>,
    /// Bytes in the records that wait.
    waiting_bytes: usize,
    patience: Patience,
    /// The one that works on the file that was rotated last.
    compressor: Option<Compressor>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Untold {
    records: u64,
    bytes: u64,
    reason: Option<Errno>,
}

/// How a write may behave in non-blocking mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// Ask the kernel not to wait (`RWF_NOWAIT`); holds how often in a row it would have had to.
    Ask(u8),
    /// The file system cannot be asked, or always says it would wait.
    Wait,
}

/// After so many refusals in a row a file system is taken to refuse always.
const MAX_REFUSALS: u8 = 50;

impl LogFile {
    /// Opens the log at its end, making it if need be.
    pub fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        Self::new(path, limits, Some(open(path, OFlags::CREATE)?))
    }

    /// Opens the log at its end if it is there; else the first record makes it.
    pub fn open_at_first_record(path: &Path, limits: Limits) -> io::Result<Self> {
        let file = match open(path, OFlags::empty()) {
            Err(Errno::NOENT) => None,
            file => Some(file?),
        };
        Self::new(path, limits, file)
    }

    fn new(path: &Path, limits: Limits, file: Option<OwnedFd>) -> io::Result<Self> {
        let size = file.as_ref().map_or(Ok(0), |file| rustix::fs::fstat(file).map(|stat| stat.st_size as u64))?;
        let patience = if limits.backlog.is_some() { Patience::Ask(0) } else { Patience::Wait };
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            limits,
            counts: Counts::default(),
            untold: Untold::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            patience,
            compressor: None,
        })
    }

    /// Appends a record. What cannot be written is dropped and counted.
    ///
    /// `notice` makes the record that tells of drops from the number of records and bytes and the reason.
    pub fn append(&mut self, record: &[u8], notice: impl Fn(u64, u64, &str) -> Vec<u8>) {
        if !self.flush_waiting() {
            self.wait_or_drop(record);
            return;
        }
        self.rotate_if_due();
        if self.untold.records > 0 && !self.tell(&notice) {
            self.drop_record(record, self.untold.reason.unwrap_or(Errno::NOSPC));
            return;
        }
        match self.write_whole(record) {
            Ok(()) => {}
            Err(Errno::AGAIN) => self.wait_or_drop(record),
            Err(errno) => self.drop_record(record, errno),
        }
    }

    /// Tries again to write what waits. Says whether nothing waits any more.
    pub fn flush_waiting(&mut self) -> bool {
        while let Some(record) = self.waiting.pop_front() {
            self.rotate_if_due();
            match self.write_whole(&record) {
                Err(Errno::AGAIN) => {
                    self.waiting.push_front(record);
                    return false;
                }
                Err(errno) => self.drop_record(&record, errno),
                Ok(()) => {}
            }
            self.waiting_bytes -= record.len();
        }
        self.waiting = VecDeque::new();
        true
    }

    /// Whether records wait.
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the present file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What became of the records so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A child is gone; perhaps it was the one that compressed.
    pub fn reaped(&mut self, pid: Pid) {
        self.compressor.take_if(|compressor| compressor.pid() == pid);
    }

    fn wait_or_drop(&mut self, record: &[u8]) {
        if self.waiting_bytes + record.len() <= self.limits.backlog.unwrap_or(0) {
            self.waiting.push_back(record.to_vec());
            self.waiting_bytes += record.len();
        } else {
            self.drop_record(record, Errno::AGAIN);
        }
    }

    fn drop_record(&mut self, record: &[u8], reason: Errno) {
        let bytes = record.len() as u64;
        self.counts.dropped_records += 1;
        self.counts.dropped_bytes += bytes;
        self.untold.records += 1;
        self.untold.bytes += bytes;
        self.untold.reason = Some(reason);
    }

    fn tell(&mut self, notice: impl Fn(u64, u64, &str) -> Vec<u8>) -> bool {
        let reason = match self.untold.reason {
            Some(Errno::NOSPC | Errno::DQUOT) => "no space left on device".to_owned(),
            Some(Errno::AGAIN) | None => "the log was too slow".to_owned(),
            Some(errno) => io::Error::from(errno).to_string(),
        };
        let told = self.write_whole(&notice(self.untold.records, self.untold.bytes, &reason)).is_ok();
        if told {
            self.untold = Untold::default();
        }
        told
    }

    /// Writes all of the record or leaves the file as it was.
    fn write_whole(&mut self, record: &[u8]) -> Result<(), Errno> {
        let mut done = 0;
        while done < record.len() {
            match self.write(&record[done..]) {
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    if done > 0 {
                        // Half a record would spoil the next one for every reader.
                        let _ = self.file.as_ref().map(|file| rustix::fs::ftruncate(file, self.size));
                    }
                    return Err(errno);
                }
            }
        }
        self.size += record.len() as u64;
        self.counts.written_bytes += record.len() as u64;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open(&self.path, OFlags::CREATE)?),
        };
        let Patience::Ask(refused) = self.patience else {
            return rustix::io::write(file, bytes);
        };
        // An offset of -1 means the present position: the end, as the file is open for appending.
        let result = rustix::io::pwritev2(&*file, &[io::IoSlice::new(bytes)], u64::MAX, ReadWriteFlags::NOWAIT);
        self.patience = match result {
            Err(Errno::AGAIN) if refused < MAX_REFUSALS => Patience::Ask(refused + 1),
            Err(Errno::OPNOTSUPP | Errno::AGAIN | Errno::NOSYS) => Patience::Wait,
            _ => Patience::Ask(0),
        };
        if self.patience == Patience::Wait { rustix::io::write(file, bytes) } else { result }
    }

    fn rotate_if_due(&mut self) {
        if self.limits.max_size.is_some_and(|most| self.size >= most) && self.rotate().is_ok() {
            self.counts.rotations += 1;
        }
    }

    /// Puts the file aside and begins a new one. Readers that have the old one open read it to its end.
    fn rotate(&mut self) -> io::Result<()> {
        if let Some(compressor) = self.compressor.take() {
            // The names must not change beneath it. Who logs faster than one can compress has to wait.
            compressor.finish();
        }
        if self.limits.max_files < 2 {
            ignore_missing(rustix::fs::unlink(&self.path))?;
        } else {
            let extension = if self.limits.compress { ".gz" } else { "" };
            let last = self.limits.max_files - 1;
            ignore_missing(rustix::fs::unlink(self.numbered(last, extension)))?;
            for number in (1..last).rev() {
                let (from, to) = (self.numbered(number, extension), self.numbered(number + 1, extension));
                ignore_missing(rustix::fs::rename(&from, &to))?;
            }
            let first = self.numbered(1, "");
            ignore_missing(rustix::fs::rename(&self.path, &first))?;
            if self.limits.compress {
                self.compressor = Compressor::start(&first);
            }
        }
        self.file = Some(open(&self.path, OFlags::CREATE | OFlags::TRUNC)?);
        self.size = 0;
        Ok(())
    }

    fn numbered(&self, number: u32, extension: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}{extension}"));
        name.into()
    }
}

fn open(path: &Path, more: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW | more;
    rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o640))
}

fn ignore_missing(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::NOENT) | Ok(()) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn limits(max_size: u64, max_files: u32, compress: bool) -> Limits {
        Limits { max_size: Some(max_size), max_files, compress, backlog: None }
    }

    fn none(_: u64, _: u64, _: &str) -> Vec<u8> {
        unreachable!("nothing was dropped")
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_rotated_before_the_next_record() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = LogFile::open(&path, limits(10, 3, false)).unwrap();
        for number in 0..8 {
            log.append(format!("line {number}\n").as_bytes(), none);
        }
        assert_eq!(names(directory.path()), ["log", "log.1", "log.2"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line 6\nline 7\n");
        assert_eq!(std::fs::read_to_string(directory.path().join("log.2")).unwrap(), "line 2\nline 3\n");
        assert_eq!((log.size(), log.counts().rotations), (14, 3));
    }

    #[test]
    fn one_file_begins_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = LogFile::open(&path, limits(1, 1, true)).unwrap();
        log.append(b"one\n", none);
        log.append(b"two\n", none);
        assert_eq!(names(directory.path()), ["log"]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert!(log.compressor.is_none());
    }

    #[test]
    fn rotated_files_are_compressed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = LogFile::open(&path, limits(1, 3, true)).unwrap();
        for text in ["one\n", "two\n", "three\n"] {
            log.append(text.as_bytes(), none);
        }
        log.compressor.take().unwrap().finish();
        assert_eq!(names(directory.path()), ["log", "log.1.gz", "log.2.gz"]);
        let mut text = String::new();
        let file = std::fs::File::open(directory.path().join("log.2.gz")).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\n");
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        LogFile::open(&path, limits(100, 1, false)).unwrap().append(b"one\n", none);
        let log = LogFile::open(&path, limits(100, 1, false)).unwrap();
        assert_eq!(log.size(), 4);
    }

    #[test]
    fn a_file_is_made_with_the_first_record_where_that_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let limits = limits(6, 2, false);
        let mut log = LogFile::open_at_first_record(&path, limits.clone()).unwrap();
        assert_eq!((names(directory.path()), log.size()), (Vec::new(), 0));
        log.append(b"first\n", none);
        assert_eq!(names(directory.path()), ["log"]);
        // One that is there is gone on with.
        let mut again = LogFile::open_at_first_record(&path, limits).unwrap();
        assert_eq!(again.size(), 6);
        again.append(b"second\n", none);
        assert_eq!(names(directory.path()), ["log", "log.1"]);
    }

    #[test]
    fn a_file_that_cannot_be_made_drops_records_until_it_can() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gone/log");
        let mut log = LogFile::open_at_first_record(&path, limits(100, 1, false)).unwrap();
        let notice = |records: u64, _: u64, why: &str| format!("{records} {why}\n").into_bytes();
        log.append(b"lost\n", notice);
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        log.append(b"kept\n", notice);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "1 No such file or directory (os error 2)\nkept\n");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log =
            LogFile::open(&path, Limits { max_size: None, max_files: 1, compress: false, backlog: None }).unwrap();
        let full = open(Path::new("/dev/full"), OFlags::empty()).unwrap();
        let good = log.file.replace(full);
        let notice = |records: u64, bytes: u64, why: &str| format!("{records} {bytes} {why}\n").into_bytes();
        log.append(b"lost\n", notice);
        log.append(b"gone\n", notice);
        assert_eq!((log.counts().dropped_records, log.counts().dropped_bytes), (2, 10));
        log.file = good;
        log.append(b"back\n", notice);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "2 10 no space left on device\nback\n");
    }

    #[test]
    fn a_waiting_log_takes_so_much_and_drops_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let limits = Limits { max_size: None, max_files: 1, compress: false, backlog: Some(8) };
        let mut log = LogFile::open(&path, limits).unwrap();
        log.wait_or_drop(b"wait\n");
        log.wait_or_drop(b"drop\n");
        assert_eq!(log.counts().dropped_records, 1);
        log.append(b"next\n", |records, _, why| format!("{records}: {why}\n").into_bytes());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "wait\n1: the log was too slow\nnext\n");
    }
}
