//! Starting a program from a process of any size, with any number of threads. See posix_spawn(3).
//!
//! The C library does it with `CLONE_VM | CLONE_VFORK`: nothing of the caller is copied, and only the calling thread
//! waits until the program has begun.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::process::Pid;

use crate::exec::CStrings;

/// What to start, and with what.
#[derive(Clone, Copy, Debug)]
pub struct SpawnRequest<'a> {
    /// The program's file.
    pub program: Program<'a>,
    /// Its arguments, its own name first.
    pub arguments: &'a CStrings,
    /// Its environment.
    pub environment: &'a CStrings,
    /// Its descriptors 0, 1 and 2.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Its descriptors from 3 on. All others are left to their close-on-exec flag.
    pub more: &'a [BorrowedFd<'a>],
    /// Its working directory.
    pub directory: &'a CStr,
    /// Whether it leads a session of its own, without a terminal.
    pub new_session: bool,
}

/// Where the program is.
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// At a path; no search is made.
    Path(&'a CStr),
    /// Open on a descriptor. Needs `/proc`.
    Descriptor(BorrowedFd<'a>),
}

/// A program that was started: a child of the caller, who has to reap it.
#[derive(Debug)]
pub struct Spawned {
    /// Its number.
    pub pid: Pid,
    /// Its pidfd, close-on-exec.
    pub pidfd: OwnedFd,
}

impl SpawnRequest<'_> {
    /// Starts the program. All signals have their default action in it, and none is blocked.
    ///
    /// # Errors
    /// Those of execve(2) and fork(2).
    pub fn run(&self) -> io::Result<Spawned> {
        let mut actions = Actions::new(self)?;
        let path = match self.program {
            Program::Path(path) => path.to_owned(),
            Program::Descriptor(fd) => {
                let number = actions.out_of_the_way(fd)?;
                CString::new(format!("/proc/self/fd/{number}")).expect("digits hold no NUL")
            }
        };
        let attributes = Attributes::new(self.new_session)?;
        let (arguments, environment) = (pointers(self.arguments), pointers(self.environment));
        let mut pid: libc::pid_t = 0;
        // SAFETY: every pointer is to live, initialised memory; both lists end with a null pointer; the call keeps none.
        let error = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                path.as_ptr(),
                &raw const actions.list,
                &raw const attributes.0,
                arguments.as_ptr(),
                environment.as_ptr(),
            )
        };
        check(error)?;
        let pid = Pid::from_raw(pid).expect("a child's number is positive");
        // Nobody but the caller can reap the child, so the number still means it.
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        Ok(Spawned { pid, pidfd })
    }
}

fn pointers(list: &CStrings) -> Vec<*mut libc::c_char> {
    list.iter().map(|text| text.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

fn check(error: libc::c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

struct Actions {
    list: libc::posix_spawn_file_actions_t,
    /// The first number that no descriptor of the child's is put at.
    first_free: RawFd,
    copies: Vec<OwnedFd>,
}

impl Actions {
    fn new(request: &SpawnRequest<'_>) -> io::Result<Self> {
        // SAFETY: plain memory that the next call initialises.
        let list = unsafe { std::mem::zeroed() };
        let mut actions = Self { list, first_free: 3 + request.more.len() as RawFd, copies: Vec::new() };
        // SAFETY: initialises the object it points to.
        check(unsafe { libc::posix_spawn_file_actions_init(&raw mut actions.list) })?;
        for (target, source) in (0..).zip(request.stdio.iter().chain(request.more)) {
            let source = actions.out_of_the_way(*source)?;
            // SAFETY: the object is initialised; the numbers are checked when the child runs them.
            check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut actions.list, source, target) })?;
        }
        // SAFETY: the object is initialised; the path is copied.
        check(unsafe {
            libc::posix_spawn_file_actions_addchdir_np(&raw mut actions.list, request.directory.as_ptr())
        })?;
        Ok(actions)
    }

    /// A source among the targets could be overwritten before it is used; such a one is copied out of the way.
    fn out_of_the_way(&mut self, source: BorrowedFd<'_>) -> io::Result<RawFd> {
        if source.as_raw_fd() >= self.first_free {
            return Ok(source.as_raw_fd());
        }
        // SAFETY: makes a new descriptor, which is owned at once.
        let copy = unsafe { libc::fcntl(source.as_raw_fd(), libc::F_DUPFD_CLOEXEC, self.first_free) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        self.copies.push(unsafe { OwnedFd::from_raw_fd(copy) });
        Ok(copy)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: the object is initialised and not used again.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.list) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new(new_session: bool) -> io::Result<Self> {
        const POSIX_SPAWN_SETSID: libc::c_short = 0x80;
        // SAFETY: plain memory that the next call initialises.
        let mut attributes = Self(unsafe { std::mem::zeroed() });
        let mut flags = libc::POSIX_SPAWN_SETSIGDEF as libc::c_short | libc::POSIX_SPAWN_SETSIGMASK as libc::c_short;
        if new_session {
            flags |= POSIX_SPAWN_SETSID;
        }
        // SAFETY: each call gets initialised objects; the sets are made in local memory and copied.
        unsafe {
            check(libc::posix_spawnattr_init(&raw mut attributes.0))?;
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            check(libc::posix_spawnattr_setsigmask(&raw mut attributes.0, &raw const set))?;
            libc::sigfillset(&raw mut set);
            check(libc::posix_spawnattr_setsigdefault(&raw mut attributes.0, &raw const set))?;
            check(libc::posix_spawnattr_setflags(&raw mut attributes.0, flags))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: the object is initialised and not used again.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::io::Read;
    use std::os::fd::AsFd;

    fn shell(program: Program<'_>, script: &str) -> (String, Option<i32>) {
        let arguments = CStrings::from_texts(["sh", "-c", script]).unwrap();
        let environment = CStrings::from_texts(["A=of its own"]).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let stdio = [null.as_fd(), writer.as_fd(), writer.as_fd()];
        let request = SpawnRequest {
            program,
            arguments: &arguments,
            environment: &environment,
            stdio,
            more: &[writer.as_fd()],
            directory: c"/",
            new_session: true,
        };
        let child = request.run().unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED).unwrap().unwrap();
        (text, status.exit_status())
    }

    #[test]
    fn a_program_starts_from_a_path_and_from_a_descriptor() {
        let script = "echo $A; pwd; echo error >&2; echo more >&3; exit 7";
        let expected = ("of its own\n/\nerror\nmore\n".to_owned(), Some(7));
        assert_eq!(shell(Program::Path(c"/bin/sh"), script), expected);
        let file = std::fs::File::open("/bin/sh").unwrap();
        assert_eq!(shell(Program::Descriptor(file.as_fd()), script), expected);
    }

    #[test]
    fn it_leads_its_own_session_with_fresh_signals() {
        let (text, _) =
            shell(Program::Path(c"/bin/sh"), "cut -d' ' -f1,6 /proc/$$/stat; grep SigBlk /proc/self/status");
        let mut words = text.split_whitespace();
        assert_eq!(words.next(), words.next());
        assert_eq!(words.last(), Some("0000000000000000"));
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let none = CStrings::new(Vec::new());
        let request = SpawnRequest {
            program: Program::Path(c"/no/such/program"),
            arguments: &none,
            environment: &none,
            stdio: [null.as_fd(); 3],
            more: &[],
            directory: c"/",
            new_session: false,
        };
        assert_eq!(request.run().unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
