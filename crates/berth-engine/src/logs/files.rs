//! A container's log files: the present one, and older ones that were rotated away, some of them compressed.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{LogLine, format::Format};
use crate::EngineError;

/// Lines handed on at once.
const BATCH: usize = 256;
/// More rotated files than this are nobody's log.
const MOST_FILES: u32 = 10_000;

/// A container's log files, read in the order they were written.
pub(super) struct LogFiles {
    path: PathBuf,
    format: Format,
    /// Older files that are still to be read, and from where.
    older: VecDeque<(PathBuf, Start)>,
    current: Option<Open>,
    /// Where the present file is read to, if not to its end.
    end: Option<u64>,
}

/// Where the reading of a file begins.
#[derive(Clone, Copy)]
enum Start {
    Beginning,
    Offset(u64),
    /// After so many records; for compressed files, which cannot be read from their end.
    Record(u64),
}

/// The file that is being read.
struct Open {
    reader: Box<dyn BufRead + Send>,
    /// The present file's inode; `None` for an older file.
    inode: Option<u64>,
    position: u64,
    /// A record whose end is not written yet.
    unfinished: Vec<u8>,
}

impl LogFiles {
    /// Opens them at the beginning, or so that `tail` lines are left.
    pub(super) fn open(path: &Path, format: Format, tail: Option<u64>, end: Option<u64>) -> Result<Self, EngineError> {
        let failed = |error| EngineError::io("reading the log", path)(error);
        let mut files = Self { path: path.to_owned(), format, older: VecDeque::new(), current: None, end };
        let start = match tail {
            None => {
                files.older = rotated(path).map(|file| (file, Start::Beginning)).collect();
                files.older.make_contiguous().reverse();
                0
            }
            Some(lines) => files.seek_tail(lines).map_err(failed)?,
        };
        if files.older.is_empty() {
            files.current = open_present(path, start).map_err(failed)?;
        } else {
            files.next_older().map_err(failed)?;
        }
        Ok(files)
    }

    /// The next lines; none at the present end.
    pub(super) fn read_some(&mut self) -> Result<Vec<LogLine>, EngineError> {
        self.read_batch().map_err(|error| EngineError::io("reading the log", &self.path)(error))
    }

    fn read_batch(&mut self) -> io::Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        while lines.len() < BATCH {
            let Some(open) = &mut self.current else {
                self.current = open_present(&self.path, 0)?;
                if self.current.is_none() {
                    break;
                }
                continue;
            };
            let limit = if open.inode.is_some() { self.end } else { None };
            match open.next_record(self.format, limit)? {
                Some(record) => lines.extend(self.format.parse(&record)),
                None if open.inode.is_none() => self.next_older()?,
                None if self.end.is_none() && self.was_rotated()? => self.current = None,
                None => break,
            }
        }
        Ok(lines)
    }

    /// Whether the present file is another one than the one that is open.
    fn was_rotated(&self) -> io::Result<bool> {
        let inode = self.current.as_ref().and_then(|open| open.inode);
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok(inode.is_some_and(|inode| inode != metadata.ino())),
            // In the middle of a rotation, or the container is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn next_older(&mut self) -> io::Result<()> {
        self.current = match self.older.pop_front() {
            None => open_present(&self.path, 0)?,
            Some((path, start)) => open_older(&path, self.format, start)?,
        };
        Ok(())
    }

    /// Finds where the last lines begin; gives the offset in the present file.
    fn seek_tail(&mut self, mut wanted: u64) -> io::Result<u64> {
        let length = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        let (offset, found) = match File::open(&self.path) {
            Ok(file) => self.format.tail(&file, self.end.unwrap_or(length), wanted)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, 0),
            Err(error) => return Err(error),
        };
        wanted -= found;
        for path in rotated(&self.path) {
            if wanted == 0 {
                break;
            }
            let (start, found) = if is_compressed(&path) {
                let total = self.format.count(&mut *reader_of(&path, File::open(&path)?))?;
                (Start::Record(total.saturating_sub(wanted)), total.min(wanted))
            } else {
                let file = File::open(&path)?;
                let length = file.metadata()?.len();
                let (offset, found) = self.format.tail(&file, length, wanted)?;
                (Start::Offset(offset), found)
            };
            wanted -= found;
            self.older.push_front((path, start));
        }
        Ok(offset)
    }
}

impl Open {
    /// The next whole record; `None` at the end of what is there.
    fn next_record(&mut self, format: Format, limit: Option<u64>) -> io::Result<Option<Vec<u8>>> {
        if limit.is_some_and(|limit| self.position >= limit) {
            return Ok(None);
        }
        let before = self.unfinished.len();
        let whole = format.read(&mut *self.reader, &mut self.unfinished)?;
        self.position += (self.unfinished.len() - before) as u64;
        Ok(whole.then(|| std::mem::take(&mut self.unfinished)))
    }
}

/// `path.1`, `path.2.gz` and so on, the newest first.
fn rotated(path: &Path) -> impl Iterator<Item = PathBuf> {
    let base = path.as_os_str().to_owned();
    (1..MOST_FILES).map_while(move |number| {
        ["", ".gz"].into_iter().find_map(|ending| {
            let mut name = base.clone();
            name.push(format!(".{number}{ending}"));
            let path = PathBuf::from(name);
            path.exists().then_some(path)
        })
    })
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "gz")
}

fn open_present(path: &Path, start: u64) -> io::Result<Option<Open>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    file.seek(SeekFrom::Start(start))?;
    let inode = Some(file.metadata()?.ino());
    Ok(Some(Open { reader: Box::new(BufReader::new(file)), inode, position: start, unfinished: Vec::new() }))
}

fn open_older(path: &Path, format: Format, start: Start) -> io::Result<Option<Open>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        // It was rotated away for good while we read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if let Start::Offset(offset) = start {
        file.seek(SeekFrom::Start(offset))?;
    }
    let mut reader = reader_of(path, file);
    if let Start::Record(skip) = start {
        let mut skipped = Vec::new();
        for _ in 0..skip {
            skipped.clear();
            format.read(&mut *reader, &mut skipped)?;
        }
    }
    Ok(Some(Open { reader, inode: None, position: 0, unfinished: Vec::new() }))
}

fn reader_of(path: &Path, file: File) -> Box<dyn BufRead + Send> {
    if is_compressed(path) {
        Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use berth_proto::local_log::LogEntry;

    use super::*;

    fn record(format: Format, number: u32) -> Vec<u8> {
        let json = format!(
            "{{\"log\":\"line {number}\\n\",\"stream\":\"stdout\",\"time\":\"2024-05-01T10:00:00.{number:09}Z\"}}\n"
        );
        let entry = LogEntry {
            source: "stdout".to_owned(),
            time_nano: i64::from(number),
            line: format!("line {number}").into_bytes(),
            ..LogEntry::default()
        };
        match format {
            Format::JsonFile => json.into_bytes(),
            Format::Local => {
                let mut framed = Vec::new();
                entry.push_framed(&mut framed);
                framed
            }
        }
    }

    const FORMATS: [Format; 2] = [Format::JsonFile, Format::Local];

    fn texts(files: &mut LogFiles) -> Vec<String> {
        let lines = files.read_some().expect("readable");
        let text = |line: LogLine| String::from_utf8(line.text).expect("text");
        lines.into_iter().map(|line| text(line).trim_end().trim_start_matches("line ").to_owned()).collect()
    }

    /// Lines 1-3 compressed, 4-6 plain, 7-9 in the present file.
    fn three_files(format: Format) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("x.log");
        let lines = |range: std::ops::RangeInclusive<u32>| range.flat_map(|n| record(format, n)).collect::<Vec<u8>>();
        fs::write(&path, lines(7..=9)).expect("write");
        fs::write(dir.path().join("x.log.1"), lines(4..=6)).expect("write");
        let oldest = File::create(dir.path().join("x.log.2.gz")).expect("create");
        let mut gzip = flate2::write::GzEncoder::new(oldest, flate2::Compression::fast());
        gzip.write_all(&lines(1..=3)).expect("write");
        gzip.finish().expect("finish");
        (dir, path)
    }

    #[test]
    fn rotated_files_come_first_and_tails_reach_into_them() {
        for format in FORMATS {
            let (_dir, path) = three_files(format);
            for (tail, expected) in [
                (None, "123456789"),
                (Some(0), ""),
                (Some(2), "89"),
                (Some(3), "789"),
                (Some(5), "56789"),
                (Some(8), "23456789"),
                (Some(99), "123456789"),
            ] {
                let mut files = LogFiles::open(&path, format, tail, None).expect("open");
                assert_eq!(texts(&mut files).concat(), expected, "{format:?} {tail:?}");
            }
        }
    }

    #[test]
    fn a_reader_follows_growth_torn_records_and_rotation() {
        for format in FORMATS {
            let (dir, path) = three_files(format);
            let mut files = LogFiles::open(&path, format, Some(1), None).expect("open");
            assert_eq!(texts(&mut files), ["9"]);
            let mut log = File::options().append(true).open(&path).expect("append");
            let ten = record(format, 10);
            let (head, rest) = ten.split_at(10);
            log.write_all(&head[..2]).expect("write");
            assert!(texts(&mut files).is_empty());
            log.write_all(&head[2..]).expect("write");
            assert!(texts(&mut files).is_empty());
            // Who comes now sees whole records only.
            assert_eq!(texts(&mut LogFiles::open(&path, format, Some(1), None).expect("open")), ["9"]);
            log.write_all(rest).expect("write");
            assert_eq!(texts(&mut files), ["10"]);
            fs::rename(&path, dir.path().join("x.log.1")).expect("rotate");
            log.write_all(&record(format, 11)).expect("write");
            fs::write(&path, record(format, 12)).expect("write");
            assert_eq!(texts(&mut files), ["11", "12"]);
        }
    }

    #[test]
    fn an_end_is_kept_to() {
        for format in FORMATS {
            let (_dir, path) = three_files(format);
            let end = record(format, 7).len() as u64;
            let mut files = LogFiles::open(&path, format, None, Some(end)).expect("open");
            assert_eq!(texts(&mut files).concat(), "1234567");
            let mut files = LogFiles::open(&path, format, Some(2), Some(end)).expect("open");
            assert_eq!(texts(&mut files).concat(), "67");
        }
    }
}
