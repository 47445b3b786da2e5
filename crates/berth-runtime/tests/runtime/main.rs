//! Containers made by the runtime from a busybox bundle, through the command line and through the library.
//!
//! Each test is a process of its own with one thread, in a mount namespace of its own, as the runtime's callers are. Called as
//! `berth-runtime` this file is the runtime itself. Needs root and Debian's busybox-static; says so where they are missing.

mod bundle;
mod filesystem;
mod hooks;
mod library;
mod lifecycle;
mod namespaces;
mod process;
mod programs;
mod terminal;

use std::collections::VecDeque;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use berth_sys::mount::{Depth, Interface, Propagation};
use berth_sys::namespace::{Namespace, Namespaces};

/// A test by its name.
type Test = (&'static str, fn());

/// Lists functions with their names.
#[allow(clippy::crate_in_macro_def, reason = "used in this program alone")]
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[crate::Test] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if args.first().is_some_and(|name| name == "berth-runtime") {
        return berth_runtime::main(args[1..].to_vec());
    }
    let words: Vec<String> = args.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let all = [
        lifecycle::TESTS,
        programs::TESTS,
        process::TESTS,
        filesystem::TESTS,
        namespaces::TESTS,
        terminal::TESTS,
        hooks::TESTS,
        library::TESTS,
    ];
    let all: Vec<Test> = all.concat();
    if let [flag, name] = words.as_slice()
        && flag == "--alone"
    {
        let (_, test) = all.iter().find(|(known, _)| known == name).expect("a known test");
        isolate();
        test();
        return ExitCode::SUCCESS;
    }
    if words.iter().any(|word| word == "--list") {
        all.iter().for_each(|(name, _)| println!("{}: test", short(name)));
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() || bundle::busybox().is_none() {
        println!("skipped: these tests need root and busybox-static");
        return ExitCode::SUCCESS;
    }
    let filter = words.iter().find(|word| !word.starts_with('-'));
    let chosen = all.into_iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter.as_str())));
    run_all(chosen.collect())
}

fn short(name: &str) -> &str {
    name.split_once("::").map_or(name, |(_, short)| short)
}

/// A mount namespace of its own: what a test mounts is gone with it.
fn isolate() {
    berth_sys::namespace::unshare(Namespaces::NONE.with(Namespace::Mount)).expect("a mount namespace");
    let root = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).expect("the root");
    use std::os::fd::AsFd;
    berth_sys::mount::set_propagation(Interface::Modern, root.as_fd(), Depth::Tree, Propagation::Private)
        .or_else(|_| {
            berth_sys::mount::set_propagation(Interface::Classic, root.as_fd(), Depth::Tree, Propagation::Private)
        })
        .expect("private mounts");
}

fn run_all(mut pending: VecDeque<Test>) -> ExitCode {
    let at_once = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut running: VecDeque<(&'static str, Child, tempfile::TempDir)> = VecDeque::new();
    let (mut passed, mut failed) = (0, Vec::new());
    loop {
        while running.len() < at_once
            && let Some((name, _)) = pending.pop_front()
        {
            let scratch = scratch();
            running.push_back((name, start(name, scratch.path()), scratch));
        }
        let Some((name, child, scratch)) = running.pop_front() else { break };
        let output = child.wait_with_output().expect("the test's output");
        scratch.close().expect("nothing of the test is in the way");
        if output.status.success() {
            passed += 1;
            println!("test {} ... ok", short(name));
        } else {
            println!("test {} ... FAILED\n{}", short(name), String::from_utf8_lossy(&output.stderr));
            failed.push(name);
        }
    }
    println!("\ntest result: {passed} passed; {} failed", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A directory that is removed after the test: whatever it mounted there has gone with its mount namespace, and a test that
/// panics cleans up nothing itself.
fn scratch() -> tempfile::TempDir {
    let scratch = tempfile::Builder::new().prefix("berth-test-").tempdir().expect("a directory");
    // Users of a user namespace go through it.
    std::fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("permissions");
    scratch
}

fn start(name: &str, scratch: &Path) -> Child {
    let own = std::env::current_exe().expect("the own program");
    let mut command = Command::new(own);
    command.arg0("runtime-test").args(["--alone", name]).env("TMPDIR", scratch);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("a test process")
}
