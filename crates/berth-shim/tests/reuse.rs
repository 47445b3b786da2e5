//! One shim that serves one container after another.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

#[allow(dead_code, reason = "the rig has more than these tests need")]
mod rig;

use berth_proto::client::Client;
use berth_proto::shim as api;
use rig::zygote::{Zygote, gone, words};
use rig::{Rig, streams};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

macro_rules! needs_root {
    () => {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: containers need root here");
            return;
        }
    };
}

async fn launch(client: &Client, request: &api::LaunchRequest) -> api::LaunchResponse {
    client.call_with_fds(api::SERVICE, "Launch", request, &[]).await.unwrap()
}

async fn wait(client: &Client) -> u32 {
    rig::call::<_, api::WaitResponse>(client, "Wait", &api::WaitRequest::default()).await.unwrap().exit_code
}

/// Ends a container that is over. Says whether its shim stays.
async fn shut_down(client: &Client) -> bool {
    let request = api::ShutdownRequest { force: false, stay: true };
    rig::call::<_, api::ShutdownResponse>(client, "Shutdown", &request).await.unwrap().stays
}

/// Waits until a shim shows itself idle: it has forgotten its container by then.
async fn idle(pid: u32) {
    while words(pid) != "berth-shim --idle" {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    // The last of it is done before it sleeps again.
    while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") S ") {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[test]
fn the_same_process_serves_the_next_container_as_a_new_one_would() {
    needs_root!();
    let rig = Rig::new("reuse");
    rig.run(async {
        let request = rig.request("exit 3");
        let zygote = Zygote::start(&request.shim_cgroup);
        let client = zygote.fork(&request.id);
        // Of the zygote it needs nothing any more.
        zygote.end();
        let first = launch(&client, &request).await;
        assert_eq!(wait(&client).await, 3);
        assert!(shut_down(&client).await);
        idle(first.shim_pid).await;
        assert!(!rig.socket().exists() && !rig.exit_file().exists());
        assert_eq!(rig::descriptors(first.shim_pid).len(), 4);

        let request = api::LaunchRequest { id: format!("{}-b", request.id), ..rig.request("read x; exit 4") };
        let request = api::LaunchRequest { open_stdin: true, stdin_once: true, ..request };
        let second = launch(&client, &request).await;
        assert_eq!(second.shim_pid, first.shim_pid);
        assert_eq!(words(second.shim_pid), format!("berth-shim -id {}", request.id));
        // Found again as ever, and by several.
        let other = rig.connect().await;
        let _: api::CloseStdinResponse =
            rig::call(&other, "CloseStdin", &api::CloseStdinRequest::default()).await.unwrap();
        assert_eq!((wait(&other).await, wait(&client).await), (4, 4));
        assert!(rig.exit_file().exists());
        // Somebody else still has a connection.
        assert!(!shut_down(&client).await);
        gone(second.shim_pid).await;
    });
    rig.assert_nothing_is_left();
}

/// Whether a text is anywhere in the memory that a process can write.
fn remembers(pid: u32, text: &str) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.contains('w'))).any(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        memory.read_exact_at(&mut bytes, start).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// Sets a variable in the environment of the container that is described in a bundle.
fn set_variable(request: &api::LaunchRequest, text: &str) {
    let path = Path::new(&request.bundle).join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    spec["process"]["env"].as_array_mut().unwrap().push(text.into());
    std::fs::write(path, spec.to_string()).unwrap();
}

#[test]
fn nothing_of_a_container_is_found_in_the_memory_of_its_idle_shim() {
    needs_root!();
    let rig = Rig::new("secret");
    rig.run(async {
        // Put together here, so that no program has it in its text.
        let secret = |place: &str| format!("{place}-{}-{}", "zq", std::process::id());
        let script = "read line; echo $line back; read more; echo other; exit 0";
        let request = api::LaunchRequest { open_stdin: true, ..rig.request(script) };
        set_variable(&request, &format!("PASSWORD={}", secret("environment")));
        // Not part of the name of the shims' cgroup, which a shim may know.
        let request = api::LaunchRequest { id: format!("{}-b", request.id), ..request };
        let zygote = Zygote::start(&request.shim_cgroup);
        let client = zygote.fork(&request.id);
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let request = api::LaunchRequest {
            attaches: vec![api::LaunchAttach { streams: Some(streams(true, true, true)), fd: 0 }],
            ..request
        };
        let response: api::LaunchResponse =
            client.call_with_fds(api::SERVICE, "Launch", &request, &[theirs.as_fd()]).await.unwrap();
        drop(theirs);
        ours.write_all(format!("{}\n", secret("typed")).as_bytes()).unwrap();
        rig::read_until(&ours, "back\n");
        let exec = api::ExecRequest {
            exec_id: "one".to_owned(),
            process: rig::process(&["sh", "-c", &format!("echo {}", secret("executed"))]),
            streams: Some(streams(false, true, true)),
            ..api::ExecRequest::default()
        };
        let own = rig.connect().await;
        let _: api::ExecResponse = rig::call(&own, "Exec", &exec).await.unwrap();
        let mut output = String::new();
        let mut stream = own.into_raw().await.unwrap().stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        tokio::task::spawn_blocking(move || stream.read_to_string(&mut output).unwrap()).await.unwrap();
        // While it runs, its shim knows it: the search finds what is there.
        assert!(remembers(response.shim_pid, &request.id));
        ours.write_all(b"\n").unwrap();
        assert_eq!(wait(&client).await, 0);
        assert!(shut_down(&client).await);
        idle(response.shim_pid).await;
        for place in ["environment", "typed", "executed"] {
            assert!(!remembers(response.shim_pid, &secret(place)), "{place}");
        }
        assert!(!remembers(response.shim_pid, &request.id));
        drop(client);
        gone(response.shim_pid).await;
        zygote.end();
    });
    rig.assert_nothing_is_left();
}

/// What a process may and where it is, as far as the kernel tells.
fn condition(pid: u32) -> Vec<String> {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap().display().to_string();
    let changing = ["Name", "State", "Vm", "Hugetlb", "Rss", "SigQ", "SigPnd", "ShdPnd", "voluntary", "nonvoluntary"];
    let mut status: Vec<String> = file("status").lines().map(str::to_owned).collect();
    status.retain(|line| !changing.iter().any(|word| line.starts_with(word)));
    let files = ["limits", "oom_score_adj", "cgroup", "personality", "timerslack_ns"].map(file);
    let namespaces = ["mnt", "net", "pid", "pid_for_children", "ipc", "uts", "user", "cgroup", "time_for_children"];
    let links = namespaces.map(|name| link(&format!("ns/{name}")));
    status.into_iter().chain(files).chain(links).chain([link("cwd"), link("root")]).collect()
}

#[test]
fn what_a_container_asks_for_is_not_left_to_the_next() {
    needs_root!();
    let rig = Rig::new("state");
    rig.run(async {
        let request = rig.request("ulimit -n; cat /proc/self/oom_score_adj; sleep 100 & sleep 100");
        let zygote = Zygote::start(&request.shim_cgroup);
        let client = zygote.fork(&request.id);
        let before = launch(&client, &rig.request("true")).await.shim_pid;
        wait(&client).await;
        assert!(shut_down(&client).await);
        idle(before).await;
        let newborn = condition(before);

        let request =
            api::LaunchRequest { terminal: true, ..rig.request("ulimit -n 77; umask 7; sleep 100 & exec sleep 100") };
        let path = Path::new(&request.bundle).join("config.json");
        let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let process = &mut spec["process"];
        process["rlimits"] = serde_json::json!([{ "type": "RLIMIT_NOFILE", "hard": 99, "soft": 99 }]);
        process["oomScoreAdj"] = 500.into();
        process["noNewPrivileges"] = true.into();
        process["user"] = serde_json::json!({ "uid": 5, "gid": 6, "umask": 63, "additionalGids": [7] });
        std::fs::write(path, spec.to_string()).unwrap();
        let response = launch(&client, &request).await;
        let inside = condition(response.pid);
        assert!(inside.iter().any(|line| line == "500\n") && inside != newborn);
        let exec = api::ExecRequest {
            exec_id: "late".to_owned(),
            process: rig::process(&["sleep", "100"]),
            ..api::ExecRequest::default()
        };
        let _: api::ExecResponse = rig::call(&client, "Exec", &exec).await.unwrap();
        let missing = api::ExecRequest {
            exec_id: "missing".to_owned(),
            process: rig::process(&["no-such-program"]),
            ..api::ExecRequest::default()
        };
        rig::call::<_, api::ExecResponse>(&client, "Exec", &missing).await.unwrap_err();
        let kill = api::KillRequest { signal: 9, ..api::KillRequest::default() };
        let _: api::KillResponse = rig::call(&client, "Kill", &kill).await.unwrap();
        assert_eq!(wait(&client).await, 137);
        assert!(shut_down(&client).await);
        idle(before).await;
        assert_eq!(condition(before), newborn);
        drop(client);
        gone(before).await;
        zygote.end();
    });
    rig.assert_nothing_is_left();
}

#[test]
fn a_shim_that_has_a_child_left_leaves() {
    needs_root!();
    let rig = Rig::new("child");
    rig.run(async {
        let request = rig.request("sleep 600 & echo $! >/tmp/pid; while [ ! -e /tmp/go ]; do sleep 0.02; done");
        let path = Path::new(&request.bundle).join("config.json");
        let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
        std::fs::write(path, spec.to_string()).unwrap();
        let zygote = Zygote::start(&request.shim_cgroup);
        let client = zygote.fork(&request.id);
        let shim = launch(&client, &request).await.shim_pid;
        let file = rig.root().join("tmp/pid");
        let orphan = loop {
            match std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse::<i32>().ok()) {
                Some(pid) => break pid,
                None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        };
        // Out of the container's cgroup it is not killed with the container.
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path()) {
            if hierarchy.join(&request.id).exists() {
                std::fs::write(hierarchy.join("cgroup.procs"), orphan.to_string()).unwrap();
            }
        }
        std::fs::write(rig.root().join("tmp/go"), "").unwrap();
        assert_eq!(wait(&client).await, 0);
        assert!(!shut_down(&client).await);
        gone(shim).await;
        rustix::process::kill_process(rustix::process::Pid::from_raw(orphan).unwrap(), rustix::process::Signal::KILL)
            .unwrap();
        zygote.end();
    });
    rig.assert_nothing_is_left();
}

#[test]
fn a_shim_that_was_asked_to_end_or_is_no_fork_leaves() {
    needs_root!();
    let rig = Rig::new("leaves");
    rig.run(async {
        let request = rig.request("true");
        let zygote = Zygote::start(&request.shim_cgroup);
        // Nobody asked it to stay.
        let client = zygote.fork(&request.id);
        let shim = launch(&client, &request).await.shim_pid;
        wait(&client).await;
        let end = api::ShutdownRequest { force: false, stay: false };
        assert!(!rig::call::<_, api::ShutdownResponse>(&client, "Shutdown", &end).await.unwrap().stays);
        gone(shim).await;
        // Its container was ended by force.
        let client = zygote.fork(&request.id);
        let shim = launch(&client, &rig.request("sleep 600")).await.shim_pid;
        let force = api::ShutdownRequest { force: true, stay: true };
        assert!(!rig::call::<_, api::ShutdownResponse>(&client, "Shutdown", &force).await.unwrap().stays);
        gone(shim).await;
        // It had no container.
        let client = zygote.fork(&request.id);
        assert!(!shut_down(&client).await);
        // It waits, and something tells it to end.
        let client = zygote.fork(&request.id);
        let shim = launch(&client, &rig.request("true")).await.shim_pid;
        wait(&client).await;
        assert!(shut_down(&client).await);
        let pid = rustix::process::Pid::from_raw(shim.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        gone(shim).await;
        let too_late = client.call_with_fds::<_, api::LaunchResponse>(api::SERVICE, "Launch", &request, &[]).await;
        assert!(too_late.unwrap_err().was_never_heard());
        zygote.end();
        // It was started for one container.
        rig.launch(&request, &[]).await.unwrap();
        wait(&rig.client()).await;
        assert!(!shut_down(&rig.client()).await);
    });
    rig.assert_nothing_is_left();
}

#[test]
fn a_compressor_that_is_done_is_no_hindrance() {
    needs_root!();
    let rig = Rig::new("compress");
    rig.run(async {
        let mut request = rig.request("seq 1 2000; sleep 0.1; echo end");
        let log = request.log.as_mut().unwrap();
        (log.max_size, log.max_file, log.compress) = (20_000, 3, true);
        let path = log.path.clone();
        let zygote = Zygote::start(&request.shim_cgroup);
        let client = zygote.fork(&request.id);
        let shim = launch(&client, &request).await.shim_pid;
        wait(&client).await;
        // It goes on by itself; a shim that would be left with it leaves.
        while Path::new(&format!("{path}.1")).exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let children = format!("/proc/{shim}/task/{shim}/children");
        while !std::fs::read_to_string(&children).unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert!(Path::new(&format!("{path}.1.gz")).exists());
        assert!(shut_down(&client).await);
        drop(client);
        gone(shim).await;
        zygote.end();
    });
    rig.assert_nothing_is_left();
}

/// KiB of memory that is a process's own, in the heap and on the stack.
fn own_memory(pid: u32) -> u64 {
    let (mut counts, mut sum) = (false, 0);
    for line in std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap().lines() {
        if line.contains('-') && line.contains(" rw") {
            counts = line.ends_with("[heap]") || line.ends_with("[stack]");
        } else if counts && line.starts_with("Private_Dirty:") {
            sum += line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
        }
    }
    sum
}

#[test]
fn many_containers_do_not_add_up_and_the_last_is_the_hundredth() {
    needs_root!();
    let rig = Rig::new("many");
    rig.run(async {
        let request = rig.request("exit 0");
        let zygote = Zygote::start(&request.shim_cgroup);
        let client = zygote.fork(&request.id);
        let (mut served, mut own) = (0, Vec::new());
        let shim = loop {
            let shim = launch(&client, &request).await.shim_pid;
            served += 1;
            assert_eq!(wait(&client).await, 0);
            if !shut_down(&client).await {
                break shim;
            }
            idle(shim).await;
            own.push(own_memory(shim));
        };
        assert_eq!(served, 100);
        let (first, last) = (own[1], own[own.len() - 1]);
        assert!(last <= first + 32, "{own:?}");
        gone(shim).await;
        zygote.end();
    });
    rig.assert_nothing_is_left();
}
