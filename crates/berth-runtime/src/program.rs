//! Which file the first argument means, and becoming it.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use berth_oci::runtime::Process;
use berth_sys::exec::{self, CStrings};
use berth_sys::rooted;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{ProgramFault, RuntimeError, Step};

/// A program with its arguments and environment, made ahead of the fork.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    arguments: CStrings,
    environment: CStrings,
    search_path: Option<String>,
    has_home: bool,
    working_directory: String,
}

/// The largest `/etc/passwd` that is searched for a home.
const LARGEST_PASSWD: usize = 1 << 20;

impl Program {
    /// Understands the process; `more` variables are added to its environment.
    pub(crate) fn new(process: &Process, more: &[String]) -> Result<Program, RuntimeError> {
        let Some(name) = process.args.first() else {
            return Err(RuntimeError::invalid("process.args", "must not be empty"));
        };
        if !process.cwd.starts_with('/') {
            return Err(RuntimeError::invalid("process.cwd", format!("{:?} is not an absolute path", process.cwd)));
        }
        let nul = |field: &'static str| move |_| RuntimeError::invalid(field, "holds a NUL byte");
        let variable =
            |name: &str| process.env.iter().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        Ok(Program {
            name: name.clone(),
            arguments: CStrings::from_texts(&process.args).map_err(nul("process.args"))?,
            // A `HOME` without a value counts as none, and the one that is added must be the only one.
            environment: CStrings::from_texts(process.env.iter().filter(|line| *line != "HOME=").chain(more))
                .map_err(nul("process.env"))?,
            search_path: variable("PATH").map(str::to_owned),
            has_home: variable("HOME").is_some_and(|home| !home.is_empty()),
            working_directory: process.cwd.clone(),
        })
    }

    /// Makes the working directory where it is missing, as every runtime does; what stands in the way, chdir will say.
    pub(crate) fn make_working_directory(&self, root: BorrowedFd<'_>) {
        let _ = rooted::make_directories(root, &self.working_directory, Mode::from_raw_mode(0o755));
    }

    /// Where it will run.
    pub(crate) fn working_directory(&self) -> &str {
        &self.working_directory
    }

    /// Adds `HOME` from the container's own user table, unless it is set.
    pub(crate) fn add_home(&mut self, root: BorrowedFd<'_>, uid: u32) {
        if !self.has_home {
            let home = home_of(root, uid).unwrap_or_else(|| "/".to_owned());
            if let Ok(variable) = CString::new(format!("HOME={home}")) {
                self.environment.push(variable);
            }
        }
    }

    /// Goes to the working directory. `false` when only the user has the right, who is yet to be assumed.
    pub(crate) fn enter_working_directory(&self, root: BorrowedFd<'_>) -> Result<bool, RuntimeError> {
        let step = "changing to the working directory";
        // Links of procfs to open descriptors are refused on the way: one of them could lead out (CVE-2024-21626).
        let directory = rooted::open(root, &self.working_directory, OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        let directory = match directory {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(false),
            directory => directory.step(step, &self.working_directory)?,
        };
        match rustix::process::fchdir(&directory) {
            Err(Errno::ACCESS) => return Ok(false),
            result => result.step(step, &self.working_directory)?,
        }
        let real =
            rustix::process::getcwd(Vec::new()).step("reading the working directory", &self.working_directory)?;
        if real.to_bytes().starts_with(b"/") {
            return Ok(true);
        }
        let reason = format!("{:?} is outside of the container's root", self.working_directory);
        Err(RuntimeError::invalid("process.cwd", reason))
    }

    /// Finds the file, with the rights of the user.
    pub(crate) fn find(&self) -> Result<CString, RuntimeError> {
        let fault = |fault| RuntimeError::Program { name: self.name.clone(), fault };
        if self.name.contains('/') {
            let path = CString::new(self.name.as_str()).map_err(|_| fault(ProgramFault::Missing))?;
            return check(&path).map(|()| path).map_err(fault);
        }
        for directory in self.search_path.as_deref().unwrap_or_default().split(':').filter(|_| !self.name.is_empty()) {
            let directory = if directory.is_empty() { "." } else { directory };
            let Ok(path) = CString::new(format!("{}/{}", directory.trim_end_matches('/'), self.name)) else { continue };
            if check(&path).is_ok() {
                return Ok(path);
            }
        }
        Err(fault(ProgramFault::NotInPath))
    }

    /// Becomes the program at `path`.
    pub(crate) fn become_it(&self, path: &CStr) -> Result<Infallible, RuntimeError> {
        let error = exec::execve(path, &self.arguments, &self.environment);
        let errno = error.raw_os_error().unwrap_or(Errno::NOEXEC.raw_os_error());
        Err(RuntimeError::Program { name: self.name.clone(), fault: ProgramFault::Errno(errno) })
    }
}

fn check(path: &CStr) -> Result<(), ProgramFault> {
    let status = rustix::fs::stat(path).map_err(|errno| match errno {
        Errno::NOENT => ProgramFault::Missing,
        other => ProgramFault::Errno(other.raw_os_error()),
    })?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err(ProgramFault::IsDirectory);
    }
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // The call is newer than some filters around us; the mode bits then decide, and execve has the last word.
        Err(Errno::NOSYS | Errno::PERM) if status.st_mode & 0o111 != 0 => Ok(()),
        result => result.map_err(|errno| ProgramFault::Errno(errno.raw_os_error())),
    }
}

/// The home directory of a user, from the container's `/etc/passwd`. Never the host's, and never by the C library.
fn home_of(root: BorrowedFd<'_>, uid: u32) -> Option<String> {
    let file = rooted::open(root, "/etc/passwd", OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).ok()?;
    let table = rooted::read_to_end(&file, LARGEST_PASSWD).ok()?;
    home_in(&String::from_utf8_lossy(&table), uid)
}

fn home_in(table: &str, uid: u32) -> Option<String> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let number: u32 = fields.nth(2)?.parse().ok()?;
        let home = fields.nth(2)?;
        (number == uid && !home.is_empty()).then(|| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(json: &str) -> Result<Program, RuntimeError> {
        Program::new(&serde_json::from_str(json).unwrap(), &[])
    }

    fn find(args: &str) -> Result<CString, String> {
        let json = format!(r#"{{"args":["{args}"],"cwd":"/","env":["PATH=/nowhere:/bin:/usr/bin"]}}"#);
        program(&json).unwrap().find().map_err(|error| error.to_string())
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert_eq!(find("sh").unwrap().as_c_str(), c"/bin/sh");
        assert_eq!(find("/bin/sh").unwrap().as_c_str(), c"/bin/sh");
        assert_eq!(find("nosuch").unwrap_err(), r#"exec: "nosuch": executable file not found in $PATH"#);
        assert_eq!(find("").unwrap_err(), r#"exec: "": executable file not found in $PATH"#);
        assert_eq!(find("/nosuch").unwrap_err(), r#"exec: "/nosuch": stat /nosuch: no such file or directory"#);
        assert_eq!(find("/etc/passwd").unwrap_err(), r#"exec: "/etc/passwd": permission denied"#);
        assert_eq!(find("/etc").unwrap_err(), r#"exec: "/etc": is a directory"#);
    }

    #[test]
    fn without_a_path_only_a_path_is_found() {
        let program = program(r#"{"args":["sh"],"cwd":"/"}"#).unwrap();
        assert!(program.find().unwrap_err().to_string().contains("not found in $PATH"));
    }

    #[test]
    fn a_process_needs_arguments_and_an_absolute_directory() {
        assert!(program(r#"{"cwd":"/"}"#).unwrap_err().to_string().contains("process.args"));
        assert!(program(r#"{"args":["a"],"cwd":"x"}"#).unwrap_err().to_string().contains("not an absolute path"));
        assert!(program(r#"{"args":["a\u0000b"],"cwd":"/"}"#).unwrap_err().to_string().contains("NUL"));
    }

    #[test]
    fn homes_are_found_by_number() {
        let table = "root:x:0:0:root:/root:/bin/sh\nbroken\nuser:x:1000:1000::/home/user:/bin/sh\nnohome:x:7:7:::\n";
        assert_eq!(home_in(table, 0).as_deref(), Some("/root"));
        assert_eq!(home_in(table, 1000).as_deref(), Some("/home/user"));
        assert_eq!(home_in(table, 7), None);
        assert_eq!(home_in(table, 8), None);
    }
}
