//! A pull that is disturbed: the connection is cut every 16 MB, and the daemon killed twice. What counts is how many bytes move.

use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{Field, Setting, set_bars};
use crate::{
    cutter,
    engine::Engine,
    registry::{Registry, fill, wait_for},
    results::{Measure, Row},
    series::{failed, said},
};

/// The registry, and what stands before it.
const REGISTRY: u16 = 5000;
const CUTTER: u16 = 5002;
const SOURCE: &str = "127.0.0.1:5000/bench/layers:1";
const IMAGE: &str = "127.0.0.1:5002/bench/layers:1";
const CASE: &str = "pull of 22 layers, cut every 16 MB, the daemon killed twice";
/// What may move, as a share of the image.
const MOST: f64 = 1.05;

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    let directory = setting.directory.join("registry");
    let registries: Vec<Registry> =
        field.engines.iter().map(|engine| Registry::start(engine, &directory, REGISTRY)).collect::<Result<_>>()?;
    let digest = fill(setting.directory, &field.engines[0], SOURCE)?;
    let size = registries[0].bytes()?;
    let mut rows = Vec::new();
    for engine in &mut field.engines {
        let moved = pull(setting, engine, size, &digest);
        rows.push(match moved {
            Ok(moved) => Row::new(CASE, engine.kind.name()).with(Measure::Bytes, &[moved as f64 / 1024.0]),
            Err(error) => failed(CASE, engine, &said(engine, &error)),
        });
    }
    set_bars(&mut rows, CASE, &[(Measure::Bytes, size as f64 * MOST / 1024.0)], None);
    field.note(format!("the image has {} KiB", size / 1024));
    Ok(rows)
}

/// Pulls until the image is there, and tells how many bytes came.
fn pull(setting: &Setting<'_>, engine: &mut Engine, size: u64, digest: &str) -> Result<u64> {
    let cutter = Cutter::start(engine)?;
    for third in 1..=2 {
        let (account, daemons) = (engine.account.clone(), engine.daemons().to_vec());
        let over = AtomicBool::new(false);
        let pulled = std::thread::scope(|scope| {
            scope.spawn(|| {
                while cutter.bytes() < size * third / 3 && !over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                account.kill(&daemons);
            });
            let pulled = engine.run(&["pull", "-q", IMAGE]);
            over.store(true, Ordering::Relaxed);
            pulled
        });
        ensure!(pulled.is_err(), "the pull was over before the daemon was killed");
        engine.restart(&setting.program)?;
    }
    engine.run(&["pull", "-q", IMAGE])?;
    let moved = cutter.bytes();
    let names = engine.run(&["inspect", "-f", "{{.RepoDigests}}", IMAGE])?;
    ensure!(names.contains(digest), "another image came: {names}");
    Ok(moved)
}

/// The cutter's process in an engine's namespaces.
struct Cutter {
    process: Child,
    count: PathBuf,
}

impl Cutter {
    fn start(engine: &Engine) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let count = engine.directory().join("cutter.count");
        let mut command = engine.sandbox().command(program);
        command.args([cutter::WORD, &CUTTER.to_string(), &REGISTRY.to_string()]).arg(&count);
        // It ends with its input, and so with us.
        let process = command.stdin(Stdio::piped()).spawn().context("starting the cutter")?;
        let cutter = Self { process, count };
        wait_for(engine, CUTTER).context("the cutter")?;
        Ok(cutter)
    }

    fn bytes(&self) -> u64 {
        read_count(&self.count).unwrap_or(0)
    }
}

fn read_count(file: &Path) -> Option<u64> {
    let bytes = std::fs::read(file).ok()?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

impl Drop for Cutter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
