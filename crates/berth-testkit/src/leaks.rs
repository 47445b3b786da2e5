//! The search at the end: processes, mounts, devices, cgroups and files that nobody owns any more.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use crate::Sandbox;

/// Some of it goes in the background; it has so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one of the looks below finds in a sandbox whose containers were all removed.
pub(crate) fn search(sandbox: &Sandbox, look: fn(&Sandbox) -> Vec<String>) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = look(sandbox);
        if found.is_empty() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What containers leave.
pub(crate) fn with_the_daemon(sandbox: &Sandbox) -> Vec<String> {
    let mut found = Vec::new();
    for (directory, what) in [
        (sandbox.root().join("containers"), "container directory"),
        (sandbox.root().join("snapshots/rw"), "writable layer"),
        (sandbox.run().join("bundles"), "bundle"),
        (sandbox.run().join("shims"), "shim directory"),
        (sandbox.run().join("s"), "shim socket"),
    ] {
        found.extend(names_in(&directory).map(|name| format!("{what} {name}")));
    }
    for cgroup in sandbox.cgroups() {
        let children = names_in(&cgroup).filter(|name| name.len() == 64 && cgroup.join(name).is_dir());
        found.extend(children.map(|name| format!("cgroup {}", cgroup.join(name).display())));
    }
    found
}

/// What a daemon leaves: while it runs, it keeps devices ready for the next containers.
pub(crate) fn without_the_daemon(sandbox: &Sandbox) -> Vec<String> {
    let mut found = Vec::new();
    let links = sandbox.shell("ip -o link show type veth");
    found.extend(links.lines().map(|line| format!("network device {line}")));
    let mounts = sandbox.shell("cat /proc/self/mountinfo");
    let root = sandbox.path().to_string_lossy().into_owned();
    let ours = mounts.lines().filter(|line| line.split(' ').nth(4).is_some_and(|target| target.starts_with(&root)));
    found.extend(ours.map(|line| format!("mount {line}")));
    found
}

fn names_in(directory: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}
