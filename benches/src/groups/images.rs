//! The list of a thousand images.

use anyhow::{Result, ensure};

use super::{Field, Setting, set_bars};
use crate::{
    archive,
    results::{Measure, Row},
    series::{one, turns},
};

const COUNT: usize = 1000;
const CASE: &str = "images, of 1,000";
/// What it may take, in milliseconds.
const MOST: f64 = 20.0;

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let file = archive::crowd(setting.directory, "bench-crowd", COUNT)?;
    let archive = file.display().to_string();
    let mut rows = turns(&mut field.engines, setting.options.samples(30), |engine, round| {
        if round == 0 {
            engine.run(&["load", "-q", "-i", &archive])?;
            let count = engine.run(&["images", "-q"])?.lines().count();
            // The image that everybody runs is there, too.
            ensure!(count > COUNT, "{count} images are there");
        }
        Ok(one(CASE, engine.time(&["images"])?))
    });
    std::fs::remove_file(file)?;
    set_bars(&mut rows, CASE, &[(Measure::Wall, MOST)], None);
    Ok(rows)
}
