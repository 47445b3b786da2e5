//! What a profile says about each system call of each ABI.
//!
//! The meeting of rules follows runc and libseccomp, since that is what profiles were written against:
//! - a rule whose action is the default action says nothing;
//! - a rule that names one argument twice stands for one rule for each of its conditions;
//! - a rule without conditions decides its call alone, wherever it stands; the first of them counts;
//! - rules with conditions are tried in their order, and if none holds, the default action is taken;
//! - a call newer than every call the profile names fails with `ENOSYS`, unless the default action lets calls through: programs then
//!   fall back to an older call instead of taking a refusal for an answer.
//!
//! A rule for a call that i386 also carries inside `socketcall` or `ipc` extends to it there, unless the profile names the carrier itself.
//! Conditions cannot be tested then, as the arguments lie in memory: the strictest of the possible outcomes is taken.

use std::collections::{BTreeMap, HashMap, HashSet};

use berth_oci::runtime::{LinuxSeccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompSyscall};

use super::{
    SeccompError,
    abi::{self, ARM_PRIVATE, Abi, Machine},
};

/// `SECCOMP_RET_` words.
pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
pub(crate) const KILL_THREAD: u32 = 0x0000_0000;
pub(crate) const TRAP: u32 = 0x0003_0000;
pub(crate) const ERRNO: u32 = 0x0005_0000;
pub(crate) const NOTIFY: u32 = 0x7fc0_0000;
pub(crate) const TRACE: u32 = 0x7ff0_0000;
pub(crate) const LOG: u32 = 0x7ffc_0000;
pub(crate) const ALLOW: u32 = 0x7fff_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The outcome of every call of one ABI.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) abi: Abi,
    /// The calls that have an outcome of their own.
    pub(crate) calls: BTreeMap<u32, Outcome>,
    /// What happens to the others.
    pub(crate) default: u32,
    /// Numbers above these are of calls that the profile cannot have known; see [`Policy::is_unknown`].
    newest: Option<u32>,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Always the same.
    Always(u32),
    /// That of the first rule that holds, else the default.
    Conditional(Vec<Rule>),
}

/// An outcome under conditions, all of which must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) answer: u32,
}

/// A comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) argument: u8,
    pub(crate) operator: SeccompOperator,
    /// What the argument is compared with.
    pub(crate) value: u64,
    /// Which of its bits count: all, except for a masked comparison.
    pub(crate) mask: u64,
}

impl Policy {
    /// What happens to a call that has no outcome of its own.
    pub(crate) fn otherwise(&self, number: u32) -> u32 {
        if self.is_unknown(number) { ERRNO | ENOSYS } else { self.default }
    }

    /// Where the calls begin that the profile cannot have known, if it is to be told apart at all.
    pub(crate) fn first_unknown(&self) -> Option<u32> {
        self.newest.and_then(|newest| newest.checked_add(1))
    }

    /// Where the private calls begin, which stand far above all others and do not grow in number.
    pub(crate) fn first_private(&self) -> Option<u32> {
        (self.abi == Abi::Arm).then_some(ARM_PRIVATE)
    }

    fn is_unknown(&self, number: u32) -> bool {
        let private = self.first_private().is_some_and(|first| number >= first);
        !private && self.first_unknown().is_some_and(|first| number >= first)
    }
}

/// Resolves a profile for each ABI that it admits on a machine; also gives the names that none of them knows.
pub(crate) fn resolve(profile: &LinuxSeccomp, machine: Machine) -> Result<(Vec<Policy>, Vec<String>), SeccompError> {
    let admitted = machine.admitted(profile)?;
    let default = answer(profile.default_action, profile.default_errno_ret)?;
    let rules = flatten(profile, default)?;
    let strict = !matches!(default & 0xffff_0000, ALLOW | LOG | TRACE);
    let policies = admitted.into_iter().map(|abi| {
        let table = abi.calls().into_iter().collect();
        let newest = if strict { newest(profile, abi, &table) } else { None };
        Policy { abi, calls: outcomes(&rules, abi, &table, default), default, newest }
    });
    Ok((policies.collect(), unknown_names(profile)))
}

/// The names that no machine knows: misspelt, or newer than this program.
fn unknown_names(profile: &LinuxSeccomp) -> Vec<String> {
    let known: HashSet<&str> = abi::every_name().collect();
    let mut unknown: Vec<String> = Vec::new();
    for name in profile.syscalls.iter().flat_map(|rule| rule.names.iter()) {
        if !known.contains(name) && !abi::is_foreign_name(name) && !unknown.iter().any(|one| one == name) {
            unknown.push(name.to_owned());
        }
    }
    unknown
}

/// A rule for one name, checked and translated, before it is known which number that is.
struct NamedRule<'a> {
    name: &'a str,
    rule: Rule,
}

/// One rule for each name and alternative, in order, without those that say what the default says.
fn flatten(profile: &LinuxSeccomp, default: u32) -> Result<Vec<NamedRule<'_>>, SeccompError> {
    if profile.default_action == SeccompAction::Notify {
        return Err(SeccompError::NotifyByDefault);
    }
    let mut flat = Vec::new();
    for call in &profile.syscalls {
        let answer = answer(call.action, call.errno_ret)?;
        if call.action == SeccompAction::Notify {
            if call.names.iter().any(|name| name == "write") {
                return Err(SeccompError::NotifyWrite);
            }
            if profile.listener_path.is_empty() {
                return Err(SeccompError::NoListener);
            }
        }
        let alternatives = alternatives(call)?;
        if answer == default {
            continue;
        }
        for name in call.names.iter() {
            flat.extend(
                alternatives
                    .iter()
                    .map(|conditions| NamedRule { name, rule: Rule { conditions: conditions.clone(), answer } }),
            );
        }
    }
    Ok(flat)
}

/// The conditions of a rule: all of them, or each by itself where an argument comes twice.
fn alternatives(call: &SeccompSyscall) -> Result<Vec<Vec<Condition>>, SeccompError> {
    let conditions: Vec<Condition> = call.args.iter().map(|arg| condition(call, arg)).collect::<Result<_, _>>()?;
    let mut seen = HashSet::new();
    if conditions.iter().all(|condition| seen.insert(condition.argument)) {
        return Ok(vec![conditions]);
    }
    Ok(conditions.into_iter().map(|condition| vec![condition]).collect())
}

fn condition(call: &SeccompSyscall, arg: &SeccompArg) -> Result<Condition, SeccompError> {
    let argument = u8::try_from(arg.index).ok().filter(|index| *index < 6).ok_or_else(|| SeccompError::Argument {
        name: call.names.iter().next().unwrap_or_default().to_owned(),
        index: arg.index,
    })?;
    // The specification's `value` is the mask of a masked comparison and `valueTwo` what is looked for under it.
    let (value, mask) = match arg.op {
        SeccompOperator::MaskedEqual => (arg.value_two & arg.value, arg.value),
        _ => (arg.value, u64::MAX),
    };
    Ok(Condition { argument, operator: arg.op, value, mask })
}

/// The word that the kernel takes for an action.
fn answer(action: SeccompAction, errno: Option<u32>) -> Result<u32, SeccompError> {
    let with_errno = |word: u32| word | errno.unwrap_or(EPERM) & 0xffff;
    let word = match action {
        SeccompAction::Errno => return Ok(with_errno(ERRNO)),
        SeccompAction::Trace => return Ok(with_errno(TRACE)),
        SeccompAction::Kill | SeccompAction::KillThread => KILL_THREAD,
        SeccompAction::KillProcess => KILL_PROCESS,
        SeccompAction::Trap => TRAP,
        SeccompAction::Allow => ALLOW,
        SeccompAction::Log => LOG,
        SeccompAction::Notify => NOTIFY,
    };
    // Tools write `"errnoRet": 0` beside any action; only a real one is a contradiction.
    if errno.is_some_and(|errno| errno != 0) { Err(SeccompError::Errno(action)) } else { Ok(word) }
}

fn outcomes(
    rules: &[NamedRule<'_>],
    abi: Abi,
    table: &HashMap<&'static str, u32>,
    default: u32,
) -> BTreeMap<u32, Outcome> {
    let mut calls: BTreeMap<u32, Outcome> = BTreeMap::new();
    for NamedRule { name, rule } in rules {
        if let Some(number) = table.get(name) {
            add(calls.entry(*number).or_insert_with(|| Outcome::Conditional(Vec::new())), abi, rule);
        }
    }
    for (number, rule) in carried(rules, abi, table, default) {
        add(calls.entry(number).or_insert_with(|| Outcome::Conditional(Vec::new())), abi, &rule);
    }
    calls
}

fn add(outcome: &mut Outcome, abi: Abi, rule: &Rule) {
    let Outcome::Conditional(rules) = outcome else { return };
    if rule.conditions.is_empty() {
        *outcome = Outcome::Always(rule.answer);
        return;
    }
    let mut rule = rule.clone();
    if abi.has_short_arguments() {
        for condition in &mut rule.conditions {
            condition.value &= u64::from(u32::MAX);
            condition.mask &= u64::from(u32::MAX);
        }
    }
    rules.push(rule);
}

/// Rules for the carriers `socketcall` and `ipc`, one for each call in them that the profile has rules for.
fn carried(rules: &[NamedRule<'_>], abi: Abi, table: &HashMap<&'static str, u32>, default: u32) -> Vec<(u32, Rule)> {
    let mut strictest: BTreeMap<(&str, u32), (u32, bool)> = BTreeMap::new();
    for NamedRule { name, rule } in rules {
        let Some(carrier) = abi.multiplexed(name) else { continue };
        if rules.iter().any(|other| other.name == carrier.0) {
            continue;
        }
        let (answer, decided) = strictest.entry(carrier).or_insert((ALLOW, false));
        if rule.conditions.is_empty() {
            if !*decided {
                (*answer, *decided) = (rule.answer, true);
            }
        } else if !*decided {
            *answer = stricter(*answer, stricter(rule.answer, default));
        }
    }
    let rule = |((carrier, number), (answer, _)): ((&str, u32), (u32, bool))| {
        // The upper half of `ipc`'s number is a version and does not change which call it is.
        let condition =
            Condition { argument: 0, operator: SeccompOperator::MaskedEqual, value: number.into(), mask: 0xffff };
        Some((*table.get(carrier)?, Rule { conditions: vec![condition], answer }))
    };
    strictest.into_iter().filter_map(rule).collect()
}

/// Of two words the one that the kernel would prefer if two filters gave them: compared as signed numbers, the lower.
fn stricter(a: u32, b: u32) -> u32 {
    let rank = |word: u32| (word & 0xffff_0000).cast_signed();
    if rank(b) < rank(a) { b } else { a }
}

/// The highest number of a call that the profile names.
fn newest(profile: &LinuxSeccomp, abi: Abi, table: &HashMap<&'static str, u32>) -> Option<u32> {
    let named = profile.syscalls.iter().flat_map(|rule| rule.names.iter()).filter_map(|name| table.get(name));
    named.copied().filter(|number| abi != Abi::Arm || *number < ARM_PRIVATE).max()
}
