//! Who the process is and what it may do: users, groups and the five capability sets. See capabilities(7).

use berth_oci::runtime::{Capabilities, Process, User};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::{RuntimeError, Step};

/// The identity of a process, understood.
#[derive(Debug)]
pub(crate) struct Credentials {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    sets: Option<Sets>,
    no_new_privileges: bool,
}

/// The five sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sets {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

/// The last step of the identity, which must come after the seccomp filter is loaded.
#[derive(Debug)]
pub(crate) struct Remaining(Option<CapabilitySets>);

impl Credentials {
    /// Understands them; names that nobody knows are skipped, and named in `warnings`.
    pub(crate) fn new(process: &Process, warnings: &mut Vec<String>) -> Result<Credentials, RuntimeError> {
        let User { uid, gid, additional_gids, .. } = &process.user;
        // The number that means "unchanged" to the system calls would leave the process root.
        if [*uid, *gid].contains(&u32::MAX) || additional_gids.contains(&u32::MAX) {
            return Err(RuntimeError::invalid("process.user", format!("{} is no user or group id", u32::MAX)));
        }
        Ok(Credentials {
            uid: Uid::from_raw(*uid),
            gid: Gid::from_raw(*gid),
            groups: additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect(),
            sets: process.capabilities.as_ref().map(|sets| Sets::new(sets, warnings)),
            no_new_privileges: process.no_new_privileges,
        })
    }

    /// The user, for the streams it must be able to open again.
    pub(crate) fn uid(&self) -> Uid {
        self.uid
    }

    /// Becomes the user, with all capabilities as they will be, but for the right to load a filter when `filtered`.
    ///
    /// So the waiting process, its look for the program and its way into the working directory have the user's rights only.
    pub(crate) fn assume(&self, filtered: bool) -> Result<Remaining, RuntimeError> {
        if let Some(sets) = &self.sets {
            sets.limit_bounding()?;
        }
        rustix::thread::set_keep_capabilities(true).step("keeping capabilities", "")?;
        // Root of a user namespace may not be allowed to drop groups it has none of.
        let result = rustix::thread::set_thread_groups(&self.groups);
        if !self.groups.is_empty() || !matches!(result, Err(rustix::io::Errno::PERM)) {
            result.step("setting supplementary groups", "")?;
        }
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid).step("setting the group id", "")?;
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid).step("setting the user id", "")?;
        rustix::thread::set_keep_capabilities(false).step("keeping capabilities", "")?;
        self.limit_capabilities(filtered)
    }

    fn limit_capabilities(&self, filtered: bool) -> Result<Remaining, RuntimeError> {
        let Some(sets) = self.sets else {
            self.forbid_new_privileges()?;
            return Ok(Remaining(None));
        };
        let last = sets.last();
        let needs_admin = filtered && !self.no_new_privileges;
        let mut now = last;
        if needs_admin {
            now.effective |= CapabilitySet::SYS_ADMIN;
            now.permitted |= CapabilitySet::SYS_ADMIN;
        }
        rustix::thread::set_capabilities(None, now).step("setting capabilities", "")?;
        sets.raise_ambient()?;
        self.forbid_new_privileges()?;
        Ok(Remaining((now != last).then_some(last)))
    }

    fn forbid_new_privileges(&self) -> Result<(), RuntimeError> {
        if !self.no_new_privileges {
            return Ok(());
        }
        rustix::thread::set_no_new_privs(true).step("setting no_new_privs", "")
    }
}

impl Remaining {
    /// Drops what was kept for the filter. The filter in force must allow capset(2).
    pub(crate) fn apply(&self) -> Result<(), RuntimeError> {
        match self.0 {
            Some(last) => rustix::thread::set_capabilities(None, last).step("setting capabilities", ""),
            None => Ok(()),
        }
    }
}

impl Sets {
    fn new(names: &Capabilities, warnings: &mut Vec<String>) -> Sets {
        let mut unknown = Vec::new();
        let mut set = |names: &[String]| {
            names.iter().fold(CapabilitySet::empty(), |set, name| match parse(name) {
                Some(capability) => set | capability,
                None => {
                    if !unknown.contains(name) {
                        unknown.push(name.clone());
                    }
                    set
                }
            })
        };
        let sets = Sets {
            bounding: set(&names.bounding),
            effective: set(&names.effective),
            permitted: set(&names.permitted),
            inheritable: set(&names.inheritable),
            ambient: set(&names.ambient),
        };
        if !unknown.is_empty() {
            warnings.push(format!("ignoring unknown or unavailable capabilities: {unknown:?}"));
        }
        sets.available()
    }

    /// Less what this kernel does not know.
    fn available(self) -> Sets {
        let known = known();
        Sets {
            bounding: self.bounding & known,
            effective: self.effective & known,
            permitted: self.permitted & known,
            inheritable: self.inheritable & known,
            ambient: self.ambient & known,
        }
    }

    fn last(&self) -> CapabilitySets {
        CapabilitySets { effective: self.effective, permitted: self.permitted, inheritable: self.inheritable }
    }

    fn limit_bounding(&self) -> Result<(), RuntimeError> {
        for capability in known().difference(self.bounding).iter() {
            rustix::thread::remove_capability_from_bounding_set(capability)
                .step("dropping a capability from the bounding set", "")?;
        }
        Ok(())
    }

    /// Those that are not permitted or not inheritable are skipped: the kernel would refuse them.
    fn raise_ambient(&self) -> Result<(), RuntimeError> {
        rustix::thread::clear_ambient_capability_set().step("clearing ambient capabilities", "")?;
        for capability in (self.ambient & self.permitted & self.inheritable).iter() {
            rustix::thread::configure_capability_in_ambient_set(capability, true)
                .step("setting ambient capabilities", "")?;
        }
        Ok(())
    }
}

/// The capability of a name such as `CAP_CHOWN`.
fn parse(name: &str) -> Option<CapabilitySet> {
    CapabilitySet::from_name(name.strip_prefix("CAP_")?)
}

/// All that this kernel knows: the bounding set of the machine's first process has them all, ours may have fewer.
fn known() -> CapabilitySet {
    let newest = CapabilitySet::CHECKPOINT_RESTORE;
    let all = CapabilitySet::from_bits_retain((newest.bits() << 1) - 1);
    // Capabilities are numbered without gaps: one look at the newest spares forty.
    let is_known = |capability: &CapabilitySet| rustix::thread::capability_is_in_bounding_set(*capability).is_ok();
    if is_known(&newest) { all } else { all.iter().filter(is_known).collect() }
}

/// The names of all capabilities known here, in the kernel's order.
pub(crate) fn names() -> Vec<String> {
    known().iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_skipped_with_one_warning() {
        let mut warnings = Vec::new();
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let capabilities = Capabilities {
            bounding: names(&["CAP_CHOWN", "CAP_FLYING", "chown"]),
            effective: names(&["CAP_FLYING", "CAP_KILL"]),
            ..Capabilities::default()
        };
        let sets = Sets::new(&capabilities, &mut warnings);
        assert_eq!(sets.bounding, CapabilitySet::CHOWN);
        assert_eq!(sets.effective, CapabilitySet::KILL);
        assert_eq!(warnings, [r#"ignoring unknown or unavailable capabilities: ["CAP_FLYING", "chown"]"#]);
    }

    #[test]
    fn all_names_are_listed() {
        let names = names();
        assert!(names.len() >= 40, "{names:?}");
        assert_eq!(names[0], "CAP_CHOWN");
    }

    #[test]
    fn the_number_for_unchanged_is_refused() {
        let mut process = Process::default();
        process.user.uid = u32::MAX;
        assert!(Credentials::new(&process, &mut Vec::new()).is_err());
    }
}
