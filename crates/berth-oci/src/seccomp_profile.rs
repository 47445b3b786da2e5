//! Docker's seccomp profile format, resolved to the runtime specification's.
//!
//! A profile in this format is a superset of the specification's `linux.seccomp`: its rules may depend on capabilities, architecture and
//! kernel version (`includes`, `excludes`), and `archMap` says which architectures a machine admits beside its own. Users give profiles
//! in either form. Here they become one [`LinuxSeccomp`] for one container; what the kernel runs is made elsewhere.

use std::sync::LazyLock;

use berth_model::ErrorKind;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::runtime::{LinuxSeccomp, NameList, SeccompAction, SeccompArg, SeccompSyscall};

/// Docker's default profile, byte for byte (Apache-2.0, see `data/NOTICE`).
const DOCKER_DEFAULT: &str = include_str!("../data/seccomp-default.json");

/// A profile as Docker's users write it, not yet resolved for a container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompProfile {
    default_action: SeccompAction,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    architectures: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    arch_map: Vec<ArchitectureGroup>,
    #[serde(default, deserialize_with = "null_is_empty")]
    flags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    listener_path: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    listener_metadata: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    syscalls: Vec<ProfileRule>,
}

/// An architecture and the others that its kernel serves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureGroup {
    architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    sub_architectures: Vec<String>,
}

/// A rule and when it counts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileRule {
    /// The old form with one name.
    #[serde(default, deserialize_with = "null_is_empty")]
    name: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    names: NameList,
    action: SeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    args: Vec<SeccompArg>,
    #[serde(default, deserialize_with = "null_is_empty")]
    includes: Circumstances,
    #[serde(default, deserialize_with = "null_is_empty")]
    excludes: Circumstances,
}

/// Circumstances of a container. Includes need all that are given, excludes any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Circumstances {
    #[serde(default, deserialize_with = "null_is_empty")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    arches: Vec<String>,
    #[serde(default)]
    min_kernel: Option<KernelVersion>,
}

/// `4.8`: the first two numbers of a kernel's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct KernelVersion(u32, u32);

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompProfileError {
    /// The text is not JSON, or not of this form.
    #[error("decoding seccomp profile failed: {0}")]
    Decode(#[from] serde_json::Error),
    /// Two ways to name architectures at once.
    #[error(
        "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
    )]
    TwoArchitectures,
    /// Two ways to name system calls at once.
    #[error("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")]
    TwoNames,
}

impl SeccompProfileError {
    /// The kind, for whoever turns it into a status.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// Docker's default profile for a container with these capabilities (the bounding set, `CAP_` names) on this machine and a kernel of this
/// version. Resolving takes some tens of microseconds: keep the result for each set of capabilities.
#[must_use]
pub fn docker_default(capabilities: &[impl AsRef<str>], kernel: (u32, u32)) -> LinuxSeccomp {
    static PROFILE: LazyLock<SeccompProfile> =
        LazyLock::new(|| parse_profile(DOCKER_DEFAULT).expect("the embedded profile is well-formed"));
    PROFILE.resolve(capabilities, kernel)
}

/// Reads a profile that a user gave (`--security-opt seccomp=FILE`), in Docker's form or the specification's.
///
/// # Errors
/// [`SeccompProfileError`].
pub fn parse_profile(json: &str) -> Result<SeccompProfile, SeccompProfileError> {
    let mut profile: SeccompProfile = serde_json::from_str(json)?;
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(SeccompProfileError::TwoArchitectures);
    }
    for rule in profile.syscalls.iter_mut().filter(|rule| !rule.name.is_empty()) {
        if !rule.names.is_empty() {
            return Err(SeccompProfileError::TwoNames);
        }
        rule.names = NameList::from_iter([std::mem::take(&mut rule.name)]);
    }
    Ok(profile)
}

impl SeccompProfile {
    /// The profile for one container: the rules that count for its capabilities, this machine and this kernel.
    #[must_use]
    pub fn resolve(&self, capabilities: &[impl AsRef<str>], kernel: (u32, u32)) -> LinuxSeccomp {
        let (machine, architecture) =
            if cfg!(target_arch = "aarch64") { ("arm64", "SCMP_ARCH_AARCH64") } else { ("amd64", "SCMP_ARCH_X86_64") };
        let capabilities: Vec<&str> = capabilities.iter().map(AsRef::as_ref).collect();
        let here = Container { capabilities: &capabilities, machine, kernel: KernelVersion(kernel.0, kernel.1) };
        let rules = self.syscalls.iter().filter(|rule| here.includes(&rule.includes) && !here.excludes(&rule.excludes));
        LinuxSeccomp {
            default_action: self.default_action,
            default_errno_ret: self.default_errno_ret,
            architectures: self.architectures_of(architecture),
            flags: self.flags.clone(),
            listener_path: self.listener_path.clone(),
            listener_metadata: self.listener_metadata.clone(),
            syscalls: rules.map(ProfileRule::plain).collect(),
        }
    }

    fn architectures_of(&self, native: &str) -> Vec<String> {
        let Some(group) = self.arch_map.iter().find(|group| group.architecture == native) else {
            return self.architectures.clone();
        };
        [&group.architecture].into_iter().chain(&group.sub_architectures).cloned().collect()
    }
}

impl ProfileRule {
    fn plain(&self) -> SeccompSyscall {
        SeccompSyscall {
            names: self.names.clone(),
            action: self.action,
            errno_ret: self.errno_ret,
            args: self.args.clone(),
        }
    }
}

/// What circumstances are compared with.
struct Container<'a> {
    capabilities: &'a [&'a str],
    machine: &'a str,
    kernel: KernelVersion,
}

impl Container<'_> {
    fn includes(&self, asked: &Circumstances) -> bool {
        asked.caps.iter().all(|capability| self.capabilities.contains(&capability.as_str()))
            && (asked.arches.is_empty() || asked.arches.iter().any(|machine| machine == self.machine))
            && asked.min_kernel.is_none_or(|version| self.kernel >= version)
    }

    fn excludes(&self, asked: &Circumstances) -> bool {
        asked.caps.iter().any(|capability| self.capabilities.contains(&capability.as_str()))
            || asked.arches.iter().any(|machine| machine == self.machine)
            || asked.min_kernel.is_some_and(|version| self.kernel >= version)
    }
}

impl<'de> Deserialize<'de> for KernelVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let numbers = text.split_once('.').and_then(|(a, b)| Some(Self(a.parse().ok()?, b.parse().ok()?)));
        numbers.ok_or_else(|| {
            D::Error::custom(format!("invalid kernel version: {text:?}, expected \"<kernel>.<major>\", like \"4.8\""))
        })
    }
}

/// Profiles written by Go programs spell empty lists and objects as `null`.
fn null_is_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &[&str] = &[];

    fn names(profile: &LinuxSeccomp, with_arguments: bool) -> Vec<&str> {
        let rules = profile.syscalls.iter().filter(|rule| rule.args.is_empty() != with_arguments);
        rules.flat_map(|rule| rule.names.iter()).collect()
    }

    #[test]
    fn capabilities_open_what_belongs_to_them() {
        let plain = docker_default(NONE, (6, 1));
        assert!(!names(&plain, false).contains(&"mount"));
        assert!(names(&plain, true).contains(&"clone"), "clone without new namespaces");
        assert!(names(&plain, false).contains(&"ptrace"), "since Linux 4.8");
        let admin = docker_default(&["CAP_SYS_ADMIN"], (6, 1));
        assert!(names(&admin, false).contains(&"mount"));
        assert!(!names(&admin, true).contains(&"clone"));
        let old = docker_default(NONE, (4, 7));
        assert!(!names(&old, false).contains(&"ptrace"));
    }

    #[test]
    fn the_machine_admits_its_sub_architectures() {
        let expected: &[&str] = if cfg!(target_arch = "aarch64") {
            &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
        } else {
            &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
        };
        assert_eq!(docker_default(NONE, (6, 1)).architectures, expected);
    }

    #[test]
    fn clone3_looks_missing_without_the_right_to_make_namespaces() {
        let clone3 = |profile: LinuxSeccomp| {
            profile.syscalls.into_iter().find(|rule| rule.names.iter().any(|name| name == "clone3")).unwrap()
        };
        let plain = clone3(docker_default(NONE, (6, 1)));
        assert_eq!((plain.action, plain.errno_ret), (SeccompAction::Errno, Some(38)));
        assert_eq!(clone3(docker_default(&["CAP_SYS_ADMIN"], (6, 1))).action, SeccompAction::Allow);
    }

    #[test]
    fn profiles_come_in_both_forms_and_with_nulls() {
        let old = r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{"name":"read","action":"SCMP_ACT_ALLOW","args":null,"includes":{},"excludes":null}]}"#;
        let resolved = parse_profile(old).unwrap().resolve(NONE, (6, 1));
        assert_eq!(resolved.architectures, ["SCMP_ARCH_X86_64"]);
        assert_eq!(names(&resolved, false), ["read"]);
        let plain = serde_json::to_string(&docker_default(NONE, (6, 1))).unwrap();
        assert_eq!(parse_profile(&plain).unwrap().resolve(NONE, (4, 0)), docker_default(NONE, (6, 1)));
    }

    #[test]
    fn contradictions_are_refused_in_the_words_users_know() {
        let error = |json: &str| parse_profile(json).unwrap_err().to_string();
        assert_eq!(error("{"), "decoding seccomp profile failed: EOF while parsing an object at line 1 column 1");
        assert_eq!(
            error(r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["a"],"archMap":[{"architecture":"b"}]}"#),
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
        );
        assert_eq!(
            error(
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_LOG"}]}"#
            ),
            "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
        );
        let version =
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_LOG","includes":{"minKernel":"x"}}]}"#;
        assert!(matches!(parse_profile(version), Err(SeccompProfileError::Decode(_))));
    }
}
