//! Any profile, made out of bytes: its filter answers as it reads.

use berth_oci::runtime::{LinuxSeccomp, SeccompAction, SeccompArg, SeccompOperator, SeccompSyscall};

use super::{Machine, abi::every_name, compile_for, reading::prove_around_rules};

/// More rules or conditions make a proof long, and nothing new.
const MOST: usize = 3;

/// Compiles the profile that the bytes mean, and compares the filter with it for every number it speaks of.
///
/// # Panics
/// If they differ.
pub fn faithful(bytes: &[u8]) {
    let profile = profile(&mut Bytes(bytes));
    for machine in [Machine::X86, Machine::Arm] {
        if compile_for(&profile, machine).is_ok() {
            prove_around_rules(&profile, machine);
        }
    }
}

/// Bytes to decide by; zeros when they are used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    fn value(&mut self) -> u64 {
        let whole = u64::from_le_bytes(std::array::from_fn(|_| self.byte()));
        match self.byte() % 4 {
            0 => whole,
            1 => whole & 0xff,
            2 => whole << 32,
            _ => whole | u64::from(u32::MAX),
        }
    }
}

fn profile(bytes: &mut Bytes<'_>) -> LinuxSeccomp {
    let names: Vec<&'static str> = every_name().collect();
    let architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"];
    let chosen = bytes.byte();
    let architectures = architectures.iter().enumerate().filter(|(at, _)| chosen & 1 << at != 0);
    let rules = usize::from(bytes.byte()) % (MOST + 1);
    LinuxSeccomp {
        default_action: action(bytes),
        default_errno_ret: None,
        architectures: architectures.map(|(_, name)| (*name).to_owned()).collect(),
        flags: Vec::new(),
        listener_path: "/run/listener".to_owned(),
        listener_metadata: String::new(),
        syscalls: (0..rules).map(|_| rule(bytes, &names)).collect(),
    }
}

fn rule(bytes: &mut Bytes<'_>, names: &[&'static str]) -> SeccompSyscall {
    let count = 1 + usize::from(bytes.byte()) % MOST;
    let name = |bytes: &mut Bytes<'_>| {
        let at = usize::from(bytes.byte()) << 8 | usize::from(bytes.byte());
        names[at % names.len()].to_owned()
    };
    let conditions = usize::from(bytes.byte()) % (MOST + 1);
    SeccompSyscall {
        names: (0..count).map(|_| name(bytes)).collect(),
        action: action(bytes),
        errno_ret: None,
        args: (0..conditions).map(|_| condition(bytes)).collect(),
    }
}

fn action(bytes: &mut Bytes<'_>) -> SeccompAction {
    use SeccompAction::{Allow, Errno, KillProcess, KillThread, Log, Notify, Trace, Trap};
    bytes.one_of(&[Allow, Errno, Log, KillProcess, KillThread, Notify, Trace, Trap])
}

fn condition(bytes: &mut Bytes<'_>) -> SeccompArg {
    use SeccompOperator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, MaskedEqual, NotEqual};
    let op = bytes.one_of(&[Equal, Greater, GreaterOrEqual, Less, LessOrEqual, MaskedEqual, NotEqual]);
    SeccompArg { index: u32::from(bytes.byte() % 6), value: bytes.value(), value_two: bytes.value(), op }
}
