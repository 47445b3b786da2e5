//! The device rules on v2: a small eBPF program that the kernel asks at each open and mknod.

use std::{io, path::Path};

use berth_sys::bpf::{self, Instruction, Register};
use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use crate::{
    devices::{Access, DeviceKind, DeviceRules},
    error::CgroupError,
    join,
};

/// Kinds of devices as the kernel's context has them (`BPF_DEVCG_DEV_`).
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

const VERDICT: Register = Register::R0;
const CONTEXT: Register = Register::R1;
const KIND: Register = Register::R2;
const ACCESS: Register = Register::R3;
const MAJOR: Register = Register::R4;
const MINOR: Register = Register::R5;

/// Loads the rules and puts them in force, then takes away whatever program was there before.
///
/// The new one is attached first, so at no moment is less denied than either of the two denies.
pub(crate) fn apply(dir: &Path, rules: &DeviceRules) -> Result<(), CgroupError> {
    let failed = |step| move |source| CgroupError::DeviceProgram { step, path: dir.to_owned(), source };
    let group = join::open_v2(dir)?;
    let old = bpf::attached_device_programs(&group).map_err(failed("listing"))?;
    // A program that allows everything would only cost time.
    if !rules.allows_everything() {
        let program = load(&emit(rules)).map_err(failed("loading"))?;
        bpf::attach_device_program(&group, &program).map_err(failed("attaching"))?;
    }
    for id in old {
        match bpf::program_by_id(id) {
            Ok(old) => bpf::detach_device_program(&group, &old).map_err(failed("detaching"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("finding")(error)),
        }
    }
    Ok(())
}

/// Before Linux 5.11 a program counts as locked memory, of which a service has too little by default.
fn load(program: &[Instruction]) -> io::Result<std::os::fd::OwnedFd> {
    match bpf::load_device_program(program) {
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
            let limit = getrlimit(Resource::Memlock);
            if setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_err() {
                return Err(error);
            }
            let loaded = bpf::load_device_program(program);
            setrlimit(Resource::Memlock, limit)?;
            loaded
        }
        done => done,
    }
}

/// One block of comparisons for each exception; the first that matches decides, at the end the default.
fn emit(rules: &DeviceRules) -> Vec<Instruction> {
    let mut program = vec![
        // The context holds (access << 16 | kind), major, minor, 32 bits each.
        Instruction::load_word(KIND, CONTEXT, 0),
        Instruction::move_register(ACCESS, KIND),
        Instruction::and(KIND, 0xffff),
        Instruction::shift_right(ACCESS, 16),
        Instruction::load_word(MAJOR, CONTEXT, 4),
        Instruction::load_word(MINOR, CONTEXT, 8),
    ];
    let allow = rules.allow_by_default();
    for exception in rules.exceptions() {
        let kind = match exception.kind {
            DeviceKind::Block => BLOCK,
            DeviceKind::Char => CHAR,
        };
        let mut block = vec![Compare::Not(KIND, kind)];
        block.extend(exception.major.map(|number| Compare::Not(MAJOR, number.cast_signed())));
        block.extend(exception.minor.map(|number| Compare::Not(MINOR, number.cast_signed())));
        if exception.access != Access::ALL {
            let bits = i32::from(exception.access.bits());
            // To be allowed all that is asked for must be; to be denied any of it suffices.
            block.push(if allow { Compare::NoneOf(bits) } else { Compare::NotWithin(bits) });
        }
        emit_block(&mut program, &block, !allow);
    }
    program.extend([Instruction::move_value(VERDICT, i32::from(allow)), Instruction::exit()]);
    program
}

/// A reason for which a block does not apply.
enum Compare {
    /// The register has another value.
    Not(Register, i32),
    /// Some access is asked for beyond these bits.
    NotWithin(i32),
    /// No access is asked for among these bits.
    NoneOf(i32),
}

fn emit_block(program: &mut Vec<Instruction>, block: &[Compare], verdict: bool) {
    let length: usize = block.iter().map(|compare| if matches!(compare, Compare::Not(..)) { 1 } else { 3 }).sum();
    let end = program.len() + length + 2;
    for compare in block {
        if let Compare::NotWithin(bits) | Compare::NoneOf(bits) = compare {
            // The context register is done with once everything is loaded.
            program.push(Instruction::move_register(CONTEXT, ACCESS));
            let mask = if matches!(compare, Compare::NotWithin(_)) { !bits } else { *bits };
            program.push(Instruction::and(CONTEXT, mask));
        }
        let skip = i16::try_from(end - program.len() - 1).expect("a block has at most eight instructions");
        program.push(match compare {
            Compare::Not(register, value) => Instruction::jump_if_not_equal(*register, *value, skip),
            Compare::NotWithin(_) => Instruction::jump_if_not_equal(CONTEXT, 0, skip),
            Compare::NoneOf(_) => Instruction::jump_if_equal(CONTEXT, 0, skip),
        });
    }
    program.extend([Instruction::move_value(VERDICT, i32::from(verdict)), Instruction::exit()]);
}
