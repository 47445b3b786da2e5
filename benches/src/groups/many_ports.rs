//! A container with 10,000 published ports: what they add to its start, to the daemons' memory and to the processes of the machine.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Field, IMAGE, Setting, set_bars};
use crate::{
    account::pss,
    engine::{Cost, Engine},
    results::{Measure, Row},
    series::{Turn, turns},
};

/// What 10,000 ports may add to the start of a container, in milliseconds.
const EXTRA: f64 = 200.0;
/// What they may add to the memory of the daemons, in KiB.
const MEMORY: f64 = 2.0 * 1024.0;
/// How long an engine is left alone before its memory is read: what it does once it is idle belongs to its being idle.
const REST: Duration = Duration::from_secs(12);

/// A range whose ports keep their numbers is one element of a map; one whose ports do not is 10,000.
const CASES: [(&str, &str); 2] =
    [("10,000 ports", "20000-29999:20000-29999"), ("10,000 ports, shifted", "20000-29999:30000-39999")];

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let rounds = setting.options.samples(9);
    let mut rows = turns(&mut field.engines, rounds, turn);
    for engine in &mut field.engines {
        for (title, ports) in CASES {
            let (memory, processes) = held(engine, ports)?;
            field.notes.push(format!("{title}: {processes} processes more than a container without ports has"));
            ensure!(processes == 0, "{processes} processes for {title}");
            rows.push(Row::new(&memory_of(title), engine.kind.name()).with(Measure::Memory, &[memory]));
        }
    }
    for (title, _) in CASES {
        set_bars(&mut rows, &added(title), &[(Measure::Wall, EXTRA)], None);
        set_bars(&mut rows, &memory_of(title), &[(Measure::Memory, MEMORY)], None);
    }
    Ok(rows)
}

fn added(title: &str) -> String {
    format!("what is added by {title}")
}

fn memory_of(title: &str) -> String {
    format!("memory of the daemons (PSS) for {title}")
}

/// Starts of a container without ports and with each range; what differs is the ports'. The containers' ends are not counted.
fn turn(engine: &mut Engine, round: usize) -> Result<Turn> {
    let mut costs = [Cost { wall: 0.0, cpu: None }; 1 + CASES.len()];
    for place in 0..costs.len() {
        let number = (place + round) % costs.len();
        costs[number] = start(engine, number.checked_sub(1).map(|case| CASES[case].1))?;
        remove(engine)?;
    }
    let [without, ..] = costs;
    let mut turn = vec![("run -d, no ports".to_owned(), without)];
    for ((title, _), cost) in CASES.iter().zip(&costs[1..]) {
        let cpu = cost.cpu.zip(without.cpu).map(|(with, without)| with - without);
        turn.push((format!("run -d, {title}"), *cost));
        turn.push((added(title), Cost { wall: cost.wall - without.wall, cpu }));
    }
    Ok(turn)
}

/// What the ports of a running container cost: growth of the daemons' memory in KiB, and further processes.
fn held(engine: &mut Engine, ports: &str) -> Result<(f64, usize)> {
    let mut look = |ports| -> Result<(f64, usize)> {
        start(engine, ports)?;
        std::thread::sleep(REST);
        let memory = engine.daemons().iter().map(|&pid| pss(pid)).sum::<Option<f64>>().context("a daemon has ended")?;
        let processes = engine.account.processes(false).len();
        remove(engine)?;
        Ok((memory, processes))
    };
    let (memory_before, before) = look(None)?;
    let (memory, processes) = look(Some(ports))?;
    Ok((memory - memory_before, processes.saturating_sub(before)))
}

fn start(engine: &mut Engine, ports: Option<&str>) -> Result<Cost> {
    let ports: Vec<&str> = ports.map(|ports| ["-p", ports]).into_iter().flatten().collect();
    let line = [&["run", "-d", "--name", "many-ports"], ports.as_slice(), &[IMAGE, "sleep", "1000000"]].concat();
    engine.time(&line)
}

fn remove(engine: &mut Engine) -> Result<()> {
    engine.run(&["rm", "-f", "many-ports"]).map(drop)
}
