//! Where the engines keep their data: a run for each kind of disk, in a mount namespace of its own.
//!
//! Root file systems differ (one without a journal makes removing and making directories slow, one with a journal
//! makes syncing slow), so everything can also be measured on a fresh ext4 with a journal, in a file on a loop device.

use std::{
    path::Path,
    process::{Command, ExitStatus},
};

use anyhow::{Context, Result, ensure};

use crate::options::Disk;

/// Says to the inner run that it is one, and on which kind of disk.
const MARK: &str = "BENCH_DISK";

/// Room for the data of the largest group; the file is sparse.
const SIZE: u64 = 16 << 30;

/// The disk of this run, if it is an inner one.
pub fn inner() -> Option<Disk> {
    match std::env::var(MARK).ok()?.as_str() {
        "ext4" => Some(Disk::Ext4),
        _ => Some(Disk::Here),
    }
}

/// Runs this program again, with its data on a disk of this kind, before everything else that runs if asked.
pub fn run_on(disk: Disk, first: bool) -> Result<ExitStatus> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = Command::new("nice");
    command.args(["-n", if first { "-20" } else { "0" }, "unshare", "--mount", "--propagation", "slave"]);
    match disk {
        Disk::Here => command.env(MARK, "here").arg(&program),
        Disk::Ext4 => {
            let image = image()?;
            let image = image.into_temp_path().keep().context("keeping the image")?;
            // The mount keeps the file, and the namespace the mount: nothing is left when the run ends.
            let script = "mount -o loop \"$0\" /mnt; status=$?; rm \"$0\"; [ $status = 0 ] && exec \"$@\"";
            command.env(MARK, "ext4").env("TMPDIR", "/mnt").args(["sh", "-c", script]).arg(&image).arg(&program)
        }
    };
    command
        .args(std::env::args_os().skip(1))
        .status()
        .context("starting nice and unshare, from Debian's coreutils and util-linux")
}

fn image() -> Result<tempfile::NamedTempFile> {
    let image =
        tempfile::Builder::new().prefix("berth-bench-").suffix(".ext4").tempfile().context("making an image")?;
    image.as_file().set_len(SIZE).context("making an image")?;
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
        .arg(image.path())
        .output();
    let made = made.context("starting mkfs.ext4, from Debian's e2fsprogs")?;
    ensure!(made.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr).trim());
    Ok(image)
}

/// What kind of file system a directory is on, in words.
pub fn describe(directory: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = mounts.lines().rev().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|fields| fields.len() > 3);
    let Some(mount) = mount.filter(|fields| directory.starts_with(fields[1])).max_by_key(|fields| fields[1].len())
    else {
        return "an unknown file system".to_owned();
    };
    let device = mount[0].rsplit('/').next().unwrap_or_default();
    if mount[2] != "ext4" {
        return format!("{} ({})", mount[2], mount[1]);
    }
    let journals = std::fs::read_dir("/proc/fs/jbd2").into_iter().flatten().flatten();
    let journal = journals.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let has_journal = journal.into_iter().any(|name| name.rsplit_once('-').is_some_and(|(disk, _)| disk == device));
    let kind = if has_journal { "ext4 with a journal" } else { "ext4 without a journal" };
    if device.starts_with("loop") { format!("{kind} on a loop device") } else { format!("{kind} ({})", mount[1]) }
}
