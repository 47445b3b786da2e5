//! Making and ending the mounts of images, in the mount namespace of whoever asks.
//!
//! The daemon only keeps the record, by which the layers stay: made by the daemon, a mount would be seen by nobody else.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use berth_api::image_mount::ImageMount;
use berth_client::Client;
use berth_sys::mount::{AttributeChange, Attributes, Depth, Filesystem, Interface, bind_changed, mount_filesystem};
use rustix::fs::{Mode, OFlags};

use crate::CliError;
use crate::human::system_error;

/// What the mounts of an image allow: reading. Set-user-id programs and devices of an image are for its containers.
const ATTRIBUTES: Attributes = Attributes::READ_ONLY.union(Attributes::NO_SUID).union(Attributes::NO_DEV);

/// Only root may mount.
pub(super) fn check_user(what: &str) -> Result<(), CliError> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(CliError::message(format!("{what} is for root only: use sudo")))
}

/// Makes the mount.
pub(super) fn show(mount: &ImageMount) -> io::Result<()> {
    if let Some(missing) = mount.layers.iter().find(|layer| !Path::new(layer).is_dir()) {
        let reason = format!("{missing} is not on this machine: mount images where the daemon runs");
        return Err(io::Error::other(reason));
    }
    if mount.own {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&mount.target)?;
    }
    let interface = Interface::probe();
    let target = open(&mount.target)?;
    match mount.layers.as_slice() {
        // An overlay has two layers at least.
        [one] => {
            let change = AttributeChange { set: ATTRIBUTES, ..AttributeChange::default() };
            let reopen = || open(&mount.target);
            bind_changed(interface, open(one)?.as_fd(), Depth::Single, &change, target.as_fd(), reopen)
        }
        layers => {
            let lower: Vec<String> = layers.iter().map(|layer| escaped(layer)).collect();
            let data = [format!("lowerdir={}", lower.join(":"))];
            let overlay = Filesystem { kind: "overlay", source: "overlay", data: &data };
            mount_filesystem(interface, &overlay, ATTRIBUTES, target.as_fd())
        }
    }
}

fn open(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Overlayfs takes a colon for the end of a path.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:")
}

/// Ends a mount, unless somebody did so before, and has it forgotten.
pub(super) fn end(client: &Client, mount: &ImageMount) -> Result<(), CliError> {
    if is_mount_point(&mount.target)? {
        let ended = rustix::mount::unmount(mount.target.as_str(), rustix::mount::UnmountFlags::empty());
        ended.map_err(|error| {
            let reason = match error {
                rustix::io::Errno::BUSY => "it is in use: end what works in it, then try again".to_owned(),
                error => system_error(&error.into()),
            };
            CliError::message(format!("unmounting {}: {reason}", mount.target))
        })?;
    }
    forget(client, mount)
}

/// Has the daemon forget a mount that is gone, with the directory if it was its own.
pub(super) fn forget(client: &Client, mount: &ImageMount) -> Result<(), CliError> {
    if mount.own {
        // What is not empty, or not there, is nobody's loss.
        let _ = std::fs::remove_dir(&mount.target);
        let _ = Path::new(&mount.target).parent().map(std::fs::remove_dir);
    }
    client.post("/images/unmount").query("target", &mount.target).send()?.finish()?;
    Ok(())
}

/// Whether something is mounted at a directory, as this process sees it.
pub(super) fn is_mount_point(target: &str) -> Result<bool, CliError> {
    let mounts = io::read_to_string(File::open("/proc/self/mountinfo")?)?;
    // See proc_pid_mountinfo(5): blanks in names are written as octal numbers.
    let shown = target.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012");
    Ok(mounts.lines().any(|line| line.split(' ').nth(4) == Some(shown.as_str())))
}
