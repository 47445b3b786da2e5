//! Fleets of 100, 300 and 1,000 containers that sleep: starting them, and what they cost while they do nothing.

use anyhow::{Context, Result, ensure};

use super::{Field, IMAGE, Setting, set_bars};
use crate::{
    account::{process_name, pss},
    engine::{Cost, Engine, Kind},
    hand::Batch,
    options::Effort,
    results::{Measure, Row},
    series::{failed, one, turns},
};

/// Memory is read after so many starts, one by one: kernels hand out charges in lots.
const LOT: usize = 10;

/// A fleet.
#[derive(Clone, Copy)]
struct Fleet {
    size: usize,
    width: usize,
    network: &'static str,
}

impl Fleet {
    fn title(self) -> String {
        let way = if self.width == 1 { "one by one" } else { "8 at a time" };
        let network = if self.network == "none" { "" } else { " on the bridge" };
        format!("{}{network}, {way}", self.size)
    }

    fn names(self) -> Vec<String> {
        (0..self.size).map(|number| format!("fleet{number}")).collect()
    }
}

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let effort = setting.options.effort;
    let fleet = |size, width, network| Fleet { size, width, network };
    let mut fleets = vec![fleet(1, 1, "none"), fleet(100, 1, "none"), fleet(100, 8, "none")];
    if effort > Effort::Quick {
        fleets.extend([fleet(300, 1, "none"), fleet(300, 8, "none"), fleet(1000, 8, "none")]);
    }
    if effort == Effort::Full {
        fleets.push(fleet(1000, 8, "bridge"));
    }
    // What an engine does once it is idle belongs to its being idle.
    std::thread::sleep(std::time::Duration::from_secs(12));
    let mut rows: Vec<Row> = field.engines.iter().filter_map(idle_daemon).collect();
    for fleet in fleets {
        for number in 0..field.engines.len() {
            let engine = &mut field.engines[number];
            let is_for_all = fleet.size <= 100 || (effort == Effort::Full && fleet.network == "none");
            if engine.lost.is_some() || !(is_for_all || engine.kind.is_ours()) {
                continue;
            }
            eprintln!("    {}: {}", engine.kind.name(), fleet.title());
            match one_fleet(setting, engine, fleet) {
                Ok(more) => rows.extend(more),
                Err(error) => {
                    field.notes.push(format!(
                        "{} is given up in the fleet of {}: {error:#}",
                        engine.kind.name(),
                        fleet.title()
                    ));
                    rows.push(failed(&format!("start {}", fleet.title()), engine, &format!("{error:#}")));
                    engine.lost = Some(format!("{error:#}"));
                }
            }
        }
    }
    set_bars(&mut rows, IDLE_DAEMON, &[(Measure::Memory, 12.0 * 1024.0)], None);
    set_bars(&mut rows, &adds(300), &[(Measure::Memory, 288.0)], None);
    set_bars(&mut rows, "ps, 1000 running, while 8 others start", &[(Measure::Wall, 20.0)], None);
    for work in ["start", "remove"] {
        set_bars(&mut rows, &format!("{work} 1000, 8 at a time"), &[(Measure::Wall, 20_000.0)], None);
    }
    // Podman has no daemon that could grow.
    rows.retain(|row| !row.figures.is_empty() || row.failure.is_some());
    // Engines were taken one after the other; the page wants them case by case.
    let order: Vec<String> = rows.iter().map(|row| row.case.clone()).collect();
    rows.sort_by_key(|row| order.iter().position(|case| *case == row.case));
    Ok(rows)
}

const IDLE_DAEMON: &str = "memory of the idle daemons (PSS)";

fn adds(size: usize) -> String {
    format!("memory that the engine adds for each of {size}")
}

fn one_fleet(setting: &Setting<'_>, engine: &mut Engine, fleet: Fleet) -> Result<Vec<Row>> {
    let mut rows =
        if fleet.width == 1 && fleet.size > 1 { start_one_by_one(engine, fleet)? } else { start(engine, fleet)? };
    let running = engine.run(&["ps", "-q"])?.lines().count();
    ensure!(running == fleet.size, "{running} of {} containers run", fleet.size);
    // One fleet of each size is enough to look at.
    if fleet.width == 1 || fleet.size == 1000 {
        let case = format!("ps, {} running", fleet.size);
        let one_engine = std::slice::from_mut(engine);
        rows.extend(turns(one_engine, setting.options.samples(15), |engine, _| Ok(one(&case, engine.time(&["ps"])?))));
    }
    if fleet.size == 1000 && fleet.network == "none" {
        let case = "ps, 1000 running, while 8 others start";
        rows.extend(turns(std::slice::from_mut(engine), setting.options.samples(15), |engine, _| {
            Ok(one(case, busy_ps(engine)?))
        }));
        rows.push(exec_in_all(engine, fleet)?);
    }
    rows.extend(remove(engine, fleet)?);
    Ok(rows)
}

fn batch(engine: &mut Engine, fleet: Fleet, names: &[String]) -> Batch {
    let job = |name: &String| {
        engine.command(&["run", "-d", "--network", fleet.network, "--name", name, IMAGE, "sleep", "1000000"])
    };
    Batch { jobs: names.iter().map(job).collect(), width: fleet.width, ..Batch::default() }
}

fn start(engine: &mut Engine, fleet: Fleet) -> Result<Vec<Row>> {
    let batch = batch(engine, fleet, &fleet.names());
    let (outcome, cpu) = engine.batch(batch)?;
    if fleet.size == 1 {
        return Ok(Vec::new());
    }
    let case = format!("start {}", fleet.title());
    Ok(vec![Row::new(&case, engine.kind.name()).with(Measure::Wall, &[outcome.wall]).with(Measure::Cpu, &[cpu])])
}

/// Starts them in lots, and looks at the memory after each.
fn start_one_by_one(engine: &mut Engine, fleet: Fleet) -> Result<Vec<Row>> {
    let name = engine.kind.name();
    let (mut each, mut wall, mut cpu, mut added) = (Vec::new(), 0.0, 0.0, Vec::new());
    let daemon = daemon_pss(engine);
    let (whole, host) = (engine.account.memory("")?, engine.account.memory("host")?);
    let mut last = engine_memory(engine)?;
    for lot in fleet.names().chunks(LOT) {
        let batch = batch(engine, fleet, lot);
        let (outcome, used) = engine.batch(batch)?;
        each.extend(outcome.jobs);
        wall += outcome.wall;
        cpu += used;
        let now = engine_memory(engine)?;
        added.push((now - last) / lot.len() as f64);
        last = now;
    }
    std::thread::sleep(std::time::Duration::from_secs(1));
    let count = fleet.size as f64;
    let monitors: Vec<f64> = monitors(engine).into_iter().filter_map(pss).collect();
    let containers = container_memory(engine)?;
    let size = fleet.size;
    let growth = daemon.zip(daemon_pss(engine)).map(|(before, now)| (now - before) / count);
    let growth: Vec<f64> = growth.into_iter().collect();
    let memory = |case: &str, samples: &[f64]| Row::new(case, name).with(Measure::Memory, samples);
    Ok(vec![
        Row::new(&format!("start {}", fleet.title()), name).with(Measure::Wall, &[wall]).with(Measure::Cpu, &[cpu]),
        Row::new(&format!("start {}: each", fleet.title()), name).with(Measure::Wall, &each),
        memory(&adds(size), &added),
        memory(&format!("memory of its monitor process (PSS), each of {size}"), &monitors),
        memory(&format!("growth of the daemons (PSS) for each of {size}"), &growth),
        memory(
            &format!("charged to the daemons' cgroup, network namespaces included, for each of {size}"),
            &[(engine.account.memory("host")? - host) / count],
        ),
        memory(&format!("memory of the container's own cgroup, each of {size}"), &containers),
        memory(&format!("all memory together, for each of {size}"), &[(engine.account.memory("")? - whole) / count]),
    ])
}

/// `ps` at the moment when eight others have just been told to start.
fn busy_ps(engine: &mut Engine) -> Result<Cost> {
    let others = vec![engine.command(&["run", "--rm", "--network", "none", IMAGE, "true"]); 8];
    let probe = Some(engine.command(&["ps"]));
    let (outcome, _) = engine.batch(Batch { jobs: others, width: 8, probe, capture: false })?;
    Ok(Cost { wall: outcome.probe.context("no probe")?, cpu: None })
}

fn exec_in_all(engine: &mut Engine, fleet: Fleet) -> Result<Row> {
    let jobs = fleet.names().iter().map(|name| engine.command(&["exec", name, "true"])).collect();
    let (outcome, cpu) = engine.batch(Batch { jobs, width: fleet.width, ..Batch::default() })?;
    let case = format!("exec true in each of {}", fleet.title());
    Ok(Row::new(&case, engine.kind.name()).with(Measure::Wall, &[outcome.wall]).with(Measure::Cpu, &[cpu]))
}

fn remove(engine: &mut Engine, fleet: Fleet) -> Result<Option<Row>> {
    let names = fleet.names();
    let mut line = vec!["rm", "-f"];
    line.extend(names.iter().map(String::as_str));
    let cost = engine.time(&line)?;
    let left = engine.run(&["ps", "-aq"])?.lines().count();
    ensure!(left == 0, "{left} containers are left after rm");
    let row = Row::new(&format!("remove {}", fleet.title()), engine.kind.name());
    let row = row.with(Measure::Wall, &[cost.wall]).with(Measure::Cpu, cost.cpu.as_slice());
    Ok((fleet.size > 1).then_some(row))
}

fn idle_daemon(engine: &Engine) -> Option<Row> {
    Some(Row::new(IDLE_DAEMON, engine.kind.name()).with(Measure::Memory, &[daemon_pss(engine)?]))
}

/// Podman has no daemon.
fn daemon_pss(engine: &Engine) -> Option<f64> {
    let daemons = engine.daemons();
    (!daemons.is_empty()).then(|| daemons.iter().filter_map(|&pid| pss(pid)).sum())
}

/// Memory that monitors and daemons hold: what the monitors' cgroup is charged, kernel memory included, and the daemons' PSS. Docker's
/// monitors have no cgroup of their own, and there is no daemon to add to podman's.
fn engine_memory(engine: &Engine) -> Result<f64> {
    let parts = engine.account.parts("containers");
    let helpers: Vec<&String> = parts.iter().filter(|part| !is_container(part)).collect();
    if helpers.is_empty() && engine.kind != Kind::Berth {
        return engine.account.memory("host");
    }
    let charged =
        helpers.iter().map(|part| engine.account.memory(&format!("containers/{part}"))).sum::<Result<f64>>()?;
    Ok(charged + daemon_pss(engine).unwrap_or(0.0))
}

fn container_memory(engine: &Engine) -> Result<Vec<f64>> {
    let parts = engine.account.parts("containers");
    parts
        .iter()
        .filter(|part| is_container(part))
        .map(|part| engine.account.memory(&format!("containers/{part}")))
        .collect()
}

/// Containers' cgroups are named by their ids, with a prefix at times.
fn is_container(part: &str) -> bool {
    let id = part.rsplit('-').next().unwrap_or_default();
    id.len() == 64 && !part.contains("conmon")
}

/// Processes that are neither daemons nor containers' own.
fn monitors(engine: &Engine) -> Vec<u32> {
    let known = [engine.daemons(), &[engine.hand()]].concat();
    engine
        .account
        .processes(false)
        .into_iter()
        .filter(|pid| !known.contains(pid) && !["sleep", "busybox"].contains(&process_name(*pid).as_str()))
        .collect()
}
