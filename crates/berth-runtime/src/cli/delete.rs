//! `delete`.

use std::process::ExitCode;
use std::time::Duration;

use berth_oci::runtime::Status;

use super::arguments::{Flag, HELP, Parsed};
use super::{Command, Context, Failure};
use crate::error::RuntimeError;
use crate::hooks::{self, Point, Subject};
use crate::registry::Entry;

pub(super) const COMMAND: Command = Command {
    name: "delete",
    operands: "ID",
    summary: "Remove a container that has stopped",
    flags: &[Flag::switch("force").short('f'), HELP],
    run,
};

/// How long a killed process may take to end. One that hangs in the kernel is left, and the command can be repeated.
const PATIENCE: Duration = Duration::from_secs(10);

fn run(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let id = parsed.only_id("delete").map_err(Failure::Usage)?;
    let force = parsed.has("force");
    let entry = match context.registry.find(id) {
        Err(RuntimeError::UnknownContainer { .. }) if force => {
            context.registry.remove_leftover(id)?;
            return Ok(ExitCode::SUCCESS);
        }
        entry => entry?,
    };
    match entry.status()? {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        _ => return Err(entry.wrong_state("cannot delete", "it is not stopped").into()),
    }
    for failure in delete(&entry)? {
        context.log.warning(&failure.to_string());
    }
    Ok(ExitCode::SUCCESS)
}

fn delete(entry: &Entry) -> Result<Vec<RuntimeError>, RuntimeError> {
    if let Some(cgroup) = entry.cgroup()? {
        cgroup.kill()?;
        cgroup.wait_until_empty(PATIENCE)?;
        cgroup.remove()?;
    }
    let spec = entry.spec();
    entry.remove()?;
    let Ok(spec) = spec else { return Ok(Vec::new()) };
    let record = &entry.record;
    let subject = Subject {
        id: &record.id,
        bundle: &record.bundle,
        annotations: &spec.annotations,
        pid: None,
        status: Status::Stopped,
    };
    let poststop = spec.hooks.as_ref().map_or(&[][..], |hooks| &hooks.poststop);
    Ok(hooks::run_all(poststop, Point::Poststop, &subject))
}
