//! The daemon's side: a connection to the resolver, and what is asked of it. Calls block, for some microseconds.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use crate::protocol::{Member, PROTOCOL, Received, Reply, Request, Sockets, send};

/// A resolver that does not answer for so long is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the resolver did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// It is gone, or was never there.
    #[error("the name service does not answer")]
    Gone(#[source] io::Error),
    /// It speaks another protocol.
    #[error("the name service speaks protocol {0}, not {PROTOCOL}")]
    Protocol(u32),
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// Its answer was to another question.
    #[error("the name service gave an answer that makes no sense")]
    Confused,
}

/// A connection to a running resolver.
#[derive(Debug)]
pub struct Resolver {
    stream: UnixStream,
    received: Received,
    version: String,
    pid: u32,
}

/// Everything an older resolver gives to a newer one.
#[derive(Debug)]
pub struct Legacy {
    /// The socket that daemons connect to.
    pub listener: Option<OwnedFd>,
    /// The containers and their sockets.
    pub members: Vec<(Member, Sockets)>,
}

impl Resolver {
    /// Finds the resolver that listens at `path`.
    ///
    /// # Errors
    /// [`ResolverError::Gone`] if there is none.
    pub fn find(path: &Path) -> Result<Resolver, ResolverError> {
        Resolver::on(UnixStream::connect(path).map_err(ResolverError::Gone)?)
    }

    /// Speaks with a resolver that was started with the other end.
    ///
    /// # Errors
    /// [`ResolverError::Gone`], [`ResolverError::Protocol`].
    pub fn on(stream: UnixStream) -> Result<Resolver, ResolverError> {
        stream.set_read_timeout(Some(PATIENCE)).map_err(ResolverError::Gone)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(ResolverError::Gone)?;
        let mut resolver = Resolver { stream, received: Received::default(), version: String::new(), pid: 0 };
        match resolver.ask(&Request::Hello)? {
            Reply::Hello { protocol: PROTOCOL, version, pid } => Ok(Resolver { version, pid, ..resolver }),
            Reply::Hello { protocol, .. } => Err(ResolverError::Protocol(protocol)),
            _ => Err(ResolverError::Confused),
        }
    }

    /// The version of its program.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Has it listen for daemons to come.
    ///
    /// # Errors
    /// [`ResolverError::Gone`], [`ResolverError::Refused`].
    pub fn listen(&mut self, listener: &impl AsFd) -> Result<(), ResolverError> {
        send(self.stream.as_fd(), &Request::Listen, &[listener.as_fd()]).map_err(ResolverError::Gone)?;
        self.done()
    }

    /// Has it serve a container. What it knew of one of that id is forgotten.
    ///
    /// # Errors
    /// [`ResolverError::Gone`]; [`ResolverError::Refused`] when it has no descriptors left.
    pub fn join(&mut self, member: &Member, sockets: &Sockets) -> Result<(), ResolverError> {
        let request = Request::Join(member.clone());
        send(self.stream.as_fd(), &request, &sockets.borrowed()).map_err(ResolverError::Gone)?;
        self.done()
    }

    /// Tells what has changed about a container.
    ///
    /// # Errors
    /// [`ResolverError::Gone`]; [`ResolverError::Refused`] if it does not know the container.
    pub fn update(&mut self, member: &Member) -> Result<(), ResolverError> {
        self.tell(&Request::Update(member.clone()))
    }

    /// Tells that a container is gone. Its sockets are closed when this returns, so that its namespace can go.
    ///
    /// # Errors
    /// [`ResolverError::Gone`].
    pub fn leave(&mut self, id: &str) -> Result<(), ResolverError> {
        self.tell(&Request::Leave(id.to_owned()))
    }

    /// The ids of the containers it serves.
    ///
    /// # Errors
    /// [`ResolverError::Gone`].
    pub fn members(&mut self) -> Result<Vec<String>, ResolverError> {
        match self.ask(&Request::List)? {
            Reply::Members(ids) => Ok(ids),
            _ => Err(ResolverError::Confused),
        }
    }

    /// Takes copies of all it has. It goes on until it is told to [`retire`](Self::retire).
    ///
    /// # Errors
    /// [`ResolverError::Gone`].
    pub fn hand_over(&mut self) -> Result<Legacy, ResolverError> {
        send(self.stream.as_fd(), &Request::HandOver, &[]).map_err(ResolverError::Gone)?;
        let mut legacy = Legacy { listener: None, members: Vec::new() };
        loop {
            match self.next()? {
                (Reply::Listener, descriptors) => legacy.listener = descriptors.into_iter().next(),
                (Reply::Member(member), descriptors) => {
                    let sockets = Sockets::from_received(descriptors).ok_or(ResolverError::Confused)?;
                    legacy.members.push((member, sockets));
                }
                (Reply::Done, _) => return Ok(legacy),
                _ => return Err(ResolverError::Confused),
            }
        }
    }

    /// Lets it finish what it has begun, and end.
    ///
    /// # Errors
    /// [`ResolverError::Gone`].
    pub fn retire(mut self) -> Result<(), ResolverError> {
        self.tell(&Request::Retire)
    }

    fn tell(&mut self, request: &Request) -> Result<(), ResolverError> {
        send(self.stream.as_fd(), request, &[]).map_err(ResolverError::Gone)?;
        self.done()
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, ResolverError> {
        send(self.stream.as_fd(), request, &[]).map_err(ResolverError::Gone)?;
        Ok(self.next()?.0)
    }

    fn done(&mut self) -> Result<(), ResolverError> {
        match self.next()?.0 {
            Reply::Done => Ok(()),
            Reply::Refused(reason) => Err(ResolverError::Refused(reason)),
            _ => Err(ResolverError::Confused),
        }
    }

    fn next(&mut self) -> Result<(Reply, Vec<OwnedFd>), ResolverError> {
        loop {
            if let Some(reply) = self.received.next().map_err(ResolverError::Gone)? {
                return Ok(reply);
            }
            if self.received.receive(self.stream.as_fd()).map_err(ResolverError::Gone)? == 0 {
                return Err(ResolverError::Gone(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// Binds the socket at which a resolver is found, in place of one that a dead resolver has left.
///
/// # Errors
/// Those of bind(2) and rename(2).
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}
