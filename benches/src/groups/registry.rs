//! Pulling a large image from a registry on loopback, and pushing it: Debian's `docker-registry`, the same for every engine.

use std::time::Instant;

use anyhow::Result;

use super::{Field, Setting, set_bars, set_cpu_times};
use crate::{
    engine::Cost,
    registry::{Registry, UNCOMPRESSED, fill},
    results::{Measure, Row},
    series::turns,
};

/// Where the image is pulled from, and where it is pushed to.
const SOURCE: u16 = 5000;
const TARGET: u16 = 5001;
const IMAGE: &str = "127.0.0.1:5000/bench/layers:1";
const PULL: &str = "pull, 22 layers, 1.1 GB";
const PUSH: &str = "push, 22 layers, 1.1 GB";
const AGAIN: &str = "push of the same under another name";
/// What was not on the disk yet when the pull ended.
const SYNC: &str = "sync of the file systems after the pull";
/// Uncompressed bytes per millisecond that a pull brings and unpacks: 180 MB/s.
const SPEED: f64 = 180e3;

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let source = setting.directory.join("registry");
    // Each engine has a loopback of its own.
    let registries: Result<Vec<Registry>> =
        field.engines.iter().map(|engine| Registry::start(engine, &source, SOURCE)).collect();
    let _registries = registries?;
    fill(setting.directory, &field.engines[0], IMAGE)?;
    let rounds = setting.options.samples(3);
    let mut rows = turns(&mut field.engines, rounds, |engine, round| {
        // What others still have to write is not this engine's burden.
        rustix::fs::sync();
        let cost = engine.time(&["pull", "-q", IMAGE])?;
        let pulled = Instant::now();
        rustix::fs::sync();
        let sync = Cost { wall: pulled.elapsed().as_secs_f64() * 1e3, cpu: None };
        if round < rounds {
            engine.run(&["rmi", IMAGE])?;
        }
        Ok(vec![(PULL.to_owned(), cost), (SYNC.to_owned(), sync)])
    });
    rows.extend(turns(&mut field.engines, rounds, |engine, round| {
        // A registry that has nothing yet, whatever engines remember of the one before.
        let directory = setting.directory.join(format!("target-{}-{round}", engine.kind.name()));
        let target = Registry::start(engine, &directory, TARGET)?;
        let costs = [(PUSH, "layers"), (AGAIN, "again")].map(|(case, repository)| {
            let name = format!("127.0.0.1:{TARGET}/bench/{repository}:{round}");
            engine.run(&["tag", IMAGE, &name])?;
            rustix::fs::sync();
            let cost = engine.time(&["push", "-q", &name])?;
            engine.run(&["rmi", &name])?;
            Ok((case.to_owned(), cost))
        });
        drop(target);
        std::fs::remove_dir_all(directory)?;
        costs.into_iter().collect()
    }));
    set_bars(&mut rows, PULL, &[(Measure::Wall, UNCOMPRESSED as f64 / SPEED)], Some(4.0));
    set_cpu_times(&mut rows, PULL, 1.0 / 0.35);
    set_bars(&mut rows, PUSH, &[], Some(2.0));
    field.note("berth syncs what it pulls before it answers".to_owned());
    Ok(rows)
}
