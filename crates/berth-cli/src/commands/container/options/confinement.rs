//! What the container may do, and which namespaces it has of its own.

use std::collections::BTreeSet;

use super::request::{list, word};
use super::value;
use crate::flag;

/// The flags.
#[derive(Debug, Default, clap::Args)]
pub struct ConfinementOptions {
    /// Add an OCI annotation passed to the runtime spec
    #[arg(long = "annotation", value_name = "map", value_parser = value::annotation)]
    pub annotations: Vec<String>,
    /// Add a Linux capability
    #[arg(long, value_name = "list")]
    pub cap_add: Vec<String>,
    /// Remove a Linux capability
    #[arg(long, value_name = "list")]
    pub cap_drop: Vec<String>,
    /// Cgroup namespace mode: host or private
    #[arg(long, value_name = "string")]
    pub cgroupns: Option<String>,
    /// Add a supplementary group by name or gid
    #[arg(long = "group-add", value_name = "list")]
    pub groups: Vec<String>,
    /// Run a small init as PID 1 that forwards signals and reaps zombies
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = flag::boolean)]
    pub init: Option<bool>,
    /// IPC namespace: none, private, shareable, host or container:ID
    #[arg(long, value_name = "string")]
    pub ipc: Option<String>,
    /// Isolation technology (default only on Linux)
    #[arg(long, value_name = "string")]
    pub isolation: Option<String>,
    /// OOM score adjustment -1000 to 1000
    #[arg(long, value_name = "int", default_value_t = 0)]
    pub oom_score_adj: i64,
    /// PID namespace: host or container:ID
    #[arg(long, value_name = "string")]
    pub pid: Option<String>,
    /// All capabilities, all devices, no seccomp, AppArmor, masked paths or read-only paths
    #[arg(long)]
    pub privileged: bool,
    /// Mount the root filesystem read-only
    #[arg(long)]
    pub read_only: bool,
    /// OCI runtime for this container
    #[arg(long, value_name = "string")]
    pub runtime: Option<String>,
    /// Security option: seccomp, apparmor, label, no-new-privileges, systempaths, credentialspec
    #[arg(long = "security-opt", value_name = "list")]
    pub security_options: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", value_parser = value::bytes, default_value_t = 0)]
    pub shm_size: i64,
    /// Namespaced kernel parameter
    #[arg(long = "sysctl", value_name = "map", value_parser = value::sysctl)]
    pub sysctls: Vec<String>,
    /// User namespace mode: host
    #[arg(long, value_name = "string")]
    pub userns: Option<String>,
    /// UTS namespace mode: host
    #[arg(long, value_name = "string")]
    pub uts: Option<String>,
}

impl ConfinementOptions {
    /// Refuses words that no namespace knows.
    pub(super) fn check_modes(&self) -> Result<(), String> {
        let of_container = |mode: &str| mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
        let pid = word(&self.pid);
        if !(pid.is_empty() || pid == "host" || of_container(&pid)) {
            return Err("--pid: invalid PID mode".to_owned());
        }
        for (mode, flag, name) in [(&self.uts, "--uts", "UTS"), (&self.userns, "--userns", "USER")] {
            if !matches!(word(mode).as_str(), "" | "host") {
                return Err(format!("{flag}: invalid {name} mode"));
            }
        }
        if !matches!(word(&self.cgroupns).as_str(), "" | "host" | "private") {
            return Err("--cgroupns: invalid CGROUP mode".to_owned());
        }
        Ok(())
    }
}

/// Capabilities in the kernel's spelling, sorted, none twice; one that is both added and dropped is added.
pub(super) fn capabilities(add: &[String], drop: &[String]) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let normal = |words: &[String]| -> BTreeSet<String> {
        let spell = |word: &String| {
            let word = word.trim().to_ascii_uppercase();
            if word == "ALL" || word.starts_with("CAP_") { word } else { format!("CAP_{word}") }
        };
        let set: BTreeSet<_> = words.iter().map(spell).collect();
        if set.contains("ALL") { BTreeSet::from(["ALL".to_owned()]) } else { set }
    };
    let add = normal(add);
    let drop = normal(drop).difference(&add).cloned().collect::<Vec<_>>();
    (list(add.into_iter().collect()), list(drop))
}
