//! An image of 4 GB out of an archive, and back into one: time, and how much memory it takes meanwhile.

use anyhow::{Context, Result};

use super::{Field, Setting, set_bars};
use crate::{
    archive,
    engine::{Cost, Engine},
    results::{Measure, Row},
    series::{failed, said},
    watch::Watch,
};

/// Layers of the image, of about 50 MiB each.
const LAYERS: usize = 80;
const NAME: &str = "bench-large";
const LOAD: &str = "load, 80 layers, 4.2 GB";
const SAVE: &str = "save, 80 layers, 4.2 GB";
/// What an engine may take besides what it has at rest, in KiB.
const MOST: f64 = 64.0 * 1024.0;

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let archive = archive::layered(setting.directory, NAME, LAYERS)?.display().to_string();
    let (mut loads, mut saves) = (Vec::new(), Vec::new());
    for engine in &mut field.engines {
        match load_and_save(engine, &archive) {
            Ok([load, save]) => {
                loads.push(load);
                saves.push(save);
            }
            Err(error) => loads.push(failed(LOAD, engine, &said(engine, &error))),
        }
    }
    std::fs::remove_file(archive)?;
    let mut rows = loads;
    rows.extend(saves);
    for case in [LOAD, SAVE] {
        set_bars(&mut rows, case, &[(Measure::Memory, MOST)], Some(4.0));
    }
    field.note("memory is what daemons and client (PSS) had at most above the daemons at rest".to_owned());
    Ok(rows)
}

fn load_and_save(engine: &mut Engine, archive: &str) -> Result<[Row; 2]> {
    let saved = engine.directory().join("saved.tar");
    let output = saved.display().to_string();
    let load = watched(engine, LOAD, &["load", "-q", "-i", archive])?;
    let save = watched(engine, SAVE, &["save", "-o", &output, NAME])?;
    engine.run(&["rmi", NAME])?;
    std::fs::remove_file(&saved).context("removing what was saved")?;
    Ok([load, save])
}

fn watched(engine: &mut Engine, case: &str, line: &[&str]) -> Result<Row> {
    // What others still have to write is not this engine's burden.
    rustix::fs::sync();
    let watch = Watch::begin(engine);
    let cost = engine.time(line);
    let memory = watch.end();
    let Cost { wall, cpu } = cost?;
    let row = Row::new(case, engine.kind.name()).with(Measure::Wall, &[wall]);
    Ok(row.with(Measure::Cpu, cpu.as_slice()).with(Measure::Memory, &[memory]))
}
