//! `berth push`.

use std::io::{self, Write};

use berth_client::Client;
use berth_model::ImageRef;
use clap::Args;

use super::{default_platform, platform_query};
use crate::credentials::Credentials;
use crate::human::is_name_only;
use crate::progress::{self, Screen};
use crate::{Arity, CliError, Command, Context, Entry, Place};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Push>("image", "push", "[OPTIONS] NAME[:TAG]", "Upload an image to a registry", Arity::Exactly(1))
        .top(&["push"])
        .place(Place::Common(6));

/// Sends an image to its registry.
#[derive(Args)]
pub struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image signing
    #[arg(long, action = clap::ArgAction::SetFalse, hide = true)]
    disable_content_trust: bool,
    /// Push a platform-specific manifest as a single-platform image to the registry: os[/arch[/variant]] (e.g., linux/amd64)
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    name: String,
}

impl Command for Push {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let reference: ImageRef = self.name.parse().map_err(|error| CliError::message(format!("{error}")))?;
        let name_only = is_name_only(&self.name);
        if self.all_tags && !name_only {
            return Err(CliError::message("tag can't be used with --all-tags/-a"));
        }
        if reference.digest().is_some() {
            return Err(CliError::message("cannot push a digest reference"));
        }
        if name_only && !self.all_tags && !self.quiet {
            cx.say("Using default tag: latest")?;
        }
        let platform = default_platform(self.platform).map(|platform| platform_query(&platform)).transpose()?;
        let credentials = Credentials::open(&cx.globals().config_dir())?;
        let request = cx.client()?.post(Client::path("images", &reference.familiar_repository(), "/push"));
        let tag = reference.tag().filter(|_| !self.all_tags);
        let request = request.query_opt("tag", tag).query_opt("platform", platform.as_deref());
        let response = request.header("X-Registry-Auth", credentials.header(reference.domain())?).send()?;
        let (mut nowhere, mut stdout) = (io::sink(), cx.stdout());
        let out: &mut dyn Write = if self.quiet { &mut nowhere } else { &mut stdout };
        progress::show(response.documents(), out, if self.quiet { Screen::Plain } else { Screen::of_stdout() })?;
        drop(stdout);
        if self.quiet { cx.say(reference.to_string()) } else { Ok(()) }
    }
}
