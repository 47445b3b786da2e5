//! A log with anything in it: every tail of it is the end of the whole.

use std::path::Path;

use super::{LogLine, files::LogFiles};
use crate::EngineError;

/// Reads the log at `path` whole and from its last lines on, and compares.
///
/// # Panics
/// If a tail is not the end of the whole.
pub fn log(path: &Path) {
    let Ok(whole) = read(path, None) else { return };
    for lines in [0, 1, 2, 7] {
        let tail = read(path, Some(lines)).expect("what can be read whole can be read from its end");
        assert!(whole.ends_with(&tail), "the last {lines} lines are {tail:?}, the whole is {whole:?}");
    }
}

fn read(path: &Path, tail: Option<u64>) -> Result<Vec<LogLine>, EngineError> {
    let mut files = LogFiles::open(path, tail, None)?;
    let mut all = Vec::new();
    loop {
        let lines = files.read_some()?;
        if lines.is_empty() {
            return Ok(all);
        }
        all.extend(lines);
    }
}
