//! `list`.

use std::process::ExitCode;

use super::arguments::{Flag, HELP, Parsed};
use super::state::Report;
use super::{Command, Context, Failure, table};

pub(super) const COMMAND: Command = Command {
    name: "list",
    operands: "",
    summary: "List containers",
    flags: &[Flag::value("format").short('f'), Flag::switch("quiet").short('q'), HELP],
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let entries = context.registry.list()?;
    if parsed.has("quiet") {
        entries.iter().for_each(|entry| println!("{}", entry.record.id));
        return Ok(ExitCode::SUCCESS);
    }
    let reports = entries.iter().map(|entry| Report::of(entry, user_name(entry.record.owner)));
    let reports = reports.collect::<Result<Vec<_>, _>>()?;
    match parsed.value("format") {
        None | Some("table") => {
            let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned).to_vec();
            let rows = entries.iter().zip(&reports).map(|(entry, report)| {
                vec![
                    entry.record.id.clone(),
                    report.pid().to_string(),
                    report.status.word().to_owned(),
                    entry.record.bundle.display().to_string(),
                    entry.record.created.to_string(),
                    user_name(entry.record.owner),
                ]
            });
            table::print(&std::iter::once(heading).chain(rows).collect::<Vec<_>>());
        }
        Some("json") if reports.is_empty() => println!("null"),
        Some("json") => println!("{}", serde_json::to_string(&reports).map_err(std::io::Error::from)?),
        Some(other) => return Err(Failure::Usage(format!("invalid format option {other:?}"))),
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of a user of the host, read from the table itself; `#1000` when it has none.
fn user_name(uid: u32) -> String {
    let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}
