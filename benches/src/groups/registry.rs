//! Pulling a large image from a registry on loopback, and pushing it: Debian's `docker-registry`, the same for every engine.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{Field, Setting, set_bars};
use crate::{
    archive,
    engine::{Engine, installed},
    results::Row,
    series::{one, turns},
};

/// Layers of the image, of about 50 MB each.
const LAYERS: usize = 22;
/// Where the image is pulled from, and where it is pushed to.
const SOURCE: u16 = 5000;
const TARGET: u16 = 5001;
const IMAGE: &str = "127.0.0.1:5000/bench/layers:1";
const PULL: &str = "pull, 22 layers, 1.1 GB";
const PUSH: &str = "push, 22 layers, 1.1 GB";

pub fn measure(setting: &Setting<'_>, field: &mut Field<'_>) -> Result<Vec<Row>> {
    ensure!(installed("docker-registry").is_some(), "docker-registry is not installed");
    ensure!(installed("skopeo").is_some(), "skopeo is not installed");
    let source = setting.directory.join("registry");
    // Each engine has a loopback of its own.
    let mut registries = Vec::new();
    for engine in &field.engines {
        registries.push(Registry::start(engine, &source, SOURCE)?);
        registries.push(Registry::start(
            engine,
            &setting.directory.join(format!("registry-{}", engine.kind.name())),
            TARGET,
        )?);
    }
    fill(setting, &field.engines[0])?;
    let rounds = setting.options.samples(3);
    let mut rows = turns(&mut field.engines, rounds, |engine, round| {
        // What others still have to write is not this engine's burden.
        rustix::fs::sync();
        let cost = engine.time(&["pull", "-q", IMAGE])?;
        if round < rounds {
            engine.run(&["rmi", IMAGE])?;
        }
        Ok(one(PULL, cost))
    });
    rows.extend(turns(&mut field.engines, rounds, |engine, round| {
        // The registry knows the layers from the round before, but not in this repository: they are sent again.
        let name = format!("127.0.0.1:{TARGET}/bench/round-{round}:1");
        engine.run(&["tag", IMAGE, &name])?;
        rustix::fs::sync();
        let cost = engine.time(&["push", "-q", &name])?;
        engine.run(&["rmi", &name])?;
        Ok(one(PUSH, cost))
    }));
    set_bars(&mut rows, PULL, &[], Some(4.0));
    set_bars(&mut rows, PUSH, &[], Some(2.0));
    Ok(rows)
}

/// Puts the image into the registry, its layers compressed as most are.
fn fill(setting: &Setting<'_>, engine: &Engine) -> Result<()> {
    let archive = archive::layered(setting.directory, "bench-layers", LAYERS)?;
    let copied = engine
        .sandbox()
        .command("skopeo")
        .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
        .arg(format!("docker-archive:{}", archive.display()))
        .arg(format!("docker://{IMAGE}"))
        .output()
        .context("starting skopeo")?;
    ensure!(copied.status.success(), "skopeo: {}", String::from_utf8_lossy(&copied.stderr).trim());
    Ok(std::fs::remove_file(archive)?)
}

/// A registry in an engine's namespaces, beside its account.
struct Registry(Child);

impl Registry {
    fn start(engine: &Engine, directory: &Path, port: u16) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let configuration = engine.directory().join(format!("registry-{port}.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            directory.display()
        );
        std::fs::write(&configuration, text)?;
        let mut command = engine.sandbox().command("docker-registry");
        let child = command.arg("serve").arg(&configuration).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let registry = Self(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !listens(engine, port) {
            if Instant::now() > deadline {
                bail!("docker-registry does not answer");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(registry)
    }
}

fn listens(engine: &Engine, port: u16) -> bool {
    let mut look: Command = engine.sandbox().command("ss");
    let output = look.args(["-Hltn", &format!("sport = :{port}")]).output();
    output.is_ok_and(|output| !output.stdout.trim_ascii().is_empty())
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
