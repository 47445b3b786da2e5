//! What the daemon says: containers come, change and go; a newer resolver takes over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::net::SocketFlags;
use rustix::net::sockopt::{self, Timeout};
use rustix::process::{Resource, getrlimit};

use crate::clients::MOST_CLIENTS;
use crate::forward::MOST_ATTEMPTS;
use crate::poll::{EventFlags, Key};
use crate::protocol::{Member, PROTOCOL, Received, Reply, Request, Sockets, send};
use crate::server::{Served, Server};

/// Descriptors that are kept for everything that is no container's own.
const RESERVE: u64 = (MOST_ATTEMPTS + MOST_CLIENTS + 128) as u64;
/// A daemon that does not take an answer for so long is cut off: containers wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection with a daemon.
pub(crate) struct Control {
    socket: OwnedFd,
    received: Received,
}

impl Server {
    /// Begins to listen to whoever holds the other end.
    pub(crate) fn adopt(&mut self, socket: OwnedFd) -> io::Result<()> {
        sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        let number = self.number();
        self.poll.watch(&socket, Key::Control(number), EventFlags::IN)?;
        self.controls.insert(number, Control { socket, received: Received::default() });
        Ok(())
    }

    /// Lets a daemon in that runs as root or as we do.
    pub(crate) fn accept_control(&mut self) {
        let Some(listener) = &self.listener else { return };
        let Ok(socket) = rustix::net::accept_with(listener, SocketFlags::CLOEXEC) else { return };
        let trusted = sockopt::socket_peercred(&socket)
            .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid());
        if trusted {
            // One that cannot be watched is closed; the daemon sees that and tries again.
            let _ = self.adopt(socket);
        }
    }

    pub(crate) fn hear_control(&mut self, number: u32) {
        if self.try_hear(number).is_err() {
            self.controls.remove(&number);
        }
    }

    fn try_hear(&mut self, number: u32) -> io::Result<()> {
        let Some(control) = self.controls.get_mut(&number) else { return Ok(()) };
        if control.received.receive(control.socket.as_fd())? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while let Some(control) = self.controls.get_mut(&number)
            && let Some((request, descriptors)) = control.received.next()?
        {
            self.obey(number, request, descriptors)?;
        }
        Ok(())
    }

    /// Does what a daemon asks and answers it.
    fn obey(&mut self, number: u32, request: Request, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let reply = match request {
            Request::Hello => Reply::Hello {
                protocol: PROTOCOL,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
            },
            Request::Listen => self.listen(descriptors),
            Request::Join(member) => self.join(member, descriptors),
            Request::Update(member) => self.update(member),
            Request::Leave(id) => {
                self.leave(&id);
                Reply::Done
            }
            Request::List => Reply::Members(self.numbers.keys().cloned().collect()),
            Request::HandOver => return self.hand_over(number),
            Request::Retire => {
                self.retire();
                Reply::Done
            }
        };
        self.reply(number, &reply, &[])
    }

    fn reply(&self, number: u32, reply: &Reply, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let Some(control) = self.controls.get(&number) else { return Ok(()) };
        send(control.socket.as_fd(), reply, descriptors)
    }

    fn listen(&mut self, descriptors: Vec<OwnedFd>) -> Reply {
        let Some(listener) = descriptors.into_iter().next() else {
            return Reply::Refused("the listening socket did not come along".to_owned());
        };
        match self.poll.watch(&listener, Key::Listener, EventFlags::IN) {
            Ok(()) => {
                self.listener = Some(listener);
                Reply::Done
            }
            Err(error) => Reply::Refused(format!("the listening socket cannot be watched: {error}")),
        }
    }

    fn join(&mut self, member: Member, descriptors: Vec<OwnedFd>) -> Reply {
        let Some(sockets) = Sockets::from_received(descriptors) else {
            return Reply::Refused("the container's sockets did not come along".to_owned());
        };
        self.leave(&member.id);
        let room = room_for_members();
        if self.members.len() >= room {
            return Reply::Refused(format!(
                "the name service has descriptors for {room} containers, and serves as many; \
                 raise the limit of open files (nofile) of the daemon"
            ));
        }
        let number = self.number();
        let served = Served {
            member: Rc::new(member),
            udp: Rc::new(sockets.udp),
            tcp: sockets.tcp,
            namespace: sockets.namespace.map(Rc::new),
            clients: 0,
        };
        let watched = self
            .poll
            .watch(&*served.udp, Key::Datagrams(number), EventFlags::IN)
            .and_then(|()| self.poll.watch(&served.tcp, Key::Connects(number), EventFlags::IN));
        if let Err(error) = watched {
            return Reply::Refused(format!("the container's sockets cannot be watched: {error}"));
        }
        self.directory.enter(number, &served.member);
        self.numbers.insert(served.member.id.clone(), number);
        self.members.insert(number, served);
        Reply::Done
    }

    fn update(&mut self, member: Member) -> Reply {
        let number = self.numbers.get(&member.id);
        let Some((number, served)) = number.and_then(|number| Some((*number, self.members.get_mut(number)?))) else {
            return Reply::Refused(format!("no such container: {}", member.id));
        };
        self.directory.strike(number, &served.member);
        served.member = Rc::new(member);
        self.directory.enter(number, &served.member);
        Reply::Done
    }

    fn leave(&mut self, id: &str) {
        let Some(number) = self.numbers.remove(id) else { return };
        let Some(served) = self.members.remove(&number) else { return };
        self.directory.strike(number, &served.member);
        self.forwarder.forget(number);
        self.drop_clients_of(number);
        // Whoever took over has copies of these, and is woken by its own instance.
        self.poll.forget(&*served.udp);
        self.poll.forget(&served.tcp);
    }

    /// Gives copies of every socket away. They are served here until the newer one is ready and says so.
    fn hand_over(&mut self, number: u32) -> io::Result<()> {
        if let Some(listener) = &self.listener {
            self.reply(number, &Reply::Listener, &[listener.as_fd()])?;
        }
        for served in self.members.values() {
            let namespace = served.namespace.as_ref().map(|namespace| namespace.as_fd());
            let descriptors: Vec<_> = [served.udp.as_fd(), served.tcp.as_fd()].into_iter().chain(namespace).collect();
            self.reply(number, &Reply::Member((*served.member).clone()), &descriptors)?;
        }
        self.reply(number, &Reply::Done, &[])
    }

    /// Takes nothing new; a newer one does.
    fn retire(&mut self) {
        self.retired = true;
        for served in self.members.values() {
            self.poll.forget(&*served.udp);
            self.poll.forget(&served.tcp);
        }
        if let Some(listener) = self.listener.take() {
            self.poll.forget(listener);
        }
    }
}

/// How many containers there are descriptors for.
fn room_for_members() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    // Three each, as far as anybody named servers for them; those that did not leave one over.
    usize::try_from(limit.saturating_sub(RESERVE) / 3).unwrap_or(usize::MAX)
}
