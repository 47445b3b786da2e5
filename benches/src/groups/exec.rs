//! One more process in a running container.

use anyhow::Result;

use super::{Field, IMAGE, Setting, set_bars};
use crate::{
    results::{Measure, Row},
    series::{one, turns},
};

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let case = "exec true";
    let mut rows = turns(&mut field.engines, setting.options.samples(30), |engine, round| {
        if round == 0 {
            engine.run(&["run", "-d", "--network", "none", "--name", "sleeper", IMAGE, "sleep", "1000000"])?;
        }
        Ok(one(case, engine.time(&["exec", "sleeper", "true"])?))
    });
    set_bars(&mut rows, case, &[(Measure::Wall, 6.0)], Some(10.0));
    Ok(rows)
}
