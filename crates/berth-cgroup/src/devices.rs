//! Which devices the container may make, read and write: the rules of the specification, brought to one end state.

use std::fmt;

use berth_oci::runtime::DeviceCgroup;

use crate::{control_file, error::CgroupError, settings::Settings};

const SETTING: &str = "devices";

/// What remains when all rules were followed in order: a default, and the devices that differ from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeviceRules {
    allow_by_default: bool,
    exceptions: Vec<Exception>,
}

/// Devices that differ from the default; `None` stands for every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Exception {
    pub(crate) kind: DeviceKind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    pub(crate) access: Access,
}

/// The two kinds of devices that rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// What may be done with a device: any of read, write and mknod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access(u8);

impl Access {
    /// Making a node.
    pub const MKNOD: Access = Access(1);
    /// Opening for reading.
    pub const READ: Access = Access(2);
    /// Opening for writing.
    pub const WRITE: Access = Access(4);
    /// All three.
    pub const ALL: Access = Access(7);

    /// The bits as the kernel's device program sees them (`BPF_DEVCG_ACC_`).
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }
}

/// The devices every container gets, whatever its rules say: making any node, and the nodes of the specification's "Default Devices".
#[must_use]
pub fn default_rules() -> Vec<DeviceCgroup> {
    let rule = |kind: &str, major, minor, access: &str| DeviceCgroup {
        allow: true,
        kind: Some(kind.to_owned()),
        major,
        minor,
        access: Some(access.to_owned()),
    };
    let mut rules = vec![rule("c", None, None, "m"), rule("b", None, None, "m")];
    // null, zero, full, random, urandom, tty, ptmx, and all pseudo-terminals.
    let nodes =
        [(1, Some(3)), (1, Some(5)), (1, Some(7)), (1, Some(8)), (1, Some(9)), (5, Some(0)), (5, Some(2)), (136, None)];
    rules.extend(nodes.map(|(major, minor)| rule("c", Some(major), minor, "rwm")));
    rules
}

impl DeviceRules {
    /// Follows the rules in order, starting with everything denied.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`] for malformed rules, and for one that denies a part of what an earlier wider rule allows: v1 cannot
    /// express that and would silently allow the whole.
    pub fn follow<'a>(rules: impl IntoIterator<Item = &'a DeviceCgroup>) -> Result<Self, CgroupError> {
        let mut state = Self { allow_by_default: false, exceptions: Vec::new() };
        for rule in rules {
            state.take(rule)?;
        }
        Ok(state)
    }

    /// Whether devices without an exception are allowed.
    #[must_use]
    pub fn allow_by_default(&self) -> bool {
        self.allow_by_default
    }

    /// Whether nothing is denied.
    pub(crate) fn allows_everything(&self) -> bool {
        self.allow_by_default && self.exceptions.is_empty()
    }

    pub(crate) fn exceptions(&self) -> &[Exception] {
        &self.exceptions
    }

    fn take(&mut self, rule: &DeviceCgroup) -> Result<(), CgroupError> {
        let access = parse_access(rule.access.as_deref())?;
        let (major, minor) = (parse_number("major", rule.major)?, parse_number("minor", rule.minor)?);
        let kinds: &[DeviceKind] = match rule.kind.as_deref() {
            None | Some("a" | "") if major.is_none() && minor.is_none() && access == Access::ALL => {
                *self = Self { allow_by_default: rule.allow, exceptions: Vec::new() };
                return Ok(());
            }
            None | Some("a" | "") => &[DeviceKind::Block, DeviceKind::Char],
            Some("b") => &[DeviceKind::Block],
            Some("c" | "u") => &[DeviceKind::Char],
            Some(other) => {
                return Err(CgroupError::invalid(SETTING, format!("{other:?} is not a device type (a, b or c)")));
            }
        };
        kinds.iter().try_for_each(|kind| self.except(rule.allow, Exception { kind: *kind, major, minor, access }))
    }

    fn except(&mut self, allow: bool, asked: Exception) -> Result<(), CgroupError> {
        let same = self.exceptions.iter_mut().find(|known| known.same_devices(&asked));
        if allow != self.allow_by_default {
            match same {
                Some(known) => known.access.0 |= asked.access.0,
                None => self.exceptions.push(asked),
            }
            return Ok(());
        }
        if let Some(known) = same {
            known.access.0 &= !asked.access.0;
            self.exceptions.retain(|exception| exception.access.0 != 0);
        }
        // Left-over wider exceptions matter only where they still allow what is to be denied; the reverse is merely strict.
        if !allow && self.exceptions.iter().any(|known| known.overlaps(&asked)) {
            let reason = format!("a rule denies {asked}, a part of what another one allows");
            return Err(CgroupError::invalid(SETTING, reason));
        }
        Ok(())
    }
}

impl Exception {
    fn same_devices(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind
            && meet(self.major, other.major)
            && meet(self.minor, other.minor)
            && self.access.0 & other.access.0 != 0
    }
}

impl fmt::Display for Exception {
    /// Writes the rule as v1's files take it: `c 1:3 rwm`, `b *:* m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kind = match self.kind {
            DeviceKind::Block => 'b',
            DeviceKind::Char => 'c',
        };
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        for (bit, letter) in [(Access::READ, "r"), (Access::WRITE, "w"), (Access::MKNOD, "m")] {
            if self.access.0 & bit.0 != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// Writes the end state to the v1 `devices` controller: the default first, then what differs.
pub(crate) fn apply_v1(settings: &mut Settings<'_>, rules: &DeviceRules) -> Result<(), CgroupError> {
    let (default, exceptions) =
        if rules.allow_by_default { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    control_file::write(settings.dir, default, "a")?;
    control_file::write_each(settings.dir, exceptions, rules.exceptions.iter().map(ToString::to_string))
}

fn parse_access(text: Option<&str>) -> Result<Access, CgroupError> {
    let Some(text) = text else { return Ok(Access::ALL) };
    let mut access = Access(0);
    for letter in text.chars() {
        access.0 |= match letter {
            'r' => Access::READ.0,
            'w' => Access::WRITE.0,
            'm' => Access::MKNOD.0,
            _ => return Err(CgroupError::invalid(SETTING, format!("{text:?} is not an access (any of rwm)"))),
        };
    }
    if access.0 == 0 { Ok(Access::ALL) } else { Ok(access) }
}

/// -1 stands for every number, as an absent one does.
fn parse_number(which: &str, number: Option<i64>) -> Result<Option<u32>, CgroupError> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .map_err(|_| CgroupError::invalid(SETTING, format!("{number} is not a {which} number"))),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn rule(allow: bool, text: &str) -> DeviceCgroup {
        let mut words = text.split([' ', ':']);
        let kind = words.next().map(str::to_owned);
        let mut number = || words.next().and_then(|n| n.parse().ok());
        let (major, minor) = (number(), number());
        DeviceCgroup { allow, kind, major, minor, access: words.next().map(str::to_owned) }
    }

    fn follow(rules: &[(bool, &str)]) -> Result<(bool, Vec<String>), String> {
        let rules: Vec<_> = rules.iter().map(|(allow, text)| rule(*allow, text)).collect();
        let state = DeviceRules::follow(&rules).map_err(|e| e.to_string())?;
        Ok((state.allow_by_default, state.exceptions.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn rules_end_in_a_default_and_its_exceptions() {
        let strings = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(follow(&[]), Ok((false, vec![])));
        assert_eq!(
            follow(&[(false, "a *:* rwm"), (true, "c 1:3 rwm"), (true, "c *:* m")]),
            Ok((false, strings(&["c 1:3 rwm", "c *:* m"])))
        );
        assert_eq!(follow(&[(true, "c 1:3 r"), (true, "a *:* rwm")]), Ok((true, vec![])));
        assert_eq!(follow(&[(true, "a"), (false, "b 8:0 w"), (true, "b 8:0 w")]), Ok((true, vec![])));
        assert_eq!(follow(&[(true, "c 1:3 r"), (true, "c 1:3 w")]), Ok((false, strings(&["c 1:3 rw"]))));
        assert_eq!(follow(&[(true, "c 1:3 rwm"), (false, "c 1:3 w")]), Ok((false, strings(&["c 1:3 rm"]))));
        assert_eq!(follow(&[(true, "a 10:200 rw")]), Ok((false, strings(&["b 10:200 rw", "c 10:200 rw"]))));
    }

    #[test]
    fn rules_that_cannot_be_kept_are_refused() {
        assert_eq!(
            follow(&[(true, "c *:* rwm"), (false, "c 1:3 w")]),
            Err("devices: a rule denies c 1:3 w, a part of what another one allows".to_owned())
        );
        assert_eq!(follow(&[(true, "x 1:3 w")]), Err("devices: \"x\" is not a device type (a, b or c)".to_owned()));
        assert_eq!(follow(&[(true, "c 1:3 q")]), Err("devices: \"q\" is not an access (any of rwm)".to_owned()));
    }
}
