//! `berth image unmount`: ends what `berth image mount` began. Not of the reference client.

use std::path::Path;

use berth_api::image_mount::ImageMount;
use berth_client::Client;
use clap::Args;

use super::mounted;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Unmount>("image", "unmount", "[OPTIONS] IMAGE|DIRECTORY...", "End the mounts of images", Arity::Any)
        .aliases(&["umount"]);

/// Unmounts images.
#[derive(Args)]
pub struct Unmount {
    /// End all of them
    #[arg(short, long)]
    all: bool,
    images: Vec<String>,
}

impl Command for Unmount {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        if self.all != self.images.is_empty() {
            return Err(CliError::message("name images or directories, or use --all"));
        }
        mounted::check_user("unmounting an image")?;
        let client = cx.client()?;
        let mut failures = Vec::new();
        let wanted = if self.all { vec![None] } else { self.images.iter().map(|name| Some(name.as_str())).collect() };
        for name in wanted {
            let ended = mounts_of(client, name)
                .and_then(|mounts| mounts.iter().try_for_each(|mount| mounted::end(client, mount)));
            match (ended, name) {
                (Ok(()), Some(name)) => cx.say(name)?,
                (Ok(()), None) => {}
                (Err(error), _) => failures.push(error.to_string()),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(CliError::message(failures.join("\n"))) }
    }
}

/// The mounts of an image, or the one at a directory; all without a name.
fn mounts_of(client: &Client, name: Option<&str>) -> Result<Vec<ImageMount>, CliError> {
    let is_path = name.is_some_and(|name| name.starts_with(['/', '.']));
    let request = client.get("/images/mounts").query_opt("image", name.filter(|_| !is_path));
    let mut mounts: Vec<ImageMount> = request.send()?.json()?;
    let Some(name) = name else { return Ok(mounts) };
    if is_path {
        let path = std::fs::canonicalize(name).unwrap_or_else(|_| name.into());
        mounts.retain(|mount| Path::new(&mount.target) == path);
    }
    if mounts.is_empty() {
        let what = if is_path { format!("no image is mounted at {name}") } else { format!("{name} is not mounted") };
        return Err(CliError::message(what));
    }
    Ok(mounts)
}
