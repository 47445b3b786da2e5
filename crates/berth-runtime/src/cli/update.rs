//! `update`.

use std::io::Read;
use std::process::ExitCode;

use berth_oci::runtime::{LinuxResources, Status};

use super::arguments::{Flag, HELP, Parsed};
use super::{Command, Context, Failure};
use crate::error::{RuntimeError, Step};

pub(super) const COMMAND: Command = Command {
    name: "update",
    operands: "ID",
    summary: "Change the limits of a container",
    flags: &[
        Flag::value("resources").short('r'),
        Flag::value("blkio-weight"),
        Flag::value("cpu-period"),
        Flag::value("cpu-quota"),
        Flag::value("cpu-burst"),
        Flag::value("cpu-rt-period"),
        Flag::value("cpu-rt-runtime"),
        Flag::value("cpu-share"),
        Flag::value("cpuset-cpus"),
        Flag::value("cpuset-mems"),
        Flag::value("cpu-idle"),
        Flag::value("kernel-memory"),
        Flag::value("kernel-memory-tcp"),
        Flag::value("memory"),
        Flag::value("memory-reservation"),
        Flag::value("memory-swap"),
        Flag::value("pids-limit"),
        HELP,
    ],
    run,
};

fn run(context: &Context, parsed: &Parsed) -> Result<ExitCode, Failure> {
    let id = parsed.only_id("update").map_err(Failure::Usage)?;
    let resources = match parsed.value("resources") {
        Some(source) => read_resources(source)?,
        None => from_options(parsed).map_err(Failure::Usage)?,
    };
    let entry = context.registry.find(id)?;
    if entry.status()? == Status::Stopped {
        return Err(entry.wrong_state("cannot update", "container not running").into());
    }
    for warning in entry.attach(&entry.spec()?)?.update(&resources)? {
        context.log.warning(&warning);
    }
    Ok(ExitCode::SUCCESS)
}

fn read_resources(source: &str) -> Result<LinuxResources, RuntimeError> {
    let mut text = Vec::new();
    if source == "-" {
        std::io::stdin().read_to_end(&mut text).step("reading", "standard input")?;
    } else {
        text = std::fs::read(source).step("reading", source)?;
    }
    serde_json::from_slice(&text).map_err(|error| RuntimeError::invalid("--resources", error.to_string()))
}

fn from_options(parsed: &Parsed) -> Result<LinuxResources, String> {
    let mut resources = LinuxResources::default();
    if let Some(weight) = parsed.number("blkio-weight")? {
        resources.block_io.get_or_insert_default().weight = Some(weight);
    }
    if let Some(limit) = parsed.number("pids-limit")? {
        resources.pids.get_or_insert_default().limit = Some(limit);
    }
    let cpu = resources.cpu.get_or_insert_default();
    cpu.period = parsed.number("cpu-period")?;
    cpu.quota = parsed.number("cpu-quota")?;
    cpu.burst = parsed.number("cpu-burst")?;
    cpu.realtime_period = parsed.number("cpu-rt-period")?;
    cpu.realtime_runtime = parsed.number("cpu-rt-runtime")?;
    cpu.shares = parsed.number("cpu-share")?;
    cpu.idle = parsed.number("cpu-idle")?;
    cpu.cpus = parsed.value("cpuset-cpus").map(str::to_owned);
    cpu.mems = parsed.value("cpuset-mems").map(str::to_owned);
    // Limits of kernel memory are read and dropped: the kernel has not had them since 5.16.
    let memory = resources.memory.get_or_insert_default();
    memory.limit = bytes(parsed, "memory")?;
    memory.reservation = bytes(parsed, "memory-reservation")?;
    memory.swap = bytes(parsed, "memory-swap")?;
    Ok(resources)
}

/// A number of bytes, plain or with a unit such as `64m`; -1 for none.
fn bytes(parsed: &Parsed, name: &str) -> Result<Option<i64>, String> {
    let Some(text) = parsed.value(name) else { return Ok(None) };
    if let Ok(number) = text.parse() {
        return Ok(Some(number));
    }
    let invalid = || format!("invalid value {text:?} for flag -{name}");
    let letters = text.trim_end_matches(['b', 'B', 'i']);
    let (digits, factor) = match letters.chars().last().map(|letter| letter.to_ascii_lowercase()) {
        Some('k') => (&letters[..letters.len() - 1], 1 << 10),
        Some('m') => (&letters[..letters.len() - 1], 1 << 20),
        Some('g') => (&letters[..letters.len() - 1], 1 << 30),
        Some('t') => (&letters[..letters.len() - 1], 1_i64 << 40),
        _ => (letters, 1),
    };
    let number: i64 = digits.parse().map_err(|_| invalid())?;
    number.checked_mul(factor).map(Some).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_may_have_units() {
        for (text, expected) in
            [("-1", Some(-1)), ("4096", Some(4096)), ("64m", Some(64 << 20)), ("1GiB", Some(1 << 30)), ("x", None)]
        {
            let args = ["--memory".to_owned(), text.to_owned()];
            let (parsed, _) = super::super::arguments::parse(COMMAND.flags, &args).unwrap();
            assert_eq!(from_options(&parsed).ok().and_then(|resources| resources.memory?.limit), expected, "{text}");
        }
    }
}
