//! The library, as the shim uses it.

use std::io::Read;
use std::os::fd::AsFd;

use berth_oci::runtime::{Mount, Process, Spec};
use berth_runtime::{Container, CreateRequest, ExecRequest, Rootfs, RuntimeError, Signal, StartGate, Stdio, Target};
use berth_sys::mount::Interface;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::bundle::Bundle;
use crate::tests;

tests![
    an_overlay_becomes_the_root,
    a_prepared_network_namespace_is_joined,
    an_exec_has_streams_of_its_own,
    a_start_that_fails_tells_why,
    the_container_ends_with_its_maker,
    a_program_may_begin_by_itself,
    a_program_that_began_by_itself_ends_with_the_value,
    cgroup_and_processes_are_gone_after_delete,
    layers_with_long_paths_are_mounted,
    filters_are_cached,
    mount_2_does_all_but_the_newest,
    too_little_memory_is_named,
];

fn spec(bundle: &Bundle) -> Spec {
    serde_json::from_value(bundle.config.clone()).unwrap()
}

fn wait(container: &Container) -> i32 {
    let status = waitid(WaitId::PidFd(container.pidfd()), WaitIdOptions::EXITED).unwrap().unwrap();
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap())
}

/// Runs the container to its end, and gives what it wrote.
fn run(request: &CreateRequest<'_>) -> String {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let request = CreateRequest { stdio: Stdio::all(&writer), ..*request };
    let mut container = Container::create(&request).unwrap();
    let held = container.take_mount_namespace();
    assert!(held.is_some());
    container.start().unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    wait(&container);
    container.delete().unwrap();
    text
}

fn overlay(lower: &str, bundle: &Bundle) -> Vec<Mount> {
    for name in ["upper", "work"] {
        std::fs::create_dir_all(bundle.path().join(name)).unwrap();
    }
    let option = |name: &str, directory: &str| format!("{name}={}", bundle.path().join(directory).display());
    let options = vec![
        format!("lowerdir={lower}"),
        option("upperdir", "upper"),
        option("workdir", "work"),
        "volatile".to_owned(),
    ];
    vec![Mount { kind: "overlay".to_owned(), source: "overlay".to_owned(), options, ..Mount::default() }]
}

/// Overlay cannot lie upon itself, and a test may run where the temporary directory is one: a tmpfs always will do.
fn on_tmpfs(bundle: &Bundle) {
    let moved = tempfile::tempdir().unwrap();
    let _ = std::process::Command::new("cp").args(["-a"]).arg(bundle.rootfs()).arg(moved.path()).status();
    rustix::mount::mount("tmpfs", bundle.path(), "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    let _ = std::process::Command::new("cp").args(["-a"]).arg(moved.path().join("rootfs")).arg(bundle.path()).status();
}

fn an_overlay_becomes_the_root() {
    let bundle = Bundle::new("echo written >/made; cat /made; grep ' / ' /proc/self/mounts | sed 's/ .*//'");
    on_tmpfs(&bundle);
    let spec = spec(&bundle);
    let mounts = overlay(&bundle.rootfs().to_string_lossy(), &bundle);
    let request = CreateRequest::new(bundle.id(), bundle.path(), &spec, Rootfs::Mounts(&mounts));
    assert_eq!(run(&request), "written\noverlay\n");
    assert_eq!(std::fs::read_to_string(bundle.path().join("upper/made")).unwrap(), "written\n");
    assert!(!bundle.rootfs().join("made").exists());
    assert!(!std::fs::read_to_string("/proc/self/mounts").unwrap().contains("overlay overlay"), "nothing leaks out");
}

fn a_program_may_begin_by_itself() {
    let bundle = Bundle::new("echo $0; cat /proc/self/oom_score_adj");
    let (spec, rootfs) = (spec(&bundle), bundle.rootfs());
    let (mut reader, writer) = std::io::pipe().unwrap();
    let request = CreateRequest::new(bundle.id(), bundle.path(), &spec, Rootfs::Directory(&rootfs));
    let request = CreateRequest { gate: StartGate::Open, ..request };
    let mut container = Container::create(&CreateRequest { stdio: Stdio::all(&writer), ..request }).unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("sh\n"), "it began before anybody asked: {text:?}");
    container.start().unwrap();
    assert_eq!(wait(&container), 0);
    container.delete().unwrap();
    let missing = Spec {
        process: Some(Process { args: vec!["/nosuch".to_owned()], ..spec.process.clone().unwrap() }),
        ..spec.clone()
    };
    let error = Container::create(&CreateRequest { spec: &missing, ..request }).unwrap_err();
    assert!(matches!(error, RuntimeError::Program { .. }), "{error}");
}

fn a_program_that_began_by_itself_ends_with_the_value() {
    let bundle = Bundle::new("sleep 1000");
    let (spec, rootfs) = (spec(&bundle), bundle.rootfs());
    let request = CreateRequest::new(bundle.id(), bundle.path(), &spec, Rootfs::Directory(&rootfs));
    let container = Container::create(&CreateRequest { gate: StartGate::Open, ..request }).unwrap();
    let (pidfd, cgroup) = (container.pidfd().try_clone_to_owned().unwrap(), container.cgroup().clone());
    drop(container);
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
    assert_eq!(status.terminating_signal(), Some(Signal::KILL.as_raw()));
    cgroup.remove().unwrap();
}

fn layers_with_long_paths_are_mounted() {
    let bundle = Bundle::new("cat /first /second");
    on_tmpfs(&bundle);
    let layer = |name: &str| {
        let path = bundle.path().join(name.repeat(120)).join("layer");
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let (one, two) = (layer("a"), layer("b"));
    std::fs::write(one.join("first"), "1\n").unwrap();
    std::fs::write(two.join("second"), "2\n").unwrap();
    let lower = format!("{}:{}:{}", one.display(), two.display(), bundle.rootfs().display());
    let (spec, mounts) = (spec(&bundle), overlay(&lower, &bundle));
    let request = CreateRequest::new(bundle.id(), bundle.path(), &spec, Rootfs::Mounts(&mounts));
    assert_eq!(run(&request), "1\n2\n");
}

fn a_prepared_network_namespace_is_joined() {
    let bundle = Bundle::new("readlink /proc/self/ns/net");
    let network = berth_sys::netns::create().unwrap();
    let spec = spec(&bundle);
    let rootfs = bundle.rootfs();
    let request = CreateRequest::new(bundle.id(), bundle.path(), &spec, Rootfs::Directory(&rootfs));
    let text = run(&CreateRequest { network: Some(network.as_fd()), ..request });
    let inode = rustix::fs::fstat(&network).unwrap().st_ino;
    assert_eq!(text.trim(), format!("net:[{inode}]"));
}

fn running(bundle: &Bundle) -> Container {
    let spec = spec(bundle);
    let rootfs = bundle.rootfs();
    let null = std::fs::File::open("/dev/null").unwrap();
    let request = CreateRequest::new(bundle.id(), bundle.path(), &spec, Rootfs::Directory(&rootfs));
    let mut container = Container::create(&CreateRequest { stdio: Stdio::all(&null), ..request }).unwrap();
    container.start().unwrap();
    container
}

fn an_exec_has_streams_of_its_own() {
    let bundle = Bundle::new("sleep 100");
    let mut container = running(&bundle);
    let process: Process = serde_json::from_value(serde_json::json!({
        "args": ["sh", "-c", "cat; echo done; exit 3"], "env": ["PATH=/bin"], "cwd": "/"
    }))
    .unwrap();
    let (input, mut typed) = std::io::pipe().unwrap();
    let (mut shown, output) = std::io::pipe().unwrap();
    let stdio = Stdio { input: input.as_fd(), output: output.as_fd(), error: output.as_fd() };
    let exec = container.exec(&ExecRequest { stdio, ..ExecRequest::new(&process) }).unwrap();
    drop((input, output));
    std::io::Write::write_all(&mut typed, b"through\n").unwrap();
    drop(typed);
    let mut text = String::new();
    shown.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through\ndone\n");
    let status = waitid(WaitId::PidFd(exec.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(3));
    container.kill(Signal::KILL, Target::Init).unwrap();
    assert_eq!(wait(&container), 137);
    container.delete().unwrap();
}

fn a_start_that_fails_tells_why() {
    let mut bundle = Bundle::new("");
    let script = bundle.rootfs().join("bin/script");
    std::fs::write(&script, "no program").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (args, code) in [("nosuch", 127), ("/etc/passwd", 126), ("/etc", 126)] {
        bundle.config["process"]["args"] = serde_json::json!([args]);
        let (spec, rootfs) = (spec(&bundle), bundle.rootfs());
        let request = CreateRequest::new(bundle.id(), bundle.path(), &spec, Rootfs::Directory(&rootfs));
        let error = Container::create(&request).unwrap_err();
        assert!(matches!(error, RuntimeError::Program { .. }), "{error}");
        assert_eq!(error.exit_code(), code, "{error}");
    }
    bundle.config["process"]["args"] = serde_json::json!(["script"]);
    let (spec, rootfs) = (spec(&bundle), bundle.rootfs());
    let request = CreateRequest::new(bundle.id(), bundle.path(), &spec, Rootfs::Directory(&rootfs));
    let mut container = Container::create(&request).unwrap();
    let error = container.start().unwrap_err();
    assert_eq!(error.to_string(), "exec: \"script\": exec format error");
    assert_eq!(error.exit_code(), 126);
    container.delete().unwrap();
    assert!(bundle.cgroups().is_empty());
}

fn the_container_ends_with_its_maker() {
    let bundle = Bundle::new("echo never");
    let (spec, rootfs) = (spec(&bundle), bundle.rootfs());
    let request = CreateRequest::new(bundle.id(), bundle.path(), &spec, Rootfs::Directory(&rootfs));
    let container = Container::create(&request).unwrap();
    let pidfd = container.pidfd().try_clone_to_owned().unwrap();
    let cgroup = container.cgroup().clone();
    drop(container);
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
    cgroup.remove().unwrap();
}

fn cgroup_and_processes_are_gone_after_delete() {
    let bundle = Bundle::new("sleep 100 & sleep 100 & sleep 100");
    let mut container = running(&bundle);
    assert!(!bundle.cgroups().is_empty());
    container.pause().unwrap();
    assert!(container.cgroup().is_frozen().unwrap());
    container.resume().unwrap();
    container.kill(Signal::KILL, Target::All).unwrap();
    wait(&container);
    container.delete().unwrap();
    assert!(bundle.cgroups().is_empty());
}

fn filters_are_cached() {
    let mut bundle = Bundle::new("mkdir /tmp/x 2>/dev/null || echo refused");
    bundle.config["linux"]["seccomp"] = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    });
    let cache = bundle.path().join("cache");
    let (spec, rootfs) = (spec(&bundle), bundle.rootfs());
    let request = CreateRequest::new(bundle.id(), bundle.path(), &spec, Rootfs::Directory(&rootfs));
    let request = CreateRequest { seccomp_cache: Some(&cache), ..request };
    assert_eq!(run(&request), "refused\n");
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    assert_eq!(run(&request), "refused\n");
}

/// The fallback for kernels, and filters around us, without the newer mount calls.
fn mount_2_does_all_but_the_newest() {
    let script = "grep -c . /data/file; touch /data/x 2>&1; touch /ro/x 2>&1; cat /up/deep; touch /sys/firmware/x 2>&1
        wc -c </proc/keys; grep ' / ' /proc/self/mounts | sed 's/ .*//'; ls -d /dev/null /dev/pts/ptmx";
    let mut bundle = Bundle::new(script);
    on_tmpfs(&bundle);
    let volume = bundle.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "one\n").unwrap();
    std::fs::create_dir(bundle.rootfs().join("up")).unwrap();
    std::fs::write(bundle.rootfs().join("up/deep"), "copied\n").unwrap();
    let slave = serde_json::json!(["rbind", "ro", "nosuid", "rslave"]);
    bundle.mount(serde_json::json!({"destination": "/data", "type": "bind", "source": volume, "options": slave}));
    bundle.mount(serde_json::json!({"destination": "/ro", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}));
    bundle
        .mount(serde_json::json!({"destination": "/up", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    bundle.mount(
        serde_json::json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}),
    );
    let read_only = ": Read-only file system\n";
    let expected = |kind: &str| {
        format!(
            "1\ntouch: /data/x{read_only}touch: /ro/x{read_only}copied\ntouch: /sys/firmware/x{read_only}0\n{kind}\n/dev/null\n/dev/pts/ptmx\n"
        )
    };
    let (spec, rootfs) = (spec(&bundle), bundle.rootfs());
    let request = CreateRequest::new(bundle.id(), bundle.path(), &spec, Rootfs::Directory(&rootfs));
    assert_eq!(run(&CreateRequest { mount_interface: Interface::Classic, ..request }), expected("tmpfs"));
    let mounts = overlay(&bundle.rootfs().to_string_lossy(), &bundle);
    let request = CreateRequest { rootfs: Rootfs::Mounts(&mounts), mount_interface: Interface::Classic, ..request };
    assert_eq!(run(&request), expected("overlay"));
}

fn too_little_memory_is_named() {
    let mut bundle = Bundle::new("true");
    bundle.config["linux"]["resources"] = serde_json::json!({"memory": {"limit": 40960}});
    let (spec, rootfs) = (spec(&bundle), bundle.rootfs());
    let request = CreateRequest::new(bundle.id(), bundle.path(), &spec, Rootfs::Directory(&rootfs));
    let error = Container::create(&request).unwrap_err();
    assert!(error.to_string().contains("the memory limit is too low"), "{error}");
    assert!(bundle.cgroups().is_empty());
}
