//! A log with anything in it: every tail of it is the end of the whole.

use std::path::Path;

use super::{LogLine, files::LogFiles, format::Format};
use crate::EngineError;

/// Reads the log at `path`, written by that driver, whole and from its last lines on, and compares.
///
/// # Panics
/// If a tail is not the end of the whole.
pub fn log(path: &Path, driver: &str) {
    let format = Format::of_driver(driver).expect("a driver that writes a file");
    let Ok(whole) = read(path, format, None) else { return };
    let complete = is_complete(path, format);
    for lines in [0, 1, 2, 7] {
        let tail = match read(path, format, Some(lines)) {
            Err(error) if complete => panic!("what can be read whole cannot be read from its end: {error}"),
            Err(_) => continue,
            Ok(tail) => tail,
        };
        // Behind damage only a tail sees anything: the whole waits there for the end of an entry that never comes.
        assert!(!complete || whole.ends_with(&tail), "the last {lines} lines are {tail:?}, the whole is {whole:?}");
    }
}

/// Whether all files are whole records. Those of JSON always are: what is no record is a line of its own.
fn is_complete(path: &Path, format: Format) -> bool {
    let rotated = path.with_extension("log.1");
    let mut files = [path, &rotated].into_iter().filter_map(|path| std::fs::read(path).ok());
    format == Format::JsonFile
        || files.all(|bytes| {
            let (mut reader, mut record) = (bytes.as_slice(), Vec::new());
            while format.read(&mut reader, &mut record).unwrap_or(false) && format.parse(&record).is_some() {
                record.clear();
            }
            record.is_empty()
        })
}

fn read(path: &Path, format: Format, tail: Option<u64>) -> Result<Vec<LogLine>, EngineError> {
    let mut files = LogFiles::open(path, format, tail, None)?;
    let mut all = Vec::new();
    loop {
        let lines = files.read_some()?;
        if lines.is_empty() {
            return Ok(all);
        }
        all.extend(lines);
    }
}
