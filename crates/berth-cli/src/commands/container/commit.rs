//! `berth commit`.

use berth_model::ImageRef;
use clap::{ArgAction, Args};

use crate::human::is_name_only;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Commit>(
    "container",
    "commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    Arity::Between(1, 2),
)
.top(&["commit"]);

/// Makes an image out of the changes of a container.
#[derive(Args)]
pub struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string", default_value = "")]
    author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string", default_value = "")]
    message: String,
    /// Pause container during commit
    #[arg(short, long, action = ArgAction::SetFalse)]
    pause: bool,
    /// Do not pause the container during commit
    #[arg(long)]
    no_pause: bool,
    container: String,
    reference: Option<String>,
}

impl Command for Commit {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let mut request = cx.client()?.post("/commit").query("container", &self.container);
        if let Some(text) = self.reference.filter(|text| !text.is_empty()) {
            let reference: ImageRef = text.parse().map_err(|error| CliError::message(format!("{error}")))?;
            if reference.digest().is_some() {
                return Err(CliError::message("refusing to create a tag with a digest reference"));
            }
            let tag = if is_name_only(&text) { "latest" } else { reference.tag().unwrap_or("latest") };
            request = request.query("repo", &reference.repository()).query("tag", tag);
        }
        request = request.query("comment", &self.message).query("author", &self.author);
        for change in &self.change {
            request = request.query("changes", change);
        }
        if self.no_pause || !self.pause {
            request = request.query("pause", "0");
        }
        let answer: serde_json::Value = request.send()?.json()?;
        cx.say(answer["Id"].as_str().unwrap_or_default())
    }
}
