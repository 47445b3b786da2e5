//! `berth image inspect`.

use berth_client::Client;
use clap::Args;

use super::platform_query;
use crate::inspect::{self, Found};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Inspect>(
    "image",
    "inspect",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    Arity::AtLeast(1),
);

/// Shows everything about images.
#[derive(Args)]
pub struct Inspect {
    #[arg(short, long, value_name = "string", default_value = "", help = inspect::FORMAT_HELP)]
    format: String,
    /// Inspect a specific platform of the multi-platform image.
    /// If the image or the server is not multi-platform capable, the command will error out if the platform does not match.
    /// 'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)
    #[arg(long, value_name = "string", verbatim_doc_comment)]
    platform: Option<String>,
    images: Vec<String>,
}

impl Command for Inspect {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let platform = self.platform.as_deref().map(platform_query).transpose()?;
        inspect::inspect(cx, &self.images, &self.format, |name| fetch(cx.client()?, name, platform.as_deref()))
    }
}

/// Fetches the document of one image.
pub(crate) fn fetch(client: &Client, name: &str, platform: Option<&str>) -> Result<Found, CliError> {
    let request = client.get(Client::path("images", name, "/json")).query_opt("platform", platform);
    Ok(Found { go_type: "image.InspectResponse", json: request.send()?.read_all()? })
}
