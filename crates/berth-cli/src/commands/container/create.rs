//! `berth create`, and the making of a container that `berth run` shares.

use std::fs;
use std::io;

use berth_api::container_config::CreateRequest;
use berth_api::container_config::CreateResponse;
use berth_model::ImageRef;

use super::missing_image;
use super::options::ContainerOptions;
use crate::{Arity, CliError, Command, Context, Entry, Place};

/// The command.
pub static ENTRY: Entry = Entry::new::<Create>(
    "container",
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    Arity::AtLeast(1),
)
.top(&["create"])
.place(Place::Listed);

/// Makes a container and does not start it.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Create {
    #[command(flatten)]
    options: ContainerOptions,
}

impl Command for Create {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let request = self.options.request(self.options.attached()).map_err(CliError::refused)?;
        let made = create(cx, &self.options, request)?;
        cx.say(made.id)
    }
}

/// When the image is pulled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PullPolicy {
    Always,
    Missing,
    Never,
}

/// Makes the container; pulls a missing image first, unless that is not wanted (B081).
pub(super) fn create(
    cx: &Context,
    options: &ContainerOptions,
    mut request: CreateRequest,
) -> Result<CreateResponse, CliError> {
    let policy = match options.handling.pull.as_deref().unwrap_or_default() {
        "always" => PullPolicy::Always,
        "" | "missing" => PullPolicy::Missing,
        "never" => PullPolicy::Never,
        other => {
            return Err(CliError::refused(format!(
                "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
            )));
        }
    };
    let cidfile = options.handling.cidfile.as_deref().filter(|path| !path.is_empty());
    let cidfile = cidfile.map(CidFile::reserve).transpose()?;
    let (image, _) = options.image_and_command();
    let reference = reference(image)?;
    let platform = options.handling.platform.clone().or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok());
    let platform = platform.as_deref().filter(|platform| !platform.is_empty());
    add_proxies(cx, &mut request)?;
    let client = cx.client()?;
    let pull = |reference: &ImageRef| missing_image::pull(cx, reference, platform, options.handling.quiet);
    if let (PullPolicy::Always, Some(reference)) = (policy, &reference) {
        pull(reference)?;
    }
    let made = match client.container_create(options.name.as_deref(), platform, &request) {
        Err(error) if error.is_not_found() && policy == PullPolicy::Missing => {
            let Some(reference) = &reference else { return Err(error.into()) };
            if !options.handling.quiet {
                cx.warn(format!("Unable to find image '{}' locally", reference.familiar()));
            }
            pull(reference)?;
            client.container_create(options.name.as_deref(), platform, &request)?
        }
        other => other?,
    };
    for warning in &made.warnings {
        cx.warn(format!("WARNING: {warning}"));
    }
    if let Some(cidfile) = cidfile {
        cidfile.write(&made.id)?;
    }
    Ok(made)
}

/// The image as a reference that can be pulled; `None` for an id, which only the daemon can look up.
fn reference(image: &str) -> Result<Option<ImageRef>, CliError> {
    let hex = image.strip_prefix("sha256:").unwrap_or(image);
    if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let reference: ImageRef = image.parse().map_err(|error| CliError::message(format!("{error}")))?;
    match (reference.tag(), reference.digest()) {
        (None, None) => Ok(reference.with_tag("latest").ok()),
        _ => Ok(Some(reference)),
    }
}

/// Proxy variables of the configuration, unless the user gave them (B197).
fn add_proxies(cx: &Context, request: &mut CreateRequest) -> Result<(), CliError> {
    if cx.config().proxies.is_empty() {
        return Ok(());
    }
    let host = cx.client()?.endpoint().to_string();
    let Some(proxy) = cx.config().proxy_for(&host) else { return Ok(()) };
    let environment = request.config.env.get_or_insert_with(Vec::new);
    for (name, value) in proxy.variables() {
        let given = environment.iter().any(|line| line.split('=').next().is_some_and(|given| given == name));
        if !given {
            environment.push(format!("{name}={value}"));
        }
    }
    Ok(())
}

/// The file for the id: made before the container, so that two never share one, and removed again if no id came.
struct CidFile {
    path: String,
    written: bool,
}

impl CidFile {
    fn reserve(path: &str) -> Result<CidFile, CliError> {
        match fs::OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(_) => Ok(CidFile { path: path.to_owned(), written: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(CliError::message(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            ))),
            Err(error) => {
                Err(CliError::message(format!("failed to create the container ID file: open {path}: {error}")))
            }
        }
    }

    fn write(mut self, id: &str) -> Result<(), CliError> {
        fs::write(&self.path, id).map_err(|error| {
            CliError::message(format!("failed to write the container ID to {}: {error}", self.path))
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = fs::remove_file(&self.path);
        }
    }
}
