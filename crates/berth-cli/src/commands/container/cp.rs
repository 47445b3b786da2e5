//! `berth cp`.

use std::io::{self, BufWriter, IsTerminal, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_client::{Client, ClientError};
use clap::Args;
use serde::Deserialize;

use crate::copy::{Copied, Place, Source, base, clean, extract, join, plan, resolve_destination, split};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Cp>(
    "container",
    "cp",
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tberth container cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem",
    Arity::Exactly(2),
)
.top(&["cp"]);

/// Copies files into or out of a container.
#[derive(Args)]
pub struct Cp {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(short, long)]
    quiet: bool,
    source: String,
    destination: String,
}

/// What lies at a path of a container.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PathStat {
    mode: u32,
    #[serde(default)]
    link_target: String,
}

/// Bits of Go's `os.FileMode`.
const DIR: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
/// Links, devices, pipes, sockets and what is none of these.
const NO_FILE: u32 = SYMLINK | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;

impl PathStat {
    fn is_directory(&self) -> bool {
        self.mode & DIR != 0
    }

    fn is_link(&self) -> bool {
        self.mode & SYMLINK != 0
    }
}

impl Command for Cp {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        if self.source.is_empty() {
            return Err(CliError::message("source can not be empty"));
        }
        if self.destination.is_empty() {
            return Err(CliError::message("destination can not be empty"));
        }
        match (container_path(&self.source), container_path(&self.destination)) {
            (Some((container, path)), None) => self.get_out_of(cx, container, path),
            (None, Some((container, path))) => self.put_into(cx, container, path),
            (Some(_), Some(_)) => Err(CliError::message("copying between containers is not supported")),
            (None, None) => Err(CliError::message("must specify at least one container source")),
        }
    }
}

impl Cp {
    fn get_out_of(&self, cx: &Context, container: &str, path: &str) -> Result<(), CliError> {
        let client = cx.client()?;
        let mut path = path.to_owned();
        let mut asked_as = None;
        if self.follow_link
            && let Ok(stat) = stat(client, container, &path)
            && stat.is_link()
        {
            let target = target_of(&path, &stat);
            asked_as = (base(&path) != base(&target)).then(|| base(&path).to_owned());
            path = target;
        }
        let response = client.get(Client::path("containers", container, "/archive")).query("path", &path).send()?;
        if self.destination == "-" {
            if cx.stdout_is_terminal() {
                return Err(CliError::message("cowardly refusing to write an archive to a terminal: redirect it"));
            }
            let mut response = response;
            let mut out = io::stdout().lock();
            io::copy(&mut response, &mut out)?;
            return Ok(out.flush()?);
        }
        let stat = stat_of(response.header("x-docker-container-path-stat"))?;
        let destination = resolve_destination(&self.destination)?;
        let source = Place { path: path.clone(), exists: true, is_directory: stat.is_directory(), asked_as: None };
        let mut copied = plan(&source, &destination)?;
        if let (None, Some(asked_as)) = (&copied.renamed, asked_as) {
            copied.renamed = Some((split(&path).1, asked_as));
        }
        let mut counted = Counted { inner: response, bytes: 0 };
        extract(&copied, &mut counted, self.archive)?;
        self.report(cx, counted.bytes, &destination.path);
        Ok(())
    }

    fn put_into(&self, cx: &Context, container: &str, path: &str) -> Result<(), CliError> {
        let client = cx.client()?;
        let destination = self.container_destination(client, container, path)?;
        let (directory, bytes) = if self.source == "-" {
            if !destination.is_directory {
                let place = format!("{container}:{path}");
                return Err(CliError::message(format!("destination {place:?} must be a directory")));
            }
            let mut counted = Counted { inner: io::stdin().lock(), bytes: 0 };
            self.put(client, container, &destination.path, &mut counted)?;
            (destination.path, counted.bytes)
        } else {
            let source = Source::find(&self.source, self.follow_link)?;
            let copied = plan(&source.place, &destination)?;
            let bytes = self.put_packed(client, container, &source, &copied)?;
            (destination.path, bytes)
        };
        self.report(cx, bytes, &format!("{container}:{directory}"));
        Ok(())
    }

    /// Where a path in the container leads: through one link, as long as what it leads to can take files.
    fn container_destination(&self, client: &Client, container: &str, path: &str) -> Result<Place, CliError> {
        let mut place = Place { path: path.to_owned(), ..Place::default() };
        let mut found = stat(client, container, path);
        if let Ok(link) = &found
            && link.is_link()
        {
            place.path = target_of(path, link);
            found = stat(client, container, &place.path);
        }
        match found {
            Ok(stat) => {
                if stat.mode & NO_FILE != 0 {
                    let shown = format!("{container}:{}", place.path);
                    return Err(CliError::message(format!(
                        "destination {shown:?} must be a directory or a regular file"
                    )));
                }
                (place.exists, place.is_directory) = (true, stat.is_directory());
                Ok(place)
            }
            // That it is not there, or that the container is not, shows when the archive is sent.
            Err(ClientError::Daemon { .. }) => Ok(place),
            Err(error) => Err(error.into()),
        }
    }

    /// Packs on one thread what the other sends.
    fn put_packed(&self, client: &Client, container: &str, source: &Source, copied: &Copied) -> Result<u64, CliError> {
        let (reader, writer) = io::pipe()?;
        std::thread::scope(|scope| {
            let packing = scope.spawn(move || source.write_to(copied, BufWriter::with_capacity(64 * 1024, writer)));
            let mut counted = Counted { inner: reader, bytes: 0 };
            let sent = self.put(client, container, &copied.directory, &mut counted);
            let bytes = counted.bytes;
            // Packing ends when nobody reads any more.
            drop(counted);
            let packed = packing.join().expect("packing does not panic");
            // If sending failed, packing failed because of it.
            sent?;
            packed.map(|()| bytes)
        })
    }

    fn put(&self, client: &Client, container: &str, path: &str, archive: &mut dyn Read) -> Result<(), CliError> {
        let mut request = client.request("PUT", Client::path("containers", container, "/archive"));
        request = request.query("path", path).query("noOverwriteDirNonDir", "true");
        if self.archive {
            request = request.query("copyUIDGID", "true");
        }
        Ok(request.stream("application/x-tar", archive).send()?.finish()?)
    }

    fn report(&self, cx: &Context, bytes: u64, destination: &str) {
        if !self.quiet && io::stdout().is_terminal() {
            cx.warn(format!("Successfully copied {} to {destination}", berth_model::decimal_size(bytes as f64, 3)));
        }
    }
}

/// Splits `CONTAINER:PATH`. What begins with a slash or a dot is a path on this machine, whatever colons it has.
fn container_path(argument: &str) -> Option<(&str, &str)> {
    if argument.starts_with(['/', '.']) {
        return None;
    }
    argument.split_once(':')
}

/// What a link in the container leads to, ending as the path did.
fn target_of(path: &str, link: &PathStat) -> String {
    if link.link_target.starts_with('/') {
        return clean(&link.link_target);
    }
    join(&split(path).0, &link.link_target)
}

fn stat(client: &Client, container: &str, path: &str) -> Result<PathStat, ClientError> {
    let request = client.request("HEAD", Client::path("containers", container, "/archive")).query("path", path);
    let response = request.send()?;
    let stat = stat_of(response.header("x-docker-container-path-stat"));
    response.finish()?;
    stat.map_err(|error| ClientError::Local(io::Error::other(error.to_string())))
}

fn stat_of(header: Option<&str>) -> Result<PathStat, CliError> {
    let bytes = header.and_then(|text| STANDARD.decode(text).ok());
    let stat = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    stat.ok_or_else(|| CliError::message("the daemon does not say what lies at the path"))
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_stands_before_a_colon() {
        for (argument, expected) in [
            ("web:/etc", Some(("web", "/etc"))),
            ("web:", Some(("web", ""))),
            ("/a:b", None),
            ("./a:b", None),
            ("../a:b", None),
            ("file", None),
            ("-", None),
        ] {
            assert_eq!(container_path(argument), expected, "{argument}");
        }
    }
}
