//! One controller's directory while limits are written to it, and what had to be left out.

use std::{fmt::Display, path::Path};

use crate::{
    control_file,
    error::{CgroupError, Warning},
};

/// The directory of one container in one hierarchy. Collects the settings that this kernel does not know.
pub(crate) struct Settings<'a> {
    pub(crate) dir: &'a Path,
    warnings: &'a mut Vec<Warning>,
}

impl<'a> Settings<'a> {
    pub(crate) fn new(dir: &'a Path, warnings: &'a mut Vec<Warning>) -> Self {
        Self { dir, warnings }
    }

    /// Writes a value that the kernel must take; a file that does not exist becomes a warning about `setting`.
    pub(crate) fn set(&mut self, setting: &str, file: &str, value: impl Display) -> Result<(), CgroupError> {
        match control_file::write(self.dir, file, &value.to_string()) {
            Err(CgroupError::Write { source, .. }) if control_file::is_absent(&source) => {
                self.warn(format!("{setting} is left out: this kernel has no {file}"));
                Ok(())
            }
            done => done,
        }
    }

    /// As [`set`](Self::set), if there is a value.
    pub(crate) fn set_some(
        &mut self,
        setting: &str,
        file: &str,
        value: Option<impl Display>,
    ) -> Result<(), CgroupError> {
        value.map_or(Ok(()), |value| self.set(setting, file, value))
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        control_file::exists(self.dir, file)
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(Warning::new(text));
    }
}

/// A limit as v2 writes it: nothing for "leave it" (0), `max` for -1.
pub(crate) fn v2_limit(value: i64) -> Option<String> {
    match value {
        0 => None,
        -1 => Some("max".to_owned()),
        bytes => Some(bytes.to_string()),
    }
}

/// Whether a write was refused as invalid, which for some pairs of files only means: write the other one first.
pub(crate) fn refused(done: &Result<(), CgroupError>) -> bool {
    matches!(done, Err(CgroupError::Write { source, .. }) if source.kind() == std::io::ErrorKind::InvalidInput)
}
