//! create, start, state, kill, delete, pause, resume, exec, ps, list, update.

use serde_json::Value;

use crate::bundle::Bundle;
use crate::tests;

tests![
    a_container_lives_through_all_its_states,
    run_gives_the_programs_status,
    a_program_ended_by_a_signal_gives_128_and_its_number,
    commands_are_refused_in_the_wrong_state,
    an_id_is_used_once,
    delete_force_kills_and_forgives,
    a_paused_container_runs_no_exec,
    limits_are_set_and_changed,
    kill_all_reaches_every_process,
    the_pid_file_and_list_tell_of_it,
    a_container_with_one_process_allowed_starts,
    nothing_is_left_when_create_fails,
    the_program_file_is_protected,
    run_with_detach_returns_at_once,
    errors_are_logged_as_json,
    a_template_is_written,
    features_are_told,
];

fn a_container_lives_through_all_its_states() {
    let bundle = Bundle::new("echo begun; exec sleep 100");
    bundle.create().succeeds();
    assert_eq!(bundle.status(), "created");
    assert_eq!(bundle.output(), "");
    bundle.call(&["start", bundle.id()]).succeeds();
    assert_eq!(bundle.status(), "running");
    bundle.call(&["pause", bundle.id()]).succeeds();
    assert_eq!(bundle.status(), "paused");
    bundle.call(&["resume", bundle.id()]).succeeds();
    assert_eq!(bundle.status(), "running");
    bundle.call(&["kill", bundle.id(), "KILL"]).succeeds();
    bundle.wait_for("stopped");
    bundle.call(&["delete", bundle.id()]).succeeds();
    bundle.call(&["state", bundle.id()]).fails("does not exist");
    assert_eq!(bundle.output(), "begun\n");
    assert!(bundle.cgroups().is_empty(), "{:?}", bundle.cgroups());
}

fn run_gives_the_programs_status() {
    Bundle::new("echo out; echo err >&2; exit 7").run().exits(7);
    let outcome = Bundle::new("echo out; echo err >&2").run().prints("out\n");
    assert_eq!(outcome.stderr, "err\n");
}

fn a_program_ended_by_a_signal_gives_128_and_its_number() {
    let bundle = Bundle::new("exec sleep 100");
    bundle.write_config();
    let mut command = bundle.command(&["run", "--bundle", &bundle.path().to_string_lossy(), bundle.id()]);
    let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    while bundle.call(&["kill", bundle.id(), "KILL"]).status != 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(child.wait().unwrap().code(), Some(137));
}

fn commands_are_refused_in_the_wrong_state() {
    let bundle = Bundle::new("sleep 100");
    for command in ["start", "state", "kill", "delete", "pause", "resume", "ps"] {
        bundle.call(&[command, bundle.id()]).exits(1).fails("does not exist");
    }
    bundle.start();
    bundle.call(&["start", bundle.id()]).exits(1).fails("running already");
    bundle.call(&["delete", bundle.id()]).exits(1).fails("not stopped");
    bundle.call(&["resume", bundle.id()]).exits(1).fails("not paused");
    bundle.call(&["kill", bundle.id(), "NOSUCH"]).exits(1).fails("unknown signal");
    bundle.call(&["kill", bundle.id(), "9"]).succeeds();
    bundle.wait_for("stopped");
    bundle.call(&["kill", bundle.id()]).exits(1).fails("container not running");
    bundle.call(&["exec", bundle.id(), "true"]).exits(255).fails("stopped");
}

fn an_id_is_used_once() {
    let bundle = Bundle::new("sleep 100");
    bundle.create().succeeds();
    bundle.create().exits(1).fails("container with given ID already exists");
    assert_eq!(bundle.status(), "created");
    for bad in ["a/b", "..", "a b"] {
        bundle.call(&["create", "--bundle", &bundle.path().to_string_lossy(), bad]).fails("invalid container id");
    }
}

fn delete_force_kills_and_forgives() {
    let bundle = Bundle::new("sleep 100");
    bundle.call(&["delete", "--force", bundle.id()]).succeeds();
    bundle.start();
    bundle.call(&["delete", "--force", bundle.id()]).succeeds();
    assert!(bundle.cgroups().is_empty());
    // A created one that was never started has nothing to lose.
    bundle.create().succeeds();
    bundle.call(&["delete", bundle.id()]).succeeds();
    assert!(bundle.cgroups().is_empty());
}

fn a_paused_container_runs_no_exec() {
    let bundle = Bundle::new("sleep 100");
    bundle.start();
    bundle.call(&["pause", bundle.id()]).succeeds();
    bundle.call(&["exec", bundle.id(), "true"]).exits(255).fails("paused");
    bundle.call(&["resume", bundle.id()]).succeeds();
    bundle.call(&["exec", bundle.id(), "true"]).succeeds();
}

fn limits_are_set_and_changed() {
    let mut bundle = Bundle::new("sleep 100");
    bundle.config["linux"]["resources"] = serde_json::json!({"pids": {"limit": 77}});
    bundle.start();
    let stats = |bundle: &Bundle| -> Value {
        serde_json::from_str(&bundle.call(&["events", "--stats", bundle.id()]).succeeds().stdout).unwrap()
    };
    assert_eq!(stats(&bundle)["data"]["pids"]["limit"], 77);
    bundle.call(&["update", "--pids-limit", "88", "--memory", "64m", bundle.id()]).succeeds();
    let after = stats(&bundle);
    assert_eq!(after["data"]["pids"]["limit"], 88);
    assert_eq!(after["data"]["memory"]["usage"]["limit"], 64 << 20);
    bundle.call(&["update", "--memory", "nonsense", bundle.id()]).exits(1).fails("invalid value");
}

fn kill_all_reaches_every_process() {
    let bundle = Bundle::new("sleep 100 & sleep 200 & trap '' TERM; while true; do sleep 300; done");
    bundle.start();
    bundle.call(&["kill", "--all", bundle.id(), "KILL"]).succeeds();
    bundle.wait_for("stopped");
}

fn the_pid_file_and_list_tell_of_it() {
    let bundle = Bundle::new("sleep 100");
    bundle.write_config();
    let file = bundle.path().join("pid");
    let (file_text, directory) = (file.to_string_lossy(), bundle.path().to_string_lossy());
    let status = bundle
        .command(&["run", "--detach", "--pid-file", &file_text, "--bundle", &directory, bundle.id()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let pid = std::fs::read_to_string(&file).unwrap();
    let state: Value = serde_json::from_str(&bundle.call(&["state", bundle.id()]).succeeds().stdout).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    let listed = bundle.call(&["list"]).succeeds().stdout;
    assert!(listed.starts_with("ID  ") && listed.contains(&pid) && listed.contains("running"), "{listed}");
    bundle.call(&["list", "-q"]).prints(&format!("{}\n", bundle.id()));
    let listed: Value = serde_json::from_str(&bundle.call(&["list", "-f", "json"]).succeeds().stdout).unwrap();
    assert_eq!(listed[0]["id"], bundle.id());
    bundle.call(&["ps", "-f", "json", bundle.id()]).prints(&format!("[{pid}]\n"));
    let shown = bundle.call(&["ps", bundle.id()]).succeeds().stdout;
    assert!(shown.contains("sleep 100"), "{shown}");
}

fn a_container_with_one_process_allowed_starts() {
    let mut bundle = Bundle::new("");
    bundle.config["process"]["args"] = serde_json::json!(["true"]);
    bundle.config["linux"]["resources"] = serde_json::json!({"pids": {"limit": 1}});
    bundle.run().succeeds();
}

fn nothing_is_left_when_create_fails() {
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["args"] = serde_json::json!(["/nosuch"]);
    bundle.create().exits(1).fails("stat /nosuch: no such file or directory");
    assert!(bundle.cgroups().is_empty());
    assert_eq!(std::fs::read_dir(bundle.path().join("state")).unwrap().count(), 0);
    bundle.config["mounts"][0]["type"] = "nosuchfs".into();
    bundle.create().exits(1).fails("no such device");
    assert!(bundle.cgroups().is_empty());
}

fn the_program_file_is_protected() {
    let bundle = Bundle::new("exec sleep 100");
    bundle.create().succeeds();
    let state: Value = serde_json::from_str(&bundle.call(&["state", bundle.id()]).succeeds().stdout).unwrap();
    // The process that waits is still the runtime: what its file leads to cannot be written.
    let file = format!("/proc/{}/exe", state["pid"]);
    let error = std::fs::OpenOptions::new().write(true).open(file).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(30 | 26 | 1)), "{error}");
    bundle.call(&["start", bundle.id()]).succeeds();
}

fn run_with_detach_returns_at_once() {
    let bundle = Bundle::new("sleep 100");
    bundle.write_config();
    let mut command = bundle.command(&["run", "-d", "-b", &bundle.path().to_string_lossy(), bundle.id()]);
    let status = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status().unwrap();
    assert!(status.success());
    assert_eq!(bundle.status(), "running");
}

fn errors_are_logged_as_json() {
    let bundle = Bundle::new("true");
    let log = bundle.path().join("log.json");
    let outcome = bundle.call(&["--log", &log.to_string_lossy(), "--log-format=json", "state", "nope"]).exits(1);
    assert_eq!(outcome.stderr, "container \"nope\" does not exist\n");
    let line: Value = serde_json::from_str(&std::fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], "container \"nope\" does not exist");
    bundle.call(&["--systemd-cgroup", "state", "nope"]).exits(1).fails("systemd cgroup driver is not supported");
    bundle.call(&["nosuch"]).exits(1).fails("no such command: nosuch");
}

fn a_template_is_written() {
    let bundle = Bundle::new("true");
    let directory = bundle.path().to_string_lossy().into_owned();
    bundle.call(&["spec", "-b", &directory]).succeeds();
    bundle.call(&["spec", "-b", &directory]).exits(1).fails("exists already");
    let mut spec: Value = serde_json::from_slice(&std::fs::read(bundle.path().join("config.json")).unwrap()).unwrap();
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(["hostname"]);
    spec["process"]["env"] = serde_json::json!(["PATH=/bin"]);
    spec["linux"]["cgroupsPath"] = bundle.config["linux"]["cgroupsPath"].clone();
    let mut bundle = bundle;
    bundle.config = spec;
    bundle.run().prints("berth\n");
}

fn features_are_told() {
    let bundle = Bundle::new("true");
    let features: Value = serde_json::from_str(&bundle.call(&["features"]).succeeds().stdout).unwrap();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    assert_eq!(features["linux"]["seccomp"]["enabled"], true);
    assert!(features["linux"]["capabilities"].as_array().unwrap().len() >= 40);
}
