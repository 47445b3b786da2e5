//! `run --rm` with a published port, in turns with the same without: what publishing costs.

use anyhow::{Result, ensure};

use super::{Field, IMAGE, Setting, set_bars};
use crate::{
    engine::{Cost, Engine},
    hand::Batch,
    results::{Measure, Row},
    series::{Turn, turns},
};

/// What a published port may add to a run, in milliseconds.
const EXTRA: f64 = 1.0;
/// How many runs count as one sample: their median differs less than single ones do.
const RUNS: usize = 5;
/// The cases. What the later ones take more than the first is the ports'.
const CASES: [(&str, &[&str]); 3] = [
    ("default bridge", &[]),
    ("with -p 127.0.0.1:18080:80", &["-p", "127.0.0.1:18080:80"]),
    ("with -p 18080:80", &["-p", "18080:80"]),
];

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let rounds = setting.options.samples(30);
    let mut rows = turns(&mut field.engines, rounds, turn);
    for (case, _) in &CASES[1..] {
        set_bars(&mut rows, &added(case), &[(Measure::Wall, EXTRA)], None);
    }
    Ok(rows)
}

fn added(case: &str) -> String {
    format!("what is added {case}")
}

/// Every case, one after the other: a moment that is busy, or a directory that fills, is so for all of them.
fn turn(engine: &mut Engine, round: usize) -> Result<Turn> {
    let mut costs = [Cost { wall: 0.0, cpu: None }; CASES.len()];
    for place in 0..CASES.len() {
        let number = (place + round) % CASES.len();
        costs[number] = each(engine, CASES[number].1)?;
    }
    let [without, ..] = costs;
    let named = CASES.iter().zip(costs).map(|((case, _), cost)| ((*case).to_owned(), cost));
    let more = CASES.iter().zip(costs).skip(1).map(|((case, _), cost)| {
        let cpu = cost.cpu.zip(without.cpu).map(|(with, without)| with - without);
        (added(case), Cost { wall: cost.wall - without.wall, cpu })
    });
    Ok(named.chain(more).collect())
}

/// What each of some runs takes, one after the other.
fn each(engine: &mut Engine, ports: &[&str]) -> Result<Cost> {
    let line = [&["run", "--rm"], ports, &[IMAGE, "true"]].concat();
    let jobs = vec![engine.command(&line); RUNS];
    let (outcome, cpu) = engine.batch(Batch { jobs, width: 1, ..Batch::default() })?;
    ensure!(outcome.failure.is_none(), "{}", outcome.failure.unwrap_or_default());
    Ok(Cost { wall: outcome.wall / RUNS as f64, cpu: Some(cpu / RUNS as f64) })
}
