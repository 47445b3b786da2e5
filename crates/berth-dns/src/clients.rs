//! Those that ask by TCP: a length of two bytes before each message (RFC 1035, section 4.2.2; RFC 7766).

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use crate::forward::Asker;
use crate::poll::{EventFlags, Key};
use crate::server::{Due, Server};

/// Connections at most, and those of one container: each holds a descriptor.
pub(crate) const MOST_CLIENTS: usize = 1024;
const MOST_OF_ONE: usize = 64;
/// A client that asks nothing for so long is taken leave of.
const PATIENCE: Duration = Duration::from_secs(10);
/// A client that asks but does not read is not read from either.
const MOST_UNREAD: usize = 256 * 1024;

/// A connection of a client.
pub(crate) struct Client {
    member: u32,
    socket: OwnedFd,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Questions that others have not answered yet.
    waiting: usize,
    /// It will ask nothing more.
    ended: bool,
    until: Instant,
}

impl Server {
    /// Lets one client in.
    pub(crate) fn accept_client(&mut self, member: u32) {
        let total = self.clients.len();
        let Some(served) = self.members.get_mut(&member) else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(&served.tcp, flags) else { return };
        if served.clients >= MOST_OF_ONE || total >= MOST_CLIENTS {
            return; // It sees the connection closed, and may ask by UDP.
        }
        served.clients += 1;
        let number = self.number();
        let until = Instant::now() + PATIENCE;
        let watched = self.poll.watch(&socket, Key::Client(number), EventFlags::IN);
        let client = Client { member, socket, input: Vec::new(), output: Vec::new(), waiting: 0, ended: false, until };
        self.clients.insert(number, client);
        match watched {
            Ok(()) => self.remind(until, Due::Client(number)),
            Err(_) => self.drop_client(number),
        }
    }

    pub(crate) fn serve_client(&mut self, number: u32, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.flush_client(number);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read_client(number);
        }
    }

    /// Sends an answer to a client, if it is still there.
    pub(crate) fn answer_client(&mut self, number: u32, answer: &[u8]) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        client.waiting = client.waiting.saturating_sub(1);
        client.until = Instant::now() + PATIENCE;
        client.queue(answer);
        self.flush_client(number);
    }

    /// Takes leave of a client that was silent for too long.
    pub(crate) fn look_at_client(&mut self, number: u32, now: Instant) {
        match self.clients.get(&number).map(|client| client.until) {
            Some(until) if until > now => self.remind(until, Due::Client(number)),
            Some(_) => self.drop_client(number),
            None => {}
        }
    }

    pub(crate) fn drop_client(&mut self, number: u32) {
        if let Some(client) = self.clients.remove(&number)
            && let Some(served) = self.members.get_mut(&client.member)
        {
            served.clients -= 1;
        }
    }

    /// Takes leave of all clients of a container.
    pub(crate) fn drop_clients_of(&mut self, member: u32) {
        self.clients.retain(|_, client| client.member != member);
    }

    fn read_client(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let mut room = [0; 4096];
        match rustix::net::recv(&client.socket, &mut room, RecvFlags::DONTWAIT) {
            Ok((0, _)) => client.ended = true,
            Ok((count, _)) => client.input.extend_from_slice(&room[..count]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(_) => return self.drop_client(number),
        }
        client.until = Instant::now() + PATIENCE;
        let member_number = client.member;
        let Some(member) = self.members.get(&member_number).map(|served| Rc::clone(&served.member)) else {
            return self.drop_client(number);
        };
        while let Some(query) = self.clients.get_mut(&number).and_then(Client::next_query) {
            let asker = Asker::Connection { member: member_number, client: number };
            let answer = self.consider(asker, &member, &query);
            let Some(client) = self.clients.get_mut(&number) else { return };
            match answer {
                Some(answer) => client.queue(&answer),
                None => client.waiting += 1,
            }
        }
        self.flush_client(number);
    }

    fn flush_client(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        while !client.output.is_empty() {
            match rustix::net::send(&client.socket, &client.output, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => drop(client.output.drain(..count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => return self.drop_client(number),
            }
        }
        if client.ended && client.output.is_empty() && client.waiting == 0 {
            return self.drop_client(number);
        }
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::OUT, !client.output.is_empty());
        flags.set(EventFlags::IN, !client.ended && client.output.len() < MOST_UNREAD);
        // It is watched already; a change of what for cannot fail.
        let _ = self.poll.change(&client.socket, Key::Client(number), flags);
    }
}

impl Client {
    fn queue(&mut self, answer: &[u8]) {
        let Ok(length) = u16::try_from(answer.len()) else { return };
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(answer);
    }

    fn next_query(&mut self) -> Option<Vec<u8>> {
        let head = self.input.first_chunk::<2>()?;
        let end = 2 + usize::from(u16::from_be_bytes(*head));
        let query = self.input.get(2..end)?.to_vec();
        self.input.drain(..end);
        Some(query)
    }
}
