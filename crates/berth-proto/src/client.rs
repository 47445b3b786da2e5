//! A ttrpc client over tokio: many calls at once on one connection, descriptors passed along, and a connection that can change hands.
//!
//! One small task per connection reads answers, and only while one is awaited. So after a call that takes the connection
//! over (`Attach`, `Exec`) nothing of what follows is swallowed, and [`Client::into_raw`] gives it to the caller.

use crate::ttrpc::{Decoder, FLAG_REMOTE_CLOSED, Frame, Kind, MAX_MESSAGE, Request, Response, Status, encode};
use prost::Message;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{Interest, Ready};
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// Most descriptors that one call carries.
pub const MAX_FDS: usize = 16;

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server said no. The text is its own.
    #[error("{}", .0.message)]
    Status(Status),
    /// The connection ended before the answer came.
    #[error("{method}: the connection was closed before the answer")]
    Closed {
        /// The method that was called.
        method: String,
        /// What closed it, when it was not the other side.
        source: Option<io::Error>,
    },
    /// The argument does not fit into a message.
    #[error("{method}: request of {length} bytes is longer than {MAX_MESSAGE}")]
    TooLong {
        /// The method that was called.
        method: String,
        /// Bytes of the request.
        length: usize,
    },
    /// The descriptors could not be sent along.
    #[error("{method}: cannot pass {count} descriptors")]
    Descriptors {
        /// The method that was called.
        method: String,
        /// How many were given.
        count: usize,
        /// Why.
        source: io::Error,
    },
    /// The answer is not what was asked for.
    #[error("{method}: the answer cannot be read")]
    Answer {
        /// The method that was called.
        method: String,
        /// Why.
        source: prost::DecodeError,
    },
}

impl CallError {
    /// The status the server answered with, if it did.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match self {
            CallError::Status(status) => Some(status),
            _ => None,
        }
    }

    /// Whether the other side was gone before it had read the whole call, where no other call was under way: it cannot have acted on it.
    ///
    /// The kernel tells so of a socket that is closed with something still in it, or that was closed before.
    #[must_use]
    pub fn was_never_heard(&self) -> bool {
        let (CallError::Closed { source: Some(source), .. } | CallError::Descriptors { source, .. }) = self else {
            return false;
        };
        matches!(source.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    }
}

/// A connection to a ttrpc server. Clones share it.
#[derive(Clone, Debug)]
pub struct Client(Arc<Handle>);

/// A connection that carries no more calls.
#[derive(Debug)]
pub struct Raw {
    /// The connection itself.
    pub stream: UnixStream,
    /// What was already read from it.
    pub read_ahead: Vec<u8>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[derive(Debug)]
struct Shared {
    stream: UnixStream,
    state: Mutex<State>,
    /// Tells the task that there is something to wait for.
    work: Notify,
}

#[derive(Debug, Default)]
struct State {
    decoder: Decoder,
    outgoing: Vec<u8>,
    last_stream: u32,
    waiting: HashMap<u32, oneshot::Sender<Response>>,
    /// Set once the connection is at its end.
    closed: Option<End>,
}

/// How a connection ended: by an error of that kind, or because the other side closed it.
#[derive(Clone, Copy, Debug)]
struct End(Option<io::ErrorKind>);

impl End {
    const CLOSED: Self = Self(None);

    fn source(self) -> Option<io::Error> {
        self.0.map(io::Error::from)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self(Some(error.kind()))
    }
}

impl Client {
    /// Takes a connected socket. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If the socket cannot be made non-blocking or registered.
    pub fn from_std(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::new(UnixStream::from_std(stream)?))
    }

    /// Takes a connected socket.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        let shared = Arc::new(Shared { stream, state: Mutex::default(), work: Notify::new() });
        let reader = tokio::spawn(drive(Arc::clone(&shared)));
        Self(Arc::new(Handle { shared, reader }))
    }

    /// Calls a method and waits for its answer, however long it takes. Dropping the future forgets the answer, not the call.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<Q: Message, R: Message + Default>(
        &self,
        service: &str,
        method: &str,
        argument: &Q,
    ) -> Result<R, CallError> {
        self.call_with_fds(service, method, argument, &[]).await
    }

    /// Like [`call`](Self::call); the descriptors arrive with the first bytes of the request.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call_with_fds<Q: Message, R: Message + Default>(
        &self,
        service: &str,
        method: &str,
        argument: &Q,
        fds: &[BorrowedFd<'_>],
    ) -> Result<R, CallError> {
        let closed = |source| CallError::Closed { method: method.to_owned(), source };
        let answer = self.begin(service, method, argument, fds).await?;
        let response = answer.await.map_err(|_| closed(self.0.shared.lock().closed.and_then(End::source)))?;
        if let Some(status) = response.status
            && status.code != 0
        {
            return Err(CallError::Status(status));
        }
        R::decode(response.payload.as_slice()).map_err(|source| CallError::Answer { method: method.to_owned(), source })
    }

    /// Gives the client back if it is the only one of its connection, no answer is awaited and nothing is half sent or half received: then
    /// whoever has it has the connection for himself. Otherwise it is dropped.
    #[must_use]
    pub fn alone(self) -> Option<Self> {
        let handle = Arc::into_inner(self.0)?;
        let rests = handle.shared.lock().rests();
        rests.then(|| Self(Arc::new(handle)))
    }

    /// Whether the other side has neither closed the connection nor said anything that was not asked for. Looks at the socket.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        use rustix::net::{RecvFlags, recv};
        let shared = &self.0.shared;
        let looked = recv(&shared.stream, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        looked.err() == Some(rustix::io::Errno::AGAIN) && shared.lock().rests()
    }

    /// Gives the connection up for another use, after a call that took it over was answered.
    ///
    /// # Errors
    /// If a clone of the client is still in use or an answer is still awaited.
    pub async fn into_raw(self) -> io::Result<Raw> {
        let busy = || io::Error::new(io::ErrorKind::ResourceBusy, "the connection is still used for calls");
        let mut handle = Arc::into_inner(self.0).ok_or_else(busy)?;
        if !handle.shared.lock().waiting.is_empty() {
            return Err(busy());
        }
        handle.reader.abort();
        // The task ends at its next point of waiting, which cannot be inside a frame.
        let _ = (&mut handle.reader).await;
        let shared = Arc::clone(&handle.shared);
        drop(handle);
        let shared = Arc::into_inner(shared).ok_or_else(busy)?;
        let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Raw { stream: shared.stream, read_ahead: state.decoder.into_rest() })
    }

    async fn begin<Q: Message>(
        &self,
        service: &str,
        method: &str,
        argument: &Q,
        fds: &[BorrowedFd<'_>],
    ) -> Result<oneshot::Receiver<Response>, CallError> {
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload: argument.encode_to_vec(),
            ..Request::default()
        };
        let closed = |source| CallError::Closed { method: method.to_owned(), source };
        if fds.is_empty() {
            return self.0.shared.send(&request).map_err(|error| error.of(method));
        }
        // Descriptors belong to bytes: whatever waits goes first, and they go with the frame's first byte.
        let mut attempt = Attempt::Unasked;
        loop {
            match self.0.shared.send_with(&request, fds, attempt) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => self.0.shared.stream.writable().await.map_err(|error| closed(Some(error)))?,
                Err(error) => return Err(error.of(method)),
            }
            attempt = Attempt::WhenReady;
        }
    }
}

/// Whether to try the socket before tokio has said that it is writable.
///
/// A socket is nearly always writable; waiting to be told costs a turn of the event loop, twice that for a fresh one.
#[derive(Clone, Copy)]
enum Attempt {
    Unasked,
    WhenReady,
}

/// [`CallError`] before the method is named.
enum SendError {
    Closed(Option<io::Error>),
    TooLong(usize),
    Descriptors(usize, io::Error),
}

impl SendError {
    fn of(self, method: &str) -> CallError {
        let method = method.to_owned();
        match self {
            SendError::Closed(source) => CallError::Closed { method, source },
            SendError::TooLong(length) => CallError::TooLong { method, length },
            SendError::Descriptors(count, source) => CallError::Descriptors { method, count, source },
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, request: &Request) -> Result<oneshot::Receiver<Response>, SendError> {
        let mut state = self.lock();
        let answer = state.open(|stream, out| encode(stream, Kind::Request, FLAG_REMOTE_CLOSED, request, out))?;
        self.flush(&mut state, Attempt::Unasked).map_err(|error| SendError::Closed(Some(error)))?;
        drop(state);
        self.work.notify_one();
        Ok(answer)
    }

    /// `None` if the socket takes nothing now.
    fn send_with(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
        attempt: Attempt,
    ) -> Result<Option<oneshot::Receiver<Response>>, SendError> {
        let mut state = self.lock();
        self.flush(&mut state, attempt).map_err(|error| SendError::Closed(Some(error)))?;
        if !state.outgoing.is_empty() {
            return Ok(None);
        }
        let answer = state.open(|stream, out| encode(stream, Kind::Request, FLAG_REMOTE_CLOSED, request, out))?;
        let sent = self.send_now(&state.outgoing, fds, attempt);
        match sent {
            Ok(count) => {
                state.outgoing.drain(..count);
                self.flush(&mut state, attempt).map_err(|error| SendError::Closed(Some(error)))?;
                drop(state);
                self.work.notify_one();
                Ok(Some(answer))
            }
            Err(error) => {
                state.take_back();
                match error.kind() {
                    io::ErrorKind::WouldBlock => Ok(None),
                    _ => Err(SendError::Descriptors(fds.len(), error)),
                }
            }
        }
    }

    fn send_now(&self, bytes: &[u8], fds: &[BorrowedFd<'_>], attempt: Attempt) -> io::Result<usize> {
        let send = || send_fds(self.stream.as_fd(), bytes, fds);
        match attempt {
            Attempt::Unasked => send(),
            Attempt::WhenReady => self.stream.try_io(Interest::WRITABLE, send),
        }
    }

    /// Writes what the socket takes now.
    fn flush(&self, state: &mut State, attempt: Attempt) -> io::Result<()> {
        while !state.outgoing.is_empty() {
            match self.send_now(&state.outgoing, &[], attempt) {
                Ok(count) if count == state.outgoing.len() => state.outgoing = Vec::new(),
                Ok(count) => drop(state.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there and hands out answers.
    fn read(&self) -> Result<(), End> {
        let mut buffer = [0; 8192];
        let mut state = self.lock();
        while !state.waiting.is_empty() {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Err(End::CLOSED),
                Ok(count) => state.received(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What the task has to wait for, `None` when nothing.
    fn interest(&self) -> Option<Interest> {
        let state = self.lock();
        match (!state.waiting.is_empty(), !state.outgoing.is_empty()) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        }
    }

    fn close(&self, end: End) {
        let mut state = self.lock();
        state.closed = Some(end);
        // Dropped senders are how the waiting calls learn of it.
        state.waiting = HashMap::new();
        state.outgoing = Vec::new();
    }
}

impl State {
    /// Whether nothing is under way in either direction.
    fn rests(&self) -> bool {
        self.closed.is_none() && self.waiting.is_empty() && self.outgoing.is_empty() && self.decoder.is_empty()
    }

    fn open(
        &mut self,
        frame: impl FnOnce(u32, &mut Vec<u8>) -> Result<(), usize>,
    ) -> Result<oneshot::Receiver<Response>, SendError> {
        if let Some(end) = self.closed {
            return Err(SendError::Closed(end.source()));
        }
        let stream = if self.last_stream == 0 { 1 } else { self.last_stream + 2 };
        frame(stream, &mut self.outgoing).map_err(SendError::TooLong)?;
        self.last_stream = stream;
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(stream, sender);
        Ok(receiver)
    }

    /// Undoes the last `open`, of which no byte has gone out.
    fn take_back(&mut self) {
        self.outgoing = Vec::new();
        self.waiting.remove(&self.last_stream);
    }

    fn received(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
        // Beyond the last awaited answer the bytes belong to whoever takes the connection over.
        while !self.waiting.is_empty()
            && let Some(frame) = self.decoder.next()
        {
            let (header, response) = match frame {
                Frame::Whole(header, body) => (header, Response::decode(body.as_slice()).ok()),
                Frame::TooLong(header) => (header, None),
            };
            if header.kind != Kind::Response {
                continue;
            }
            if let Some(sender) = self.waiting.remove(&header.stream) {
                let unreadable = || Response {
                    status: Some(Status::new(crate::ttrpc::Code::DataLoss, "the answer cannot be read")),
                    payload: Vec::new(),
                };
                // Whoever asked may have gone.
                let _ = sender.send(response.unwrap_or_else(unreadable));
            }
        }
    }
}

async fn drive(shared: Arc<Shared>) {
    loop {
        let Some(interest) = shared.interest() else {
            shared.work.notified().await;
            continue;
        };
        let ready = tokio::select! {
            ready = shared.stream.ready(interest) => ready,
            () = shared.work.notified() => continue,
        };
        if let Err(end) = ready.map_err(End::from).and_then(|ready| exchange(&shared, ready)) {
            shared.close(end);
            return;
        }
    }
}

/// Writes and reads what the socket is ready for.
fn exchange(shared: &Shared, ready: Ready) -> Result<(), End> {
    let written = if ready.is_writable() { shared.flush(&mut shared.lock(), Attempt::WhenReady) } else { Ok(()) };
    // Even when writing failed there may be answers to read.
    if ready.is_readable() || ready.is_read_closed() {
        shared.read()?;
    }
    Ok(written?)
}

fn send_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && (fds.len() > MAX_FDS || !ancillary.push(SendAncillaryMessage::ScmRights(fds))) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

impl TryFrom<Raw> for OwnedFd {
    type Error = io::Error;

    /// Fails if bytes were read ahead: they would be lost.
    fn try_from(raw: Raw) -> io::Result<OwnedFd> {
        if !raw.read_ahead.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes were already read from the connection"));
        }
        Ok(raw.stream.into_std()?.into())
    }
}

#[cfg(test)]
mod tests;
