//! Limits, and `berth update`.

use crate::start;

#[test]
fn memory_and_pids_are_limited() {
    let berth = start();
    berth.run("run -d --name mm -m 32m --pids-limit 20 --cpus 0.5 busybox sleep 600").succeeds();
    let read = |controller: &str, file: &str| {
        let id = berth.run("inspect -f {{.Id}} mm").succeeds();
        let path = format!("/sys/fs/cgroup/{controller}{}/{id}/{file}", berth.sandbox().cgroup_parent());
        std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
    };
    if std::path::Path::new("/sys/fs/cgroup/memory").exists() {
        assert_eq!(read("memory", "memory.limit_in_bytes"), (32 << 20).to_string());
        assert_eq!(read("pids", "pids.max"), "20");
        assert_eq!(read("cpu", "cpu.cfs_quota_us"), "50000");
        berth.run("update -m 64m --memory-swap 128m --pids-limit 30 mm").prints("mm\n");
        assert_eq!(read("memory", "memory.limit_in_bytes"), (64 << 20).to_string());
        assert_eq!(read("pids", "pids.max"), "30");
    }
    berth.run("update -m 1k mm").fails(1, "");
}

#[test]
fn a_process_that_needs_too_much_memory_is_killed_and_it_is_said_so() {
    let berth = start();
    berth.run("run --name oom -m 8m busybox sh -c 'tail /dev/zero'").exits(137);
    berth.run("inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' oom").prints("true 137\n");
}

#[test]
fn ulimits_and_shm() {
    let berth = start();
    berth.run("run --rm --ulimit nofile=100:200 busybox sh -c 'ulimit -n; ulimit -Hn'").prints("100\n200\n");
    berth
        .run("run --rm --shm-size 8m busybox sh -c 'df -k /dev/shm | tail -1 | tr -s \" \" | cut -d\" \" -f2'")
        .prints("8192\n");
}
