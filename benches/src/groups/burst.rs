//! What the default bridge adds to `run --rm`: one by one, and in bursts of a hundred.

use anyhow::{Result, ensure};

use super::{Field, IMAGE, Setting, set_bars};
use crate::{
    engine::{Cost, Engine},
    hand::Batch,
    results::Row,
    series::{Turn, turns},
};

/// How many containers a burst has.
const BURST: usize = 100;
/// How many runs one by one count as one sample: their median differs less than single ones do.
const WARM: usize = 10;

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let rounds = setting.options.samples(10);
    let mut rows = Vec::new();
    // By how many at a time, in how many, and what the bridge may add to each, in milliseconds.
    for (title, width, count, most) in [
        ("one by one", 1, WARM, 2.0),
        ("burst of 100, 8 at a time", 8, BURST, 4.0),
        ("burst of 100, all at once", BURST, BURST, 4.0),
    ] {
        rows.extend(turns(&mut field.engines, rounds, |engine, round| pair(engine, title, width, count, round)));
        set_bars(&mut rows, &extra(title), &[(crate::results::Measure::Wall, most)], None);
    }
    Ok(rows)
}

fn extra(title: &str) -> String {
    format!("the bridge's part of each, {title}")
}

/// The same with and without a network, in turns; what differs is the bridge's.
fn pair(engine: &mut Engine, title: &str, width: usize, count: usize, round: usize) -> Result<Turn> {
    let mut costs = [Cost { wall: 0.0, cpu: None }; 2];
    // Another begins each round, so that neither always meets what the other left to be cleared up.
    for place in [round % 2, (round + 1) % 2] {
        costs[place] = each(engine, ["none", "bridge"][place], width, count)?;
    }
    let [none, bridge] = costs;
    let cpu = none.cpu.zip(bridge.cpu).map(|(none, bridge)| bridge - none);
    Ok(vec![
        (format!("network none, each, {title}"), none),
        (format!("default bridge, each, {title}"), bridge),
        (extra(title), Cost { wall: bridge.wall - none.wall, cpu }),
    ])
}

/// What each of so many runs takes of the time of all.
fn each(engine: &mut Engine, network: &str, width: usize, count: usize) -> Result<Cost> {
    let jobs = vec![engine.command(&["run", "--rm", "--network", network, IMAGE, "true"]); count];
    let (outcome, cpu) = engine.batch(Batch { jobs, width, ..Batch::default() })?;
    ensure!(outcome.failure.is_none(), "{}", outcome.failure.unwrap_or_default());
    Ok(Cost { wall: outcome.wall / count as f64, cpu: Some(cpu / count as f64) })
}
