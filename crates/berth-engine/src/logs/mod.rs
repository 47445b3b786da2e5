//! What containers have written: read from the files that their shims write (B159-B162).

mod files;
mod format;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod options;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use berth_model::{ErrorKind, Timestamp};
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, watch},
};

pub(crate) use format::Format;
pub(crate) use options::options;
pub use options::{check_config, check_names};

use crate::{EngineError, blocking, container::Handle, view::ContainerView};
use files::LogFiles;

/// Lines that wait for a slow reader.
const BACKLOG: usize = 64;

/// Which lines are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Those of stdout.
    pub stdout: bool,
    /// Those of stderr.
    pub stderr: bool,
    /// Written at this time or later.
    pub since: Option<Timestamp>,
    /// Written at this time or earlier.
    pub until: Option<Timestamp>,
    /// Only so many of the last ones, counted over both streams.
    pub tail: Option<u64>,
    /// Stays for what is to come, until the container ends.
    pub follow: bool,
}

/// One line, or a piece of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written.
    pub stream: LogStream,
    /// When.
    pub at: Timestamp,
    /// What, with its end of line unless it is a piece. Whether it is UTF-8 is up to the container and the driver.
    pub text: Vec<u8>,
    /// Attributes that the container's options ask for.
    pub attributes: BTreeMap<String, String>,
}

/// A stream of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Lines as they are read.
pub struct LogReader {
    lines: mpsc::Receiver<Result<LogLine, EngineError>>,
    /// Whether the container has a terminal, and so only one stream.
    pub terminal: bool,
}

impl LogReader {
    /// The next line; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<LogLine, EngineError>> {
        self.lines.recv().await
    }
}

/// Reads a container's log.
pub(crate) fn open(handle: &Handle, query: LogQuery) -> Result<LogReader, EngineError> {
    open_until(handle, query, None)
}

/// Reads a container's log up to an offset in the present file, where a live stream begins.
pub(crate) fn open_until(handle: &Handle, query: LogQuery, end: Option<u64>) -> Result<LogReader, EngineError> {
    let view = handle.view();
    let (Some(path), Some(format)) = (view.paths.log.clone(), Format::of_driver(&view.spec.host.log.driver)) else {
        return Err(EngineError::Refused {
            kind: ErrorKind::NotImplemented,
            message: "configured logging driver does not support reading".to_owned(),
        });
    };
    let (send, lines) = mpsc::channel(BACKLOG);
    let reading = Reading { path, format, query, end, send, view: handle.watch() };
    tokio::spawn(reading.run());
    Ok(LogReader { lines, terminal: view.has_terminal() })
}

/// A reading that is under way.
struct Reading {
    path: PathBuf,
    format: Format,
    query: LogQuery,
    end: Option<u64>,
    send: mpsc::Sender<Result<LogLine, EngineError>>,
    view: watch::Receiver<Arc<ContainerView>>,
}

/// The reader is gone.
struct NobodyReads;

impl Reading {
    async fn run(mut self) {
        if let Err(error) = self.read_all().await {
            // The error is the last thing the reader gets; it may be gone itself.
            let _ = self.send.send(Err(error)).await;
        }
    }

    async fn read_all(&mut self) -> Result<(), EngineError> {
        // Watched before the first look, so that nothing written in between is missed.
        let changes = if self.query.follow { Some(self.watch_directory()?) } else { None };
        let (path, format, tail, end) = (self.path.clone(), self.format, self.query.tail, self.end);
        let mut files = blocking(move || LogFiles::open(&path, format, tail, end)).await?;
        loop {
            let ended = !is_live(&self.view.borrow_and_update());
            match self.drain(files).await? {
                Ok(rest) => files = rest,
                Err(NobodyReads) => return Ok(()),
            }
            let Some(changes) = &changes else { return Ok(()) };
            if ended {
                return Ok(());
            }
            tokio::select! {
                () = wait_for_change(changes) => {}
                changed = self.view.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = self.send.closed() => return Ok(()),
            }
        }
    }

    /// Hands on everything there is by now.
    async fn drain(&mut self, mut files: LogFiles) -> Result<Result<LogFiles, NobodyReads>, EngineError> {
        loop {
            let (rest, lines) = blocking(move || {
                let lines = files.read_some()?;
                Ok((files, lines))
            })
            .await?;
            files = rest;
            if lines.is_empty() {
                return Ok(Ok(files));
            }
            for line in lines.into_iter().filter(|line| wanted(&self.query, line)) {
                if self.query.until.is_some_and(|until| line.at > until) {
                    continue;
                }
                if self.send.send(Ok(line)).await.is_err() {
                    return Ok(Err(NobodyReads));
                }
            }
        }
    }

    #[expect(
        deprecated,
        reason = "the new way is unsafe, and an owned descriptor that nobody else closes is sound this way too"
    )]
    fn watch_directory(&self) -> Result<AsyncFd<std::os::fd::OwnedFd>, EngineError> {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let directory = self.path.parent().unwrap_or(&self.path);
        let failed = |error: std::io::Error| EngineError::io("watching", directory)(error);
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let kinds = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF;
        add_watch(&inotify, directory, kinds).map_err(|e| failed(e.into()))?;
        AsyncFd::new(inotify).map_err(failed)
    }
}

fn is_live(view: &ContainerView) -> bool {
    !view.removed && (view.state.is_running() || view.state.word() == "restarting")
}

fn wanted(query: &LogQuery, line: &LogLine) -> bool {
    let stream = match line.stream {
        LogStream::Stdout => query.stdout,
        LogStream::Stderr => query.stderr,
    };
    stream && query.since.is_none_or(|since| line.at >= since)
}

async fn wait_for_change(changes: &AsyncFd<std::os::fd::OwnedFd>) {
    let Ok(mut ready) = changes.readable().await else { return };
    // What changed does not matter: the files are looked at anyway.
    let mut buffer = [0; 4096];
    while rustix::io::read(changes.get_ref(), &mut buffer).is_ok_and(|count| count > 0) {}
    ready.clear_ready();
}
