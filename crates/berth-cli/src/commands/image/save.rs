//! `berth save`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use clap::Args;

use super::platform_query;
use crate::human::system_error;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Save>(
    "image",
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    Arity::AtLeast(1),
)
.top(&["save"]);

/// Writes images to an archive.
#[derive(Args)]
pub struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string", value_delimiter = ',')]
    platform: Vec<String>,
    images: Vec<String>,
}

impl Command for Save {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let platforms = self.platform.iter().map(|platform| platform_query(platform)).collect::<Result<Vec<_>, _>>()?;
        let output = Output::open(cx, self.output, "failed to save image")?;
        let mut request = cx.client()?.get("/images/get");
        for image in &self.images {
            request = request.query("names", image);
        }
        for platform in &platforms {
            request = request.query("platform", platform);
        }
        output.take(&mut request.send()?)
    }
}

/// How much is copied at a time, in bytes: archives are large.
const COPY: usize = 256 * 1024;

fn copy(source: &mut dyn Read, out: &mut impl Write, mut told: impl FnMut(usize)) -> io::Result<()> {
    let mut buffer = vec![0; COPY];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                out.write_all(&buffer[..count])?;
                told(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// So many bytes are worth a sync of their own.
const EARLY_SYNC: usize = 32 << 20;

/// Copies to a file and syncs it: the disk works while the archive comes, so that little is left to do at the end.
fn copy_to_disk(source: &mut dyn Read, file: &File) -> io::Result<()> {
    let (ask, asked) = sync_channel::<()>(1);
    std::thread::scope(|scope| {
        // Only a head start: the sync that counts, with its error, is the one at the end.
        scope.spawn(move || asked.iter().for_each(|()| drop(file.sync_data())));
        let mut unsynced = 0;
        copy(source, &mut Passing(file), |count| {
            unsynced += count;
            if unsynced >= EARLY_SYNC && ask.try_send(()).is_ok() {
                unsynced = 0;
            }
        })?;
        drop(ask);
        file.sync_all()
    })
}

/// A file whose bytes pass the page cache by: nobody reads the archive here soon.
struct Passing<'f>(&'f File);

impl Write for Passing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        berth_sys::page_cache::write_past(self.0.as_fd(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where an archive goes: standard output, or a file that appears only when it is complete.
pub(crate) enum Output {
    Stdout,
    File { file: File, partial: Partial, path: PathBuf },
}

/// The unfinished file; it goes away unless it became the real one.
pub(crate) struct Partial(Option<PathBuf>);

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Output {
    /// Opens the file, or standard output unless that is a terminal.
    pub(crate) fn open(cx: &Context, path: Option<PathBuf>, failure: &str) -> Result<Output, CliError> {
        let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
            if cx.stdout_is_terminal() {
                return Err(CliError::message("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
            }
            return Ok(Output::Stdout);
        };
        let open = || -> Result<Output, String> {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let seen = std::fs::metadata(parent);
            seen.map_err(|error| format!("invalid output path: stat {}: {}", parent.display(), system_error(&error)))?;
            if path.is_dir() {
                return Err(format!("cannot write to a directory: {}", path.display()));
            }
            if path.exists() && !path.is_file() {
                // A pipe or a device: written in place.
                let file = File::options().write(true).open(&path);
                let file = file.map_err(|error| format!("open {}: {}", path.display(), system_error(&error)))?;
                return Ok(Output::File { file, partial: Partial(None), path: path.clone() });
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let partial = parent.join(format!(".tmp-{name}{}", std::process::id()));
            let file = File::options().write(true).create_new(true).mode(0o600).open(&partial);
            let file = file.map_err(|error| format!("open {}: {}", partial.display(), system_error(&error)))?;
            Ok(Output::File { file, partial: Partial(Some(partial)), path: path.clone() })
        };
        open().map_err(|text| CliError::message(format!("{failure}: {text}")))
    }

    /// Writes everything that `source` gives.
    pub(crate) fn take(self, source: &mut dyn Read) -> Result<(), CliError> {
        match self {
            Output::Stdout => {
                // The lock's own buffer would only cost a copy; nobody else writes here.
                let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                Ok(copy(source, &mut out, |_| {})?)
            }
            Output::File { mut file, mut partial, path } => {
                let written = match partial.0.is_some() {
                    true => copy_to_disk(source, &file),
                    false => copy(source, &mut file, |_| {}),
                };
                let placed = written.and_then(|()| match partial.0.as_ref() {
                    Some(from) => std::fs::rename(from, &path),
                    None => Ok(()),
                });
                placed.map_err(|error| {
                    CliError::message(format!("write {}: {}", path.display(), system_error(&error)))
                })?;
                partial.0 = None;
                Ok(())
            }
        }
    }
}
