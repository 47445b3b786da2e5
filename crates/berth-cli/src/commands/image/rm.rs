//! `berth rmi`.

use berth_api::image::DeleteItem;
use berth_client::{Client, ClientError};
use clap::Args;

use super::platform_query;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Rm>("image", "rm", "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", Arity::AtLeast(1))
        .aliases(&["remove", "rmi"])
        .top(&["rmi"]);

/// Removes names of images, and images that have no name left.
#[derive(Args)]
pub struct Rm {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    platform: Vec<String>,
    images: Vec<String>,
}

impl Command for Rm {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let platforms = self.platform.iter().map(|platform| platform_query(platform)).collect::<Result<Vec<_>, _>>()?;
        let client = cx.client()?;
        let mut failures = Vec::new();
        let mut only_missing = true;
        for image in &self.images {
            match self.remove(client, image, &platforms) {
                Ok(items) => tell(cx, &items)?,
                Err(error) => {
                    only_missing &= error.is_not_found();
                    failures.push(error.to_string());
                }
            }
        }
        match failures.join("\n") {
            none if none.is_empty() => Ok(()),
            // With force, what is not there counts as removed.
            text if self.force && only_missing => {
                cx.warn(text);
                Ok(())
            }
            text => Err(CliError::message(text)),
        }
    }
}

impl Rm {
    fn remove(&self, client: &Client, image: &str, platforms: &[String]) -> Result<Vec<DeleteItem>, ClientError> {
        let mut request = client.delete(Client::path("images", image, "")).flag("force", self.force);
        request = request.flag("noprune", self.no_prune);
        for platform in platforms {
            request = request.query("platforms", platform);
        }
        request.send()?.json()
    }
}

fn tell(cx: &Context, items: &[DeleteItem]) -> Result<(), CliError> {
    for item in items {
        match item.deleted.is_empty() {
            true => cx.say(format!("Untagged: {}", item.untagged))?,
            false => cx.say(format!("Deleted: {}", item.deleted))?,
        }
    }
    Ok(())
}
