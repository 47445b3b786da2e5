//! `berth load`.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;

use clap::Args;

use super::platform_query;
use crate::human::system_error;
use crate::progress::{self, Metered, Screen};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Load>("image", "load", "[OPTIONS]", "Load an image from a tar archive or STDIN", Arity::Exactly(0))
        .top(&["load"]);

/// Loads images from an archive.
#[derive(Args)]
pub struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<PathBuf>,
    /// Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string", value_delimiter = ',')]
    platform: Vec<String>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Command for Load {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let (input, size) = self.open()?;
        let platforms = self.platform.iter().map(|platform| platform_query(platform)).collect::<Result<Vec<_>, _>>()?;
        let screen = Screen::of_stdout();
        let mut input: Box<dyn Read> = match screen {
            Screen::Terminal(width) if !self.quiet => Box::new(Metered::new(input, "Sending archive", width, size)),
            _ => input,
        };
        let quiet = self.quiet || screen == Screen::Plain;
        let mut request = cx.client()?.post("/images/load").query("quiet", if quiet { "1" } else { "0" });
        for platform in &platforms {
            request = request.query("platform", platform);
        }
        let mut response = request.stream("application/x-tar", &mut *input).send()?;
        let mut out = cx.stdout();
        if response.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
            return progress::show(response.documents(), &mut out, screen);
        }
        io::copy(&mut response, &mut out)?;
        Ok(out.flush()?)
    }
}

impl Load {
    /// The archive, and its size where it is a file.
    fn open(&self) -> Result<(Box<dyn Read>, Option<u64>), CliError> {
        let Some(path) = self.input.as_ref().filter(|path| !path.as_os_str().is_empty()) else {
            if io::stdin().is_terminal() {
                return Err(CliError::message("requested load from stdin, but stdin is empty"));
            }
            return Ok((Box::new(io::stdin().lock()), None));
        };
        let failed = |error| CliError::message(format!("open {}: {}", path.display(), system_error(&error)));
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
        Ok((Box::new(file), size))
    }
}
