//! `berth logs`.

use std::io::{self, Read, Write};

use berth_client::Response;
use berth_client::containers::LogOptions;
use berth_client::frames::{Demultiplexer, Kind};

use crate::{Arity, CliError, Command, Context, Entry, time_argument};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Logs>("container", "logs", "[OPTIONS] CONTAINER", "Fetch the logs of a container", Arity::Exactly(1))
        .top(&["logs"]);

/// Prints what a container wrote (B159 to B162).
#[derive(clap::Args)]
pub struct Logs {
    /// Print extra attributes of each line
    #[arg(long)]
    details: bool,
    /// Go on as the container writes
    #[arg(long, short = 'f')]
    follow: bool,
    /// Only lines after a time (2013-01-02T13:23:37Z) or within a duration (42m)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Number of lines to print from the end
    #[arg(long, short = 'n', value_name = "string", default_value = "all")]
    tail: String,
    /// Print a time stamp before each line
    #[arg(long, short = 't')]
    timestamps: bool,
    /// Only lines before a time (2013-01-02T13:23:37Z) or a duration ago (42m)
    #[arg(long, value_name = "string")]
    until: Option<String>,
    container: String,
}

impl Command for Logs {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let time = |flag: &str, text: &Option<String>| -> Result<Option<String>, CliError> {
            let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
            let seconds = time_argument::unix_seconds(text);
            seconds.map(Some).map_err(|error| CliError::message(format!("invalid value for \"{flag}\": {error}")))
        };
        let options = LogOptions {
            follow: self.follow,
            timestamps: self.timestamps,
            details: self.details,
            since: time("since", &self.since)?,
            until: time("until", &self.until)?,
            tail: self.tail.clone(),
        };
        let client = cx.client()?;
        let response = client.container_logs(&self.container, &options)?;
        // The answer says whether it has frames; before API 1.42 it did not, and the container has to be asked.
        let framed = match response.header("content-type") {
            Some("application/vnd.docker.multiplexed-stream") => true,
            Some("application/vnd.docker.raw-stream") if client.version() >= berth_client::ApiVersion::new(1, 42) => {
                false
            }
            _ => !client.container_inspect(&self.container)?.config.unwrap_or_default().tty,
        };
        if framed { copy_frames(response) } else { copy_raw(response) }
    }
}

fn copy_raw(mut response: Response<'_>) -> Result<(), CliError> {
    each_piece(&mut response, |piece| {
        let mut out = io::stdout().lock();
        out.write_all(piece)?;
        Ok(out.flush()?)
    })
}

fn copy_frames(mut response: Response<'_>) -> Result<(), CliError> {
    let mut frames = Demultiplexer::default();
    each_piece(&mut response, |piece| {
        let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
        let mut result = Ok(());
        let mut engine = Vec::new();
        let fed = frames.feed(piece, |kind, content| {
            let written = match kind {
                Kind::Stdout | Kind::Stdin => out.write_all(content),
                Kind::Stderr => err.write_all(content),
                Kind::Engine => {
                    engine.extend_from_slice(content);
                    Ok(())
                }
            };
            if result.is_ok() {
                result = written;
            }
        });
        result?;
        out.flush()?;
        fed.map_err(|error| CliError::message(error.to_string()))?;
        if engine.is_empty() {
            return Ok(());
        }
        Err(CliError::message(format!("error from daemon in stream: {}", String::from_utf8_lossy(&engine).trim_end())))
    })
}

fn each_piece(
    response: &mut Response<'_>,
    mut use_piece: impl FnMut(&[u8]) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match response.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => use_piece(&buffer[..count])?,
            Err(error) => return Err(CliError::message(format!("reading the logs: {error}"))),
        }
    }
}
