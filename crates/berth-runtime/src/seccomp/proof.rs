//! That a compiled filter answers as the profile reads, line by line: for every number of every ABI, and around every value that a
//! condition compares with.

use std::collections::{BTreeMap, BTreeSet};

use berth_oci::runtime::{LinuxSeccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompSyscall};
use proptest::prelude::*;

use super::{
    Machine,
    abi::{ARM_PRIVATE, Abi, X32_BIT},
    compile_for,
    interpreter::{Call, check, run},
};

/// A profile with these rules and every ABI.
pub(crate) fn profile(default_action: SeccompAction, syscalls: Vec<SeccompSyscall>) -> LinuxSeccomp {
    let all = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"];
    LinuxSeccomp {
        default_action,
        default_errno_ret: None,
        architectures: all.iter().map(ToString::to_string).collect(),
        flags: Vec::new(),
        listener_path: "/run/listener".to_owned(),
        listener_metadata: String::new(),
        syscalls,
    }
}

fn rule(names: &[&str], action: SeccompAction, args: Vec<SeccompArg>) -> SeccompSyscall {
    SeccompSyscall { names: names.iter().map(ToString::to_string).collect(), action, errno_ret: None, args }
}

fn arg(index: u32, op: SeccompOperator, value: u64, value_two: u64) -> SeccompArg {
    SeccompArg { index, value, value_two, op }
}

// ---------------------------------------------------------------------------------------------------------------------------------------
// The profile, read naively.

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
        let about = |rule: &SeccompSyscall, of: &[&str]| rule.names.iter().any(|name| of.contains(&name.as_str()));
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
fn prove(profile: &LinuxSeccomp, machine: Machine) -> (usize, usize) {
    let program = compile_for(profile, machine).unwrap().program;
    check(&program);
    let reading = Reading::new(profile, machine);
    let mut longest = 0;
    for architecture in AUDIT_NUMBERS {
        for number in numbers() {
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

fn with(mut arguments: [u64; 6], index: usize, value: u64) -> [u64; 6] {
    arguments[index] = value;
    arguments
}

// ---------------------------------------------------------------------------------------------------------------------------------------
// The profiles.

#[test]
fn dockers_profile_is_compiled_faithfully_for_every_set_of_capabilities_that_matters() {
    let sets: [&[&str]; 6] = [
        &[],
        &["CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_NET_RAW"],
        &["CAP_SYS_ADMIN"],
        &["CAP_SYS_PTRACE", "CAP_SYS_TIME", "CAP_BPF", "CAP_PERFMON"],
        &["CAP_DAC_READ_SEARCH", "CAP_SYS_BOOT", "CAP_SYS_MODULE", "CAP_SYS_PACCT", "CAP_SYS_RAWIO"],
        &["CAP_SYS_ADMIN", "CAP_SYS_NICE", "CAP_SYSLOG", "CAP_SYS_TTY_CONFIG", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE"],
    ];
    for capabilities in sets {
        for kernel in [(4, 4), (6, 18)] {
            let profile = berth_oci::seccomp_profile::docker_default(capabilities, kernel);
            for machine in [Machine::X86, Machine::Arm] {
                let profile = LinuxSeccomp {
                    architectures: self::profile(SeccompAction::Allow, vec![]).architectures,
                    ..profile.clone()
                };
                let (length, longest) = prove(&profile, machine);
                assert!(length < 400 && longest < 40, "{machine:?}: {length} instructions, {longest} steps");
            }
            let only_native = LinuxSeccomp { architectures: Vec::new(), ..profile };
            prove(&only_native, Machine::X86);
            prove(&only_native, Machine::Arm);
        }
    }
}

#[test]
fn a_filter_that_decides_nothing_is_short() {
    for default in [SeccompAction::Allow, SeccompAction::Errno, SeccompAction::Log, SeccompAction::KillProcess] {
        prove(&profile(default, vec![]), Machine::X86);
        prove(&profile(default, vec![]), Machine::Arm);
    }
}

#[test]
fn jumps_lead_as_far_as_they_must() {
    // Thousands of conditions on one call, and as many calls with a different errno each: far more than a jump of one byte spans.
    let call =
        |index: u64| rule(&["personality"], SeccompAction::Allow, vec![arg(0, SeccompOperator::Equal, index * 3, 0)]);
    let mut rules: Vec<_> = (0..300).map(call).collect();
    let errnos = Abi::X86_64.calls().into_iter().enumerate().map(|(index, (name, _))| SeccompSyscall {
        errno_ret: Some(2 + index as u32),
        ..rule(
            &[name],
            SeccompAction::Errno,
            if index % 2 == 0 { vec![] } else { vec![arg(1, SeccompOperator::Greater, 1 << 33, 0)] },
        )
    });
    rules.extend(errnos.filter(|rule| rule.names[0] != "personality"));
    let only_x86 = LinuxSeccomp { architectures: vec![], ..profile(SeccompAction::KillProcess, rules) };
    let (length, _) = prove(&only_x86, Machine::X86);
    assert!(length > 1500, "{length}");
}

#[test]
fn calls_inside_a_carrier_are_judged_by_their_own_rules() {
    let allow_some = profile(
        SeccompAction::Errno,
        vec![
            rule(&["bind", "shmget"], SeccompAction::Allow, vec![]),
            rule(&["socket"], SeccompAction::Allow, vec![arg(0, SeccompOperator::Less, 38, 0)]),
            rule(&["sendto"], SeccompAction::Notify, vec![arg(5, SeccompOperator::NotEqual, 1, 0)]),
        ],
    );
    prove(&allow_some, Machine::X86);
    let program = compile_for(&allow_some, Machine::X86).unwrap().program;
    let socketcall = |inner| {
        let call = Call { number: 102, architecture: 0x4000_0003, arguments: with([0; 6], 0, inner) };
        run(&program, &call).0
    };
    assert_eq!(socketcall(2), 0x7fff_0000, "bind");
    assert_eq!(socketcall(1), 0x0005_0001, "socket: its family cannot be seen");
    assert_eq!(socketcall(11), 0x0005_0001, "sendto");
    assert_eq!(socketcall(4), 0x0005_0001, "listen");
    let mut with_carrier = allow_some.clone();
    with_carrier.syscalls.push(rule(&["socketcall"], SeccompAction::Allow, vec![]));
    prove(&with_carrier, Machine::X86);
}

#[test]
fn profiles_that_make_no_sense_are_refused() {
    let error = |profile: &LinuxSeccomp| compile_for(profile, Machine::X86).unwrap_err().to_string();
    let notify = profile(SeccompAction::Errno, vec![rule(&["mount"], SeccompAction::Notify, vec![])]);
    assert!(compile_for(&notify, Machine::X86).unwrap().notifies());
    assert_eq!(
        error(&LinuxSeccomp { listener_path: String::new(), ..notify }),
        "seccomp: SCMP_ACT_NOTIFY needs a listenerPath"
    );
    assert_eq!(
        error(&profile(SeccompAction::Notify, vec![])),
        "seccomp: SCMP_ACT_NOTIFY cannot be used as the default action"
    );
    assert_eq!(
        error(&profile(SeccompAction::Allow, vec![rule(&["read", "write"], SeccompAction::Notify, vec![])])),
        "seccomp: SCMP_ACT_NOTIFY cannot be used for the system call \"write\""
    );
    assert_eq!(
        error(&profile(
            SeccompAction::Allow,
            vec![rule(&["read"], SeccompAction::Errno, vec![arg(6, SeccompOperator::Equal, 0, 0)])]
        )),
        "seccomp: system call \"read\" has no argument 6"
    );
    assert_eq!(
        error(&LinuxSeccomp { default_errno_ret: Some(3), ..profile(SeccompAction::Allow, vec![]) }),
        "seccomp: action Allow takes no errnoRet"
    );
    assert_eq!(
        error(&LinuxSeccomp {
            flags: vec!["SECCOMP_FILTER_FLAG_X".to_owned()],
            ..profile(SeccompAction::Allow, vec![])
        }),
        "seccomp: unknown flag \"SECCOMP_FILTER_FLAG_X\""
    );
}

#[test]
fn names_that_nobody_knows_are_skipped_and_told() {
    let profile =
        profile(SeccompAction::Errno, vec![rule(&["read", "frobnicate", "frobnicate"], SeccompAction::Allow, vec![])]);
    assert_eq!(compile_for(&profile, Machine::X86).unwrap().unknown_names, ["frobnicate"]);
    prove(&profile, Machine::X86);
}

fn any_action() -> impl Strategy<Value = (SeccompAction, Option<u32>)> {
    prop_oneof![
        4 => Just((SeccompAction::Allow, None)),
        2 => Just((SeccompAction::Errno, None)),
        2 => (0u32..200).prop_map(|errno| (SeccompAction::Errno, Some(errno))),
        1 => Just((SeccompAction::Trap, None)),
        1 => Just((SeccompAction::KillProcess, None)),
        1 => Just((SeccompAction::Kill, None)),
        1 => Just((SeccompAction::Log, None)),
        1 => (0u32..9).prop_map(|data| (SeccompAction::Trace, Some(data))),
    ]
}

fn any_argument() -> impl Strategy<Value = SeccompArg> {
    let operators = prop::sample::select(vec![
        SeccompOperator::NotEqual,
        SeccompOperator::Less,
        SeccompOperator::LessOrEqual,
        SeccompOperator::Equal,
        SeccompOperator::GreaterOrEqual,
        SeccompOperator::Greater,
        SeccompOperator::MaskedEqual,
    ]);
    let value = prop_oneof![
        0u64..4,
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        (0u64..3).prop_map(|high| high << 32),
        any::<u64>(),
        any::<u32>().prop_map(u64::from),
    ];
    (0u32..6, operators, value.clone(), value).prop_map(|(index, op, value, two)| arg(index, op, value, two))
}

fn any_profile() -> impl Strategy<Value = LinuxSeccomp> {
    let mut names: Vec<&str> =
        [Abi::X86_64, Abi::I386, Abi::Arm].iter().flat_map(|abi| abi.calls()).map(|(name, _)| name).collect();
    // These meet often, so that rules for the same call do.
    names.extend(["socket", "personality", "clone", "socketcall", "ipc", "semop"].repeat(60));
    let name = prop::sample::select(names);
    let rule = (prop::collection::vec(name, 1..30), any_action(), prop::collection::vec(any_argument(), 0..3))
        .prop_map(|(names, (action, errno_ret), args)| SeccompSyscall { errno_ret, ..rule(&names, action, args) });
    let names = profile(SeccompAction::Allow, vec![]).architectures;
    (any_action(), prop::sample::subsequence(names, 0..=5), prop::collection::vec(rule, 0..25)).prop_map(
        |((action, errno), architectures, rules)| LinuxSeccomp {
            default_errno_ret: errno,
            architectures,
            ..profile(action, rules)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_profile_is_compiled_faithfully(profile in any_profile(), machine in prop::sample::select(vec![Machine::X86, Machine::Arm])) {
        prove(&profile, machine);
    }
}
