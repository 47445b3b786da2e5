//! What is written to which file on v2, against a directory of ordinary files that looks like cgroupfs.

use std::{fs, path::Path};

use berth_cgroup::{Cgroup, CgroupPath, Layout};
use berth_oci::runtime::LinuxResources;
use tempfile::TempDir;

const CONTROLLERS: &str = "cpuset cpu io memory hugetlb pids rdma\n";

/// A tree with a root, the parent `berth` and the leaf `berth/c1`, whose files exist as the kernel would have made them.
struct Tree {
    root: TempDir,
    cgroup: Cgroup,
}

impl Tree {
    fn with_files(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let leaf = root.path().join("berth/c1");
        fs::create_dir_all(&leaf).unwrap();
        for dir in [root.path(), &root.path().join("berth"), &leaf] {
            fs::write(dir.join("cgroup.controllers"), CONTROLLERS).unwrap();
            fs::write(dir.join("cgroup.subtree_control"), CONTROLLERS).unwrap();
            fs::write(dir.join("cgroup.procs"), "").unwrap();
        }
        for (file, content) in files {
            fs::write(leaf.join(file), content).unwrap();
        }
        let path: CgroupPath = "/berth/c1".parse().unwrap();
        let cgroup = Cgroup::open(&Layout::v2_at(root.path()), &path).unwrap();
        Self { root, cgroup }
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.root.path().join("berth/c1").join(name)).unwrap()
    }

    fn update(&self, json: &str) -> Result<Vec<String>, String> {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let warnings = self.cgroup.update(&resources).map_err(|error| error.to_string())?;
        Ok(warnings.iter().map(ToString::to_string).collect())
    }
}

/// Applies a document and compares the files it names.
fn check(json: &str, expected: &[(&str, &str)]) {
    let untouched: Vec<_> = expected.iter().map(|(file, _)| (*file, "untouched")).collect();
    let tree = Tree::with_files(&untouched);
    assert_eq!(tree.update(json), Ok(vec![]), "{json}");
    for (file, value) in expected {
        assert_eq!(tree.file(file), *value, "{file} after {json}");
    }
}

#[test]
fn memory_limits_are_converted() {
    check(
        r#"{"memory":{"limit":1000,"reservation":500,"swap":3000}}"#,
        &[("memory.max", "1000"), ("memory.low", "500"), ("memory.swap.max", "2000")],
    );
    check(r#"{"memory":{"limit":1000,"swap":1000}}"#, &[("memory.max", "1000"), ("memory.swap.max", "0")]);
    check(r#"{"memory":{"limit":-1}}"#, &[("memory.max", "max"), ("memory.swap.max", "max")]);
    check(r#"{"memory":{"limit":1000}}"#, &[("memory.max", "1000"), ("memory.swap.max", "untouched")]);
}

#[test]
fn cpu_limits_are_converted() {
    check(
        r#"{"cpu":{"shares":1024,"quota":50000,"period":200000,"burst":1000,"cpus":"0-1","mems":"0"}}"#,
        &[
            ("cpu.weight", "100"),
            ("cpu.max", "50000 200000"),
            ("cpu.max.burst", "1000"),
            ("cpuset.cpus", "0-1"),
            ("cpuset.mems", "0"),
        ],
    );
    check(r#"{"cpu":{"idle":1,"shares":512}}"#, &[("cpu.idle", "1"), ("cpu.weight", "untouched")]);
    check(r#"{"cpu":{"shares":0,"quota":0,"period":0}}"#, &[("cpu.weight", "untouched"), ("cpu.max", "untouched")]);
}

#[test]
fn limits_of_tasks_devices_and_pages_are_written() {
    check(r#"{"pids":{"limit":7}}"#, &[("pids.max", "7")]);
    check(r#"{"pids":{"limit":0}}"#, &[("pids.max", "untouched")]);
    check(r#"{"pids":{"limit":-1}}"#, &[("pids.max", "max")]);
    check(
        r#"{"blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1024}]}}"#,
        &[("io.weight", "4950"), ("io.max", "8:0 rbps=1024")],
    );
    check(r#"{"blockIO":{"weight":500}}"#, &[("io.bfq.weight", "500")]);
    check(
        r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#,
        &[("hugetlb.2MB.max", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304")],
    );
    check(
        r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":1000}}}"#,
        &[("rdma.max", "mlx5_1 hca_handle=3 hca_object=1000")],
    );
    check(
        r#"{"unified":{"memory.high":"4096","cgroup.max.descendants":"5"}}"#,
        &[("memory.high", "4096"), ("cgroup.max.descendants", "5")],
    );
}

#[test]
fn what_the_kernel_does_not_have_is_a_warning() {
    let tree = Tree::with_files(&[("memory.max", "max")]);
    assert_eq!(
        tree.update(
            r#"{"memory":{"limit":-1,"swappiness":10,"disableOOMKiller":true,"kernel":1},"network":{"classID":1}}"#
        ),
        Ok(vec![
            "memory.kernel is left out: cgroup v2 does not have it".to_owned(),
            "memory.swappiness is left out: cgroup v2 does not have it".to_owned(),
            "memory.disableOOMKiller is left out: cgroup v2 does not have it".to_owned(),
            "network.classID and network.priorities are left out: cgroup v2 does not have them".to_owned(),
        ])
    );
    assert_eq!(
        tree.update(r#"{"cpu":{"quota":1000}}"#),
        Ok(vec!["cpu.quota is left out: this kernel has no cpu.max".to_owned()])
    );
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let tree = Tree::with_files(&[("memory.current", "5000\n"), ("memory.max", "max")]);
    let leaf = tree.root.path().join("berth/c1");
    for (json, message) in [
        (r#"{"memory":{"limit":2000,"swap":1000}}"#, "memory.swap: 1000 is less than memory.limit, 2000".to_owned()),
        (
            r#"{"memory":{"limit":4000,"checkBeforeUpdate":true}}"#,
            format!("memory limit 4000 is below the current usage 5000 of {}", leaf.display()),
        ),
        (r#"{"memory":{"swappiness":101}}"#, "memory.swappiness: 101 is not between 0 and 100".to_owned()),
        (
            r#"{"hugepageLimits":[{"pageSize":"2M","limit":1}]}"#,
            "hugepageLimits: \"2M\" is not a page size like 64KB, 2MB or 1GB".to_owned(),
        ),
        (
            r#"{"unified":{"../memory.max":"1"}}"#,
            "unified: \"../memory.max\" is not the name of a cgroup file".to_owned(),
        ),
        (
            r#"{"unified":{"io.latency":"1"}}"#,
            "unified: \"io.latency\" cannot be set: controller \"io\" does not have it here".to_owned(),
        ),
    ] {
        assert_eq!(tree.update(json), Err(message), "{json}");
    }
}

#[test]
fn controllers_are_enabled_from_the_root_down() {
    let root = tempfile::tempdir().unwrap();
    let write = |dir: &Path, file: &str, text: &str| fs::write(dir.join(file), text).unwrap();
    write(root.path(), "cgroup.controllers", "cpu memory pids\n");
    write(root.path(), "cgroup.subtree_control", "cpu\n");
    let parent = root.path().join("berth");
    fs::create_dir(&parent).unwrap();
    write(&parent, "cgroup.subtree_control", "");
    let cgroup = Cgroup::create(&Layout::v2_at(root.path()), &"/berth/c2".parse().unwrap()).unwrap();
    assert!(parent.join("c2").is_dir());
    assert_eq!(fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap(), "+memory +pids");
    assert_eq!(fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap(), "+cpu +memory +pids");
    cgroup.remove().unwrap();
    assert!(!parent.join("c2").exists());
    cgroup.remove().unwrap();
}

#[test]
fn usage_is_read_from_every_controller() {
    let tree = Tree::with_files(&[
        ("cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n"),
        ("memory.current", "4096\n"),
        ("memory.peak", "8192\n"),
        ("memory.max", "max\n"),
        ("memory.swap.max", "1024\n"),
        ("memory.stat", "anon 100\nfile 200\n"),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\n"),
        ("pids.current", "4\n"),
        ("pids.max", "9\n"),
        ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n254:1 \n"),
    ]);
    let usage = tree.cgroup.usage().unwrap();
    assert_eq!((usage.cpu.total, usage.cpu.user, usage.cpu.kernel), (30_000, 20_000, 10_000));
    assert_eq!((usage.cpu.throttling.periods, usage.cpu.throttling.throttled_time), (5, 7_000));
    assert_eq!((usage.memory.usage, usage.memory.max_usage, usage.memory.limit), (4096, 8192, None));
    assert_eq!((usage.memory.swap_limit, usage.memory.failures, usage.memory.oom_kills), (Some(1024), 3, 1));
    assert_eq!(usage.memory.stats["file"], 200);
    assert_eq!((usage.pids.current, usage.pids.limit), (4, Some(9)));
    let io = serde_json::to_value(&usage.block_io).unwrap();
    assert_eq!(
        io["serviceBytes"],
        serde_json::json!([
            {"major": 8, "minor": 0, "op": "read", "value": 1},
            {"major": 8, "minor": 0, "op": "write", "value": 2},
        ])
    );
    assert_eq!(tree.cgroup.oom_kills().unwrap(), 1);
}
