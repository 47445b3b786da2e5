//! Processes with a terminal of their own.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use serde_json::json;

use crate::bundle::Bundle;
use crate::tests;

tests![
    a_created_container_hands_over_its_terminal,
    an_exec_has_a_terminal_too,
    a_terminal_needs_somebody_to_take_it,
    a_console_of_the_image_is_no_way_out,
];

/// Takes the terminal that is sent to the socket, and reads all that is written to it.
fn receive(listener: &UnixListener) -> std::fs::File {
    let (socket, _) = listener.accept().unwrap();
    let mut descriptors = Vec::new();
    let count = berth_sys::fdpass::receive(socket.as_fd(), &mut [0_u8; 64], &mut descriptors).unwrap();
    assert!(count > 0);
    descriptors.pop().unwrap().into()
}

fn read_all(mut master: &std::fs::File) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0_u8; 1024]);
    // A terminal that everybody left gives an error at its end.
    while let Ok(count @ 1..) = master.read(&mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&text).replace('\r', "")
}

fn a_created_container_hands_over_its_terminal() {
    let mut bundle = Bundle::new(
        "tty; stty size; stat -c %t /dev/console; echo said >/dev/console; [ -t 0 ] && [ -t 2 ] && echo all",
    );
    bundle.config["process"]["terminal"] = true.into();
    bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 99});
    bundle.write_config();
    let path = bundle.path().join("console");
    let listener = UnixListener::bind(&path).unwrap();
    let args = [
        "create",
        "--console-socket",
        &path.to_string_lossy(),
        "--bundle",
        &bundle.path().to_string_lossy(),
        bundle.id(),
    ];
    bundle.call(&args).succeeds();
    let master = receive(&listener);
    bundle.call(&["start", bundle.id()]).succeeds();
    let text = read_all(&master);
    assert!(text.starts_with("/dev/pts/0\n33 99\n88\n") || text.contains("33 99"), "{text}");
    assert!(text.contains("said\n") && text.ends_with("all\n"), "{text}");
}

fn an_exec_has_a_terminal_too() {
    let bundle = Bundle::new("sleep 100");
    bundle.start();
    let path = bundle.path().join("console");
    let listener = UnixListener::bind(&path).unwrap();
    let path = path.to_string_lossy();
    let args = ["exec", "--tty", "--detach", "--console-socket", &path, bundle.id(), "sh", "-c", "tty; cat </dev/tty"];
    let status = bundle.command(&args).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    let master = receive(&listener);
    use std::io::Write;
    (&master).write_all(b"typed\n\x04").unwrap();
    let text = read_all(&master);
    assert!(text.contains("/dev/pts/0\n") && text.matches("typed").count() == 2, "{text}");
}

fn a_terminal_needs_somebody_to_take_it() {
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["terminal"] = true.into();
    bundle.create().exits(1).fails("needs a console socket");
    bundle.config["process"]["terminal"] = false.into();
    bundle.write_config();
    let args = ["create", "--console-socket", "/x", "--bundle", &bundle.path().to_string_lossy(), bundle.id()];
    bundle.call(&args).exits(1).fails("without a terminal");
    bundle.config["process"]["terminal"] = true.into();
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "devpts");
    bundle.run().exits(1).fails("devpts");
}

/// CVE-2025-52565: links in place of `/dev/console` or the terminals.
fn a_console_of_the_image_is_no_way_out() {
    let mut bundle = Bundle::new("true");
    let dev = bundle.path().join("dev");
    std::fs::create_dir(&dev).unwrap();
    std::os::unix::fs::symlink("/proc/sysrq-trigger", dev.join("console")).unwrap();
    bundle.config["mounts"][1] = json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind"]});
    bundle.config["process"]["terminal"] = true.into();
    let outcome = bundle.run();
    // The link is followed inside the root only; covering a file of procfs there is refused or harms nobody.
    assert!(
        outcome.status == 0 || outcome.stderr.contains("/dev/console") || outcome.stderr.contains("/dev/null"),
        "{}",
        outcome.stderr
    );
}
