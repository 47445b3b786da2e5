//! The search at the end: processes, mounts, devices, cgroups and files that nobody owns any more.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use berth_store::{Durability, Store};

use crate::Sandbox;

/// Some of it goes in the background; it has so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a look at a sandbox still finds after some time.
pub(crate) fn search(sandbox: &Sandbox, look: impl Fn(&Sandbox) -> Vec<String>) -> Vec<String> {
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
        (sandbox.visible_root().join("containers"), "container directory"),
        (sandbox.visible_root().join("snapshots/rw"), "writable layer"),
        (sandbox.run().join("bundles"), "bundle"),
        (sandbox.run().join("shims"), "shim directory"),
        (sandbox.run().join("s"), "shim socket"),
    ] {
        found.extend(names_in(&directory).map(|name| format!("{what} {name}")));
    }
    for cgroup in sandbox.cgroups() {
        let children = names_in(&cgroup).filter(|name| name.len() == 64 && cgroup.join(name).is_dir());
        found.extend(children.map(|name| format!("cgroup {}", cgroup.join(name).display())));
        found.extend(processes_in(&cgroup.join("shims")).into_iter().filter(|process| !belongs_to_the_daemon(process)));
    }
    found
}

/// All that an engine holds, sorted, but for what it keeps ready for the next container.
pub(crate) fn footprint(sandbox: &Sandbox) -> Vec<String> {
    let mut found = with_the_daemon(sandbox);
    let root = sandbox.visible_root();
    for (directory, what) in
        [("snapshots/layers", "layer"), ("snapshots/unpack", "unfinished layer"), ("volumes", "volume")]
    {
        found.extend(names_in(&root.join(directory)).map(|name| format!("{what} {name}")));
    }
    files_beneath(&root.join("content"), &mut found);
    found.extend(other_mounts(sandbox));
    // A shim that listens may make its directory later.
    found.retain(|one| !is_directory_of_a_live_shim(sandbox, one));
    found.sort();
    found
}

fn is_directory_of_a_live_shim(sandbox: &Sandbox, found: &str) -> bool {
    let socket = found.strip_prefix("shim directory ").and_then(|id| id.get(..20));
    socket.is_some_and(|name| sandbox.run().join("s").join(name).exists())
}

fn files_beneath(directory: &Path, found: &mut Vec<String>) {
    for name in names_in(directory) {
        let path = directory.join(name);
        if path.is_dir() {
            files_beneath(&path, found);
        } else {
            found.push(format!("file {}", path.display()));
        }
    }
}

/// What shims are forked from, and shims that wait for another container, live as long as their daemon at most.
fn belongs_to_the_daemon(process: &str) -> bool {
    process.contains("--zygote") || process.contains("--idle")
}

/// Processes of a control group, with their command lines.
fn processes_in(cgroup: &Path) -> Vec<String> {
    let pids = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let command = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pids.lines().map(|pid| format!("process {pid} {:?} in {}", command(pid), cgroup.display())).collect()
}

/// Records of what was removed. The daemon is not running: its databases are ours to open.
pub(crate) fn on_record(sandbox: &Sandbox) -> Vec<String> {
    let store = match Store::open(&sandbox.visible_root(), &sandbox.run()) {
        Ok(store) => store,
        Err(error) => return vec![format!("databases that cannot be read: {error}")],
    };
    let mut found = Vec::new();
    for durability in [Durability::Durable, Durability::Transient] {
        let rows = store.containers(durability).list().expect("readable");
        found.extend(rows.into_iter().map(|row| format!("record of container {}", row.name)));
    }
    let endpoints = store.endpoints().list().expect("readable");
    found.extend(endpoints.into_iter().map(|row| format!("record of an endpoint of {}", row.container)));
    let leases = store.images().leases().expect("readable");
    found.extend(leases.into_iter().map(|row| format!("lease {}", row.id)));
    found
}

/// What a daemon leaves: while it runs, it keeps devices ready for the next containers.
pub(crate) fn without_the_daemon(sandbox: &Sandbox) -> Vec<String> {
    let mut found = Vec::new();
    let links = sandbox.shell("ip -o link show type veth");
    found.extend(links.lines().map(|line| format!("network device {line}")));
    found.extend(other_mounts(sandbox));
    found.extend(sandbox.cgroups().iter().flat_map(|cgroup| processes_in(&cgroup.join("shims"))));
    found
}

fn other_mounts(sandbox: &Sandbox) -> Vec<String> {
    let mounts = sandbox.shell("cat /proc/self/mountinfo");
    let root = sandbox.path().to_string_lossy().into_owned();
    let small_disk = sandbox.root().to_string_lossy().into_owned();
    let is_ours = |target: &str| target.starts_with(&root) && target != small_disk;
    let ours = mounts.lines().filter(|line| line.split(' ').nth(4).is_some_and(is_ours));
    ours.map(|line| format!("mount {line}")).collect()
}

fn names_in(directory: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}
