//! `berth-init [-s] [--] PROGRAM [ARGUMENT...]`: the first process of a container that wants one.
//!
//! It starts the program as its child, in a process group of its own and, if there is a terminal, in the foreground; passes every signal
//! that it gets on to it; reaps whatever orphans become its children; and ends when the program does, with its exit code, or 128 and the
//! number of the signal that killed it. A program that cannot be executed gives 127 if it is not there, 126 otherwise.
//! With `-s` it adopts orphans even where it is not process 1. `--version` prints the version.
//!
//! There is no library underneath, not even C's: system calls are made by hand, memory is the stack. That makes it start in no time and
//! fit any image, and it makes unsafe code unavoidable; each place says why it is sound.
#![no_std]
#![no_main]

use core::{arch::global_asm, ffi::CStr, panic::PanicInfo, ptr};

const USAGE: &str = "usage: berth-init [-s] [--] PROGRAM [ARGUMENT...]\n";
const VERSION: &str = concat!("berth-init version ", env!("BERTH_INIT_VERSION"), "\n");

/// Where programs are looked for without `PATH`, as the C libraries do.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The longest path that the kernel takes, with its end.
const PATH_MAX: usize = 4096;

const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;
const FAILURE: i32 = 1;

const ENOENT: isize = -2;
const EINTR: isize = -4;
const ENOEXEC: isize = -8;
const EACCES: isize = -13;
const ENOTDIR: isize = -20;

const SIGCHLD: i32 = 17;
/// Faults of init itself, which must not be blocked: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS.
const FAULTS: u64 = bit(4) | bit(5) | bit(6) | bit(7) | bit(8) | bit(11) | bit(31);
const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
const TIOCSPGRP: usize = 0x5410;
const PR_SET_CHILD_SUBREAPER: usize = 36;

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

// The kernel starts a program with its arguments on the stack: their number, the pointers, a null, the environment, a null.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {start}", "ud2", start = sym start);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "mov x0, sp", "bl {start}", "brk #0", start = sym start);

/// # Safety
/// `stack` is what the kernel left on the stack at the start of the process.
unsafe extern "C" fn start(stack: *mut usize) -> ! {
    // SAFETY: the number of arguments lies first; as many pointers and a null follow, then the environment.
    let (count, arguments) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    // SAFETY: behind the arguments and their null.
    let environment = unsafe { arguments.add(count + 1) };
    exit(run(Words(arguments), Words(environment)))
}

/// An array of pointers to strings that ends with a null.
#[derive(Clone, Copy)]
struct Words(*mut *const u8);

impl Words {
    fn get(self, index: usize) -> Option<&'static CStr> {
        // SAFETY: callers go from the beginning and stop at the null, so the place is within the array.
        let word = unsafe { *self.0.add(index) };
        // SAFETY: the kernel put terminated strings there, which stay for the life of the process.
        if word.is_null() { None } else { Some(unsafe { CStr::from_ptr(word.cast()) }) }
    }

    fn skip(self, count: usize) -> Self {
        // SAFETY: callers skip only words that they have seen.
        Self(unsafe { self.0.add(count) })
    }
}

fn run(arguments: Words, environment: Words) -> i32 {
    let mut next = 1;
    loop {
        match arguments.get(next).map(CStr::to_bytes) {
            Some(b"--version") => return print(1, &[VERSION.as_bytes()], 0),
            Some(b"-s") => {
                if system_call(number::PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0]) < 0 {
                    return complain(&[b"adopting orphans failed"], FAILURE);
                }
            }
            Some(b"--") => {
                next += 1;
                break;
            }
            Some(option @ [b'-', _, ..]) => return complain(&[b"unknown option ", option], FAILURE),
            _ => break,
        }
        next += 1;
    }
    if arguments.get(next).is_none() {
        return print(2, &[USAGE.as_bytes()], FAILURE);
    }
    supervise(arguments.skip(next), environment)
}

/// Starts the program and stays until it ends.
fn supervise(program: Words, environment: Words) -> i32 {
    let mut inherited: u64 = 0;
    // From here on signals wait until they are asked for, so none is lost before there is somebody to pass it on to.
    set_mask(!FAULTS, Some(&mut inherited));
    let child = system_call(number::CLONE, [SIGCHLD as usize, 0, 0, 0, 0, 0]);
    match child {
        0 => become_program(program, environment, inherited),
        child if child > 0 => watch(child),
        _ => complain(&[b"starting a process failed"], FAILURE),
    }
}

/// Waits for signals: passes them on, and reaps whoever has ended.
fn watch(child: isize) -> i32 {
    let all = !FAULTS;
    loop {
        let signal = system_call(number::RT_SIGTIMEDWAIT, [address(&all), 0, 0, size_of::<u64>(), 0, 0]);
        if signal > 0 && signal != SIGCHLD as isize {
            // The child may have ended a moment ago; then its SIGCHLD comes next.
            system_call(number::KILL, [child as usize, signal as usize, 0, 0, 0, 0]);
        }
        if let Some(code) = reap(child) {
            return code;
        }
    }
}

/// Takes in every process that has ended; tells the exit code if the program is among them.
fn reap(child: isize) -> Option<i32> {
    let mut code = None;
    loop {
        let mut status: i32 = 0;
        let ended = system_call(number::WAIT4, [usize::MAX, address_mut(&mut status), WNOHANG, 0, 0, 0]);
        match ended {
            EINTR => {}
            ended if ended == child => code = Some(exit_code(status)),
            ended if ended > 0 => {}
            _ => return code,
        }
    }
}

/// The exit code of a process as shells tell it.
fn exit_code(status: i32) -> i32 {
    match status & 0x7f {
        0 => (status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

/// In the child: gives it a group of its own and the terminal, and makes it the program. Comes back only if that fails.
fn become_program(program: Words, environment: Words, mask: u64) -> i32 {
    system_call(number::SETPGID, [0; 6]);
    let group = system_call(number::GETPID, [0; 6]) as i32;
    // Without a terminal this fails, which is fine. SIGTTOU, which a background process would get for it, is blocked.
    system_call(number::IOCTL, [0, TIOCSPGRP, address(&group), 0, 0, 0]);
    set_mask(mask, None);
    let name = program.get(0).map_or(&b""[..], CStr::to_bytes);
    match execute(program, environment) {
        ENOENT | ENOTDIR => complain(&[b"executing ", name, b": no such file or directory"], NOT_FOUND),
        EACCES => complain(&[b"executing ", name, b": permission denied"], NOT_EXECUTABLE),
        error => {
            complain(&[b"executing ", name, b": error ", decimal(error.unsigned_abs(), &mut [0; 20])], NOT_EXECUTABLE)
        }
    }
}

/// execvp(3): a name without a slash is looked for along `PATH`; a file in no known format is a shell script.
fn execute(program: Words, environment: Words) -> isize {
    let Some(name) = program.get(0) else { return ENOENT };
    if name.to_bytes().contains(&b'/') {
        return execute_file(name.as_ptr().cast(), program, environment);
    }
    let mut result = ENOENT;
    let mut file = [0u8; PATH_MAX];
    for directory in search_path(environment).split(|byte| *byte == b':') {
        if join(&mut file, directory, name.to_bytes()) {
            match execute_file(file.as_ptr(), program, environment) {
                ENOENT | ENOTDIR => {}
                // A later directory may have one that can be executed; if none has, this is what to tell.
                EACCES => result = EACCES,
                error => return error,
            }
        }
    }
    result
}

fn execute_file(file: *const u8, program: Words, environment: Words) -> isize {
    let result = system_call(number::EXECVE, [file as usize, program.0 as usize, environment.0 as usize, 0, 0, 0]);
    if result != ENOEXEC {
        return result;
    }
    let shell = c"/bin/sh".as_ptr();
    // SAFETY: the program is never the first of our own arguments, so the place before it is within the array, which the kernel gave
    // us to keep; nobody reads it any more but the kernel.
    let with_shell = unsafe {
        *program.0 = file;
        let before = program.0.sub(1);
        *before = shell.cast();
        before
    };
    system_call(number::EXECVE, [shell as usize, with_shell as usize, environment.0 as usize, 0, 0, 0])
}

fn search_path(environment: Words) -> &'static [u8] {
    let mut index = 0;
    while let Some(entry) = environment.get(index) {
        if let Some(path) = entry.to_bytes().strip_prefix(b"PATH=") {
            return path;
        }
        index += 1;
    }
    DEFAULT_PATH
}

/// Writes `directory/name` and its end; an empty directory is the current one. Tells whether it fits.
fn join(file: &mut [u8; PATH_MAX], directory: &[u8], name: &[u8]) -> bool {
    let directory = if directory.is_empty() { b"." } else { directory };
    if directory.len() + name.len() + 2 > PATH_MAX {
        return false;
    }
    let parts = directory.iter().chain(b"/").chain(name).chain(b"\0");
    file.iter_mut().zip(parts).for_each(|(place, byte)| *place = *byte);
    true
}

fn set_mask(mask: u64, old: Option<&mut u64>) {
    let old = old.map_or(0, address_mut);
    system_call(number::RT_SIGPROCMASK, [SIG_SETMASK, address(&mask), old, size_of::<u64>(), 0, 0]);
}

/// One line on standard error; gives the exit code back.
fn complain(parts: &[&[u8]], code: i32) -> i32 {
    print(2, &[b"berth-init: "], code);
    print(2, parts, code);
    print(2, &[b"\n"], code)
}

fn print(descriptor: usize, parts: &[&[u8]], code: i32) -> i32 {
    for part in parts {
        system_call(number::WRITE, [descriptor, part.as_ptr() as usize, part.len(), 0, 0, 0]);
    }
    code
}

fn decimal(mut value: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[first..];
        }
    }
}

fn exit(code: i32) -> ! {
    loop {
        system_call(number::EXIT_GROUP, [code as usize, 0, 0, 0, 0, 0]);
    }
}

fn address<T>(value: &T) -> usize {
    ptr::from_ref(value) as usize
}

fn address_mut<T>(value: &mut T) -> usize {
    ptr::from_mut(value) as usize
}

/// Numbers of system calls.
#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const GETPID: usize = 39;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const SETPGID: usize = 109;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const PRCTL: usize = 157;
    pub const EXIT_GROUP: usize = 231;
}

/// Numbers of system calls.
#[cfg(target_arch = "aarch64")]
mod number {
    pub const IOCTL: usize = 29;
    pub const WRITE: usize = 64;
    pub const EXIT_GROUP: usize = 94;
    pub const KILL: usize = 129;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const SETPGID: usize = 154;
    pub const PRCTL: usize = 167;
    pub const GETPID: usize = 172;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
}

/// Makes a system call; a negative result is an errno.
#[cfg(target_arch = "x86_64")]
fn system_call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the calls in this program take numbers, or addresses of values that outlive the call and are as large as the kernel takes
    // them to be; the one that copies the process copies its stack too. The kernel changes rcx and r11 only.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Makes a system call; a negative result is an errno.
#[cfg(target_arch = "aarch64")]
fn system_call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the calls in this program take numbers, or addresses of values that outlive the call and are as large as the kernel takes
    // them to be; the one that copies the process copies its stack too. The kernel changes no other register.
    unsafe {
        core::arch::asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d,
            in("x4") e, in("x5") f, options(nostack));
    }
    result
}

/// The compiler may call this by itself.
///
/// # Safety
/// As memset(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    for index in 0..count {
        // SAFETY: the caller vouches for `count` bytes. Volatile, or the loop would become a call of this very function.
        unsafe { to.add(index).write_volatile(byte as u8) };
    }
    to
}

/// The compiler may call this by itself.
///
/// # Safety
/// As memcpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    for index in 0..count {
        // SAFETY: the caller vouches for `count` bytes on both sides. Volatile, or the loop would become a call of this very function.
        unsafe { to.add(index).write_volatile(*from.add(index)) };
    }
    to
}

/// The compiler may call this by itself.
///
/// # Safety
/// As memcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    for index in 0..count {
        // SAFETY: the caller vouches for `count` bytes on both sides. Volatile, or the loop would become a call of this very function.
        let (l, r) = unsafe { (left.add(index).read_volatile(), right.add(index).read_volatile()) };
        if l != r {
            return i32::from(l) - i32::from(r);
        }
    }
    0
}

/// As [`memcmp`], but only equal or not.
///
/// # Safety
/// As memcmp(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the caller vouches for what memcmp needs.
    unsafe { memcmp(left, right, count) }
}

/// strlen(3), for `CStr`.
///
/// # Safety
/// `text` must be terminated.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller vouches for a terminator, and nothing behind it is read.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(complain(&[b"internal error"], FAILURE))
}
