//! `berth stats`.

use std::collections::HashMap;
use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use berth_api::container::ContainerSummary;
use berth_api::stats::{CpuStats, MemoryStats, Stats as Sample};
use berth_client::{Client, ClientError};
use berth_model::{binary_size, decimal_size};
use clap::Args;

use crate::human::short_id;
use crate::table::{self, Row};
use crate::template::Value;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Stats>(
    "container",
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics",
    Arity::Any,
)
.top(&["stats"]);

/// Shows what containers use, again and again.
#[derive(Args)]
pub struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    #[arg(long, value_name = "string", help = table::FORMAT_HELP)]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    containers: Vec<String>,
}

/// How often the table is drawn again (B090).
const INTERVAL: Duration = Duration::from_millis(500);

impl Command for Stats {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let client = cx.client()?;
        let configured = &cx.config().stats_format;
        let format = match self.format.as_deref().unwrap_or_default() {
            "" if configured.is_empty() => "table",
            "" => configured,
            own => own,
        };
        let format = match format {
            "table" => {
                "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}"
            }
            own => own,
        };
        let mut before = HashMap::new();
        let mut first = true;
        loop {
            let names = self.names(client)?;
            let samples = self.sample(client, &names)?;
            let mut text = Vec::new();
            let rows = names.iter().zip(samples).map(|(name, sample)| {
                let row = StatsRow::of(name, sample, &before, !self.no_trunc);
                row.remember(&mut before);
                row
            });
            table::write(&mut text, format, rows.collect::<Vec<_>>())?;
            let mut out = cx.stdout();
            if self.no_stream {
                out.write_all(&text)?;
                return Ok(out.flush()?);
            }
            draw(&mut out, &text, first)?;
            first = false;
            sleep(INTERVAL);
        }
    }
}

impl Stats {
    /// The containers to show: those asked for, or those that are there now.
    fn names(&self, client: &Client) -> Result<Vec<String>, ClientError> {
        if !self.containers.is_empty() {
            return Ok(self.containers.clone());
        }
        let list: Vec<ContainerSummary> = client.get("/containers/json").flag("all", self.all).send()?.json()?;
        Ok(list.into_iter().map(|container| short_id(&container.id).to_owned()).collect())
    }

    /// One sample of each; none of a container that has gone meanwhile and was not asked for by name.
    fn sample(&self, client: &Client, names: &[String]) -> Result<Vec<Option<Sample>>, CliError> {
        // All requests are sent before the first answer is read: the daemon may take a second for each.
        let mut requests = Vec::new();
        for name in names {
            let request = client.get(Client::path("containers", name, "/stats")).query("stream", "0");
            let once = !self.no_stream;
            requests.push(request.flag("one-shot", once).dispatch()?);
        }
        let mut samples = Vec::new();
        let mut failures = Vec::new();
        for request in requests {
            match request.response().and_then(berth_client::Response::json::<Sample>) {
                Ok(sample) => samples.push(Some(sample)),
                Err(error) => {
                    samples.push(None);
                    failures.push(error.to_string());
                }
            }
        }
        if failures.is_empty() || self.containers.is_empty() {
            return Ok(samples);
        }
        Err(CliError::message(failures.join("\n")))
    }
}

/// Draws over what was drawn before, line by line, so that nothing flickers.
fn draw(out: &mut dyn Write, text: &[u8], first: bool) -> std::io::Result<()> {
    if first {
        out.write_all(b"\x1b[2J")?;
    }
    out.write_all(b"\x1b[H")?;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        out.write_all(line.strip_suffix(b"\n").unwrap_or(line))?;
        out.write_all(b"\x1b[K\n")?;
    }
    out.write_all(b"\x1b[J")?;
    out.flush()
}

/// A container's sample as a row.
struct StatsRow {
    asked_as: String,
    sample: Option<Sample>,
    cpu: Option<f64>,
    trunc: bool,
}

impl StatsRow {
    /// `before` holds the earlier sample of each container, for daemons that give a single one at a time.
    fn of(asked_as: &str, sample: Option<Sample>, before: &HashMap<String, CpuStats>, trunc: bool) -> StatsRow {
        let cpu = sample.as_ref().map(|sample| {
            let kept = before.get(&sample.id).filter(|_| sample.precpu_stats.system_cpu_usage == 0);
            cpu_percent(kept.unwrap_or(&sample.precpu_stats), &sample.cpu_stats)
        });
        StatsRow { asked_as: asked_as.to_owned(), sample, cpu, trunc }
    }

    fn remember(&self, before: &mut HashMap<String, CpuStats>) {
        if let Some(sample) = &self.sample {
            before.insert(sample.id.clone(), sample.cpu_stats.clone());
        }
    }
}

fn cpu_percent(before: &CpuStats, now: &CpuStats) -> f64 {
    let used = now.cpu_usage.total_usage as f64 - before.cpu_usage.total_usage as f64;
    let passed = now.system_cpu_usage as f64 - before.system_cpu_usage as f64;
    let cpus = if now.online_cpus > 0 { f64::from(now.online_cpus) } else { now.cpu_usage.percpu_usage.len() as f64 };
    if used > 0.0 && passed > 0.0 { used / passed * cpus * 100.0 } else { 0.0 }
}

/// What is in use without the pages that the kernel could take back at once: they are not the container's need.
fn memory_in_use(memory: &MemoryStats) -> u64 {
    // The first name is that of cgroup v1.
    let cache = memory.stats.get("total_inactive_file").or_else(|| memory.stats.get("inactive_file"));
    cache.filter(|cache| **cache < memory.usage).map_or(memory.usage, |cache| memory.usage - cache)
}

impl Row for StatsRow {
    const GO_TYPE: &'static str = "*container.statsContext";
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("BlockIO", "BLOCK I/O"),
        ("CPUPerc", "CPU %"),
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("MemPerc", "MEM %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("Name", "NAME"),
        ("NetIO", "NET I/O"),
        ("PIDs", "PIDS"),
    ];

    fn field(&self, name: &str) -> Option<Value> {
        if !Self::COLUMNS.iter().any(|(column, _)| *column == name) {
            return None;
        }
        Some(Value::text(match &self.sample {
            _ if name == "Container" => self.asked_as.clone(),
            Some(sample) => self.text(name, sample),
            None if name == "MemUsage" => "-- / --".to_owned(),
            None => "--".to_owned(),
        }))
    }
}

impl StatsRow {
    fn text(&self, name: &str, sample: &Sample) -> String {
        let pair = |a: u64, b: u64| format!("{} / {}", decimal_size(a as f64, 3), decimal_size(b as f64, 3));
        let memory = &sample.memory_stats;
        match name {
            "ID" if self.trunc => short_id(&sample.id).to_owned(),
            "ID" => sample.id.clone(),
            "Name" => sample.name.trim_start_matches('/').to_owned(),
            "CPUPerc" => format!("{:.2}%", self.cpu.unwrap_or_default()),
            "MemUsage" => {
                format!("{} / {}", binary_size(memory_in_use(memory) as f64), binary_size(memory.limit as f64))
            }
            "MemPerc" if memory.limit > 0 => {
                format!("{:.2}%", memory_in_use(memory) as f64 / memory.limit as f64 * 100.0)
            }
            "MemPerc" => "0.00%".to_owned(),
            "NetIO" => {
                let networks = || sample.networks.values();
                pair(networks().map(|net| net.rx_bytes).sum(), networks().map(|net| net.tx_bytes).sum())
            }
            "BlockIO" => {
                let entries = sample.blkio_stats.io_service_bytes_recursive.as_deref().unwrap_or_default();
                let of = |letter: char| {
                    let fitting = entries.iter().filter(|entry| entry.op.to_ascii_lowercase().starts_with(letter));
                    fitting.map(|entry| entry.value).sum()
                };
                pair(of('r'), of('w'))
            }
            _ => sample.pids_stats.current.to_string(),
        }
    }
}
