//! Pulls the image of a container that is about to be made; the output goes to stderr, since stdout is the container's.

use std::io;

use berth_model::ImageRef;

use crate::credentials::Credentials;
use crate::progress::{self, Screen};
use crate::{CliError, Context};

/// Pulls `reference`, showing the progress unless `quiet`.
pub(super) fn pull(cx: &Context, reference: &ImageRef, platform: Option<&str>, quiet: bool) -> Result<(), CliError> {
    let tag = reference.digest().map(ToString::to_string).or_else(|| reference.tag().map(str::to_owned));
    let request = cx.client()?.post("/images/create").query("fromImage", &reference.repository());
    let auth = Credentials::open(&cx.globals().config_dir())?.header(reference.domain())?;
    let request = request.query_opt("tag", tag.as_deref()).query_opt("platform", platform);
    let response = request.header("X-Registry-Auth", auth).send()?;
    let mut nowhere = io::sink();
    let mut stderr = io::stderr();
    let out: &mut dyn io::Write = if quiet { &mut nowhere } else { &mut stderr };
    progress::show(response.documents(), out, screen_of_stderr())
}

fn screen_of_stderr() -> Screen {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 => Screen::Terminal(size.ws_col.into()),
        _ => Screen::Plain,
    }
}
