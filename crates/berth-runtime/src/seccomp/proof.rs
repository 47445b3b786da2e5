//! That a compiled filter answers as the profile reads: Docker's, odd ones, and random ones.

use berth_oci::runtime::{LinuxSeccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompSyscall};
use proptest::prelude::*;

use super::{
    Machine,
    abi::Abi,
    compile_for,
    interpreter::{Call, run},
    reading::{arg, prove, with},
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
    SeccompSyscall { names: names.iter().collect(), action, errno_ret: None, args }
}

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
    rules.extend(errnos.filter(|rule| rule.names.iter().next() != Some("personality")));
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
