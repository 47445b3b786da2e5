//! What is executed: found, not found, not allowed; by `run`, `create` and `exec`.

use serde_json::json;

use crate::bundle::{Bundle, Outcome};
use crate::tests;

tests![
    missing_programs_are_named_as_docker_users_know_them,
    a_script_without_its_interpreter_is_an_error_of_start,
    exec_fails_with_the_same_texts,
    exec_changes_what_its_options_say,
    exec_takes_a_process_file,
    exec_enters_all_namespaces_and_the_cgroup,
    descriptors_do_not_leak,
    preserved_descriptors_are_passed_on,
];

fn run_args(args: &[&str]) -> Outcome {
    let mut bundle = Bundle::new("");
    bundle.config["process"]["args"] = json!(args);
    bundle.run()
}

fn missing_programs_are_named_as_docker_users_know_them() {
    run_args(&["nosuch"]).exits(1).fails(r#"exec: \"nosuch\": executable file not found in $PATH"#);
    run_args(&["/x"]).exits(1).fails(r#"exec: \"/x\": stat /x: no such file or directory"#);
    run_args(&["/etc/passwd"]).exits(1).fails(r#"exec: \"/etc/passwd\": permission denied"#);
    run_args(&["/etc"]).exits(1).fails(r#"exec: \"/etc\": is a directory"#);
    run_args(&[]).exits(1).fails("process.args: must not be empty");
}

fn a_script_without_its_interpreter_is_an_error_of_start() {
    let mut bundle = Bundle::new("");
    let script = bundle.rootfs().join("bin/script");
    std::fs::write(&script, "#!/nosuch\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    bundle.config["process"]["args"] = json!(["script"]);
    bundle.create().succeeds();
    bundle.call(&["start", bundle.id()]).exits(1).fails(r#"exec: \"script\": no such file or directory"#);
    bundle.wait_for("stopped");
}

fn exec_fails_with_the_same_texts() {
    let bundle = Bundle::new("sleep 100");
    bundle.start();
    let exec = |args: &[&str]| bundle.call(&[&["exec", bundle.id()], args].concat());
    exec(&["nosuch"]).exits(255).fails(r#"exec failed: exec: \"nosuch\": executable file not found in $PATH"#);
    exec(&["/etc/passwd"]).exits(255).fails("permission denied");
    exec(&["sh", "-c", "exit 9"]).exits(9);
    bundle.call(&["exec", bundle.id()]).exits(1).fails("process args cannot be empty");
    bundle.call(&["exec", "--cwd", "/etc/passwd", bundle.id(), "true"]).exits(255).fails("not a directory");
    bundle.call(&["exec", "--cwd", "relative", bundle.id(), "true"]).exits(255).fails("not an absolute path");
}

fn exec_changes_what_its_options_say() {
    let bundle = Bundle::new("sleep 100");
    bundle.start();
    let script = "id -u; id -g; id -G; pwd; echo $WORD $HOME; grep NoNewPrivs /proc/self/status";
    let options =
        ["exec", "-u", "1000:1001", "-g", "7", "-g", "8", "--cwd", "/tmp", "-e", "WORD=said", "--no-new-privs"];
    let outcome = bundle.call(&[&options[..], &[bundle.id(), "sh", "-c", script]].concat());
    outcome.prints("1000\n1001\n1001 7 8\n/tmp\nsaid /home/user\nNoNewPrivs:\t1\n");
    let capabilities =
        bundle.call(&["exec", "--cap", "CAP_SYS_ADMIN", bundle.id(), "grep", "CapEff", "/proc/self/status"]);
    capabilities.prints("CapEff:\t00000000a82425fb\n");
}

fn exec_takes_a_process_file() {
    let bundle = Bundle::new("sleep 100");
    bundle.start();
    let file = bundle.path().join("process.json");
    let process = json!({"args": ["sh", "-c", "echo $A; pwd"], "env": ["PATH=/bin", "A=b"], "cwd": "/new/directory"});
    std::fs::write(&file, process.to_string()).unwrap();
    bundle
        .call(&["exec", "--process", &file.to_string_lossy(), bundle.id()])
        .exits(255)
        .fails("no such file or directory");
    std::fs::create_dir_all(bundle.rootfs().join("new/directory")).unwrap();
    bundle.call(&["exec", "--process", &file.to_string_lossy(), bundle.id()]).prints("b\n/new/directory\n");
}

fn exec_enters_all_namespaces_and_the_cgroup() {
    let bundle = Bundle::new("sleep 100");
    bundle.start();
    let script = "for n in mnt pid net ipc uts; do
        [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n; done
        [ \"$(cat /proc/1/cgroup)\" = \"$(cat /proc/self/cgroup)\" ] || echo cgroup";
    bundle.call(&["exec", bundle.id(), "sh", "-c", script]).prints("");
}

fn descriptors_do_not_leak() {
    let mut bundle = Bundle::new("");
    // One more than the streams: the directory that is being listed.
    bundle.config["process"]["args"] = json!(["ls", "/proc/self/fd"]);
    bundle.run().prints("0\n1\n2\n3\n");
    bundle.config["process"]["args"] = json!(["sleep", "100"]);
    bundle.start();
    bundle.call(&["exec", bundle.id(), "ls", "/proc/self/fd"]).prints("0\n1\n2\n3\n");
}

fn preserved_descriptors_are_passed_on() {
    let bundle = Bundle::new("cat <&3");
    bundle.write_config();
    let file = bundle.path().join("message");
    std::fs::write(&file, "through\n").unwrap();
    let own = std::env::current_exe().unwrap();
    let call = |count: &str| {
        let command = format!(
            "exec 3<{}; exec -a berth-runtime {} --root {} run --preserve-fds {count} --bundle {} {}",
            file.display(),
            own.display(),
            bundle.path().join("state").display(),
            bundle.path().display(),
            bundle.id()
        );
        std::process::Command::new("bash").args(["-c", &command]).output().unwrap()
    };
    assert_eq!(String::from_utf8_lossy(&call("1").stdout), "through\n");
    let refused = call("2");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("descriptor 4 is not open"), "{refused:?}");
}
