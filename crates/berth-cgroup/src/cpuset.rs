//! On which CPUs and memory nodes the container may run.

use std::path::Path;

use berth_oci::runtime::Cpu;

use crate::{control_file, error::CgroupError, settings::Settings};

const CPUS: &str = "cpuset.cpus";
const MEMS: &str = "cpuset.mems";
/// Has new groups begin with what this one has.
const CLONE_CHILDREN: &str = "cgroup.clone_children";

/// Fills an empty v1 group from its parent: without CPUs and nodes it takes no process.
///
/// Groups between it and the root are filled first, from the top down, and from then on fill the next groups by themselves. `root` is the
/// hierarchy's mount point.
pub(crate) fn inherit_v1(root: &Path, dir: &Path) -> Result<(), CgroupError> {
    let Some(parent) = dir.parent().filter(|_| dir != root) else { return Ok(()) };
    let mut was_empty = false;
    for file in [CPUS, MEMS] {
        if !control_file::read(dir, file)?.trim().is_empty() {
            continue;
        }
        was_empty = true;
        let mut inherited = control_file::read(parent, file)?;
        if inherited.trim().is_empty() {
            inherit_v1(root, parent)?;
            inherited = control_file::read(parent, file)?;
        }
        control_file::write(dir, file, inherited.trim())?;
    }
    if was_empty && parent != root {
        // Not before there is something to hand down. It only saves work the next time: that it cannot be had is no fault.
        let _ = control_file::write(parent, CLONE_CHILDREN, "1");
    }
    Ok(())
}

/// Writes CPUs and memory nodes; the files are named alike in both versions.
pub(crate) fn apply(settings: &mut Settings<'_>, cpu: &Cpu) -> Result<(), CgroupError> {
    settings.set_some("cpu.cpus", CPUS, cpu.cpus.as_ref().filter(|list| !list.is_empty()))?;
    settings.set_some("cpu.mems", MEMS, cpu.mems.as_ref().filter(|list| !list.is_empty()))
}

/// Whether there is anything to write.
pub(crate) fn is_asked(cpu: &Cpu) -> bool {
    [&cpu.cpus, &cpu.mems].iter().any(|list| list.as_ref().is_some_and(|text| !text.is_empty()))
}
