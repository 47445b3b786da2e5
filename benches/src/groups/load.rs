//! Taking in an image from an archive.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Field, Setting};
use crate::{
    archive,
    results::Row,
    series::{one, turns},
};

type Make = fn(&Path, &str, usize) -> Result<PathBuf>;

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let mut rows = case(setting, field, "busybox, 2 MB", "bench-small", 6, archive::busybox)?;
    rows.extend(case(setting, field, "mixed files, 100 MB", "bench-mixed", 3, archive::mixed)?);
    rows.extend(case(setting, field, "mixed files, 100 MB, gzip", "bench-packed", 3, |directory, name, mark| {
        archive::gzip(&archive::mixed(directory, name, mark)?)
    })?);
    Ok(rows)
}

pub fn measure_debian(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    case(setting, field, "Debian, minbase", "bench-debian", 3, archive::debian)
}

/// Every engine loads the same new archive in every round, and forgets the image afterwards.
fn case(
    setting: &Setting<'_>,
    field: &mut Field<'_>,
    case: &str,
    name: &str,
    rounds: usize,
    make: Make,
) -> Result<Vec<Row>> {
    let rounds = setting.options.samples(rounds);
    let archives: Vec<PathBuf> = (0..=rounds).map(|mark| make(setting.directory, name, mark)).collect::<Result<_>>()?;
    let rows = turns(&mut field.engines, rounds, |engine, round| {
        // What others still have to write is not this engine's burden.
        rustix::fs::sync();
        let cost = engine.time(&["load", "-i", &archives[round].display().to_string()])?;
        engine.run(&["rmi", name])?;
        Ok(one(case, cost))
    });
    for archive in archives {
        std::fs::remove_file(archive)?;
    }
    Ok(rows)
}
