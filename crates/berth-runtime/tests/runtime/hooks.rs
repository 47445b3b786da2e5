//! Programs of the configuration at points of the container's life.

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::tests;

tests![
    hooks_run_in_their_order,
    hooks_get_the_state,
    a_failed_hook_undoes_the_creation,
    a_failed_poststart_ends_the_container
];

fn hook(script: &str) -> Value {
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}])
}

fn hooks_run_in_their_order() {
    let mut bundle = Bundle::new("echo program >>/log");
    std::fs::write(bundle.rootfs().join("log"), "").unwrap();
    let log = bundle.rootfs().join("log");
    let outside = |word: &str| hook(&format!("echo {word} >>{}", log.display()));
    bundle.config["hooks"] = json!({
        "prestart": outside("prestart"),
        "createRuntime": outside("createRuntime"),
        "createContainer": outside("createContainer"),
        "startContainer": hook("echo startContainer >>/log"),
        "poststart": outside("poststart"),
        "poststop": outside("poststop"),
    });
    bundle.create().succeeds();
    let read = || std::fs::read_to_string(&log).unwrap();
    assert_eq!(read(), "prestart\ncreateRuntime\ncreateContainer\n");
    bundle.call(&["start", bundle.id()]).succeeds();
    bundle.wait_for("stopped");
    bundle.call(&["delete", bundle.id()]).succeeds();
    let text = read();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[3], "startContainer");
    assert!(lines[4..6].contains(&"program") && lines[4..6].contains(&"poststart"), "{text}");
    assert_eq!(lines[6], "poststop");
}

fn hooks_get_the_state() {
    let mut bundle = Bundle::new("true");
    let told = bundle.path().join("told");
    bundle.config["annotations"] = json!({"key": "value"});
    bundle.config["hooks"] = json!({
        "createRuntime": hook(&format!("cat >{}", told.display())),
        "createContainer": hook(&format!("cat >{}.inside; readlink /proc/self/ns/mnt >{}.ns", told.display(), told.display())),
    });
    bundle.create().succeeds();
    let read = |suffix: &str| std::fs::read_to_string(format!("{}{suffix}", told.display())).unwrap();
    for text in [read(""), read(".inside")] {
        let state: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((state["id"].as_str(), state["status"].as_str()), (Some(bundle.id()), Some("creating")));
        assert_eq!(state["annotations"]["key"], "value");
        let known: Value = serde_json::from_str(&bundle.call(&["state", bundle.id()]).succeeds().stdout).unwrap();
        assert_eq!(state["pid"], known["pid"]);
        assert_eq!(known["annotations"]["key"], "value");
    }
    assert_ne!(read(".ns").trim(), std::fs::read_link("/proc/self/ns/mnt").unwrap().to_str().unwrap());
}

fn a_failed_hook_undoes_the_creation() {
    for point in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = Bundle::new("true");
        bundle.config["hooks"] = json!({point: hook("exit 3")});
        bundle.create().exits(1).fails(&format!("running {point} hook \\\"/bin/sh\\\": exit status 3"));
        assert!(bundle.cgroups().is_empty());
        bundle.call(&["state", bundle.id()]).fails("does not exist");
    }
    let mut bundle = Bundle::new("true");
    bundle.config["hooks"] = json!({"startContainer": hook("exit 3")});
    bundle.create().succeeds();
    bundle.call(&["start", bundle.id()]).exits(1).fails("running startContainer hook");
    bundle.wait_for("stopped");
}

fn a_failed_poststart_ends_the_container() {
    let mut bundle = Bundle::new("sleep 100");
    bundle.config["hooks"] = json!({"poststart": hook("exit 3")});
    bundle.create().succeeds();
    bundle.call(&["start", bundle.id()]).exits(1).fails("running poststart hook");
    bundle.wait_for("stopped");
}
