//! The log of one call, in the two formats of logrus that managers parse.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use berth_model::Timestamp;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `time="..." level=error msg="..."`
    Text,
    /// `{"level":"error","msg":"...","time":"..."}`
    Json,
}

/// Where lines go.
#[derive(Debug)]
pub(super) struct Log {
    /// Absent: standard error.
    file: Option<File>,
    format: Format,
    debug: bool,
}

impl Log {
    /// Opens the log; without a path it is standard error.
    pub(super) fn open(path: Option<&str>, format: Format, debug: bool) -> Result<Log, String> {
        let file = match path.filter(|path| !path.is_empty() && *path != "/dev/stderr") {
            None => None,
            Some(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path);
                Some(file.map_err(|error| format!("opening log {path:?}: {error}"))?)
            }
        };
        Ok(Log { file, format, debug })
    }

    /// The log of last resort.
    pub(super) fn standard_error() -> Log {
        Log { file: None, format: Format::Text, debug: false }
    }

    /// Says why the call failed. People read standard error, so it goes there too.
    pub(super) fn error(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            eprintln!("{message}");
        }
    }

    /// Says what was skipped.
    pub(super) fn warning(&self, message: &str) {
        self.write("warning", message);
    }

    /// Says what only we want to know.
    pub(super) fn debug(&self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    fn write(&self, level: &str, message: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = Timestamp::from_parts(now.as_secs() as i64, 0);
        let quoted = serde_json::to_string(message).unwrap_or_default();
        let line = match self.format {
            Format::Text => format!("time=\"{time}\" level={level} msg={quoted}\n"),
            Format::Json => format!("{{\"level\":\"{level}\",\"msg\":{quoted},\"time\":\"{time}\"}}\n"),
        };
        // There is nowhere to say that this failed.
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_managers_parse_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.json");
        let log = Log::open(path.to_str(), Format::Json, false).unwrap();
        log.warning("a \"quoted\" word");
        log.debug("nothing");
        let text = std::fs::read_to_string(&path).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((line["level"].as_str(), line["msg"].as_str()), (Some("warning"), Some("a \"quoted\" word")));
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }
}
