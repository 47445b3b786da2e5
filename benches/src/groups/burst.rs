//! What the default bridge adds to `run --rm`: one by one, and in bursts.

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
/// How many it has with the others, who take seconds for each: enough for a figure for each container.
const SMALL_BURST: usize = 20;
/// How many samples the others give.
const FEW_ROUNDS: usize = 3;
/// How many runs one by one count as one sample: their median differs less than single ones do.
const WARM: usize = 10;

/// A way of running several containers.
#[derive(Clone, Copy)]
struct Way {
    title: &'static str,
    /// How many at a time; all of them if `None`.
    width: Option<usize>,
    count: usize,
    /// What the bridge may add to each, in milliseconds.
    most: f64,
}

const WAYS: [Way; 3] = [
    Way { title: "one by one", width: Some(1), count: WARM, most: 2.0 },
    Way { title: "burst, 8 at a time", width: Some(8), count: BURST, most: 4.0 },
    Way { title: "burst, all at once", width: None, count: BURST, most: 4.0 },
];

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let rounds = setting.options.samples(10);
    let mut rows = Vec::new();
    for way in WAYS {
        rows.extend(turns(&mut field.engines, rounds, |engine, round| pair(engine, way, round)));
        set_bars(&mut rows, &extra(way), &[(crate::results::Measure::Wall, way.most)], None);
    }
    field.note(format!(
        "a burst is {BURST} containers, with docker and podman {SMALL_BURST}; times are for each container"
    ));
    Ok(rows)
}

fn extra(way: Way) -> String {
    format!("the bridge's part of each, {}", way.title)
}

/// The same with and without a network, in turns; what differs is the bridge's.
fn pair(engine: &mut Engine, way: Way, round: usize) -> Result<Turn> {
    if !engine.kind.is_ours() && round > FEW_ROUNDS {
        return Ok(Turn::new());
    }
    let mut costs = [Cost { wall: 0.0, cpu: None }; 2];
    // Another begins each round, so that neither always meets what the other left to be cleared up.
    for place in [round % 2, (round + 1) % 2] {
        costs[place] = each(engine, ["none", "bridge"][place], way)?;
    }
    let [none, bridge] = costs;
    let cpu = none.cpu.zip(bridge.cpu).map(|(none, bridge)| bridge - none);
    Ok(vec![
        (format!("network none, each, {}", way.title), none),
        (format!("default bridge, each, {}", way.title), bridge),
        (extra(way), Cost { wall: bridge.wall - none.wall, cpu }),
    ])
}

/// What each of so many runs takes of the time of all.
fn each(engine: &mut Engine, network: &str, way: Way) -> Result<Cost> {
    let count = if engine.kind.is_ours() { way.count } else { way.count.min(SMALL_BURST) };
    let jobs = vec![engine.command(&["run", "--rm", "--network", network, IMAGE, "true"]); count];
    let width = way.width.unwrap_or(count);
    let (outcome, cpu) = engine.batch(Batch { jobs, width, ..Batch::default() })?;
    ensure!(outcome.failure.is_none(), "{}", outcome.failure.unwrap_or_default());
    Ok(Cost { wall: outcome.wall / count as f64, cpu: Some(cpu / count as f64) })
}
