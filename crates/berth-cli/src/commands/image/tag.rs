//! `berth tag`.

use berth_client::Client;
use berth_model::ImageRef;

use crate::human::is_name_only;
use crate::template::quote;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Tag>(
    "image",
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    Arity::Exactly(2),
)
.top(&["tag"]);

/// Gives an image one more name.
#[derive(clap::Args)]
pub struct Tag {
    source: String,
    target: String,
}

impl Command for Tag {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let target: ImageRef = self.target.parse().map_err(|error| {
            let name = quote(&self.target);
            CliError::message(format!("Error parsing reference: {name} is not a valid repository/tag: {error}"))
        })?;
        if target.digest().is_some() {
            return Err(CliError::message("refusing to create a tag with a digest reference"));
        }
        let tag = if is_name_only(&self.target) { "latest" } else { target.tag().unwrap_or("latest") };
        let request = cx.client()?.post(Client::path("images", &self.source, "/tag"));
        Ok(request.query("repo", &target.repository()).query("tag", tag).send()?.finish()?)
    }
}
