//! What one engine uses, by control group: everything that belongs to it lives below one directory.
//!
//! `berth-bench-PID/ENGINE/host` holds the client and the daemon, `.../containers` is the engine's cgroup parent.
//! Reading the directory above both therefore counts the whole engine, helpers that lived a millisecond included.
//! What the kernel does later on its own threads (closing network namespaces, for one) is in nobody's account.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long killed processes may take to disappear.
const PATIENCE: Duration = Duration::from_secs(20);

/// The cgroups of one engine.
#[derive(Clone)]
pub struct Account {
    name: String,
    cpu: PathBuf,
    memory: PathBuf,
    unified: bool,
}

impl Account {
    /// Makes the cgroups for an engine of this run.
    pub fn open(engine: &str) -> Result<Self> {
        let account = Self::find(&format!("berth-bench-{}/{engine}", std::process::id()))?;
        if account.unified {
            account.delegate()?;
        }
        for directory in [&account.cpu, &account.memory] {
            let host = directory.join("host");
            fs::create_dir_all(&host).with_context(|| format!("making the cgroup {}", host.display()))?;
        }
        Ok(account)
    }

    /// The cgroups of this name, made before.
    pub fn find(name: &str) -> Result<Self> {
        let hierarchies = hierarchies();
        let with = |controller: &str| {
            let found =
                hierarchies.iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller));
            found.map(|hierarchy| hierarchy.path.join(name))
        };
        if let (Some(cpu), Some(memory)) = (with("cpuacct"), with("memory")) {
            return Ok(Self { name: name.to_owned(), cpu, memory, unified: false });
        }
        let Some(v2) = hierarchies.iter().find(|hierarchy| hierarchy.unified) else {
            bail!("this machine has neither a cpuacct and a memory hierarchy nor a cgroup2")
        };
        let path = v2.path.join(name);
        Ok(Self { name: name.to_owned(), cpu: path.clone(), memory: path, unified: true })
    }

    /// Its name below the roots of the hierarchies.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parent for the engine's containers, as `--cgroup-parent` takes it.
    pub fn parent(&self) -> String {
        format!("/{}/containers", self.name)
    }

    /// How processor time and memory are counted here.
    pub fn method(&self) -> &'static str {
        if self.unified {
            "cgroup v2 (cpu.stat, memory.current)"
        } else {
            "cgroup v1 (cpuacct.usage, memory.usage_in_bytes)"
        }
    }

    /// On cgroup2, children have controllers only where their parent hands them down.
    fn delegate(&self) -> Result<()> {
        fs::create_dir_all(&self.cpu).with_context(|| format!("making the cgroup {}", self.cpu.display()))?;
        let mut above: Vec<&Path> = self.cpu.ancestors().take(3).collect();
        above.reverse();
        for directory in above {
            for controller in ["+cpu", "+memory", "+pids", "+io", "+cpuset"] {
                // One that the machine lacks is missed by nobody until it is read.
                let _ = fs::write(directory.join("cgroup.subtree_control"), controller);
            }
        }
        Ok(())
    }

    /// Takes a process in, beside the daemon.
    pub fn adopt(&self, pid: u32) -> Result<()> {
        for directory in [&self.cpu, &self.memory] {
            let file = directory.join("host/cgroup.procs");
            fs::write(&file, pid.to_string())
                .with_context(|| format!("moving process {pid} into {}", file.display()))?;
        }
        Ok(())
    }

    /// Puts a process back to the roots of the hierarchies.
    pub fn release(&self, pid: u32) {
        for directory in [&self.cpu, &self.memory] {
            let depth = Path::new(&self.name).components().count();
            if let Some(root) = directory.ancestors().nth(depth) {
                // Where it may not leave, the cgroup is removed later by whoever started it.
                let _ = fs::write(root.join("cgroup.procs"), pid.to_string());
            }
        }
    }

    /// Processor time of everything so far, in milliseconds.
    pub fn cpu(&self) -> Result<f64> {
        if self.unified {
            return Ok(keyed(&self.cpu.join("cpu.stat"), "usage_usec")? / 1e3);
        }
        let file = self.cpu.join("cpuacct.usage");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(text.trim().parse::<f64>().with_context(|| format!("{} says {text:?}", file.display()))? / 1e6)
    }

    /// Processor time as above, once the engine has finished what it does after its answer.
    pub fn cpu_settled(&self) -> Result<f64> {
        let deadline = Instant::now() + Duration::from_millis(300);
        let mut last = self.cpu()?;
        loop {
            std::thread::sleep(Duration::from_millis(12));
            let now = self.cpu()?;
            if now - last < 0.05 || Instant::now() > deadline {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Memory charged to a part of the engine (`""` is all of it), kernel memory included, file cache not. In KiB.
    pub fn memory(&self, part: &str) -> Result<f64> {
        let directory = self.memory.join(part);
        let (usage, total) = if self.unified { ("memory.current", "") } else { ("memory.usage_in_bytes", "total_") };
        let file = directory.join(usage);
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let charged = text.trim().parse::<f64>().with_context(|| format!("{} says {text:?}", file.display()))?;
        let stat = directory.join("memory.stat");
        let cache = keyed(&stat, &format!("{total}inactive_file"))? + keyed(&stat, &format!("{total}active_file"))?;
        Ok((charged - cache).max(0.0) / 1024.0)
    }

    /// The names of the cgroups below a part.
    pub fn parts(&self, part: &str) -> Vec<String> {
        let entries = fs::read_dir(self.memory.join(part)).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Processes of the engine: in `host`, where daemons are, or everywhere.
    pub fn processes(&self, host_only: bool) -> Vec<u32> {
        let mut pids = Vec::new();
        let root = if host_only { self.cpu.join("host") } else { self.cpu.clone() };
        collect(&root, &mut pids);
        pids
    }

    /// Kills some of its processes, and waits until they are gone with all their threads: one that still writes holds its locks.
    pub fn kill(&self, pids: &[u32]) {
        pids.iter().for_each(|&pid| kill(pid));
        let threads = |pid: &u32| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && pids.iter().any(|pid| threads(pid) > 1 || !is_zombie(*pid)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends every process of the engine except one, and waits until they are gone.
    pub fn end_all(&self, except: Option<u32>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pids = self.processes(false).into_iter().filter(|&pid| Some(pid) != except && !is_zombie(pid));
            let mut some = false;
            for pid in pids {
                some = true;
                kill(pid);
            }
            if !some || Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Removes the cgroups in every hierarchy; engines make theirs in all of them.
    pub fn remove(&self) {
        for hierarchy in hierarchies() {
            let directory = hierarchy.path.join(&self.name);
            remove(&directory);
            // The run's own directory goes with its last engine.
            let _ = directory.parent().map(fs::remove_dir);
        }
    }
}

/// Proportional set size of a process in KiB: its own memory, and its share of what it has in common with others.
pub fn pss(pid: u32) -> Option<f64> {
    keyed_with(Path::new(&format!("/proc/{pid}/smaps_rollup")), "Pss:")
}

/// The short name of a process.
pub fn process_name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map(|name| name.trim_end().to_owned()).unwrap_or_default()
}

struct Hierarchy {
    path: PathBuf,
    controllers: Vec<String>,
    unified: bool,
}

fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hierarchy = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, path, kind @ ("cgroup" | "cgroup2"), options, ..] = fields[..] else { return None };
        let controllers = options.split(',').map(str::to_owned).collect();
        Some(Hierarchy { path: PathBuf::from(path), controllers, unified: kind == "cgroup2" })
    };
    mounts.lines().filter_map(hierarchy).collect()
}

fn keyed(file: &Path, key: &str) -> Result<f64> {
    keyed_with(file, key).with_context(|| format!("{} has no {key}", file.display()))
}

fn keyed_with(file: &Path, key: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let mut words =
        text.lines().map(str::split_whitespace).find_map(|mut words| (words.next() == Some(key)).then_some(words))?;
    words.next()?.parse().ok()
}

fn collect(directory: &Path, pids: &mut Vec<u32>) {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids);
        }
    }
}

fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have gone by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    // A cgroup stays busy until the kernel has buried its last process.
    while fs::remove_dir(directory).is_err_and(|error| error.raw_os_error() == Some(16)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}
