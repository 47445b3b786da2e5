//! Debian's `docker-registry` in an engine's namespaces, and an image in it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    archive,
    engine::{Engine, installed},
};

/// Layers of the image, of about 50 MiB each.
pub const LAYERS: usize = 22;
/// Bytes of all layers before they are compressed.
pub const UNCOMPRESSED: u64 = LAYERS as u64 * archive::LAYER;

/// A registry in an engine's namespaces, beside its account.
pub struct Registry {
    process: Child,
    directory: PathBuf,
}

impl Registry {
    /// Starts one on a port of the engine's loopback.
    pub fn start(engine: &Engine, directory: &Path, port: u16) -> Result<Self> {
        ensure!(installed("docker-registry").is_some(), "docker-registry is not installed");
        std::fs::create_dir_all(directory)?;
        let configuration = engine.directory().join(format!("registry-{port}.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            directory.display()
        );
        std::fs::write(&configuration, text)?;
        let mut command = engine.sandbox().command("docker-registry");
        let process = command.arg("serve").arg(&configuration).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let registry = Self { process, directory: directory.to_owned() };
        wait_for(engine, port).context("docker-registry")?;
        Ok(registry)
    }

    /// Bytes of all that it holds.
    pub fn bytes(&self) -> Result<u64> {
        let blobs = self.directory.join("docker/registry/v2/blobs/sha256");
        let mut total = 0;
        for shelf in std::fs::read_dir(&blobs).with_context(|| format!("reading {}", blobs.display()))? {
            for blob in std::fs::read_dir(shelf?.path())? {
                total += std::fs::metadata(blob?.path().join("data"))?.len();
            }
        }
        Ok(total)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Puts the image into the registry that a name leads to, its layers compressed as most are. Gives its digest.
pub fn fill(directory: &Path, engine: &Engine, name: &str) -> Result<String> {
    ensure!(installed("skopeo").is_some(), "skopeo is not installed");
    let archive = archive::layered(directory, "bench-layers", LAYERS)?;
    let digest = directory.join("bench-layers.digest");
    let copied = engine
        .sandbox()
        .command("skopeo")
        .args(["--insecure-policy", "copy", "--dest-tls-verify=false", "--digestfile"])
        .arg(&digest)
        .arg(format!("docker-archive:{}", archive.display()))
        .arg(format!("docker://{name}"))
        .output()
        .context("starting skopeo")?;
    ensure!(copied.status.success(), "skopeo: {}", String::from_utf8_lossy(&copied.stderr).trim());
    std::fs::remove_file(archive)?;
    Ok(std::fs::read_to_string(digest)?.trim().to_owned())
}

/// Waits until somebody listens on a port of the engine's loopback.
pub fn wait_for(engine: &Engine, port: u16) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !listens(engine, port) {
        if Instant::now() > deadline {
            bail!("nobody listens on port {port}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn listens(engine: &Engine, port: u16) -> bool {
    let mut look: Command = engine.sandbox().command("ss");
    let output = look.args(["-Hltn", &format!("sport = :{port}")]).output();
    output.is_ok_and(|output| !output.stdout.trim_ascii().is_empty())
}
