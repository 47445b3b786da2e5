//! The side of the process that asks: one request and one answer at a time, over the process's socket.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::Place;
use crate::holder::{Answer, Request};

/// Starts the process with a socket on which it is to listen as its stdin.
type Start = Box<dyn Fn(OwnedFd) -> io::Result<()> + Send + Sync>;

/// Asks the process that holds the ports; starts it if it does not run.
pub struct Client {
    path: PathBuf,
    start: Start,
    connection: Mutex<Option<BufReader<UnixStream>>>,
}

/// What somebody wants to have held.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Whose ports they are; asked twice, the second adds to the first.
    pub owner: &'a str,
    /// The ports.
    pub places: &'a [Place],
    /// How many sockets may be held altogether; what is beyond is only tried.
    pub limit: usize,
}

/// Why ports are not held. None of those that were asked for together is then.
#[derive(Debug)]
pub enum NotHeld {
    /// A place cannot be had: its position among those asked for, and the reason.
    Place(usize, io::Error),
    /// The process could not be asked.
    Process(io::Error),
}

impl fmt::Display for NotHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotHeld::Place(position, error) => write!(f, "port number {position} cannot be held: {error}"),
            NotHeld::Process(error) => write!(f, "the process that holds ports cannot be asked: {error}"),
        }
    }
}

impl std::error::Error for NotHeld {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the process that listens at `path`; `start` starts one when none does.
    pub fn new(path: PathBuf, start: impl Fn(OwnedFd) -> io::Result<()> + Send + Sync + 'static) -> Client {
        Client { path, start: Box::new(start), connection: Mutex::new(None) }
    }

    /// Holds ports. Gives whether all of them are held, and not only known to be free.
    ///
    /// # Errors
    /// [`NotHeld`]; nothing is held then.
    pub fn hold(&self, asked: &Asked<'_>) -> Result<bool, NotHeld> {
        let request =
            Request::Hold { owner: asked.owner.to_owned(), places: asked.places.to_vec(), limit: asked.limit };
        match self.ask(&request, true).map_err(NotHeld::Process)? {
            Answer::Held { all } => Ok(all),
            Answer::Refused { place, errno } => Err(NotHeld::Place(place, io::Error::from_raw_os_error(errno))),
            Answer::Owners { .. } => Err(NotHeld::Process(io::ErrorKind::InvalidData.into())),
        }
    }

    /// Lets go of everything an owner has.
    ///
    /// # Errors
    /// The process could not be asked. One that does not run holds nothing.
    pub fn release(&self, owner: &str) -> io::Result<()> {
        self.ask_if_there(&Request::Release { owner: owner.to_owned() }).map(drop)
    }

    /// Everybody for whom something is held.
    ///
    /// # Errors
    /// The process could not be asked.
    pub fn owners(&self) -> io::Result<Vec<String>> {
        match self.ask_if_there(&Request::Owners)? {
            Some(Answer::Owners { owners }) => Ok(owners),
            _ => Ok(Vec::new()),
        }
    }

    fn ask_if_there(&self, request: &Request) -> io::Result<Option<Answer>> {
        match self.ask(request, false) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn ask(&self, request: &Request, start: bool) -> io::Result<Answer> {
        let mut kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = kept.as_mut()
            && let Ok(answer) = exchange(connection, request)
        {
            return Ok(answer);
        }
        // It has ended since, or it never ran. A process that ends holds nothing, so asking again does nothing twice.
        *kept = None;
        let mut connection = BufReader::new(self.connect(start)?);
        let answer = exchange(&mut connection, request)?;
        *kept = Some(connection);
        Ok(answer)
    }

    fn connect(&self, start: bool) -> io::Result<UnixStream> {
        match UnixStream::connect(&self.path) {
            Err(error) if start && is_absent(&error) => {}
            outcome => return outcome,
        }
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&self.path)?;
        (self.start)(OwnedFd::from(listener))?;
        UnixStream::connect(&self.path)
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

fn exchange(connection: &mut BufReader<UnixStream>, request: &Request) -> io::Result<Answer> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    connection.get_mut().write_all(&line)?;
    let mut answer = String::new();
    if connection.read_line(&mut answer)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}
