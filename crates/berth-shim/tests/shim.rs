//! The shim through its socket: a real process, a real container made of Debian's `busybox-static`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod rig;

use berth_proto::client::Client;
use berth_proto::shim as api;
use rig::{Rig, read_all, streams};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

macro_rules! needs_root {
    () => {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: containers need root here");
            return;
        }
    };
}

#[test]
fn output_goes_to_the_log_and_to_clients_and_the_exit_is_kept() {
    needs_root!();
    let rig = Rig::new("output");
    rig.run(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut launch = rig.request("echo out; echo err >&2; printf half; exit 7");
        launch.attaches = vec![api::LaunchAttach { streams: Some(streams(false, true, true)), fd: 0 }];
        let launched = rig.launch(&launch, &[theirs.as_fd()]).await.unwrap();
        drop(theirs);
        let exit = rig.wait("").await;
        assert_eq!((exit.exit_code, exit.oom_killed), (7, false));
        assert!(exit.exited_at_ns >= launched.started_at_ns);
        let (stdout, stderr) = rig::demultiplex(&read_all(ours).await);
        assert_eq!((stdout.as_str(), stderr.as_str()), ("out\nhalf", "err\n"));
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(rig.exit_file()).unwrap()).unwrap();
        assert_eq!((record["pid"].as_u64(), record["exitCode"].as_u64()), (Some(u64::from(launched.pid)), Some(7)));
        assert_eq!(rig.log(), [("stderr", "err\n"), ("stdout", "half"), ("stdout", "out\n")].map(rig::owned));
        // Who asks late gets the same answer.
        assert_eq!(rig.wait("").await, exit);
        rig.shut_down().await;
        assert!(!rig.socket().exists() && !rig.exit_file().exists());
        rig.assert_nothing_is_left();
    });
}

#[test]
fn the_shim_outlives_its_manager_and_serves_the_next() {
    needs_root!();
    let mut rig = Rig::new("outlives");
    let launched = rig.run(async {
        let request = rig.request("echo before; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo after; exit 3");
        rig.launch(&request, &[]).await.unwrap()
    });
    rig.forget_connection();
    rig.run(async {
        let client = rig.connect().await;
        let status: api::StatusResponse = rig::call(&client, "Status", &api::StatusRequest {}).await.unwrap();
        assert_eq!(
            (status.state(), status.pid, status.shim_pid),
            (api::State::Running, launched.pid, launched.shim_pid)
        );
        std::fs::write(rig.root().join("tmp/go"), "").unwrap();
        let exit: api::WaitResponse = rig::call(&client, "Wait", &api::WaitRequest::default()).await.unwrap();
        assert_eq!(exit.exit_code, 3);
        assert_eq!(rig.log(), [("stdout", "after\n"), ("stdout", "before\n")].map(rig::owned));
        let _: api::ShutdownResponse = rig::call(&client, "Shutdown", &api::ShutdownRequest::default()).await.unwrap();
    });
}

#[test]
fn a_program_that_cannot_start_says_why_and_leaves_nothing() {
    needs_root!();
    for (program, code, errno) in [("/no/such", 127, 2), ("/etc", 126, 21)] {
        let rig = Rig::new("nostart");
        rig.run(async {
            let request = rig.request_for(&[program]);
            let error = rig.launch(&request, &[]).await.unwrap_err();
            let failure = api::StartFailure::of(error.status().unwrap()).unwrap();
            assert!(
                failure.exit_code == code && (failure.errno == errno || failure.errno == 13),
                "{failure:?} {error}"
            );
            assert!(!error.to_string().contains('\n'));
        });
        rig.assert_nothing_is_left();
    }
}

#[test]
fn a_half_close_is_the_end_of_input_for_exec() {
    needs_root!();
    let rig = Rig::new("exec");
    rig.run(async {
        rig.launch(&rig.request("sleep 60"), &[]).await.unwrap();
        let client = rig.connect().await;
        let request = api::ExecRequest {
            exec_id: "e1".to_owned(),
            process: rig::process(&["sh", "-c", "cat; echo done >&2; exit 5"]),
            streams: Some(streams(true, true, true)),
            open_stdin: true,
            ..api::ExecRequest::default()
        };
        let started: api::ExecResponse = rig::call(&client, "Exec", &request).await.unwrap();
        assert!(started.pid > 0);
        let raw = client.into_raw().await.unwrap();
        assert!(raw.read_ahead.is_empty());
        let mut stream = raw.stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.write_all(b"through").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let (stdout, stderr) = rig::demultiplex(&read_all(stream).await);
        assert_eq!((stdout.as_str(), stderr.as_str()), ("through", "done\n"));
        assert_eq!(rig.wait("e1").await.exit_code, 5);
        let missing =
            api::ExecRequest { exec_id: "e2".to_owned(), process: rig::process(&["nothing"]), ..Default::default() };
        let error = rig.call::<_, api::ExecResponse>("Exec", &missing).await.unwrap_err();
        assert_eq!(api::StartFailure::of(error.status().unwrap()).unwrap().exit_code, 127);
        rig.kill_and_shut_down().await;
        rig.assert_nothing_is_left();
    });
}

#[test]
fn a_terminal_has_a_size_that_changes() {
    needs_root!();
    let rig = Rig::new("terminal");
    rig.run(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut request = rig.request("stty size; read line; stty size; echo $line; exit 0");
        request.terminal = true;
        request.open_stdin = true;
        request.console_size = Some(api::ConsoleSize { width: 80, height: 24 });
        request.attaches = vec![api::LaunchAttach { streams: Some(streams(true, true, true)), fd: 0 }];
        rig.launch(&request, &[theirs.as_fd()]).await.unwrap();
        drop(theirs);
        let mut seen = rig::read_until(&ours, "24 80");
        let resize = api::ResizeRequest { exec_id: String::new(), width: 132, height: 43 };
        let _: api::ResizeResponse = rig.call("Resize", &resize).await.unwrap();
        (&ours).write_all(b"typed\r").unwrap();
        seen.push_str(&String::from_utf8(read_all(ours).await).unwrap());
        assert!(seen.contains("43 132\r\ntyped\r\n"), "{seen:?}");
        assert_eq!(rig.wait("").await.exit_code, 0);
        rig.shut_down().await;
    });
}

#[test]
fn one_stuck_client_does_not_take_the_output_from_the_log_or_the_other() {
    needs_root!();
    let rig = Rig::new("stuck");
    rig.run(async {
        rig.launch(&rig.request("read x; seq 1 20000; exit 0").with_stdin(), &[]).await.unwrap();
        let (stuck, _) = rig.attach(streams(false, true, false)).await;
        let (good, position) = rig.attach(streams(true, true, true)).await;
        assert_eq!((position.offset, position.rotation), (0, 0));
        (&good).write_all(b"go\n").unwrap();
        good.shutdown(std::net::Shutdown::Write).unwrap();
        let (stdout, _) = rig::demultiplex(&read_all(good).await);
        assert!(stdout.starts_with("1\n2\n") && stdout.ends_with("\n20000\n"));
        assert_eq!(rig.wait("").await.exit_code, 0);
        assert_eq!(rig.log().len(), 20000);
        // It gets everything as soon as it reads.
        let (late, _) = rig::demultiplex(&read_all(stuck).await);
        assert_eq!(late, stdout);
        rig.shut_down().await;
    });
}

#[test]
fn a_full_disk_costs_lines_but_never_the_container() {
    needs_root!();
    let mut rig = Rig::new("full");
    rig.log_on_small_tmpfs();
    rig.run(async {
        let script = "seq 1 5000; read x; echo after; exit 0";
        rig.launch(&rig.request(script).with_stdin(), &[]).await.unwrap();
        let (client, _) = rig.attach(streams(true, true, true)).await;
        let status = loop {
            let status: api::LogStatusResponse = rig.call("LogStatus", &api::LogStatusRequest {}).await.unwrap();
            if status.dropped_lines > 0 && status.written_bytes + status.dropped_bytes > 5000 * 60 {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        rig.make_room();
        (&client).write_all(b"go\n").unwrap();
        assert_eq!(rig.wait("").await.exit_code, 0);
        let log = rig.log_of(&rig.request("").log.unwrap().path);
        let told = log.iter().find(|(_, text)| text.starts_with("berth: ")).unwrap();
        assert!(
            told.1.contains("no space left on device") && told.1.contains(&format!("{} lines", status.dropped_lines))
        );
        assert!(log.iter().any(|(_, text)| text == "after\n"));
        rig.shut_down().await;
    });
}

#[test]
fn pause_signals_limits_and_numbers_go_through() {
    needs_root!();
    let rig = Rig::new("control");
    rig.run(async {
        let launched = rig.launch(&rig.request("trap 'exit 9' TERM; while :; do sleep 0.05; done"), &[]).await.unwrap();
        let _: api::PauseResponse = rig.call("Pause", &api::PauseRequest {}).await.unwrap();
        let status: api::StatusResponse = rig.call("Status", &api::StatusRequest {}).await.unwrap();
        assert_eq!(status.state(), api::State::Paused);
        let _: api::ResumeResponse = rig.call("Resume", &api::ResumeRequest {}).await.unwrap();
        let pids: api::ProcessesResponse = rig.call("Processes", &api::ProcessesRequest {}).await.unwrap();
        assert!(pids.pids.contains(&launched.pid));
        let resources = br#"{"memory":{"limit":67108864},"pids":{"limit":50}}"#.to_vec();
        let _: api::UpdateResponse = rig.call("Update", &api::UpdateRequest { resources }).await.unwrap();
        let stats: api::StatsResponse = rig.call("Stats", &api::StatsRequest {}).await.unwrap();
        let usage: serde_json::Value = serde_json::from_slice(&stats.usage).unwrap();
        assert_eq!((usage["memory"]["limit"].as_u64(), usage["pids"]["limit"].as_u64()), (Some(67_108_864), Some(50)));
        let invalid = api::KillRequest { signal: 99, ..Default::default() };
        let error = rig.call::<_, api::KillResponse>("Kill", &invalid).await.unwrap_err();
        assert_eq!(error.to_string(), "invalid signal: 99");
        let early = rig.call::<_, api::ShutdownResponse>("Shutdown", &api::ShutdownRequest::default()).await;
        assert!(early.unwrap_err().to_string().ends_with("is running"));
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _: api::KillResponse =
            rig.call("Kill", &api::KillRequest { signal: 15, ..Default::default() }).await.unwrap();
        assert_eq!(rig.wait("").await.exit_code, 9);
        rig.shut_down().await;
        rig.assert_nothing_is_left();
    });
}

#[test]
fn an_idle_shim_has_few_descriptors_and_one_thread() {
    needs_root!();
    let rig = Rig::new("idle");
    rig.run(async {
        let launched = rig.launch(&rig.request("sleep 60").with_stdin(), &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let names = rig::descriptors(launched.shim_pid);
        assert!(names.len() <= 12, "{} {names:?}", names.len());
        let threads = std::fs::read_dir(format!("/proc/{}/task", launched.shim_pid)).unwrap().count();
        assert_eq!(threads, 1);
        rig.kill_and_shut_down().await;
    });
}

#[test]
fn rotation_keeps_so_many_files_and_compresses_them() {
    needs_root!();
    let rig = Rig::new("rotation");
    rig.run(async {
        let mut request = rig.request("seq 1 3000; exit 0");
        let log = request.log.as_mut().unwrap();
        (log.max_size, log.max_file, log.compress) = (20_000, 3, true);
        rig.launch(&request, &[]).await.unwrap();
        assert_eq!(rig.wait("").await.exit_code, 0);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let path = request.log.unwrap().path;
        assert!(std::fs::metadata(format!("{path}.1.gz")).is_ok() && std::fs::metadata(format!("{path}.2.gz")).is_ok());
        assert!(std::fs::metadata(format!("{path}.1")).is_err() && std::fs::metadata(format!("{path}.3.gz")).is_err());
        assert!(std::fs::read_to_string(&path).unwrap().contains(r#"{"log":"3000\n""#));
        rig.shut_down().await;
    });
}

#[test]
fn a_shim_whose_daemon_dies_before_the_launch_leaves() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stdin = std::process::Stdio::from(std::os::fd::OwnedFd::from(theirs));
    let mut shim = std::process::Command::new(rig::program()).arg("--launch").stdin(stdin).spawn().unwrap();
    drop(ours);
    assert!(shim.wait().unwrap().success());
}

/// Small changes to a request.
trait With {
    fn with_stdin(self) -> Self;
}

impl With for api::LaunchRequest {
    fn with_stdin(mut self) -> Self {
        (self.open_stdin, self.stdin_once) = (true, true);
        self
    }
}

#[test]
fn a_client_may_call_many_things_at_once() {
    needs_root!();
    let rig = Rig::new("many");
    rig.run(async {
        rig.launch(&rig.request("read x; exit 4").with_stdin(), &[]).await.unwrap();
        let client: Client = rig.client();
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { rig::call::<_, api::WaitResponse>(&client, "Wait", &api::WaitRequest::default()).await }
        });
        for _ in 0..50 {
            let _: api::StatusResponse = rig::call(&client, "Status", &api::StatusRequest {}).await.unwrap();
        }
        let unknown =
            rig::call::<_, api::StatusResponse>(&client, "Nonsense", &api::StatusRequest {}).await.unwrap_err();
        assert_eq!(unknown.status().unwrap().code(), berth_proto::ttrpc::Code::Unimplemented);
        let _: api::CloseStdinResponse = rig.call("CloseStdin", &api::CloseStdinRequest::default()).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().exit_code, 4);
        rig.shut_down().await;
    });
}
