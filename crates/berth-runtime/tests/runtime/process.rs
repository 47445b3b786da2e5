//! Who the process is and what it may do.

use serde_json::json;

use crate::bundle::Bundle;
use crate::tests;

tests![
    users_and_groups_are_as_configured,
    home_comes_from_the_containers_own_table,
    capabilities_are_the_five_sets,
    unknown_capabilities_are_skipped_with_a_warning,
    no_new_privileges_is_set,
    limits_of_the_process_are_set,
    the_working_directory_is_made,
    the_working_directory_cannot_lead_out,
    the_working_directory_of_a_user_is_entered_with_his_rights,
    umask_is_set,
    a_filter_refuses_calls,
    a_filter_is_loaded_without_no_new_privileges_too,
    the_oom_score_is_set_or_warned_of,
    unsupported_settings_are_refused,
    uname_speaks_of_a_32_bit_machine,
    signals_have_their_default_actions,
    the_streams_belong_to_the_user,
];

fn check(script: &str, process: serde_json::Value, expected: &str) {
    let mut bundle = Bundle::new(script);
    for (key, value) in process.as_object().unwrap() {
        bundle.config["process"][key] = value.clone();
    }
    bundle.run().prints(expected);
}

fn users_and_groups_are_as_configured() {
    let user = json!({"user": {"uid": 1000, "gid": 1001, "additionalGids": [5, 7]}});
    check("id -u; id -g; id -G", user, "1000\n1001\n1001 5 7\n");
    check("id -G", json!({"user": {"uid": 0, "gid": 0}}), "0\n");
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["user"]["uid"] = u32::MAX.into();
    bundle.run().exits(1).fails("process.user");
}

fn home_comes_from_the_containers_own_table() {
    check("echo $HOME", json!({"user": {"uid": 1000, "gid": 0}}), "/home/user\n");
    check("echo $HOME", json!({"user": {"uid": 4711, "gid": 0}}), "/\n");
    check("echo $HOME", json!({"env": ["PATH=/bin", "HOME=/mine"]}), "/mine\n");
}

fn capabilities_are_the_five_sets() {
    let script = "grep Cap /proc/self/status";
    let sets = json!({"capabilities": {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    }, "user": {"uid": 1000, "gid": 1000}});
    // Another user keeps over execve what is ambient.
    let expected = "CapInh:\t0000000000000020\nCapPrm:\t0000000000000020\nCapEff:\t0000000000000020\n\
                    CapBnd:\t0000000000002021\nCapAmb:\t0000000000000020\n";
    check(script, sets, expected);
    let none = json!({"capabilities": {}});
    let zero = "0000000000000000";
    check(
        script,
        none,
        &format!("CapInh:\t{zero}\nCapPrm:\t{zero}\nCapEff:\t{zero}\nCapBnd:\t{zero}\nCapAmb:\t{zero}\n"),
    );
}

fn unknown_capabilities_are_skipped_with_a_warning() {
    let mut bundle = Bundle::new("grep CapEff /proc/self/status");
    let sets = json!(["CAP_FLYING", "CAP_KILL"]);
    bundle.config["process"]["capabilities"] = json!({"bounding": sets, "permitted": sets, "effective": sets});
    let outcome = bundle.run().prints("CapEff:\t0000000000000020\n");
    assert!(outcome.stderr.contains("level=warning") && outcome.stderr.contains("CAP_FLYING"), "{}", outcome.stderr);
}

fn no_new_privileges_is_set() {
    check("grep NoNewPrivs /proc/self/status", json!({"noNewPrivileges": true}), "NoNewPrivs:\t1\n");
    check("grep NoNewPrivs /proc/self/status", json!({}), "NoNewPrivs:\t0\n");
}

fn limits_of_the_process_are_set() {
    let limits = json!({"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]});
    check("ulimit -Sn; ulimit -Hn", limits, "100\n200\n");
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1}]);
    bundle.run().exits(1).fails("RLIMIT_NOSUCH: no such limit");
}

fn the_working_directory_is_made() {
    check("pwd", json!({"cwd": "/some/new/../place"}), "/some/place\n");
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["cwd"] = "/etc/passwd".into();
    bundle.run().exits(1).fails("changing to the working directory \\\"/etc/passwd\\\": not a directory");
}

/// CVE-2024-21626: a descriptor of the host's must not be a way out.
fn the_working_directory_cannot_lead_out() {
    for number in 0..20 {
        let mut bundle = Bundle::new("pwd; ls");
        bundle.config["process"]["cwd"] = format!("/proc/self/fd/{number}").into();
        bundle.run().exits(1).fails("changing to the working directory");
    }
}

fn the_working_directory_of_a_user_is_entered_with_his_rights() {
    let mut bundle = Bundle::new("pwd");
    let own = bundle.rootfs().join("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&own, Some(1000), Some(1000)).unwrap();
    bundle.config["process"]["cwd"] = "/own".into();
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.run().prints("/own\n");
}

fn umask_is_set() {
    check("umask", json!({}), "0022\n");
    check("umask", json!({"user": {"uid": 0, "gid": 0, "umask": 0o077}}), "0077\n");
}

fn seccomp() -> serde_json::Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
    })
}

fn a_filter_refuses_calls() {
    let mut bundle = Bundle::new("mkdir /tmp/x 2>&1; grep Seccomp: /proc/self/status");
    bundle.config["linux"]["seccomp"] = seccomp();
    bundle.config["process"]["noNewPrivileges"] = true.into();
    bundle.run().prints("mkdir: can't create directory '/tmp/x': No space left on device\nSeccomp:\t2\n");
}

fn a_filter_is_loaded_without_no_new_privileges_too() {
    let mut bundle =
        Bundle::new("grep -E 'Seccomp:|NoNew|CapEff' /proc/self/status; mkdir /tmp/x 2>/dev/null || echo refused");
    bundle.config["linux"]["seccomp"] = seccomp();
    bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    bundle.run().prints("CapEff:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\nrefused\n");
    bundle.config["process"]["args"] = json!(["sleep", "100"]);
    bundle.start();
    bundle.call(&["exec", bundle.id(), "grep", "Seccomp:", "/proc/self/status"]).prints("Seccomp:\t2\n");
}

fn the_oom_score_is_set_or_warned_of() {
    check("cat /proc/self/oom_score_adj", json!({"oomScoreAdj": 321}), "321\n");
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["oomScoreAdj"] = (-999).into();
    let outcome = bundle.run().succeeds();
    assert!(outcome.stderr.is_empty() || outcome.stderr.contains("not permitted"), "{}", outcome.stderr);
}

fn unsupported_settings_are_refused() {
    for (key, value) in [
        ("intelRdt", json!({"closID": "x"})),
        ("memoryPolicy", json!({"mode": "MPOL_BIND"})),
        ("netDevices", json!({"eth0": {}})),
    ] {
        let mut bundle = Bundle::new("true");
        bundle.config["linux"][key] = value;
        bundle.run().exits(1).fails(&format!("linux.{key}: is not supported"));
    }
    let mut bundle = Bundle::new("true");
    bundle.config["ociVersion"] = "2.0.0".into();
    bundle.run().exits(1).fails("ociVersion");
}

fn uname_speaks_of_a_32_bit_machine() {
    if cfg!(target_arch = "x86_64") {
        let mut bundle = Bundle::new("uname -m");
        bundle.config["linux"]["personality"] = json!({"domain": "LINUX32"});
        bundle.run().prints("i686\n");
    }
}

fn signals_have_their_default_actions() {
    // No shell in between, which has ideas of its own.
    let mut bundle = Bundle::new("");
    bundle.config["process"]["args"] = json!(["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]);
    bundle.run().prints("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

fn the_streams_belong_to_the_user() {
    // Opening one's own output again works for a pipe only if one owns it.
    check("echo again >/proc/self/fd/1", json!({"user": {"uid": 1000, "gid": 1000}}), "again\n");
}
