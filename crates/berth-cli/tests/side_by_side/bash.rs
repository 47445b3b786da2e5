//! The completion script in a real bash, where there is one, with a daemon of paper behind it.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::AS_CLIENT;
use crate::server::{Route, Server};

/// A line up to the cursor, and the words that bash offers.
const LINES: &[(&str, &str)] = &[
    ("berth ima", "image images"),
    ("berth image his", "history"),
    ("berth stop ", "web"),
    ("berth rm w", "wdb web"),
    ("berth rm web ", "wdb"),
    ("berth run host:5000/b", "5000/busybox:1.0"),
    ("berth rmi busybox:", "latest"),
    ("berth run --restart un", "unless-stopped"),
    ("berth ps --format=", "json table"),
    ("berth ps --no", "--no-trunc"),
    ("berth volume rm ", "data"),
];

/// Completes every line and counts those that come out differently.
pub fn failures(server: &Server, directory: &Path, socket: &Path) -> usize {
    if Command::new("bash").arg("--version").output().is_err() {
        println!("bash is not installed: its completion is not tried");
        return 0;
    }
    let bin = directory.join("bin");
    std::fs::create_dir_all(&bin).expect("directory");
    std::os::unix::fs::symlink(std::env::current_exe().expect("own path"), bin.join("berth")).expect("link");
    server.play(&routes());
    LINES.iter().filter(|(line, want)| !completes(line, want, &bin, socket)).count()
}

fn completes(line: &str, want: &str, bin: &Path, socket: &Path) -> bool {
    let script =
        "source <(berth completion bash); COMP_LINE=$1; COMP_POINT=${#1}; _berth_complete; echo \"${COMPREPLY[*]}\"";
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash", line]).env("PATH", path).env(AS_CLIENT, "1");
    let output = bash.env("DOCKER_HOST", format!("unix://{}", socket.display())).output().expect("bash");
    let got = String::from_utf8_lossy(&output.stdout);
    if got.trim_end() != want {
        println!("--- completion of {line:?}\n  want: {want}\n  got:  {}", got.trim_end());
    }
    got.trim_end() == want
}

fn routes() -> Vec<Route> {
    let get = |path: &str, body: serde_json::Value| Route {
        method: "GET",
        path: path.into(),
        status: 200,
        body: body.to_string(),
    };
    vec![
        get(
            "/containers/json",
            json!([
                {"Id": "a", "Names": ["/web", "/other/alias"], "State": "running"},
                {"Id": "b", "Names": ["/wdb"], "State": "exited"},
            ]),
        ),
        get(
            "/images/json",
            json!([{"RepoTags": ["host:5000/busybox:1.0", "busybox:latest"]}, {"RepoTags": ["<none>:<none>"]}]),
        ),
        get("/volumes", json!({"Volumes": [{"Name": "data"}]})),
    ]
}
