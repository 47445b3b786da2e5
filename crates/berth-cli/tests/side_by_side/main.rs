//! Runs our client and the reference client, where it is installed, against the same daemon of paper, and compares what they print, how
//! they exit and what they ask.
//!
//! The documents are the recorded ones of `tests/golden` and some made up to reach every rule of the columns. This file plays both
//! sides: started with [`AS_CLIENT`] in its environment, it is our client.

mod bash;
mod golden;
mod scenarios;
mod server;

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use scenarios::{Scenario, scenarios};
use server::Server;

/// Makes this program our client.
const AS_CLIENT: &str = "BERTH_TEST_AS_CLIENT";

/// The major version of the reference client that ours is compared with.
const REFERENCE: u32 = 28;

fn main() -> ExitCode {
    if env::var_os(AS_CLIENT).is_some() {
        return berth_cli::main(env::args_os().skip(1).collect());
    }
    if env::args().any(|argument| argument == "--list") {
        println!("both_clients_print_the_same: test");
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let reference = reference_is_installed();
    if !reference {
        println!("docker {REFERENCE} is not installed: only our client is run");
    }
    let directory = tempfile::tempdir().expect("directory");
    let socket = directory.path().join("paper.sock");
    let server = Server::start(&socket).expect("socket");
    let mut failures = 0;
    let all = scenarios();
    let chosen: Vec<&Scenario> =
        all.iter().filter(|s| wanted.is_empty() || wanted.iter().any(|w| s.name().contains(w.as_str()))).collect();
    for scenario in &chosen {
        failures += usize::from(!holds(scenario, &server, directory.path(), &socket, reference));
    }
    if wanted.is_empty() {
        failures += bash::failures(&server, directory.path(), &socket);
    }
    println!("{} scenarios, {failures} differ", chosen.len());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Clients of other versions print other things.
fn reference_is_installed() -> bool {
    let version = Command::new("docker").arg("--version").output();
    version.is_ok_and(|version| String::from_utf8_lossy(&version.stdout).contains(&format!("version {REFERENCE}.")))
}

/// What a client did.
#[derive(PartialEq)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    asked: Vec<String>,
}

fn holds(scenario: &Scenario, server: &Server, directory: &Path, socket: &Path, reference: bool) -> bool {
    let ours = run(env::current_exe().expect("own path").as_path(), scenario, server, directory, socket);
    if !reference {
        let alive = ours.code.is_some_and(|code| code != 101);
        if !alive {
            println!("--- {}: ended with {:?}\n{}", scenario.name(), ours.code, ours.stderr);
        }
        return alive;
    }
    let theirs = run(Path::new("docker"), scenario, server, directory, socket);
    let theirs = Outcome {
        stdout: scenario.in_our_words(&theirs.stdout),
        stderr: scenario.in_our_words(&theirs.stderr),
        ..theirs
    };
    if ours == theirs {
        return true;
    }
    println!("--- {}", scenario.name());
    let show = |what: &str, ours: &str, theirs: &str| {
        if ours != theirs {
            println!(
                "{what}\n  theirs: {}\n  ours:   {}",
                theirs.replace('\n', "\n          "),
                ours.replace('\n', "\n          ")
            );
        }
    };
    show("exit", &format!("{:?}", ours.code), &format!("{:?}", theirs.code));
    show("stdout", &ours.stdout, &theirs.stdout);
    show("stderr", &ours.stderr, &theirs.stderr);
    show("requests", &ours.asked.join("\n"), &theirs.asked.join("\n"));
    false
}

fn run(program: &Path, scenario: &Scenario, server: &Server, directory: &Path, socket: &Path) -> Outcome {
    server.play(&scenario.routes);
    let mut command = Command::new(program);
    command.args(&scenario.arguments).current_dir(directory).env_clear();
    command.env(AS_CLIENT, "1").env("PATH", env::var_os("PATH").unwrap_or_default()).env("HOME", directory);
    command.env("DOCKER_HOST", format!("unix://{}", socket.display())).env("TZ", scenario.zone);
    let config = directory.join(".docker");
    std::fs::create_dir_all(&config).expect("directory");
    std::fs::write(config.join("config.json"), scenario.config).expect("config");
    for (name, content) in &scenario.files {
        std::fs::write(directory.join(name), content).expect("file");
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("client");
    let mut stdin = child.stdin.take().expect("piped");
    // A client that does not read its input is no failure.
    let _ = std::io::Write::write_all(&mut stdin, scenario.stdin.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("client");
    Outcome {
        code: output.status.code(),
        stdout: scenario.relevant(&String::from_utf8_lossy(&output.stdout)).to_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        asked: if scenario.compare_requests { server.asked() } else { Vec::new() },
    }
}
