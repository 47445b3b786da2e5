//! The real program, run for what a container's user sees of it.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    process::{Command, Output, Stdio},
};

const INIT: &str = concat!(env!("OUT_DIR"), "/berth-init");

fn run(arguments: &[&str]) -> Output {
    Command::new(INIT).args(arguments).output().unwrap()
}

fn check(arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
    let output = run(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(
        (output.status.code(), text(&output.stdout), text(&output.stderr)),
        (Some(code), stdout.to_owned(), stderr.to_owned()),
        "{arguments:?}"
    );
}

#[test]
fn it_is_small_and_the_embedded_one() {
    assert_eq!(berth_init::INIT, std::fs::read(INIT).unwrap());
    assert!(berth_init::INIT.len() <= 20 << 10, "{} bytes", berth_init::INIT.len());
}

#[test]
fn the_programs_output_and_exit_code_are_its_own() {
    check(&["--", "sh", "-c", "echo out; echo err >&2; exit 42"], 42, "out\n", "err\n");
    check(&["/bin/sh", "-c", "exit 0"], 0, "", "");
    check(&["echo", "-n", "a b", "", "c"], 0, "a b  c", "");
}

#[test]
fn a_killed_program_gives_128_and_the_signal() {
    check(&["--", "sh", "-c", "kill -TERM $$"], 143, "", "");
    check(&["--", "sh", "-c", "kill -KILL $$"], 137, "", "");
}

#[test]
fn what_cannot_be_executed_is_told_by_the_exit_code() {
    check(&["no-such-program"], 127, "", "berth-init: executing no-such-program: no such file or directory\n");
    check(&["--", "/no/such"], 127, "", "berth-init: executing /no/such: no such file or directory\n");
    check(&["/etc/passwd"], 126, "", "berth-init: executing /etc/passwd: permission denied\n");
    check(&["/"], 126, "", "berth-init: executing /: permission denied\n");
}

#[test]
fn a_script_without_an_interpreter_runs_in_a_shell() {
    let dir = std::env::temp_dir().join(format!("berth-init-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let script = dir.join("script");
    // Written by another process: a descriptor open for writing here could leak into a parallel test's child and keep it busy.
    let made =
        Command::new("sh").args(["-c", "echo 'echo \"$0 $1\"' > \"$0\" && chmod +x \"$0\""]).arg(&script).status();
    assert!(made.unwrap().success());
    check(&["--", script.to_str().unwrap(), "one"], 0, &format!("{} one\n", script.display()), "");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn wrong_use_is_refused() {
    check(&[], 1, "", "usage: berth-init [-s] [--] PROGRAM [ARGUMENT...]\n");
    check(&["--"], 1, "", "usage: berth-init [-s] [--] PROGRAM [ARGUMENT...]\n");
    check(&["-x", "true"], 1, "", "berth-init: unknown option -x\n");
    check(&["--version"], 0, &format!("berth-init version {}\n", env!("CARGO_PKG_VERSION")), "");
}

#[test]
fn programs_are_found_along_the_path() {
    let found = |path: Option<&str>| {
        let mut command = Command::new(INIT);
        command.args(["--", "true"]).env_clear().envs(path.map(|path| ("PATH", path)));
        command.output().unwrap().status.code()
    };
    assert_eq!(found(Some("/nowhere::/usr/bin:/bin")), Some(0));
    assert_eq!(found(Some("/nowhere")), Some(127));
    assert_eq!(found(None), Some(0));
    // A file in place of a directory, and a directory of that name, do not end the search.
    assert_eq!(found(Some("/etc/passwd:/usr/bin:/bin")), Some(0));
}

#[test]
fn signals_are_passed_on() {
    for (signal, name) in [(15, "TERM"), (10, "USR1"), (1, "HUP"), (28, "WINCH")] {
        let script = format!("trap 'echo caught; exit 7' {name}; echo ready; while :; do sleep 0.02; done");
        // A shell cannot trap what was ignored when it began, as under nohup.
        let command = ["--default-signal", INIT, "--", "sh", "-c", &script];
        let mut child = Command::new("env").args(command).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success()
        );
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("caught\n", Some(7)), "{name}");
    }
}

#[test]
fn an_unhandled_signal_ends_the_program_and_then_init() {
    let mut child = Command::new(INIT).args(["--", "sleep", "600"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let status = child.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(143), None));
}

#[test]
fn the_program_gets_the_signal_mask_it_would_have_had() {
    let output = run(&["--", "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]);
    let plain = Command::new("grep").args(["-E", "Sig(Blk|Ign)", "/proc/self/status"]).output().unwrap();
    assert_eq!(output.stdout, plain.stdout);
}

#[test]
fn orphans_are_reaped() {
    // In a pid namespace of its own init is process 1; elsewhere -s makes it adopt.
    let script = "for i in 1 2 3 4 5; do (sleep 0.0$i & ) ; done; sleep 0.3; grep -l '^State:.Z' /proc/[0-9]*/status; echo ppid $PPID";
    let namespace = ["--pid", "--fork", "--mount-proc", INIT, "--", "sh", "-c", script];
    let as_first = Command::new("unshare").args(namespace).output();
    match as_first {
        Ok(output) if output.status.success() => assert_eq!(String::from_utf8_lossy(&output.stdout), "ppid 1\n"),
        other => eprintln!("skipped without the right to make namespaces: {other:?}"),
    }
    let adopted = "(sh -c 'sleep 0.1; grep PPid: /proc/$$/status' & ); sleep 0.3; grep PPid: /proc/$$/status";
    let output = run(&["-s", "--", "sh", "-c", adopted]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let parents: Vec<_> = text.lines().collect();
    assert!(parents.len() == 2 && parents[0] == parents[1], "{text}");
}
