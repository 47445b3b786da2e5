//! The stand-alone runtime's memory: one directory per container, `<root>/<id>/`.
//!
//! `state.json` says what the container is, `config.json` is the configuration it was made from, and `start.sock` is there
//! as long as its program waits for `start`. Status is never stored: it is asked from the kernel each time.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use berth_cgroup::{Cgroup, CgroupPath, Layout};
use berth_model::Timestamp;
use berth_oci::runtime::{Spec, Status};
use berth_sys::mount::descriptor_path;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::container::check_id;
use crate::error::{RuntimeError, Step};
use crate::{Container, Existing};

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const START_SOCKET: &str = "start.sock";

/// The directory of all containers.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    root: PathBuf,
}

/// What is remembered of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The version of this document.
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) pid: i32,
    /// In clock ticks since boot: tells a process from a later one with the same number.
    pub(crate) pid_start_time: u64,
    pub(crate) created: Timestamp,
    /// The user who made it.
    pub(crate) owner: u32,
    pub(crate) cgroup: String,
}

impl Record {
    /// The version that this program writes and reads.
    pub(crate) const VERSION: u32 = 1;
}

/// A container in the registry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    directory: PathBuf,
    pub(crate) record: Record,
}

/// A place for a new container; removed again unless it is kept.
#[derive(Debug)]
pub(crate) struct Reserved {
    directory: PathBuf,
    kept: bool,
}

impl Registry {
    /// The registry at `root`, which need not exist.
    pub(crate) fn new(root: PathBuf) -> Registry {
        Registry { root }
    }

    /// Reserves an id.
    pub(crate) fn reserve(&self, id: &str) -> Result<Reserved, RuntimeError> {
        check_id(id)?;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o711).create(&self.root).step("making", &self.root)?;
        let directory = self.root.join(id);
        match fs::DirBuilder::new().mode(0o711).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(RuntimeError::IdInUse { id: id.to_owned() })
            }
            result => {
                result.step("making", &directory)?;
                Ok(Reserved { directory, kept: false })
            }
        }
    }

    /// Finds a container.
    pub(crate) fn find(&self, id: &str) -> Result<Entry, RuntimeError> {
        check_id(id)?;
        let directory = self.root.join(id);
        let file = directory.join(STATE);
        let text = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RuntimeError::UnknownContainer { id: id.to_owned() });
            }
            text => text.step("reading", &file)?,
        };
        let record: Record = serde_json::from_slice(&text).map_err(|error| unreadable(&file, &error.to_string()))?;
        if record.version > Record::VERSION {
            return Err(unreadable(&file, &format!("version {} is newer than this program", record.version)));
        }
        Ok(Entry { directory, record })
    }

    /// All containers, by id; what cannot be read is left out.
    pub(crate) fn list(&self) -> Result<Vec<Entry>, RuntimeError> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.step("reading", &self.root)?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut found: Vec<Entry> = names.filter_map(|name| self.find(&name).ok()).collect();
        found.sort_by(|one, other| one.record.id.cmp(&other.record.id));
        Ok(found)
    }

    /// Removes what a creation left that was killed half way: a directory without a record.
    pub(crate) fn remove_leftover(&self, id: &str) -> Result<bool, RuntimeError> {
        check_id(id)?;
        let directory = self.root.join(id);
        if !directory.is_dir() {
            return Ok(false);
        }
        fs::remove_dir_all(&directory).step("removing", &directory)?;
        Ok(true)
    }
}

impl Reserved {
    /// Makes the socket at which the container will wait.
    pub(crate) fn listen(&self) -> Result<OwnedFd, RuntimeError> {
        let step = "making the start socket in";
        let socket = packet_socket().step(step, &self.directory)?;
        let (_directory, address) = socket_address(&self.directory).step(step, &self.directory)?;
        rustix::net::bind(&socket, &address).step(step, &self.directory)?;
        rustix::net::listen(&socket, 1).step(step, &self.directory)?;
        Ok(socket)
    }

    /// Writes the record and the configuration, and keeps the place.
    pub(crate) fn keep(mut self, record: Record, config: &[u8]) -> Result<Entry, RuntimeError> {
        let text = serde_json::to_vec(&record).map_err(|error| unreadable(Path::new(STATE), &error.to_string()))?;
        write_new(&self.directory.join(CONFIG), config)?;
        // The record last, and whole: with it the container exists.
        let (draft, file) = (self.directory.join(".state.json"), self.directory.join(STATE));
        write_new(&draft, &text)?;
        fs::rename(&draft, &file).step("writing", &file)?;
        self.kept = true;
        Ok(Entry { directory: self.directory.clone(), record })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

impl Entry {
    /// Where the container is in its life.
    pub(crate) fn status(&self) -> Result<Status, RuntimeError> {
        if !self.is_alive() {
            return Ok(Status::Stopped);
        }
        if self.directory.join(START_SOCKET).exists() {
            return Ok(Status::Created);
        }
        let frozen = match Cgroup::open(&Layout::probe()?, &self.cgroup_path()?) {
            Ok(cgroup) => cgroup.is_frozen()?,
            Err(_) => false,
        };
        Ok(if frozen { Status::Paused } else { Status::Running })
    }

    fn is_alive(&self) -> bool {
        start_time(self.record.pid).is_some_and(|start| start == self.record.pid_start_time)
    }

    /// The configuration the container was made from.
    pub(crate) fn spec(&self) -> Result<Spec, RuntimeError> {
        read_spec(&self.directory.join(CONFIG)).map(|(spec, _)| spec)
    }

    /// Where its cgroup is.
    pub(crate) fn cgroup_path(&self) -> Result<CgroupPath, RuntimeError> {
        Ok(self.record.cgroup.parse().map_err(berth_cgroup::CgroupError::from)?)
    }

    /// Its cgroup, if it is still there.
    pub(crate) fn cgroup(&self) -> Result<Option<Cgroup>, RuntimeError> {
        match Cgroup::open(&Layout::probe()?, &self.cgroup_path()?) {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(berth_cgroup::CgroupError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes hold of the container, which must be alive.
    pub(crate) fn attach(&self, spec: &Spec) -> Result<Container, RuntimeError> {
        let pid = Pid::from_raw(self.record.pid);
        let pid = pid.ok_or_else(|| unreadable(&self.directory.join(STATE), "no process id"))?;
        let container = Container::attach(&Existing {
            id: &self.record.id,
            bundle: &self.record.bundle,
            spec,
            pid,
            cgroup: &self.cgroup_path()?,
            seccomp_cache: None,
        })?;
        // The number may have been taken by another process before it was opened.
        if self.is_alive() { Ok(container) } else { Err(self.wrong_state("cannot enter", "it has stopped")) }
    }

    /// Connects to the waiting process, as nobody else can from now on.
    pub(crate) fn connect(&self) -> Result<OwnedFd, RuntimeError> {
        let step = "connecting to the waiting container in";
        let socket = packet_socket().step(step, &self.directory)?;
        let (_directory, address) = socket_address(&self.directory).step(step, &self.directory)?;
        rustix::net::connect(&socket, &address).step(step, &self.directory)?;
        match fs::remove_file(self.directory.join(START_SOCKET)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(self.wrong_state("cannot start", "it was started already"))
            }
            result => result.step("removing the start socket in", &self.directory).map(|()| socket),
        }
    }

    /// Forgets the container.
    pub(crate) fn remove(&self) -> Result<(), RuntimeError> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.step("removing", &self.directory),
        }
    }

    /// A refusal for the state it is in.
    pub(crate) fn wrong_state(&self, action: &'static str, reason: &'static str) -> RuntimeError {
        RuntimeError::WrongState { id: self.record.id.clone(), action: action.into(), reason: reason.into() }
    }
}

/// Reads a configuration, and gives its text as well.
pub(crate) fn read_spec(file: &Path) -> Result<(Spec, Vec<u8>), RuntimeError> {
    let text = fs::read(file).step("reading", file)?;
    let spec = serde_json::from_slice(&text);
    let spec = spec.map_err(|error| RuntimeError::invalid(file.display().to_string(), error.to_string()))?;
    Ok((spec, text))
}

/// The start time of a process that is alive, in clock ticks since boot. See proc_pid_stat(5).
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, parentheses and blanks included: the fields begin after the last one.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

fn unreadable(file: &Path, reason: &str) -> RuntimeError {
    RuntimeError::invalid(file.display().to_string(), reason.to_owned())
}

fn write_new(file: &Path, content: &[u8]) -> Result<(), RuntimeError> {
    let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    open.and_then(|mut open| open.write_all(content)).step("writing", file)
}

fn packet_socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// The address of the socket, through a descriptor: a path of more than 108 bytes would not fit.
fn socket_address(directory: &Path) -> rustix::io::Result<(OwnedFd, SocketAddrUnix)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::open(directory, flags, Mode::empty())?;
    let address = SocketAddrUnix::new(Path::new(&descriptor_path(open.as_fd())).join(START_SOCKET).as_path())?;
    Ok((open, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_reserved_once_and_given_back() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::new(root.path().join("deep/er"));
        let reserved = registry.reserve("a").unwrap();
        assert!(matches!(registry.reserve("a"), Err(RuntimeError::IdInUse { .. })));
        drop(reserved);
        assert!(registry.reserve("a").is_ok());
        assert!(matches!(registry.find("a"), Err(RuntimeError::UnknownContainer { .. })));
    }

    #[test]
    fn a_process_is_known_by_its_start_time() {
        let own = std::process::id() as i32;
        assert!(start_time(own).is_some());
        assert_eq!(start_time(i32::MAX), None);
    }
}
