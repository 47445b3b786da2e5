//! `run --rm` with a published port, beside the same without: what publishing costs.

use anyhow::Result;

use super::{Field, IMAGE, Setting, set_bars};
use crate::{
    results::{Measure, Row},
    series::{one, turns},
};

/// What a published port may add to a run, in milliseconds.
const EXTRA: f64 = 1.0;
/// What a run on the default bridge may take, as in the group `run`.
const BRIDGE: f64 = 12.0;

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let rounds = setting.options.samples(30);
    let cases: [(&str, &[&str], f64); 3] = [
        ("default bridge", &[], BRIDGE),
        ("with -p 127.0.0.1:18080:80", &["-p", "127.0.0.1:18080:80"], BRIDGE + EXTRA),
        ("with -p 18080:80", &["-p", "18080:80"], BRIDGE + EXTRA),
    ];
    let mut rows = Vec::new();
    for (case, ports, most) in cases {
        let line = [&["run", "--rm"], ports, &[IMAGE, "true"]].concat();
        rows.extend(turns(&mut field.engines, rounds, |engine, _| Ok(one(case, engine.time(&line)?))));
        set_bars(&mut rows, case, &[(Measure::Wall, most)], None);
    }
    Ok(rows)
}
