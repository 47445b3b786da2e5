//! `run --rm`, the command that most people judge an engine by.

use anyhow::Result;

use super::{Field, IMAGE, Setting, set_bars};
use crate::{
    results::{Measure, Row},
    series::{one, turns},
};

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let rounds = setting.options.samples(30);
    let mut rows = Vec::new();
    for (case, network, most) in [("network none", "none", 8.0), ("default bridge", "bridge", 12.0)] {
        let network: &[&str] = if network == "none" { &["--network", "none"] } else { &[] };
        let line = [&["run", "--rm"], network, &[IMAGE, "true"]].concat();
        rows.extend(turns(&mut field.engines, rounds, |engine, _| Ok(one(case, engine.time(&line)?))));
        set_bars(&mut rows, case, &[(Measure::Wall, most), (Measure::Cpu, most)], Some(25.0));
    }
    Ok(rows)
}
