//! The program of the `hello-world` image: says what just happened, and ends.
//!
//! Freestanding, so that the image is a few kilobytes: no standard library, no C library, two system calls. Built by `build.rs`.
#![no_std]
#![no_main]

use core::{arch::asm, panic::PanicInfo};

const TEXT: &str = "
Hello from Berth!
If you can read this, your engine works: client, daemon, shim and runtime have all done their part.

What happened between your Enter and this line:
 1. The client asked the daemon for a container of the image \"hello-world\".
 2. The daemon did not have that image, so it took it from the archive that is built into Berth.
 3. The daemon put a writable layer on top of the image and started a shim, which looks after this one container.
 4. The shim made the container - its own processes, files, host name and network - and started this program in it.
 5. The program wrote this text; the shim passed it on to the daemon, and the daemon to your terminal.

To try something larger, make an image of a whole distribution (debootstrap is a package of Debian's) and look around in it:
 $ debootstrap --variant=minbase bookworm ./debian
 $ tar -C ./debian -c . | berth import - debian
 $ berth run -it debian bash

Every command explains itself:
 $ berth --help

";

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    let mut rest = TEXT.as_bytes();
    while !rest.is_empty() {
        let written = write(1, rest);
        if written <= 0 {
            exit(1);
        }
        rest = rest.get(written as usize..).unwrap_or_default();
    }
    exit(0)
}

fn write(descriptor: usize, bytes: &[u8]) -> isize {
    #[cfg(target_arch = "x86_64")]
    return system_call(1, descriptor, bytes.as_ptr() as usize, bytes.len());
    #[cfg(target_arch = "aarch64")]
    return system_call(64, descriptor, bytes.as_ptr() as usize, bytes.len());
}

fn exit(code: usize) -> ! {
    loop {
        #[cfg(target_arch = "x86_64")]
        system_call(231, code, 0, 0);
        #[cfg(target_arch = "aarch64")]
        system_call(94, code, 0, 0);
    }
}

#[cfg(target_arch = "x86_64")]
fn system_call(number: usize, a: usize, b: usize, c: usize) -> isize {
    let result;
    // SAFETY: only `write` from a slice that lives, and `exit_group`, are called; the kernel changes rax, rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn system_call(number: usize, a: usize, b: usize, c: usize) -> isize {
    let result;
    // SAFETY: only `write` from a slice that lives, and `exit_group`, are called; the kernel changes x0.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, options(nostack));
    }
    result
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(2)
}
