//! Samples of several engines in turns.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::{
    engine::{Cost, Engine},
    results::{Measure, Row},
};

/// What one turn of an engine gave: a cost for each case.
pub type Turn = Vec<(String, Cost)>;

/// Lets every engine take its turn so many times, after one turn that does not count; another begins each round.
///
/// An engine whose turn fails is left out from there on, with its reason.
pub fn turns(
    engines: &mut [Engine],
    rounds: usize,
    mut turn: impl FnMut(&mut Engine, usize) -> Result<Turn>,
) -> Vec<Row> {
    let mut series: BTreeMap<(usize, usize), (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    let mut cases: Vec<String> = Vec::new();
    let mut failures: BTreeMap<usize, String> = BTreeMap::new();
    for round in 0..=rounds {
        for place in 0..engines.len() {
            let number = (place + round) % engines.len();
            if failures.contains_key(&number) {
                continue;
            }
            match turn(&mut engines[number], round) {
                Ok(_) if round == 0 => {}
                Ok(costs) => {
                    for (case, cost) in costs {
                        let index = cases.iter().position(|known| *known == case).unwrap_or(cases.len());
                        if index == cases.len() {
                            cases.push(case);
                        }
                        let (wall, cpu) = series.entry((index, number)).or_default();
                        wall.push(cost.wall);
                        cpu.extend(cost.cpu);
                    }
                }
                Err(error) => {
                    failures.insert(number, said(&engines[number], &error));
                }
            }
        }
    }
    let mut rows = Vec::new();
    for ((case, number), (wall, cpu)) in &series {
        let row = Row::new(&cases[*case], engines[*number].kind.name());
        rows.push(row.with(Measure::Wall, wall).with(Measure::Cpu, cpu));
    }
    let case = cases.first().map_or("any", String::as_str);
    rows.extend(failures.into_iter().map(|(number, reason)| failed(case, &engines[number], &reason)));
    rows
}

/// Says at once why an engine failed, and gives the reason.
pub fn said(engine: &Engine, error: &anyhow::Error) -> String {
    let reason = format!("{error:#}");
    eprintln!("    {}: {reason}", engine.kind.name());
    reason
}

/// A row that says why it has no figures, in the first words of the reason.
pub fn failed(case: &str, engine: &Engine, reason: &str) -> Row {
    let reason = reason.split(" / ").next().unwrap_or_default().chars().take(120).collect();
    Row { failure: Some(reason), ..Row::new(case, engine.kind.name()) }
}

/// A turn of one case.
pub fn one(case: &str, cost: Cost) -> Turn {
    vec![(case.to_owned(), cost)]
}
