//! `kill`.

use std::process::ExitCode;

use berth_oci::runtime::Status;
use berth_sys::signalfd::signal_to_send;

use super::arguments::{Flag, HELP, Parsed};
use super::{Command, Context, Failure};
use crate::Target;

pub(super) const COMMAND: Command = Command {
    name: "kill",
    operands: "ID [SIGNAL]",
    summary: "Send a signal (SIGTERM) to the first process of a container",
    flags: &[Flag::switch("all").short('a'), HELP],
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let (id, word) = match parsed.operands() {
        [id] => (id, "SIGTERM"),
        [id, word] => (id, word.as_str()),
        [] => return Err(Failure::Usage("\"kill\" requires a minimum of 1 argument".to_owned())),
        _ => return Err(Failure::Usage("\"kill\" requires a maximum of 2 arguments".to_owned())),
    };
    let signal: berth_model::Signal = word.parse().map_err(|_| Failure::Usage(format!("unknown signal {word:?}")))?;
    let signal = signal_to_send(signal.number());
    let signal = signal.ok_or_else(|| Failure::Usage(format!("unknown signal {word:?}")))?;
    let entry = context.registry.find(id)?;
    let all = parsed.has("all");
    match (entry.status()?, all) {
        // Processes that outlived the first one can still be reached.
        (Status::Stopped, true) => {
            if let Some(cgroup) = entry.cgroup()? {
                cgroup.signal(signal).map_err(crate::RuntimeError::from)?;
            }
        }
        (Status::Stopped, false) => return Err(entry.wrong_state("cannot kill", "container not running").into()),
        (_, true) => entry.attach(&entry.spec()?)?.kill(signal, Target::All)?,
        (_, false) => entry.attach(&entry.spec()?)?.kill(signal, Target::Init)?,
    }
    Ok(ExitCode::SUCCESS)
}
