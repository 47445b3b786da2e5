//! The system call filter ("Linux Container Configuration", section "Seccomp").

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{NameList, is_zero};

/// A filter as the text of its document. It is most of a configuration, and needed only where it is compiled anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SeccompText(Box<RawValue>);

impl SeccompText {
    /// Writes a filter down.
    #[must_use]
    pub fn of(filter: &LinuxSeccomp) -> Self {
        Self(serde_json::value::to_raw_value(filter).expect("words and numbers can be written as JSON"))
    }

    /// The text, which is well-formed JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// Reads the filter.
    ///
    /// # Errors
    /// Where the text is of something else.
    pub fn read(&self) -> Result<LinuxSeccomp, serde_json::Error> {
        serde_json::from_str(self.text())
    }
}

impl PartialEq for SeccompText {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

/// A filter: a default action and rules that differ from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxSeccomp {
    /// What happens to a call that no rule names.
    pub default_action: SeccompAction,
    /// `errno` of the default action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_` names; empty means the machine's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_` names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Socket that receives the notification descriptor.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub listener_path: String,
    /// Passed to the listener unread.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub listener_metadata: String,
    /// The rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<SeccompSyscall>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompSyscall {
    /// Names of system calls.
    pub names: NameList,
    /// What happens to them.
    pub action: SeccompAction,
    /// `errno` or trace message of the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions on arguments; all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<SeccompArg>,
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompArg {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// What it is compared with; the mask for `MaskedEqual`.
    pub value: u64,
    /// The value under the mask.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value_two: u64,
    /// How.
    pub op: SeccompOperator,
}

/// What a filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SeccompAction {
    /// Kills the thread (the old name).
    #[serde(rename = "SCMP_ACT_KILL")]
    Kill,
    /// Kills the process.
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    /// Kills the thread.
    #[serde(rename = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    /// Sends `SIGSYS`.
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    /// Fails with an `errno`.
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    /// Tells a tracer.
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    /// Allows.
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    /// Allows and logs.
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    /// Asks the listener.
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SeccompOperator {
    /// Not equal.
    #[serde(rename = "SCMP_CMP_NE")]
    NotEqual,
    /// Less.
    #[serde(rename = "SCMP_CMP_LT")]
    Less,
    /// Less or equal.
    #[serde(rename = "SCMP_CMP_LE")]
    LessOrEqual,
    /// Equal.
    #[serde(rename = "SCMP_CMP_EQ")]
    Equal,
    /// Greater or equal.
    #[serde(rename = "SCMP_CMP_GE")]
    GreaterOrEqual,
    /// Greater.
    #[serde(rename = "SCMP_CMP_GT")]
    Greater,
    /// Equal under a mask.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEqual,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Linux;

    #[test]
    fn a_filter_is_kept_as_it_was_written_and_read_later() {
        let written = r#"{"seccomp":{"defaultAction": "SCMP_ACT_ALLOW"}}"#;
        let linux: Linux = serde_json::from_str(written).unwrap();
        let kept = linux.seccomp.clone().unwrap();
        assert_eq!(kept.text(), r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#);
        let filter = kept.read().unwrap();
        assert_eq!(filter.default_action, SeccompAction::Allow);
        assert_eq!(SeccompText::of(&filter).read().unwrap(), filter);
        assert_eq!(serde_json::to_string(&linux).unwrap().matches("SCMP_ACT_ALLOW").count(), 1);
        assert_eq!(
            serde_json::from_value::<Linux>(serde_json::to_value(&linux).unwrap())
                .unwrap()
                .seccomp
                .unwrap()
                .read()
                .unwrap(),
            filter
        );
    }

    #[test]
    fn what_is_no_filter_is_found_out_when_it_is_read() {
        let linux: Linux = serde_json::from_str(r#"{"seccomp":{"defaultAction":7}}"#).unwrap();
        assert!(linux.seccomp.unwrap().read().is_err());
    }
}
