//! `berth image mount`: an image's files as a directory, to look into. Not of the reference client.

use std::io::Write;
use std::path::{Path, PathBuf};

use berth_api::image_mount::ImageMount;
use berth_client::Client;
use clap::Args;

use super::{mounted, platform_query};
use crate::human::{short_id, system_error};
use crate::table::{self, Row};
use crate::template::Value;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Mount>(
    "image",
    "mount",
    "[OPTIONS] [IMAGE [DIRECTORY]]",
    "Show an image's files in a directory, read-only, or list the images that are shown",
    Arity::AtMost(2),
);

/// Mounts an image.
#[derive(Args)]
pub struct Mount {
    #[arg(long, value_name = "string", help = table::FORMAT_HELP)]
    format: Option<String>,
    /// Mount the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    image: Option<String>,
    directory: Option<PathBuf>,
}

impl Command for Mount {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let Some(image) = &self.image else {
            return list(cx, self.format.as_deref());
        };
        mounted::check_user("mounting an image")?;
        let directory = self.directory.as_deref().map(existing).transpose()?;
        let platform = self.platform.as_deref().map(platform_query).transpose()?;
        let client = cx.client()?;
        let request = client.post(Client::path("images", image, "/mount")).query_opt("target", directory.as_deref());
        let mount: ImageMount = request.query_opt("platform", platform.as_deref()).send()?.json()?;
        let is_there = mount.existed && mounted::is_mount_point(&mount.target)?;
        if !is_there && let Err(error) = mounted::show(&mount) {
            mounted::forget(client, &mount)?;
            let reason = system_error(&error);
            return Err(CliError::message(format!("mounting {image} at {}: {reason}", mount.target)));
        }
        cx.say(mount.target)
    }
}

/// The directory as everybody names it.
fn existing(path: &Path) -> Result<String, CliError> {
    let found = std::fs::canonicalize(path);
    let found = found.map_err(|error| CliError::message(format!("{}: {}", path.display(), system_error(&error))))?;
    if !found.is_dir() {
        return Err(CliError::message(format!("{}: not a directory", path.display())));
    }
    let text = found.into_os_string().into_string();
    text.map_err(|_| CliError::message(format!("{}: its name is no text", path.display())))
}

fn list(cx: &Context, format: Option<&str>) -> Result<(), CliError> {
    let mounts: Vec<ImageMount> = cx.client()?.get("/images/mounts").send()?.json()?;
    let format = match format.unwrap_or_default() {
        "" | "table" => "table {{.ID}}\t{{.Image}}\t{{.Target}}",
        own => own,
    };
    let mut out = cx.stdout();
    table::write(&mut out, format, mounts.into_iter().map(MountRow))?;
    Ok(out.flush()?)
}

/// A mounted image as a row.
struct MountRow(ImageMount);

impl Row for MountRow {
    const GO_TYPE: &'static str = "*formatter.imageMountContext";
    const COLUMNS: &'static [(&'static str, &'static str)] =
        &[("ID", "IMAGE ID"), ("Image", "IMAGE"), ("Target", "MOUNT POINT")];

    fn field(&self, name: &str) -> Option<Value> {
        let mount = &self.0;
        Some(Value::text(match name {
            "ID" => short_id(&mount.image).to_owned(),
            "Image" => mount.name.clone(),
            "Target" => mount.target.clone(),
            _ => return None,
        }))
    }
}
