//! `berth pull`.

use std::io::{self, Write};

use berth_client::Client;
use berth_model::ImageRef;
use clap::Args;

use super::default_platform;
use crate::credentials::Credentials;
use crate::human::is_name_only;
use crate::progress::{self, Screen};
use crate::{Arity, CliError, Command, Context, Entry, Place};

/// The command.
pub static ENTRY: Entry = Entry::new::<Pull>(
    "image",
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    Arity::Exactly(1),
)
.top(&["pull"])
.place(Place::Common(5));

/// Downloads an image.
#[derive(Args)]
pub struct Pull {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Skip image verification
    #[arg(long, action = clap::ArgAction::SetFalse, hide = true)]
    disable_content_trust: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    name: String,
}

impl Command for Pull {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let reference: ImageRef = self.name.parse().map_err(|error| CliError::message(format!("{error}")))?;
        let name_only = is_name_only(&self.name);
        if self.all_tags && !name_only {
            return Err(CliError::message("tag can't be used with --all-tags/-a"));
        }
        if name_only && !self.all_tags && !self.quiet {
            cx.say("Using default tag: latest")?;
        }
        let what = if self.all_tags { Wanted::AllTags(&reference) } else { Wanted::One(&reference) };
        let quiet = self.quiet;
        let (mut nowhere, mut stdout) = (io::sink(), cx.stdout());
        let out: &mut dyn Write = if quiet { &mut nowhere } else { &mut stdout };
        let screen = if quiet { Screen::Plain } else { Screen::of_stdout() };
        let auth = Credentials::open(&cx.globals().config_dir())?.header(reference.domain())?;
        pull(cx.client()?, &what, &auth, default_platform(self.platform).as_deref(), out, screen)?;
        drop(stdout);
        cx.say(if self.all_tags { reference.repository() } else { reference.to_string() })
    }
}

/// What is pulled.
pub(crate) enum Wanted<'a> {
    /// The image of one tag or digest.
    One(&'a ImageRef),
    /// Everything in the repository.
    AllTags(&'a ImageRef),
}

/// Has the daemon fetch an image and shows how that goes on `out`; for `pull`, and for `run` of an image that is missing.
pub(crate) fn pull(
    client: &Client,
    wanted: &Wanted<'_>,
    auth: &str,
    platform: Option<&str>,
    out: &mut dyn Write,
    screen: Screen,
) -> Result<(), CliError> {
    let (Wanted::One(reference) | Wanted::AllTags(reference)) = wanted;
    let tag = match (wanted, reference.digest()) {
        (Wanted::AllTags(_), _) => None,
        (Wanted::One(_), Some(digest)) => Some(digest.to_string()),
        (Wanted::One(_), None) => reference.tag().map(str::to_owned),
    };
    let request =
        client.post("/images/create").query("fromImage", &reference.repository()).query_opt("tag", tag.as_deref());
    let request = request.query_opt("platform", platform.filter(|text| !text.is_empty()));
    let response = request.header("X-Registry-Auth", auth).send()?;
    progress::show(response.documents(), out, screen)
}
