//! eBPF device programs of cgroup v2: instructions, loading, attaching. See bpf(2).
//!
//! Only what the device controller needs; no maps, no helpers, no other program types.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

/// A register of the eBPF machine. `R0` holds the verdict, `R1` the context at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Register {
    /// Return value.
    R0,
    /// First argument: the context.
    R1,
    /// Scratch.
    R2,
    /// Scratch.
    R3,
    /// Scratch.
    R4,
    /// Scratch.
    R5,
}

/// One eBPF instruction, as the kernel lays it out (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high four.
    registers: u8,
    offset: i16,
    immediate: i32,
}

// Classes, sizes, modes and operations of linux/bpf_common.h and linux/bpf.h.
const LDX_MEM_W: u8 = 0x61;
const ALU_AND_K: u8 = 0x54;
const ALU_RSH_K: u8 = 0x74;
const ALU64_MOV_K: u8 = 0xb7;
const ALU64_MOV_X: u8 = 0xbf;
const JMP_JEQ_K: u8 = 0x15;
const JMP_JNE_K: u8 = 0x55;
const JMP_EXIT: u8 = 0x95;

impl Instruction {
    /// `to = *(u32 *)(from + offset)`
    #[must_use]
    pub const fn load_word(to: Register, from: Register, offset: i16) -> Self {
        Self { code: LDX_MEM_W, registers: pair(to, from), offset, immediate: 0 }
    }

    /// `to = from`
    #[must_use]
    pub const fn move_register(to: Register, from: Register) -> Self {
        Self { code: ALU64_MOV_X, registers: pair(to, from), offset: 0, immediate: 0 }
    }

    /// `to = value`
    #[must_use]
    pub const fn move_value(to: Register, value: i32) -> Self {
        Self { code: ALU64_MOV_K, registers: to as u8, offset: 0, immediate: value }
    }

    /// `to &= mask`, on the low 32 bits; the others become zero.
    #[must_use]
    pub const fn and(to: Register, mask: i32) -> Self {
        Self { code: ALU_AND_K, registers: to as u8, offset: 0, immediate: mask }
    }

    /// `to >>= bits`, on the low 32 bits; the others become zero.
    #[must_use]
    pub const fn shift_right(to: Register, bits: i32) -> Self {
        Self { code: ALU_RSH_K, registers: to as u8, offset: 0, immediate: bits }
    }

    /// `if left == right { skip offset instructions }`
    #[must_use]
    pub const fn jump_if_equal(left: Register, right: i32, offset: i16) -> Self {
        Self { code: JMP_JEQ_K, registers: left as u8, offset, immediate: right }
    }

    /// `if left != right { skip offset instructions }`
    #[must_use]
    pub const fn jump_if_not_equal(left: Register, right: i32, offset: i16) -> Self {
        Self { code: JMP_JNE_K, registers: left as u8, offset, immediate: right }
    }

    /// `return R0`
    #[must_use]
    pub const fn exit() -> Self {
        Self { code: JMP_EXIT, registers: 0, offset: 0, immediate: 0 }
    }
}

const fn pair(to: Register, from: Register) -> u8 {
    to as u8 | (from as u8) << 4
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;

/// More programs than a cgroup can hold of one type (`BPF_CGROUP_MAX_PROGS`).
const MAX_PROGRAMS: usize = 64;

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` that every kernel knows.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The part of `union bpf_attr` for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// The part of `union bpf_attr` for `BPF_PROG_QUERY`.
#[repr(C)]
struct QueryAttributes {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// The part of `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct IdAttributes {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Verifies and loads a program of the type `BPF_PROG_TYPE_CGROUP_DEVICE`. The descriptor is closed on `execve`.
///
/// # Errors
/// The kernel's: `EPERM` without privileges (before Linux 5.11 also over the limit of locked memory), `EINVAL` and `EACCES` for a
/// program that it does not accept.
pub fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    let count = u32::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let attributes = LoadAttributes {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: count,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"berth_devices\0\0\0",
    };
    // SAFETY: the attributes point to `count` instructions and to a terminated string, both alive during the call, which only reads them.
    let fd = unsafe { bpf(PROG_LOAD, &raw const attributes) }?;
    // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts a device program in force for a cgroup, beside those that are there already: a device must pass all of them.
///
/// # Errors
/// The kernel's: `EPERM` if another program forbids companions, `EBADF` for a descriptor that is no v2 cgroup.
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> io::Result<()> {
    change_attachment(PROG_ATTACH, &cgroup, &program, ALLOW_MULTI)
}

/// Takes a device program off a cgroup.
///
/// # Errors
/// `ENOENT` if it is not attached there.
pub fn detach_device_program(cgroup: impl AsFd, program: impl AsFd) -> io::Result<()> {
    change_attachment(PROG_DETACH, &cgroup, &program, 0)
}

/// The ids of the device programs that are attached to the cgroup itself.
///
/// # Errors
/// The kernel's: `EPERM` without privileges, `EINVAL` without eBPF for cgroups.
pub fn attached_device_programs(cgroup: impl AsFd) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut attributes = QueryAttributes {
        target: descriptor(&cgroup),
        attach_type: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_PROGRAMS as u32,
        padding: 0,
    };
    // SAFETY: the kernel writes at most `count` ids to the array, and the result to the attributes; both are alive and writable.
    unsafe { bpf(PROG_QUERY, &raw mut attributes) }?;
    Ok(ids[..(attributes.count as usize).min(MAX_PROGRAMS)].to_vec())
}

/// Opens a loaded program by its id.
///
/// # Errors
/// `ENOENT` if it is gone.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let attributes = IdAttributes { id, next_id: 0, open_flags: 0 };
    // SAFETY: the attributes are alive during the call, which only reads them.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &raw const attributes) }?;
    // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn change_attachment(command: libc::c_int, cgroup: &impl AsFd, program: &impl AsFd, flags: u32) -> io::Result<()> {
    let attributes = AttachAttributes {
        target: descriptor(cgroup),
        program: descriptor(program),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags,
    };
    // SAFETY: the attributes are alive during the call, which only reads them.
    unsafe { bpf(command, &raw const attributes) }.map(drop)
}

fn descriptor(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

/// Calls bpf(2).
///
/// # Safety
/// `attributes` must be what `command` takes, and whatever it points to must be valid for what the command does with it.
unsafe fn bpf<T>(command: libc::c_int, attributes: *const T) -> io::Result<i32> {
    // SAFETY: the caller vouches for the attributes; the size is that of what they point to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    // Descriptors and zero fit in 32 bits.
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(result).unwrap_or(0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_have_the_layout_of_the_kernel() {
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(
            Instruction::load_word(Register::R2, Register::R1, 4),
            Instruction { code: 0x61, registers: 0x12, offset: 4, immediate: 0 }
        );
    }

    #[test]
    fn a_minimal_program_is_accepted_by_the_kernel() {
        let program = [Instruction::move_value(Register::R0, 1), Instruction::exit()];
        match load_device_program(&program) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}"),
        }
    }
}
