//! Real cgroups of this machine, under names of our own. Without the right to make them, the tests say so and pass.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use berth_cgroup::{Cgroup, CgroupError, CgroupPath, Join, Layout, Version};
use berth_oci::runtime::LinuxResources;
use rustix::event::{PollFd, Timespec, poll};

/// A cgroup that goes away with the test, with everybody in it.
struct Temporary(Cgroup);

impl Temporary {
    fn make(layout: &Layout, name: &str) -> Option<Self> {
        let path: CgroupPath = format!("/berth-test-{}/{name}", std::process::id()).parse().unwrap();
        match Cgroup::create(layout, &path) {
            Ok(cgroup) => Some(Self(cgroup)),
            Err(error @ CgroupError::Create { .. }) => {
                eprintln!("skipped: {error}: {:?}", std::error::Error::source(&error));
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn directory(&self, controller: &str) -> PathBuf {
        let has = |controllers: &[String]| controllers.is_empty() || controllers.iter().any(|c| c == controller);
        self.0.directories().find(|(hierarchy, _)| has(hierarchy.controllers())).unwrap().1
    }

    fn read(&self, controller: &str, file: &str) -> String {
        fs::read_to_string(self.directory(controller).join(file)).unwrap().trim().to_owned()
    }

    fn apply(&self, json: &str) -> Result<Vec<String>, String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let warnings = self.0.apply(&resources).map_err(|error| error.to_string())?;
        Ok(warnings.iter().map(ToString::to_string).collect())
    }

    /// A shell in the cgroup that does what it is told, line by line.
    fn shell(&self) -> Shell {
        let mut child = Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        for (_, dir) in self.0.directories() {
            fs::write(dir.join("cgroup.procs"), child.id().to_string()).unwrap();
        }
        let output = BufReader::new(child.stdout.take().unwrap());
        Shell { child, output }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait_until_empty(Duration::from_secs(5));
        let removed = self.0.remove();
        for (_, dir) in self.0.directories() {
            // The parent belongs to this test run; the last test to end removes it.
            let _ = fs::remove_dir(dir.parent().unwrap());
        }
        if !std::thread::panicking() {
            removed.unwrap();
            assert!(self.0.directories().all(|(_, dir)| !dir.exists()));
        }
    }
}

struct Shell {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Shell {
    fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_ref().unwrap(), "{line}").unwrap();
    }

    fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn v1() -> Option<Layout> {
    Layout::probe().ok().filter(|layout| layout.version() == Version::V1)
}

/// The unified hierarchy, even if it is only there beside v1 and has no controllers.
fn v2() -> Option<Layout> {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    roots.iter().find(|root| Path::new(root).join("cgroup.controllers").exists()).map(|root| Layout::v2_at(*root))
}

fn temporary(layout: Option<Layout>, name: &str) -> Option<Temporary> {
    layout.and_then(|layout| Temporary::make(&layout, name))
}

#[test]
fn a_cgroup_is_made_and_removed_in_every_hierarchy() {
    let Some(group) = temporary(v1(), "made") else { return };
    assert!(group.0.directories().all(|(_, dir)| dir.is_dir()));
    assert_eq!(group.read("cpuset", "cpuset.cpus"), group.read("cpuset", "../../cpuset.cpus"));
    assert_eq!(group.read("cpuset", "cpuset.mems"), group.read("cpuset", "../../cpuset.mems"));
    assert!(group.0.pids().unwrap().is_empty());
    let again = Cgroup::open(&v1().unwrap(), group.0.path()).unwrap();
    fs::create_dir(group.directory("pids").join("below")).unwrap();
    again.remove().unwrap();
    assert!(group.0.directories().all(|(_, dir)| !dir.exists()));
    assert!(matches!(Cgroup::open(&v1().unwrap(), group.0.path()), Err(CgroupError::Missing { .. })));
}

#[test]
fn a_cgroup_with_processes_is_not_given_to_another_container() {
    let Some(group) = temporary(v1(), "taken") else { return };
    let again = || Cgroup::create(&v1().unwrap(), group.0.path());
    assert!(again().is_ok(), "it is empty yet");
    let _shell = group.shell();
    assert!(matches!(again(), Err(CgroupError::NotEmpty { count: 1, .. })));
}

#[test]
fn only_what_is_empty_is_removed_in_one_go() {
    for layout in [v1(), v2()] {
        let Some(group) = temporary(layout, "one-go") else { continue };
        let mut shell = group.shell();
        assert!(!group.0.remove_if_empty().unwrap());
        assert!(group.0.directories().all(|(_, dir)| dir.is_dir()));
        group.0.kill().unwrap();
        shell.child.wait().unwrap();
        assert!(group.0.wait_until_empty(Duration::from_secs(5)).unwrap());
        let below = group.directory("pids").join("below");
        fs::create_dir(&below).unwrap();
        assert!(!group.0.remove_if_empty().unwrap());
        fs::remove_dir(below).unwrap();
        assert!(group.0.remove_if_empty().unwrap());
        assert!(group.0.directories().all(|(_, dir)| !dir.exists()));
        assert!(group.0.remove_if_empty().unwrap(), "what is gone is gone");
    }
}

#[test]
fn limits_that_say_what_is_so_anyway_undo_those_of_somebody_before() {
    let Some(group) = temporary(v1(), "defaults") else { return };
    let unlimited = r#"{"memory":{"disableOOMKiller":false},"pids":{"limit":-1}}"#;
    assert_eq!(group.apply(unlimited), Ok(vec![]));
    assert_eq!(group.read("pids", "pids.max"), "max");
    fs::write(group.directory("pids").join("pids.max"), "7").unwrap();
    // It is not fresh any more, so nothing is taken for granted.
    let again = Temporary(Cgroup::create(&v1().unwrap(), group.0.path()).unwrap());
    assert_eq!(again.apply(unlimited), Ok(vec![]));
    assert_eq!(again.read("pids", "pids.max"), "max");
}

#[test]
fn a_cpuset_fills_itself_once_its_parent_was_told_to() {
    let Some(first) = temporary(v1(), "cpus-first") else { return };
    let parent = first.directory("cpuset").parent().unwrap().to_owned();
    assert_eq!(fs::read_to_string(parent.join("cgroup.clone_children")).unwrap().trim(), "1");
    let Some(second) = temporary(v1(), "cpus-second") else { return };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        assert_eq!(second.read("cpuset", file), fs::read_to_string(parent.join(file)).unwrap().trim(), "{file}");
    }
}

#[test]
fn a_thread_joins_by_writing_to_each_hierarchy() {
    let Some(group) = temporary(v1(), "joined") else { return };
    let Join::ByWriting(files) = group.0.join().unwrap() else { panic!("v1 is joined by writing") };
    let expected = format!(":{}", group.0.path());
    let joined = std::thread::spawn(move || {
        for file in &files {
            rustix::io::write(file.as_fd(), b"0").unwrap();
        }
        fs::read_to_string("/proc/thread-self/cgroup").unwrap()
    });
    let joined = joined.join().unwrap();
    let missing: Vec<_> =
        joined.lines().filter(|line| !line.starts_with("0::") && !line.ends_with(&expected)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn limits_are_in_force() {
    let Some(group) = temporary(v1(), "limited") else { return };
    let warnings = group.apply(
        r#"{"memory":{"limit":67108864,"swap":134217728,"reservation":33554432,"swappiness":10},
            "cpu":{"shares":512,"quota":25000,"period":50000,"cpus":"0"},"pids":{"limit":50},
            "blockIO":{"throttleReadBpsDevice":[]},"hugepageLimits":[]}"#,
    );
    assert_eq!(warnings, Ok(vec![]));
    for (controller, file, value) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "134217728"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.swappiness", "10"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "25000"),
        ("cpu", "cpu.cfs_period_us", "50000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "50"),
    ] {
        assert_eq!(group.read(controller, file), value, "{file}");
    }
}

#[test]
fn limits_grow_and_shrink_in_the_order_the_kernel_takes() {
    let Some(group) = temporary(v1(), "updated") else { return };
    let megabytes = |memory: i64, swap: i64| {
        let json = format!(r#"{{"memory":{{"limit":{},"swap":{}}}}}"#, memory << 20, swap << 20);
        assert_eq!(group.apply(&json), Ok(vec![]), "{memory} {swap}");
        assert_eq!(group.read("memory", "memory.memsw.limit_in_bytes"), (swap << 20).to_string());
    };
    for (memory, swap) in [(64, 64), (128, 256), (32, 32), (32, 100), (100, 100), (16, 64)] {
        megabytes(memory, swap);
    }
    assert_eq!(group.apply(r#"{"memory":{"limit":-1}}"#), Ok(vec![]));
    assert_eq!(group.0.usage().unwrap().memory.limit, None);
    // A period below the present quota is taken only after the quota was.
    for (quota, period) in [(100_000, 200_000), (2_000, 10_000), (400_000, 1_000_000), (1_000, 1_000)] {
        let json = format!(r#"{{"cpu":{{"quota":{quota},"period":{period},"burst":500}}}}"#);
        assert_eq!(group.apply(&json), Ok(vec![]));
        assert_eq!(group.read("cpu", "cpu.cfs_period_us"), period.to_string());
    }
}

#[test]
fn refused_values_name_the_file() {
    let Some(group) = temporary(v1(), "refused") else { return };
    let file = |controller: &str, file: &str| group.directory(controller).join(file).display().to_string();
    for (json, message) in [
        (r#"{"cpu":{"cpus":"4000"}}"#, format!("writing \"4000\" to {}", file("cpuset", "cpuset.cpus"))),
        (r#"{"cpu":{"quota":1}}"#, format!("writing \"1\" to {}", file("cpu", "cpu.cfs_quota_us"))),
        (r#"{"cpu":{"shares":1}}"#, "cpu.shares: 1 is less than the minimum 2".to_owned()),
        (r#"{"unified":{"memory.high":"1"}}"#, "unified: cannot be used on cgroup v1".to_owned()),
    ] {
        assert_eq!(group.apply(json), Err(message), "{json}");
    }
    assert_eq!(
        group.apply(r#"{"network":{"classID":7}}"#).map(|warnings| warnings.len()),
        Ok(usize::from(!Path::new("/sys/fs/cgroup/net_cls").exists()))
    );
}

fn devices_are_guarded(group: &Temporary) {
    let rules =
        r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":200,"access":"r"}]}"#;
    assert_eq!(group.apply(rules), Ok(vec![]));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let mut shell = group.shell();
    let mut opens = |kind: &str, major: u32, minor: u32, how: &str| {
        let node = format!("{path}/{kind}{major}.{minor}");
        shell.ask(&format!(
            "rm -f {node}; mknod {node} {kind} {major} {minor} && ( exec 5{how}{node} ) 2>/dev/null && echo yes || echo no"
        ))
    };
    assert_eq!(opens("c", 1, 3, "<>"), "yes", "null");
    assert_eq!(opens("c", 1, 5, "<"), "yes", "zero");
    assert_eq!(opens("c", 1, 11, "<"), "no", "kmsg");
    // An old rule set must be gone once there is a new one.
    assert_eq!(
        group.apply(r#"{"devices":[{"allow":true},{"allow":false,"type":"c","major":1,"minor":11,"access":"w"}]}"#),
        Ok(vec![])
    );
    assert_eq!(opens("c", 1, 11, "<"), "yes", "kmsg");
    assert_eq!(opens("c", 1, 11, ">"), "no", "kmsg");
    assert_eq!(group.apply(r#"{"devices":[{"allow":true,"type":"a","access":"rwm"}]}"#), Ok(vec![]));
    assert_eq!(opens("c", 1, 11, ">"), "yes", "kmsg");
}

#[test]
fn devices_are_guarded_on_v1() {
    let Some(group) = temporary(v1(), "devices") else { return };
    devices_are_guarded(&group);
}

#[test]
fn devices_are_guarded_on_v2() {
    let Some(group) = temporary(v2(), "devices-v2") else { return };
    devices_are_guarded(&group);
}

fn processes_freeze_thaw_and_die(group: &Temporary) {
    let mut shells: Vec<Shell> = (0..3).map(|_| group.shell()).collect();
    shells[0].tell("while :; do /bin/true; done");
    assert!(group.0.pids().unwrap().len() >= 3);
    for _ in 0..20 {
        group.0.freeze().unwrap();
        assert!(group.0.is_frozen().unwrap());
        group.0.thaw().unwrap();
        assert!(!group.0.is_frozen().unwrap());
    }
    assert_eq!(shells[1].ask("echo alive"), "alive");
    group.0.freeze().unwrap();
    assert!(matches!(Cgroup::create(&layout_of(group), group.0.path()), Err(CgroupError::NotEmpty { .. })));
    // A paused container can be killed.
    group.0.kill().unwrap();
    for shell in &mut shells {
        let status = shell.child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
    assert!(group.0.wait_until_empty(Duration::from_secs(5)).unwrap());
}

fn layout_of(group: &Temporary) -> Layout {
    if group.0.version() == Version::V1 { v1().unwrap() } else { v2().unwrap() }
}

#[test]
fn processes_freeze_thaw_and_die_on_v1() {
    let Some(group) = temporary(v1(), "frozen") else { return };
    processes_freeze_thaw_and_die(&group);
}

#[test]
fn processes_freeze_thaw_and_die_on_v2() {
    let Some(group) = temporary(v2(), "frozen-v2") else { return };
    processes_freeze_thaw_and_die(&group);
}

#[test]
fn signals_reach_everybody() {
    let Some(group) = temporary(v1(), "signalled") else { return };
    let mut shells: Vec<Shell> = (0..2).map(|_| group.shell()).collect();
    for shell in &mut shells {
        assert_eq!(shell.ask("trap 'echo caught' USR1; echo ready"), "ready");
    }
    assert_eq!(group.0.signal(rustix::process::Signal::USR1).unwrap(), 2);
    for shell in &mut shells {
        assert_eq!(shell.ask(":"), "caught");
        assert!(matches!(shell.state(), 'S' | 'R' | 'D'));
    }
}

#[test]
fn usage_counts_what_was_done() {
    let Some(group) = temporary(v1(), "used") else { return };
    let mut shell = group.shell();
    shell.ask("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done");
    let usage = group.0.usage().unwrap();
    assert!(usage.cpu.total > 1_000_000, "{:?}", usage.cpu);
    assert_eq!(usage.cpu.per_cpu.iter().sum::<u64>() / 1_000_000, usage.cpu.total / 1_000_000);
    assert_eq!((usage.pids.current, usage.pids.limit), (1, None));
    assert!(usage.memory.stats.contains_key("total_rss") && usage.memory.limit.is_none());
    let text = serde_json::to_string(&usage).unwrap();
    assert_eq!(serde_json::from_str::<berth_cgroup::Usage>(&text).unwrap(), usage);
}

#[test]
fn running_out_of_memory_is_noticed_and_counted() {
    let Some(group) = temporary(v1(), "oom") else { return };
    assert_eq!(group.apply(r#"{"memory":{"limit":8388608,"swap":16777216}}"#), Ok(vec![]));
    let watch = group.0.oom_watch().unwrap();
    let ready = |wait: i64| {
        let timeout = Timespec { tv_sec: wait, tv_nsec: 0 };
        poll(&mut [PollFd::new(&watch, watch.events())], Some(&timeout)).unwrap() == 1
    };
    assert!(!ready(0));
    assert_eq!(group.0.oom_kills().unwrap(), 0);
    let mut shell = group.shell();
    shell.tell("exec head -c 64m /dev/zero | tail");
    assert!(ready(10));
    watch.acknowledge();
    let _ = shell.child.wait();
    assert!(group.0.oom_kills().unwrap() >= 1);
    assert!(group.0.usage().unwrap().memory.failures > 0);
}
