//! Streams: from the processes to the log and the clients, and from the clients to the processes.

use std::io;
use std::os::fd::OwnedFd;

use crate::client::{Client, Received, Wish};
use crate::poll::EventFlags;
use crate::process::{MAIN, Output};
use crate::shim::Shim;
use crate::stdio::Stream;

impl Shim {
    /// Attaches a client to a process.
    pub fn attach(
        &mut self,
        descriptor: OwnedFd,
        process: u32,
        wish: Wish,
        before: Vec<u8>,
        early: &[u8],
    ) -> io::Result<()> {
        let number = self.next_number();
        let mut client = Client::new(&self.poll, number, process, descriptor, wish, before)?;
        let received = client.receive_early(early);
        self.clients.push(client);
        self.take_input(number, received);
        Ok(())
    }

    pub(crate) fn pump(&mut self, number: u32, stream: Stream) {
        // A few pieces at a time, so that one noisy process does not keep everybody else waiting.
        for _ in 0..4 {
            if !self.pump_once(number, stream) {
                return;
            }
        }
    }

    /// Moves one piece of output. Says whether there may be more.
    pub(crate) fn pump_once(&mut self, number: u32, stream: Stream) -> bool {
        let mut buffer = [0; 16 * 1024];
        let Some(process) = self.task.as_mut().and_then(|task| task.process_mut(number)) else { return false };
        match process.read(stream, &mut buffer) {
            Output::Bytes(count) => {
                self.deliver(number, stream, &buffer[..count]);
                count == buffer.len()
            }
            Output::Nothing => false,
            Output::End => {
                process.end(&self.poll, stream);
                if let Some(task) = &mut self.task
                    && number == MAIN
                {
                    task.finish_log(stream);
                }
                self.settle(number);
                false
            }
        }
    }

    fn deliver(&mut self, number: u32, stream: Stream, bytes: &[u8]) {
        let Some(task) = &mut self.task else { return };
        if number == MAIN {
            task.write_log(stream, bytes);
        }
        let mut gone = Vec::new();
        let mut behind = false;
        for client in self.clients.iter_mut().filter(|client| client.process == number && client.wants(stream)) {
            match client.push(&self.poll, stream, bytes) {
                Ok(()) => behind |= client.is_behind(),
                Err(_) => gone.push(client.number),
            }
        }
        if behind && let Some(process) = task.process_mut(number) {
            process.pause_output(&self.poll);
        }
        for client in gone {
            self.dismiss(client);
        }
    }

    pub(crate) fn hear(&mut self, number: u32, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else { return };
            let (process, alive) = (client.process, client.flush(&self.poll).is_ok());
            if !alive {
                self.dismiss(number);
                return;
            }
            self.resume_output(process);
            self.settle(process);
        }
        let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        if flags.contains(EventFlags::IN) || broken {
            self.hear_input(number, broken);
        }
    }

    /// Reads what a client has written; of one that is gone, everything it left.
    fn hear_input(&mut self, number: u32, broken: bool) {
        loop {
            let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else { return };
            match client.receive() {
                Ok(Received::Nothing) | Err(_) if broken => return self.dismiss(number),
                Err(_) => return self.dismiss(number),
                Ok(Received::End) if broken => return self.dismiss(number),
                Ok(received) => self.take_input(number, received),
            }
            if !broken {
                return;
            }
        }
    }

    fn take_input(&mut self, number: u32, received: Received) {
        match received {
            Received::Nothing => {}
            Received::Bytes(bytes) => self.write_input(number, &bytes),
            Received::Detach(bytes) => {
                self.write_input(number, &bytes);
                if let Some(client) = self.take_client(number) {
                    // Detaching is not the end of input: the process keeps its stdin.
                    let process = client.process;
                    client.close(&self.poll);
                    self.resume_output(process);
                }
            }
            Received::End => {
                let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else { return };
                let (process, _) = (client.process, client.close_input(&self.poll));
                self.end_input_of(process);
            }
        }
    }

    fn write_input(&mut self, number: u32, bytes: &[u8]) {
        let Some(client) = self.clients.iter().find(|client| client.number == number) else { return };
        let target = client.process;
        let Some(process) = self.task.as_mut().and_then(|task| task.process_mut(target)) else { return };
        if !bytes.is_empty() && process.takes_input() && !process.write_input(&self.poll, bytes) {
            self.hold_inputs(target, true);
        }
    }

    /// The process has taken more of its input.
    pub(crate) fn resume_input(&mut self, number: u32) {
        let Some(process) = self.task.as_mut().and_then(|task| task.process_mut(number)) else { return };
        if process.flush_input(&self.poll) {
            self.hold_inputs(number, false);
        }
    }

    fn hold_inputs(&mut self, process: u32, hold: bool) {
        for client in self.clients.iter_mut().filter(|client| client.process == process && client.has_stdin()) {
            // A client that cannot be watched any more is noticed at its next output.
            let _ = client.hold_input(&self.poll, hold);
        }
    }

    /// A client that wrote input has ended its side.
    fn end_input_of(&mut self, number: u32) {
        if let Some(process) = self.task.as_mut().and_then(|task| task.process_mut(number))
            && process.stdin_once
        {
            process.close_input();
        }
    }

    fn resume_output(&mut self, number: u32) {
        let caught_up = self.clients.iter().filter(|c| c.process == number).all(Client::has_caught_up);
        if caught_up && let Some(process) = self.task.as_mut().and_then(|task| task.process_mut(number)) {
            process.resume_output(&self.poll);
        }
    }

    /// Ends the clients of a process that is gone and has said everything.
    pub(crate) fn settle(&mut self, number: u32) {
        let over = match self.task.as_mut().and_then(|task| task.process_mut(number)) {
            Some(process) => process.life.exit().is_some() && process.output_ended(),
            None => true,
        };
        if !over {
            return;
        }
        for client in self.clients.iter_mut().filter(|client| client.process == number) {
            client.end();
        }
        let done: Vec<u32> =
            self.clients.iter().filter(|client| client.is_done()).map(|client| client.number).collect();
        for client in done.into_iter().filter_map(|number| self.take_client(number)).collect::<Vec<_>>() {
            client.close(&self.poll);
        }
    }

    /// Ends the streams of a process that is gone, whoever else holds them open.
    pub(crate) fn end_streams(&mut self, number: u32) {
        let Some(process) = self.task.as_mut().and_then(|task| task.process_mut(number)) else { return };
        if process.life.exit().is_none() {
            return;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            process.end(&self.poll, stream);
        }
        if let Some(task) = &mut self.task
            && number == MAIN
        {
            task.finish_log(Stream::Stdout);
            task.finish_log(Stream::Stderr);
        }
        self.settle(number);
    }

    /// The shim leaves: no client gets anything new. Those that have not yet taken all of what a process said that is gone keep the shim
    /// until they have, or are gone themselves.
    pub(crate) fn take_leave(&mut self) {
        let processes: Vec<u32> = self.clients.iter().map(|client| client.process).collect();
        for number in processes {
            self.end_streams(number);
        }
        let (waiting, others) = std::mem::take(&mut self.clients).into_iter().partition(Client::has_ended);
        self.clients = waiting;
        for client in others {
            client.close(&self.poll);
        }
    }

    fn dismiss(&mut self, number: u32) {
        let Some(client) = self.take_client(number) else { return };
        if client.has_stdin() {
            self.end_input_of(client.process);
        }
        let process = client.process;
        client.close(&self.poll);
        self.resume_output(process);
    }

    fn take_client(&mut self, number: u32) -> Option<Client> {
        let index = self.clients.iter().position(|client| client.number == number)?;
        Some(self.clients.remove(index))
    }
}
