//! `start`.

use std::process::ExitCode;

use berth_oci::runtime::Status;

use super::arguments::{HELP, Parsed};
use super::{Command, Context, Failure};

pub(super) const COMMAND: Command = Command {
    name: "start",
    operands: "ID",
    summary: "Let the program of a created container begin",
    flags: &[HELP],
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let id = parsed.only_id("start").map_err(Failure::Usage)?;
    let entry = context.registry.find(id)?;
    match entry.status()? {
        Status::Created => {}
        Status::Stopped => return Err(entry.wrong_state("cannot start", "a container that has stopped").into()),
        _ => return Err(entry.wrong_state("cannot start", "it is running already").into()),
    }
    let spec = entry.spec()?;
    let mut container = entry.attach(&spec)?;
    container.start_through(entry.connect()?)?;
    Ok(ExitCode::SUCCESS)
}
