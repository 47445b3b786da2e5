//! A profile read naively, line by line, and a compiled filter compared with that: for every number of every ABI, and around every value that a
//! condition compares with. For tests and fuzzing.

use std::collections::{BTreeMap, BTreeSet};

use berth_oci::runtime::{LinuxSeccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompSyscall};

use super::{
    Machine,
    abi::{ARM_PRIVATE, Abi, X32_BIT},
    compile_for,
    interpreter::{Call, check, run},
};

pub(super) fn arg(index: u32, op: SeccompOperator, value: u64, value_two: u64) -> SeccompArg {
    SeccompArg { index, value, value_two, op }
}

/// What a profile makes of one call, found by reading its rules from the beginning.
struct Reading<'a> {
    profile: &'a LinuxSeccomp,
    default: u32,
    abis: Vec<Known<'a>>,
}

/// What the profile says about one ABI: the rules for each number that do not merely repeat the default, in the profile's order.
struct Known<'a> {
    abi: Abi,
    names: BTreeMap<u32, Vec<&'static str>>,
    rules: BTreeMap<u32, Vec<&'a SeccompSyscall>>,
    newest: Option<u32>,
}

impl<'a> Reading<'a> {
    fn new(profile: &'a LinuxSeccomp, machine: Machine) -> Self {
        let named = |abi: &Abi| {
            let name = match abi {
                Abi::X86_64 => "SCMP_ARCH_X86_64",
                Abi::I386 => "SCMP_ARCH_X86",
                Abi::X32 => "SCMP_ARCH_X32",
                Abi::Aarch64 => "SCMP_ARCH_AARCH64",
                Abi::Arm => "SCMP_ARCH_ARM",
            };
            *abi == machine.abis()[0] || profile.architectures.iter().any(|known| known == name)
        };
        let default = word(profile.default_action, profile.default_errno_ret);
        let abis =
            machine.abis().iter().filter(|abi| named(abi)).map(|abi| Known::new(profile, *abi, default)).collect();
        Self { profile, default, abis }
    }

    fn answer(&self, call: &Call) -> u32 {
        let find = |abi| self.abis.iter().find(|known| known.abi == abi);
        let known = match call.architecture {
            0xc000_003e if call.number == u32::MAX && find(Abi::X32).is_none() => find(Abi::X86_64),
            0xc000_003e if call.number >= X32_BIT => find(Abi::X32),
            0xc000_003e => find(Abi::X86_64),
            0x4000_0003 => find(Abi::I386),
            0xc000_00b7 => find(Abi::Aarch64),
            0x4000_0028 => find(Abi::Arm),
            _ => None,
        };
        let Some(known) = known else { return 0 };
        let rules = known.rules.get(&call.number).map_or(&[][..], Vec::as_slice);
        // A rule without conditions decides alone.
        if let Some(decided) = rules.iter().find(|rule| rule.args.is_empty()) {
            return word_of(decided);
        }
        if let Some(held) = rules.iter().find(|rule| holds(rule, known.abi, call)) {
            return word_of(held);
        }
        let carried = if rules.is_empty() { self.carried(known, call) } else { None };
        carried.unwrap_or_else(|| self.otherwise(known, call.number))
    }

    fn otherwise(&self, known: &Known<'_>, number: u32) -> u32 {
        let permissive =
            matches!(self.profile.default_action, SeccompAction::Allow | SeccompAction::Log | SeccompAction::Trace);
        let private = known.abi == Abi::Arm && number >= ARM_PRIVATE;
        match known.newest {
            Some(newest) if number > newest && !permissive && !private => 0x0005_0000 | 38,
            _ => self.default,
        }
    }

    /// A call of i386 inside `socketcall` or `ipc`, if the profile has rules for it and none for the carrier.
    fn carried(&self, known: &Known<'_>, call: &Call) -> Option<u32> {
        let carrier = known.names.get(&call.number)?.first()?;
        let inside = |name: &&str| {
            let (by, number) = known.abi.multiplexed(name)?;
            (by == *carrier && u64::from(number) == call.arguments[0] & 0xffff).then_some(())
        };
        let mut every =
            known.names.values().flatten().copied().chain(["accept", "send", "recv", "semop", "semtimedop"]);
        let name = every.find(|name| inside(name).is_some())?;
        let rules: Vec<_> =
            telling(self.profile, self.default).filter(|rule| rule.names.iter().any(|n| n == name)).collect();
        if let Some(decided) = rules.iter().find(|rule| rule.args.is_empty()) {
            return Some(word_of(decided));
        }
        let order = |word: &u32| (word & 0xffff_0000).cast_signed();
        rules.iter().map(|rule| word_of(rule)).chain([self.default]).min_by_key(order).filter(|_| !rules.is_empty())
    }
}

impl<'a> Known<'a> {
    fn new(profile: &'a LinuxSeccomp, abi: Abi, default: u32) -> Self {
        let mut names: BTreeMap<u32, Vec<&'static str>> = BTreeMap::new();
        for (name, number) in abi.calls() {
            names.entry(number).or_default().push(name);
        }
        let about = |rule: &SeccompSyscall, of: &[&str]| rule.names.iter().any(|name| of.contains(&name));
        let rules = names
            .iter()
            .map(|(number, of)| (*number, telling(profile, default).filter(|rule| about(rule, of)).collect()))
            .collect();
        let named = names.iter().filter(|(_, of)| profile.syscalls.iter().any(|rule| about(rule, of)));
        let newest = named.map(|(number, _)| *number).filter(|number| abi != Abi::Arm || *number < ARM_PRIVATE).max();
        Self { abi, names, rules, newest }
    }
}

fn telling(profile: &LinuxSeccomp, default: u32) -> impl Iterator<Item = &SeccompSyscall> {
    profile.syscalls.iter().filter(move |rule| word_of(rule) != default)
}

fn word_of(syscall: &SeccompSyscall) -> u32 {
    word(syscall.action, syscall.errno_ret)
}

fn word(action: SeccompAction, errno: Option<u32>) -> u32 {
    match action {
        SeccompAction::Kill | SeccompAction::KillThread => 0,
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno => 0x0005_0000 | errno.unwrap_or(1),
        SeccompAction::Trace => 0x7ff0_0000 | errno.unwrap_or(1),
        SeccompAction::Allow => 0x7fff_0000,
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Notify => 0x7fc0_0000,
    }
}

fn holds(syscall: &SeccompSyscall, abi: Abi, call: &Call) -> bool {
    let short = matches!(abi, Abi::I386 | Abi::X32 | Abi::Arm);
    let cut = |value: u64| if short { value & 0xffff_ffff } else { value };
    let one = |arg: &SeccompArg| {
        let (found, value) = (cut(call.arguments[arg.index as usize]), cut(arg.value));
        match arg.op {
            SeccompOperator::NotEqual => found != value,
            SeccompOperator::Less => found < value,
            SeccompOperator::LessOrEqual => found <= value,
            SeccompOperator::Equal => found == value,
            SeccompOperator::GreaterOrEqual => found >= value,
            SeccompOperator::Greater => found > value,
            SeccompOperator::MaskedEqual => found & value == cut(arg.value_two) & value,
        }
    };
    let indexes: BTreeSet<u32> = syscall.args.iter().map(|arg| arg.index).collect();
    if indexes.len() < syscall.args.len() { syscall.args.iter().any(one) } else { syscall.args.iter().all(one) }
}

// ---------------------------------------------------------------------------------------------------------------------------------------
// The comparison.

const AUDIT_NUMBERS: [u32; 6] = [0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0, 0xc000_0016];

/// Compares filter and profile for every call there is or could be, and returns the program's length and its longest walk.
#[cfg(test)]
pub(crate) fn prove(profile: &LinuxSeccomp, machine: Machine) -> (usize, usize) {
    prove_for(profile, machine, &Reading::new(profile, machine), &numbers().collect())
}

/// Compares filter and profile for the numbers that rules speak of and their neighbours.
#[cfg(feature = "fuzz")]
pub(super) fn prove_around_rules(profile: &LinuxSeccomp, machine: Machine) {
    let reading = Reading::new(profile, machine);
    let ruled = reading.abis.iter().flat_map(|known| known.rules.keys().copied());
    let near = ruled.flat_map(|number| number.saturating_sub(1)..=number.saturating_add(1));
    let numbers = near.chain([0, X32_BIT, u32::MAX]).collect();
    prove_for(profile, machine, &reading, &numbers);
}

fn prove_for(
    profile: &LinuxSeccomp,
    machine: Machine,
    reading: &Reading<'_>,
    numbers: &BTreeSet<u32>,
) -> (usize, usize) {
    let program = compile_for(profile, machine).expect("a profile that compiles").program;
    check(&program);
    let mut longest = 0;
    for architecture in AUDIT_NUMBERS {
        for number in numbers.iter().copied() {
            let conditions = reading.conditions(architecture, number);
            for arguments in [[0; 6], [u64::MAX; 6]].into_iter().chain(interesting_arguments(&conditions)) {
                let call = Call { number, architecture, arguments };
                let (found, steps) = run(&program, &call);
                assert_eq!(found, reading.answer(&call), "{call:x?}\n{profile:#?}");
                longest = longest.max(steps);
            }
        }
    }
    (program.len(), longest)
}

impl Reading<'_> {
    /// The conditions that play a part for a number; for the carriers of i386 one for each call inside.
    fn conditions(&self, architecture: u32, number: u32) -> Vec<SeccompArg> {
        let here = self.abis.iter().filter(|known| known.abi.audit_number() == architecture);
        let rules = here.clone().filter_map(|known| known.rules.get(&number)).flatten();
        let mut conditions: Vec<SeccompArg> = rules.flat_map(|rule| rule.args.iter().copied()).collect();
        if here.filter_map(|known| known.names.get(&number)).flatten().any(|name| ["socketcall", "ipc"].contains(name))
        {
            conditions.extend((0..26).map(|inner| arg(0, SeccompOperator::Equal, inner, inner | 1 << 16)));
        }
        conditions
    }
}

/// Every number that any ABI uses, the gaps between them, and the ends.
#[cfg(test)]
fn numbers() -> impl Iterator<Item = u32> {
    let ends = [0xffff, X32_BIT - 1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
    (0..600).chain(X32_BIT..X32_BIT + 600).chain(ARM_PRIVATE - 2..ARM_PRIVATE + 10).chain(ends)
}

/// Arguments on both sides of every value that a condition compares with, in either half; each condition by itself and in pairs.
fn interesting_arguments(conditions: &[SeccompArg]) -> Vec<[u64; 6]> {
    let mut sets = Vec::new();
    for first in conditions {
        let values =
            |arg: &SeccompArg| around(arg.value).into_iter().chain(around(arg.value_two)).collect::<BTreeSet<u64>>();
        let matching =
            |arg: &SeccompArg| [arg.value, arg.value_two, arg.value.wrapping_add(1), arg.value.wrapping_sub(1)];
        for value in values(first) {
            sets.push(with([0; 6], first.index as usize, value));
            for second in conditions.iter().filter(|second| second.index != first.index) {
                let with_first = with([0; 6], first.index as usize, value);
                sets.extend(matching(second).map(|other| with(with_first, second.index as usize, other)));
            }
        }
    }
    sets
}

fn around(value: u64) -> Vec<u64> {
    let high = 1 << 32;
    let near = |value: u64| [value.wrapping_sub(1), value, value.wrapping_add(1)];
    [value, value.wrapping_add(high), value.wrapping_sub(high), value & 0xffff_ffff, value & !0xffff_ffff, value ^ high]
        .into_iter()
        .flat_map(near)
        .chain([0, u64::MAX, !value])
        .collect()
}

pub(super) fn with(mut arguments: [u64; 6], index: usize, value: u64) -> [u64; 6] {
    arguments[index] = value;
    arguments
}
