//! Image archives, as `docker save` makes them, for everybody to load.
//!
//! Every archive has one file of its own in it, so that no engine can have its layer from an earlier load.

use std::{
    fs::File,
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

/// The size of the bigger image, in bytes.
const MIXED: u64 = 100_000_000;
/// The size of each layer of [`layered`], in bytes, within one file.
pub const LAYER: u64 = 50 << 20;

/// Debian's busybox as `NAME:latest`.
pub fn busybox(directory: &Path, name: &str, mark: usize) -> Result<PathBuf> {
    image(directory, name, mark, |layer| {
        let mut tree = tar::Archive::new(std::io::Cursor::new(berth_testkit::busybox_tar()));
        for entry in tree.entries()? {
            let mut entry = entry?;
            let mut header = entry.header().clone();
            let path = entry.path()?.into_owned();
            match entry.link_name()? {
                Some(target) => layer.append_link(&mut header, path, target)?,
                None => layer.append_data(&mut header, path, &mut entry)?,
            }
        }
        Ok(())
    })
}

/// 100 MB in some 3,000 files: text, programs that compress by half, and some that do not at all.
pub fn mixed(directory: &Path, name: &str, mark: usize) -> Result<PathBuf> {
    image(directory, name, mark, |layer| {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ mark as u64);
        let mut total = 0;
        for number in 0.. {
            // Sizes as in a distribution: most are small, a few make up the bulk.
            let size = match random.next() % 100 {
                0..60 => random.next() % 8_000,
                60..95 => random.next() % 60_000,
                95..99 => random.next() % 300_000,
                _ => random.next() % 3_000_000,
            };
            let content = content(&mut random, size as usize, number % 4);
            file(layer, &format!("usr/share/part{}/file{number}", number / 100), &content)?;
            total += size;
            if total > MIXED {
                break;
            }
        }
        Ok(())
    })
}

/// A Debian root file system, made by debootstrap from a mirror.
pub fn debian(directory: &Path, name: &str, mark: usize) -> Result<PathBuf> {
    let root = directory.join("debian");
    if !root.exists() {
        let made = Command::new("debootstrap").args(["--variant=minbase", "stable"]).arg(&root).output();
        let made = made.context("starting debootstrap, from Debian's package of that name")?;
        let said = String::from_utf8_lossy(&made.stdout).into_owned();
        ensure!(made.status.success(), "debootstrap: {}", said.lines().last().unwrap_or("it said nothing"));
    }
    std::fs::write(root.join("root/mark"), mark.to_string())?;
    let file = directory.join(format!("{name}-{mark}.layer"));
    let packed =
        Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&file).arg(".").output().context("starting tar")?;
    ensure!(packed.status.success(), "tar: {}", String::from_utf8_lossy(&packed.stderr).trim());
    wrap(directory, name, mark, &file)
}

/// Compresses an archive with gzip.
pub fn gzip(archive: &Path) -> Result<PathBuf> {
    let packed = Command::new("gzip").args(["-1", "-k", "-f"]).arg(archive).output().context("starting gzip")?;
    ensure!(packed.status.success(), "gzip: {}", String::from_utf8_lossy(&packed.stderr).trim());
    Ok(PathBuf::from(format!("{}.gz", archive.display())))
}

/// An image of several layers of about 50 MiB each, with files as a distribution has them.
pub fn layered(directory: &Path, name: &str, layers: usize) -> Result<PathBuf> {
    let path = directory.join(format!("{name}.tar"));
    let mut archive = tar::Builder::new(BufWriter::new(File::create(&path).context("making an archive")?));
    let (mut ids, mut members) = (Vec::new(), Vec::new());
    for number in 0..layers {
        let mut random = Random(0x2545_f491_4f6c_dd1d ^ (number as u64 + 1));
        let file_path = directory.join(format!("{name}-{number}.layer"));
        let mut layer = tar::Builder::new(BufWriter::new(File::create(&file_path).context("making a layer")?));
        let mut total = 0;
        for at in 0.. {
            let size = if random.next() % 20 == 0 { random.next() % 1_000_000 } else { random.next() % 30_000 };
            let content = content(&mut random, size as usize, at % 4);
            file(&mut layer, &format!("layer{number}/d{}/f{at}", at % 40), &content)?;
            total += size;
            if total > LAYER {
                break;
            }
        }
        layer.into_inner()?.flush()?;
        let mut layer = File::open(&file_path)?;
        let id = digest(&mut layer)?;
        layer.seek(SeekFrom::Start(0))?;
        members.push(format!("{id}/layer.tar"));
        archive.append_file(&members[number], &mut layer)?;
        ids.push(format!("sha256:{id}"));
        std::fs::remove_file(file_path)?;
    }
    let configuration = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": ids },
    })
    .to_string();
    let document = format!("{}.json", hex(&Sha256::digest(configuration.as_bytes())));
    file(&mut archive, &document, configuration.as_bytes())?;
    let manifest = json!([{ "Config": document, "RepoTags": [format!("{name}:latest")], "Layers": members }]);
    file(&mut archive, "manifest.json", manifest.to_string().as_bytes())?;
    archive.into_inner()?.flush()?;
    Ok(path)
}

/// Many images, `NAME:0` and so on, each with a configuration of its own and all with the same small layer.
pub fn crowd(directory: &Path, name: &str, count: usize) -> Result<PathBuf> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    layer.append_data(&mut header, "etc/mark", std::io::empty())?;
    let layer = layer.into_inner()?;
    let id = hex(&Sha256::digest(&layer));
    let path = directory.join(format!("{name}.tar"));
    let mut archive = tar::Builder::new(BufWriter::new(File::create(&path).context("making an archive")?));
    let member = format!("{id}/layer.tar");
    file(&mut archive, &member, &layer)?;
    let mut entries = Vec::new();
    for number in 0..count {
        let configuration = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": { "Cmd": ["sh"], "Labels": { "number": number.to_string() } },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{id}")] },
        });
        let configuration = configuration.to_string();
        let document = format!("{}.json", hex(&Sha256::digest(configuration.as_bytes())));
        file(&mut archive, &document, configuration.as_bytes())?;
        entries.push(json!({ "Config": document, "RepoTags": [format!("{name}:{number}")], "Layers": [member] }));
    }
    file(&mut archive, "manifest.json", serde_json::Value::from(entries).to_string().as_bytes())?;
    archive.into_inner()?.flush()?;
    Ok(path)
}

type Layer = tar::Builder<BufWriter<File>>;

fn image(directory: &Path, name: &str, mark: usize, fill: impl FnOnce(&mut Layer) -> Result<()>) -> Result<PathBuf> {
    let path = directory.join(format!("{name}-{mark}.layer"));
    let mut layer = tar::Builder::new(BufWriter::new(File::create(&path).context("making a layer")?));
    fill(&mut layer)?;
    file(&mut layer, "etc/mark", mark.to_string().as_bytes())?;
    layer.into_inner()?.flush()?;
    wrap(directory, name, mark, &path)
}

/// Puts a layer into an archive with its documents, and removes it.
fn wrap(directory: &Path, name: &str, mark: usize, layer: &Path) -> Result<PathBuf> {
    let mut content = File::open(layer)?;
    let id = digest(&mut content)?;
    let configuration = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": { "Cmd": ["sh"], "Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{id}")] },
        "history": [{ "created": "2026-01-01T00:00:00Z", "created_by": "bench" }],
    });
    let configuration = configuration.to_string();
    let document = format!("{}.json", hex(&Sha256::digest(configuration.as_bytes())));
    let member = format!("{id}/layer.tar");
    let manifest =
        json!([{ "Config": document, "RepoTags": [format!("{name}:latest")], "Layers": [member] }]).to_string();
    let path = directory.join(format!("{name}-{mark}.tar"));
    let mut archive = tar::Builder::new(BufWriter::new(File::create(&path).context("making an archive")?));
    file(&mut archive, &document, configuration.as_bytes())?;
    content.seek(SeekFrom::Start(0))?;
    archive.append_file(&member, &mut content)?;
    file(&mut archive, "manifest.json", manifest.as_bytes())?;
    archive.into_inner()?.flush()?;
    std::fs::remove_file(layer)?;
    Ok(path)
}

fn file(tar: &mut Layer, path: &str, content: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    Ok(tar.append_data(&mut header, path, content)?)
}

fn digest(content: &mut File) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            length => hash.update(&buffer[..length]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Bytes of one of four kinds: two sorts of text, a program, noise.
fn content(random: &mut Random, size: usize, kind: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        let word = random.next();
        match kind {
            0 | 1 => bytes.extend(
                ["the ", "container ", "of ", "layer ", "in\n", "file ", "0x3f ", "return "][(word % 8) as usize]
                    .bytes(),
            ),
            2 => bytes.extend((word & 0x0f0f_0f0f_ff00_00ff).to_le_bytes()),
            _ => bytes.extend(word.to_le_bytes()),
        }
    }
    bytes.truncate(size);
    bytes
}

/// Numbers without a pattern, the same in every run (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_names_its_layer_by_digest() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = image(directory.path(), "bench-test", 3, |_| Ok(())).expect("an archive");
        let mut archive = tar::Archive::new(File::open(path).expect("there"));
        let names: Vec<String> = archive
            .entries()
            .expect("a tar")
            .map(|entry| entry.expect("whole").path().expect("a path").display().to_string())
            .collect();
        assert!(names.len() == 3 && names[1].ends_with("/layer.tar") && names[2] == "manifest.json", "{names:?}");
        assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 1);
    }
}
