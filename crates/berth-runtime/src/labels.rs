//! Labels of the kernel's security modules: an AppArmor profile, an SELinux context.

use std::path::Path;

use berth_oci::runtime::Process;

use crate::error::RuntimeError;
use crate::procfs::Procfs;

/// The labels that the program is to get.
#[derive(Debug)]
pub(crate) struct Labels {
    apparmor: Option<String>,
    selinux: Option<String>,
}

/// Whether this kernel runs AppArmor.
pub(crate) fn has_apparmor() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// Whether this kernel runs SELinux.
pub(crate) fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

impl Labels {
    /// Understands them, and asks whether the host has what they need.
    pub(crate) fn new(process: &Process) -> Result<Labels, RuntimeError> {
        let wanted = |label: &str| (!label.is_empty()).then(|| label.to_owned());
        let labels = Labels { apparmor: wanted(&process.apparmor_profile), selinux: wanted(&process.selinux_label) };
        if labels.apparmor.is_some() && !has_apparmor() {
            let reason = "a profile is asked for, but the host does not run AppArmor";
            return Err(RuntimeError::invalid("process.apparmorProfile", reason));
        }
        if labels.selinux.is_some() && !has_selinux() {
            let reason = "a label is asked for, but the host does not run SELinux";
            return Err(RuntimeError::invalid("process.selinuxLabel", reason));
        }
        Ok(labels)
    }

    /// Sets what execve(2) will change to.
    pub(crate) fn apply(&self, procfs: &Procfs) -> Result<(), RuntimeError> {
        if let Some(profile) = &self.apparmor {
            let value = format!("exec {profile}");
            // The directory of its own came with 5.8; the shared file serves hosts where AppArmor stands alone.
            if procfs.write_own("attr/apparmor/exec", &value).is_err() {
                procfs.write_own("attr/exec", &value)?;
            }
        }
        match &self.selinux {
            Some(label) => procfs.write_own("attr/exec", label),
            None => Ok(()),
        }
    }
}
