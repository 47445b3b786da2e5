//! Calls: from a connection to a service, and their answers back.

use std::io;
use std::os::fd::OwnedFd;

use berth_proto::ttrpc::{Call, Code, Status};

use crate::client::Wish;
use crate::connection::{Connection, Side};
use crate::poll::EventFlags;
use crate::shim::{Reply, Shim, TakeOver, Waiter};

impl Shim {
    /// The descriptors that came with a connection's calls.
    pub fn take_received(&mut self, connection: u32) -> Vec<OwnedFd> {
        self.connections.iter_mut().find(|c| c.number == connection).map(Connection::take_received).unwrap_or_default()
    }

    /// Takes what a connection has to say.
    pub(crate) fn serve(&mut self, number: u32, flags: EventFlags) {
        let Some(index) = self.connections.iter().position(|c| c.number == number) else { return };
        let mut side = Side::Open;
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            side = self.connections[index].read();
        }
        while let Some(call) = self.connection(number).and_then(Connection::next_call) {
            self.answer_call(number, call);
        }
        if let Some(connection) = self.connections.iter_mut().find(|c| c.number == number)
            && (connection.flush(&self.poll) == Side::Closed || side == Side::Closed)
        {
            self.hang_up(number);
        }
    }

    fn answer_call(&mut self, number: u32, call: Call) {
        let Call { stream, request } = call;
        let reply = self.dispatch(number, &request);
        match reply {
            Ok(Reply::Now(payload)) => self.answer(number, stream, Ok(payload)),
            Ok(Reply::When(what)) => {
                self.waiters.push(Waiter { connection: number, stream, what });
                if let Some(exit) = self.exit_of(what.process()) {
                    self.tell_exit(what.process(), exit);
                }
            }
            Ok(Reply::TakeOver(over)) => self.hand_over(number, stream, *over),
            Err(status) => self.answer(number, stream, Err(status)),
        }
    }

    fn dispatch(&mut self, number: u32, request: &berth_proto::ttrpc::Request) -> Result<Reply, Status> {
        match request.service.as_str() {
            berth_proto::shim::SERVICE => self.call_shim(number, &request.method, &request.payload),
            berth_proto::containerd::task::SERVICE_V2 | berth_proto::containerd::task::SERVICE_V3 => {
                self.call_task(&request.method, &request.payload)
            }
            other => Err(Status::new(Code::Unimplemented, format!("service {other}"))),
        }
    }

    /// Answers a call; who has hung up misses it.
    pub(crate) fn answer(&mut self, number: u32, stream: u32, result: Result<Vec<u8>, Status>) {
        if let Some(connection) = self.connections.iter_mut().find(|c| c.number == number) {
            connection.answer(stream, result);
            // A connection that breaks here says so by an event.
            let _ = connection.flush(&self.poll);
        }
    }

    fn hand_over(&mut self, number: u32, stream: u32, over: TakeOver) {
        let Some(index) = self.connections.iter().position(|c| c.number == number) else { return };
        let mut connection = self.connections.remove(index);
        self.waiters.retain(|waiter| waiter.connection != number);
        connection.answer(stream, Ok(over.answer));
        let (socket, early, mut first) = connection.into_parts(&self.poll);
        first.extend_from_slice(&over.before);
        if let Err(_gone) = self.attach_first(socket, over.process, over.wish, first, &early) {
            // Only this client is concerned, and it sees the connection closed.
        }
        self.settle(over.process);
    }

    fn attach_first(
        &mut self,
        socket: OwnedFd,
        process: u32,
        wish: Wish,
        first: Vec<u8>,
        early: &[u8],
    ) -> io::Result<()> {
        self.attach(socket, process, wish, first, early)?;
        let number = self.last_number;
        match self.clients.iter_mut().find(|client| client.number == number) {
            Some(client) => client.flush(&self.poll),
            None => Ok(()),
        }
    }

    fn hang_up(&mut self, number: u32) {
        self.connections.retain(|c| c.number != number);
        self.waiters.retain(|waiter| waiter.connection != number);
        if self.task.is_none() && self.listener.is_none() && self.connections.is_empty() {
            // The daemon died before it said what to launch: nobody can ever reach this shim.
            self.leave();
        }
    }

    fn connection(&mut self, number: u32) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.number == number)
    }
}
