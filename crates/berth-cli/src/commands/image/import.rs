//! `berth import`.

use std::fs::File;
use std::io::{self, Read};

use berth_model::ImageRef;
use clap::Args;

use super::default_platform;
use crate::human::system_error;
use crate::progress::{self, Screen};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Import>(
    "image",
    "import",
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    Arity::AtLeast(1),
)
.top(&["import"]);

/// Makes an image of one layer out of an archive.
#[derive(Args)]
pub struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    source: String,
    reference: Option<String>,
    #[arg(hide = true)]
    ignored: Vec<String>,
}

impl Command for Import {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        // The daemon fetches what has a URL; anything else is sent to it.
        let remote = self.source.starts_with("http://") || self.source.starts_with("https://");
        let mut source: Option<Box<dyn Read>> = match self.source.as_str() {
            "-" => Some(Box::new(io::stdin().lock())),
            _ if remote => None,
            path => Some(Box::new(
                File::open(path)
                    .map_err(|error| CliError::message(format!("open {path}: {}", system_error(&error))))?,
            )),
        };
        let mut request = cx.client()?.post("/images/create");
        request = request.query("fromSrc", if remote { &self.source } else { "-" });
        if let Some(reference) = &self.reference {
            reference.parse::<ImageRef>().map_err(|error| CliError::message(error.to_string()))?;
            request = request.query("repo", reference);
        }
        let platform = default_platform(self.platform);
        request = request.query_opt("message", self.message.as_deref()).query_opt("platform", platform.as_deref());
        for change in &self.change {
            request = request.query("changes", change);
        }
        let response = match &mut source {
            Some(source) => request.stream("application/x-tar", &mut **source).send()?,
            None => request.send()?,
        };
        progress::show(response.documents(), &mut cx.stdout(), Screen::of_stdout())
    }
}
