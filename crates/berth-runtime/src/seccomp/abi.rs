//! The ways into the kernel that a machine has, and what each calls its system calls.

use berth_oci::runtime::LinuxSeccomp;
use syscalls::{aarch64, arm, x86, x86_64};

use super::{SeccompError, rules::Policy};

/// A kind of machine, with every ABI its kernel can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// x86-64 with i386 and x32.
    X86,
    /// aarch64 with 32-bit ARM.
    Arm,
}

/// One set of system call numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    I386,
    /// 32-bit pointers on 64-bit x86; numbers carry [`X32_BIT`].
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, EABI.
    Arm,
}

/// Marks the numbers of x32, which share the audit number of x86-64.
pub(crate) const X32_BIT: u32 = 0x4000_0000;
/// Where the private calls of 32-bit ARM begin.
pub(crate) const ARM_PRIVATE: u32 = 0x000f_0000;

/// x86-64 calls that x32 has under a number of its own.
const X32_OWN: &[(&str, u32)] = &[
    ("rt_sigaction", 512),
    ("rt_sigreturn", 513),
    ("ioctl", 514),
    ("readv", 515),
    ("writev", 516),
    ("recvfrom", 517),
    ("sendmsg", 518),
    ("recvmsg", 519),
    ("execve", 520),
    ("ptrace", 521),
    ("rt_sigpending", 522),
    ("rt_sigtimedwait", 523),
    ("rt_sigqueueinfo", 524),
    ("sigaltstack", 525),
    ("timer_create", 526),
    ("mq_notify", 527),
    ("kexec_load", 528),
    ("waitid", 529),
    ("set_robust_list", 530),
    ("get_robust_list", 531),
    ("vmsplice", 532),
    ("move_pages", 533),
    ("preadv", 534),
    ("pwritev", 535),
    ("rt_tgsigqueueinfo", 536),
    ("recvmmsg", 537),
    ("sendmmsg", 538),
    ("process_vm_readv", 539),
    ("process_vm_writev", 540),
    ("setsockopt", 541),
    ("getsockopt", 542),
    ("io_setup", 543),
    ("io_submit", 544),
    ("execveat", 545),
    ("preadv2", 546),
    ("pwritev2", 547),
];

/// x86-64 calls that x32 does not have.
const NOT_IN_X32: &[&str] = &[
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
    "uretprobe",
    "uprobe",
];

/// Names that the tables of the `syscalls` crate lack.
const ARM_MORE: &[(&str, u32)] = &[
    ("sync_file_range2", 341),
    ("breakpoint", ARM_PRIVATE + 1),
    ("cacheflush", ARM_PRIVATE + 2),
    ("usr26", ARM_PRIVATE + 3),
    ("usr32", ARM_PRIVATE + 4),
    ("set_tls", ARM_PRIVATE + 5),
    ("get_tls", ARM_PRIVATE + 6),
];
const AARCH64_MORE: &[(&str, u32)] = &[("newfstatat", 79)];

/// Architectures of the specification that neither kind of machine has: known, but without effect here.
const FOREIGN: &[&str] = &[
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// Calls of other machines that their names do not tell apart.
const FOREIGN_NAMES: &[&str] = &[
    "atomic_barrier",
    "atomic_cmpxchg_32",
    "cachectl",
    "multiplexer",
    "rtas",
    "subpage_prot",
    "swapcontext",
    "switch_endian",
    "sysmips",
];

impl Machine {
    /// The machine this program is made for.
    #[must_use]
    pub fn native() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Arm)
        } else {
            None
        }
    }

    /// Its ABIs, its own first.
    pub(crate) fn abis(self) -> &'static [Abi] {
        match self {
            Self::X86 => &[Abi::X86_64, Abi::I386, Abi::X32],
            Self::Arm => &[Abi::Aarch64, Abi::Arm],
        }
    }

    /// The ABIs that a profile admits: always the machine's own, and of the others those that it names.
    pub(crate) fn admitted(self, profile: &LinuxSeccomp) -> Result<Vec<Abi>, SeccompError> {
        let own = self.abis()[0];
        let mut admitted = vec![own];
        for name in &profile.architectures {
            let abi = match name.as_str() {
                "SCMP_ARCH_X86_64" => Abi::X86_64,
                "SCMP_ARCH_X86" => Abi::I386,
                "SCMP_ARCH_X32" => Abi::X32,
                "SCMP_ARCH_AARCH64" => Abi::Aarch64,
                "SCMP_ARCH_ARM" => Abi::Arm,
                "SCMP_ARCH_NATIVE" => own,
                foreign if FOREIGN.contains(&foreign) => continue,
                _ => return Err(SeccompError::Architecture(name.clone())),
            };
            // What this kernel never meets would only make the program longer.
            if self.abis().contains(&abi) && !admitted.contains(&abi) {
                admitted.push(abi);
            }
        }
        Ok(admitted)
    }
}

impl Abi {
    /// What the kernel reports as the architecture of a call (`AUDIT_ARCH_`).
    pub(crate) fn audit_number(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 32 bits. Comparisons then look at the lower half alone.
    pub(crate) fn has_short_arguments(self) -> bool {
        matches!(self, Self::I386 | Self::X32 | Self::Arm)
    }

    /// The name and the number of every system call.
    pub(crate) fn calls(self) -> Vec<(&'static str, u32)> {
        match self {
            Self::X86_64 => table(x86_64::Sysno::last().id(), |id| x86_64::Sysno::new(id).map(|call| call.name())),
            Self::I386 => table(x86::Sysno::last().id(), |id| x86::Sysno::new(id).map(|call| call.name())),
            Self::X32 => x32_calls(),
            Self::Aarch64 => {
                let mut calls =
                    table(aarch64::Sysno::last().id(), |id| aarch64::Sysno::new(id).map(|call| call.name()));
                calls.extend(AARCH64_MORE);
                calls
            }
            Self::Arm => {
                let mut calls = table(arm::Sysno::last().id(), |id| arm::Sysno::new(id).map(|call| call.name()));
                calls.extend(ARM_MORE);
                calls
            }
        }
    }

    /// The call that carries this one behind a number in its first argument: only i386 has such.
    pub(crate) fn multiplexed(self, name: &str) -> Option<(&'static str, u32)> {
        if self != Self::I386 {
            return None;
        }
        let of = |carrier, calls: &[(&str, u32)]| {
            calls.iter().find(|(call, _)| *call == name).map(|(_, number)| (carrier, *number))
        };
        of("socketcall", SOCKET_CALLS).or_else(|| of("ipc", IPC_CALLS))
    }
}

/// The sub-calls of `socketcall` (linux/net.h).
const SOCKET_CALLS: &[(&str, u32)] = &[
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// The sub-calls of `ipc` (linux/ipc.h).
const IPC_CALLS: &[(&str, u32)] = &[
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The names of all calls of all ABIs, those inside carriers included.
pub(crate) fn every_name() -> impl Iterator<Item = &'static str> {
    let tables = [Abi::X86_64, Abi::I386, Abi::Aarch64, Abi::Arm].into_iter().flat_map(Abi::calls);
    tables.chain(SOCKET_CALLS.iter().chain(IPC_CALLS).copied()).map(|(name, _)| name)
}

/// Whether a name is one of a call that only machines of other kinds have.
pub(crate) fn is_foreign_name(name: &str) -> bool {
    let prefixes = ["riscv_", "s390_", "mips_", "ppc_", "spu_"];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) || FOREIGN_NAMES.contains(&name)
}

/// Groups policies by what the kernel reports as architecture: x86-64 and x32 share theirs. The machine's own comes first.
pub(crate) fn by_audit_number(policies: &[Policy]) -> Vec<(u32, Vec<&Policy>)> {
    let mut groups: Vec<(u32, Vec<&Policy>)> = Vec::new();
    for policy in policies {
        let audit = policy.abi.audit_number();
        match groups.iter_mut().find(|(known, _)| *known == audit) {
            Some((_, members)) => members.push(policy),
            None => groups.push((audit, vec![policy])),
        }
    }
    groups
}

fn table(last: i32, name: impl Fn(usize) -> Option<&'static str>) -> Vec<(&'static str, u32)> {
    (0..=last.cast_unsigned()).filter_map(|id| Some((name(id as usize)?, id))).collect()
}

fn x32_calls() -> Vec<(&'static str, u32)> {
    let own = |name| X32_OWN.iter().any(|(call, _)| *call == name);
    let mut calls = Abi::X86_64.calls();
    calls.retain(|(name, _)| !own(*name) && !NOT_IN_X32.contains(name));
    calls.extend(X32_OWN);
    calls.iter().map(|(name, number)| (*name, number | X32_BIT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(abi: Abi, name: &str) -> Option<u32> {
        abi.calls().into_iter().find(|(call, _)| *call == name).map(|(_, number)| number)
    }

    #[test]
    fn calls_have_the_numbers_of_their_abi() {
        for (abi, name, expected) in [
            (Abi::X86_64, "read", Some(0)),
            (Abi::X86_64, "clone3", Some(435)),
            (Abi::X86_64, "file_setattr", Some(469)),
            (Abi::I386, "read", Some(3)),
            (Abi::I386, "socketcall", Some(102)),
            (Abi::X32, "read", Some(X32_BIT)),
            (Abi::X32, "execve", Some(X32_BIT | 520)),
            (Abi::X32, "uselib", None),
            (Abi::Aarch64, "newfstatat", Some(79)),
            (Abi::Aarch64, "open", None),
            (Abi::Arm, "set_tls", Some(0x000f_0005)),
            (Abi::Arm, "sync_file_range2", Some(341)),
        ] {
            assert_eq!(number(abi, name), expected, "{abi:?} {name}");
        }
    }

    #[test]
    fn architectures_of_other_machines_are_passed_over_and_others_refused() {
        let profile = |architectures: &[&str]| LinuxSeccomp {
            architectures: architectures.iter().map(ToString::to_string).collect(),
            ..super::super::proof::profile(berth_oci::runtime::SeccompAction::Allow, vec![])
        };
        let admitted = |machine: Machine, names: &[&str]| machine.admitted(&profile(names)).map_err(|e| e.to_string());
        assert_eq!(admitted(Machine::X86, &[]), Ok(vec![Abi::X86_64]));
        assert_eq!(
            admitted(Machine::X86, &["SCMP_ARCH_X32", "SCMP_ARCH_MIPS", "SCMP_ARCH_ARM"]),
            Ok(vec![Abi::X86_64, Abi::X32])
        );
        assert_eq!(admitted(Machine::Arm, &["SCMP_ARCH_ARM"]), Ok(vec![Abi::Aarch64, Abi::Arm]));
        assert_eq!(admitted(Machine::X86, &["x86"]), Err("seccomp: unknown architecture \"x86\"".to_owned()));
    }
}
