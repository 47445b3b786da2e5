//! `ps`: the processes of a container, as `ps -ef` shows them. No program is run for it.

use std::fs;
use std::process::ExitCode;

use super::arguments::{Flag, HELP, Parsed};
use super::{Command, Context, Failure, table};
use crate::error::RuntimeError;

pub(super) const COMMAND: Command = Command {
    name: "ps",
    operands: "ID",
    summary: "List the processes of a container",
    flags: &[Flag::value("format").short('f'), HELP],
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let [id] = parsed.operands() else {
        return Err(Failure::Usage(
            "\"ps\" requires exactly 1 argument(s): options of ps(1) are not supported".to_owned(),
        ));
    };
    let entry = context.registry.find(id)?;
    let pids = match entry.cgroup()? {
        Some(cgroup) => cgroup.pids().map_err(RuntimeError::from)?,
        None => Vec::new(),
    };
    match parsed.value("format") {
        None | Some("table") => {
            let heading = ["UID", "PID", "PPID", "CMD"].map(str::to_owned).to_vec();
            let rows = pids.iter().filter_map(|pid| row(*pid));
            table::print(&std::iter::once(heading).chain(rows).collect::<Vec<_>>());
        }
        Some("json") => println!("{}", serde_json::to_string(&pids).map_err(std::io::Error::from)?),
        Some(other) => return Err(Failure::Usage(format!("invalid format option {other:?}"))),
    }
    Ok(ExitCode::SUCCESS)
}

/// What is shown of a process that has not ended meanwhile.
fn row(pid: u32) -> Option<Vec<String>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|values| values.split_ascii_whitespace().next()).unwrap_or_default().to_owned()
    };
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let command = words.join(" ").trim_end().to_owned();
    // A process without arguments, such as one that is ending, is shown by its name.
    let command = if command.is_empty() { format!("[{}]", field("Name:")) } else { command };
    Some(vec![field("Uid:"), pid.to_string(), field("PPid:"), command])
}
