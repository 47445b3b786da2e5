//! `state`, and the two commands that only change it: `pause` and `resume`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use berth_model::Timestamp;
use berth_oci::runtime::{OCI_VERSION, Status};
use serde::Serialize;

use super::arguments::{HELP, Parsed};
use super::{Command, Context, Failure};
use crate::registry::Entry;

pub(super) const COMMAND: Command =
    Command { name: "state", operands: "ID", summary: "Print the state of a container as JSON", flags: &[HELP], run };

pub(super) const PAUSE: Command =
    Command { name: "pause", operands: "ID", summary: "Stop all processes of a container", flags: &[HELP], run: pause };

pub(super) const RESUME: Command = Command {
    name: "resume",
    operands: "ID",
    summary: "Let all processes of a container go on",
    flags: &[HELP],
    run: resume,
};

/// The specification's state, and what runc adds to it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report<'a> {
    oci_version: &'static str,
    id: &'a str,
    pid: i32,
    pub(super) status: Status,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    owner: String,
}

impl<'a> Report<'a> {
    /// Asks the kernel how a container is.
    pub(super) fn of(entry: &'a Entry, owner: String) -> Result<Report<'a>, crate::RuntimeError> {
        let status = entry.status()?;
        Ok(Report {
            oci_version: OCI_VERSION,
            id: &entry.record.id,
            pid: if status == Status::Stopped { 0 } else { entry.record.pid },
            status,
            bundle: &entry.record.bundle,
            rootfs: &entry.record.rootfs,
            created: entry.record.created,
            annotations: entry.spec()?.annotations,
            owner,
        })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }
}

fn run(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let entry = context.registry.find(parsed.only_id("state").map_err(Failure::Usage)?)?;
    let report = Report::of(&entry, String::new())?;
    println!("{}", serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?);
    Ok(ExitCode::SUCCESS)
}

fn pause(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let entry = context.registry.find(parsed.only_id("pause").map_err(Failure::Usage)?)?;
    match entry.status()? {
        Status::Running | Status::Created => entry.attach(&entry.spec()?)?.pause()?,
        _ => return Err(entry.wrong_state("cannot pause", "container not running").into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn resume(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let entry = context.registry.find(parsed.only_id("resume").map_err(Failure::Usage)?)?;
    match entry.status()? {
        Status::Paused => entry.attach(&entry.spec()?)?.resume()?,
        _ => return Err(entry.wrong_state("cannot resume", "container not paused").into()),
    }
    Ok(ExitCode::SUCCESS)
}
