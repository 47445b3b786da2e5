//! How containerd starts, asks and clears away a shim: the commands `start`, `delete` and `-info`.
//!
//! `start` leaves a serving shim behind and prints where it listens: as protobuf to those who sent protobuf
//! (containerd 2.3 and newer), as JSON to those who name version 3, else as the plain address that everybody takes.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use berth_cgroup::{Cgroup, CgroupPath, Layout};
use berth_oci::runtime::Spec;
use berth_proto::containerd::bootstrap::{BootstrapParams, BootstrapResult};
use berth_proto::containerd::task::DeleteResponse;
use berth_proto::containerd::types::{RuntimeInfo, RuntimeVersion};
use berth_sys::exec::CStrings;
use berth_sys::spawn::{Program, SpawnRequest};
use prost::Message;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::listener::Listener;
use crate::publisher::timestamp;
use crate::stdio::null;
use crate::task::now;

/// Where sockets go when nobody says.
const SOCKET_DIRECTORY: &str = "/run/containerd/s";
/// Name of the file in a bundle that tells where its shim listens.
const ADDRESS_FILE: &str = "address";
/// How a container ends whose shim did not live to see it: as if killed.
const KILLED: u32 = 128 + 9;

/// What a shim was started with, in the manner of Go's flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `-namespace`
    pub namespace: String,
    /// `-id`
    pub id: String,
    /// `-address`: the manager's own socket.
    pub address: String,
    /// `-bundle`
    pub bundle: Option<PathBuf>,
    /// `-socket`: where the shim listens; given by `start` to the shim that it leaves behind.
    pub socket: Option<PathBuf>,
    /// What is asked for.
    pub action: Action,
}

/// What is asked of the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Serve on the inherited socket.
    #[default]
    Serve,
    /// Leave a shim behind and tell where it listens.
    Start,
    /// Clear away what a dead shim left.
    Delete,
    /// Tell what this runtime is.
    Info,
    /// Tell the version.
    Version,
}

impl Arguments {
    /// Reads the command line.
    ///
    /// # Errors
    /// One line that names the argument.
    pub fn parse(arguments: Vec<OsString>) -> Result<Self, String> {
        let mut parsed = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy().into_owned();
            let Some(flag) = text.strip_prefix("--").or_else(|| text.strip_prefix('-')) else {
                parsed.action = match text.as_str() {
                    "start" => Action::Start,
                    "delete" => Action::Delete,
                    _ => return Err(format!("unknown command: {text}")),
                };
                continue;
            };
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None => (flag, None),
            };
            match name {
                "debug" => continue,
                "info" => parsed.action = Action::Info,
                "v" => parsed.action = Action::Version,
                "namespace" | "id" | "address" | "bundle" | "socket" | "publish-binary" => {
                    let value = inline
                        .or_else(|| arguments.next())
                        .ok_or_else(|| format!("flag needs an argument: -{name}"))?;
                    parsed.set(name, value);
                }
                _ => return Err(format!("flag provided but not defined: -{name}")),
            }
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: OsString) {
        let text = || value.to_string_lossy().into_owned();
        match name {
            "namespace" => self.namespace = text(),
            "id" => self.id = text(),
            "address" => self.address = text(),
            "bundle" => self.bundle = Some(PathBuf::from(value)),
            "socket" => self.socket = Some(PathBuf::from(value)),
            // Events go to the address in the environment; no program is run for them.
            _ => {}
        }
    }
}

/// `start`: leaves a serving shim behind and prints where it listens.
pub fn start(arguments: &Arguments) -> io::Result<()> {
    let parameters = read_parameters(&arguments.id)?;
    let directory = parameters.as_ref().and_then(|p| p.socket_dir.as_deref()).filter(|directory| !directory.is_empty());
    let socket = socket_path(Path::new(directory.unwrap_or(SOCKET_DIRECTORY)), arguments);
    // A shim that lives already is the one: the manager has lost its answer.
    if std::os::unix::net::UnixStream::connect(&socket).is_err() {
        if let Some(parent) = socket.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let ttrpc = parameters.as_ref().map(|p| p.containerd_ttrpc_address.clone());
        let ttrpc = ttrpc.filter(|address| !address.is_empty()).or_else(|| std::env::var("TTRPC_ADDRESS").ok());
        leave_behind(arguments, &socket, ttrpc.as_deref().unwrap_or(""))?;
    }
    let address = format!("unix://{}", socket.display());
    std::fs::write(ADDRESS_FILE, &address)?;
    io::stdout().write_all(&answer(address, parameters.is_some(), std::env::var("MAX_SHIM_VERSION").ok().as_deref()))
}

fn answer(address: String, protobuf: bool, newest: Option<&str>) -> Vec<u8> {
    let protocol = "ttrpc".to_owned();
    if protobuf {
        return BootstrapResult { version: 3, address, protocol, ..BootstrapResult::default() }.encode_to_vec();
    }
    // Asked for by those who know version 3. Others, back to 1.6, know at least the plain address of version 2.
    if newest.and_then(|text| text.parse::<u32>().ok()).is_some_and(|newest| newest >= 3) {
        return serde_json::json!({ "version": 3, "address": address, "protocol": protocol }).to_string().into_bytes();
    }
    address.into_bytes()
}

/// The parameters on stdin, if those are what is there: older managers put the runtime's options there, or nothing.
fn read_parameters(id: &str) -> io::Result<Option<BootstrapParams>> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    let parameters = BootstrapParams::decode(text.as_slice()).ok();
    Ok(parameters.filter(|parameters| !id.is_empty() && parameters.instance_id == id))
}

fn socket_path(directory: &Path, arguments: &Arguments) -> PathBuf {
    let name = format!("{}/{}/{}", arguments.address, arguments.namespace, arguments.id);
    let hash = Sha256::digest(name.as_bytes());
    // Half a hash is unique enough and keeps the path far from the 108 bytes of an address.
    let name: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    directory.join(name)
}

fn leave_behind(arguments: &Arguments, socket: &Path, ttrpc_address: &str) -> io::Result<()> {
    let listener = Listener::bind(socket)?;
    // The shim will enter containers, so nobody in one may get at its program through it.
    let program = berth_sys::memfd::read_only_self().or_else(|_| berth_sys::memfd::sealed_self())?;
    let argv = [
        "berth-shim",
        "-namespace",
        &arguments.namespace,
        "-id",
        &arguments.id,
        "-address",
        &arguments.address,
        "-socket",
    ];
    let argv = argv.iter().map(|text| text.as_bytes().to_vec()).chain([socket.as_os_str().to_owned().into_vec()]);
    let environment = [format!("TTRPC_ADDRESS={ttrpc_address}")];
    let null = null()?;
    let log = open_log().unwrap_or(null.try_clone()?);
    SpawnRequest {
        program: Program::Descriptor(program.as_fd()),
        arguments: &CStrings::from_texts(argv)?,
        environment: &CStrings::from_texts(environment)?,
        stdio: [listener.as_fd(), null.as_fd(), log.as_fd()],
        more: &[],
        directory: c"/",
        new_session: true,
    }
    .run()?;
    Ok(())
}

/// The FIFO in the bundle that the manager reads its shims' complaints from.
fn open_log() -> io::Result<std::os::fd::OwnedFd> {
    Ok(rustix::fs::open(c"log", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

/// `delete`: kills and clears away what a dead shim has left, and prints how the container ended.
pub fn delete(arguments: &Arguments) -> io::Result<()> {
    let bundle = arguments.bundle.clone().unwrap_or_else(|| PathBuf::from("."));
    if let Ok(Some(cgroup)) = find_cgroup(&bundle, &arguments.id) {
        // What can be done is done; the manager looks at what is left.
        let _ = cgroup.thaw();
        let _ = cgroup.kill();
        if let Err(error) = cgroup.remove() {
            eprintln!("berth-shim: {error}");
        }
    }
    if let Ok(address) = std::fs::read_to_string(bundle.join(ADDRESS_FILE)) {
        let _ = std::fs::remove_file(address.strip_prefix("unix://").unwrap_or(&address));
    }
    let response = DeleteResponse { pid: 0, exit_status: KILLED, exited_at: Some(timestamp(now())) };
    io::stdout().write_all(&response.encode_to_vec())
}

fn find_cgroup(bundle: &Path, id: &str) -> io::Result<Option<Cgroup>> {
    let text = std::fs::read(bundle.join("config.json"))?;
    let spec: Spec = serde_json::from_slice(&text)?;
    let path = spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref());
    let root: CgroupPath = "/".parse().map_err(io::Error::other)?;
    let path = CgroupPath::resolve(path, &root, id).map_err(io::Error::other)?;
    let layout = Layout::probe().map_err(io::Error::other)?;
    Ok(Cgroup::open(&layout, &path).ok())
}

/// `-info`: tells what this runtime is.
pub fn info() -> io::Result<()> {
    let version = RuntimeVersion { version: env!("CARGO_PKG_VERSION").to_owned(), revision: String::new() };
    let info =
        RuntimeInfo { name: "io.containerd.berth.v2".to_owned(), version: Some(version), ..RuntimeInfo::default() };
    io::stdout().write_all(&info.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn containerd_s_command_lines_are_understood() {
        let line =
            "-namespace moby -address /run/containerd.sock -publish-binary /usr/bin/containerd -id abc -debug start";
        let start = parse(line).unwrap();
        assert_eq!((start.namespace.as_str(), start.id.as_str(), start.action), ("moby", "abc", Action::Start));
        let delete = parse("--namespace=moby -id=abc -bundle /b delete").unwrap();
        assert_eq!((delete.bundle.as_deref(), delete.action), (Some(Path::new("/b")), Action::Delete));
        assert_eq!(parse("-info").unwrap().action, Action::Info);
        assert_eq!(parse("").unwrap().action, Action::Serve);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(parse("-wrong").unwrap_err(), "flag provided but not defined: -wrong");
        assert_eq!(parse("-id").unwrap_err(), "flag needs an argument: -id");
        assert_eq!(parse("stop").unwrap_err(), "unknown command: stop");
    }

    #[test]
    fn everybody_gets_the_answer_they_know() {
        let address = || "unix:///s/x".to_owned();
        assert_eq!(answer(address(), false, None), b"unix:///s/x");
        assert_eq!(answer(address(), false, Some("2")), b"unix:///s/x");
        let json = answer(address(), false, Some("3"));
        assert_eq!(json, br#"{"version":3,"address":"unix:///s/x","protocol":"ttrpc"}"#);
        let result = BootstrapResult::decode(answer(address(), true, None).as_slice()).unwrap();
        assert_eq!((result.version, result.address.as_str()), (3, "unix:///s/x"));
    }

    #[test]
    fn sockets_have_short_names_of_their_own() {
        let path = |id: &str| socket_path(Path::new("/s"), &Arguments { id: id.to_owned(), ..Arguments::default() });
        assert_eq!(path("a").as_os_str().len(), 3 + 32);
        assert_ne!(path("a"), path("b"));
    }
}
