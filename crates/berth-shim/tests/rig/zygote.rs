//! A zygote, and the shims that are forked from it.

use berth_proto::client::Client;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Zygote {
    pub socket: OwnedFd,
    pub process: Child,
}

impl Zygote {
    pub fn start(cgroup: &str) -> Self {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let room = " ".repeat(100);
        let mut command = Command::new(super::program());
        // As the engine does, for its heap.
        command.env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");
        let process = command.args(["--zygote", cgroup, &room]).stdin(Stdio::from(theirs)).spawn().unwrap();
        Self { socket, process }
    }

    pub fn fork(&self, id: &str) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        berth_sys::fdpass::send(self.socket.as_fd(), id.as_bytes(), &[theirs.as_fd()]).unwrap();
        Client::from_std(ours).unwrap()
    }

    /// As when its engine dies.
    pub fn end(mut self) {
        drop(self.socket);
        assert!(self.process.wait().unwrap().success());
    }
}

/// The words by which `ps` shows a process.
pub fn words(pid: u32) -> String {
    let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    words.trim_end_matches('\0').replace('\0', " ")
}

/// Waits until a process is gone that is not ours to reap.
pub async fn gone(pid: u32) {
    while std::path::Path::new(&format!("/proc/{pid}/fd/0")).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
