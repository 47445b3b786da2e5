//! Files of cgroup v2 that the configuration names itself.

use std::{collections::BTreeMap, path::Path};

use crate::{control_file, error::CgroupError, layout::Version};

const SETTING: &str = "unified";

/// Writes each value as it is, after all other limits.
///
/// # Errors
/// [`CgroupError::Invalid`] on v1, for names that are no file of a controller, and where the controller is not enabled.
pub(crate) fn apply(dir: &Path, files: &BTreeMap<String, String>, version: Version) -> Result<(), CgroupError> {
    if files.is_empty() {
        return Ok(());
    }
    if version == Version::V1 {
        return Err(CgroupError::invalid(SETTING, "cannot be used on cgroup v1"));
    }
    for (file, value) in files {
        if file.contains('/') || !file.contains('.') {
            return Err(CgroupError::invalid(SETTING, format!("{file:?} is not the name of a cgroup file")));
        }
        match control_file::write(dir, file, value) {
            Err(CgroupError::Write { source, .. }) if control_file::is_absent(&source) => {
                let controller = file.split('.').next().unwrap_or(file);
                let reason = format!("{file:?} cannot be set: controller {controller:?} does not have it here");
                return Err(CgroupError::invalid(SETTING, reason));
            }
            done => done?,
        }
    }
    Ok(())
}
