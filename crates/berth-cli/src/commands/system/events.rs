//! `berth events`.

use std::io::Write;

use berth_api::event::Event;
use clap::Args;
use serde_json::Value as Json;

use crate::document::{empty, typed};
use crate::filter::{Filter, Filters};
use crate::human::local_nanos;
use crate::inspect::{self, TEMPLATE_CODE};
use crate::template::{MissingKey, Template};
use crate::time_argument::unix_seconds;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Events>("system", "events", "[OPTIONS]", "Get real time events from the server", Arity::Exactly(0))
        .top(&["events"]);

/// Shows what happens in the daemon, as it happens.
#[derive(Args)]
pub struct Events {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    #[arg(long, value_name = "string", default_value = "", help = inspect::FORMAT_HELP)]
    format: String,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string", default_value = "")]
    since: String,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string", default_value = "")]
    until: String,
}

impl Command for Events {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let template = parse(&self.format)?;
        let time = |text: &str| match text {
            "" => Ok(None),
            text => unix_seconds(text).map(Some).map_err(CliError::message),
        };
        let (since, until) = (time(&self.since)?, time(&self.until)?);
        let filters = Filters::of(&self.filter).to_query();
        let request =
            cx.client()?.get("/events").query_opt("since", since.as_deref()).query_opt("until", until.as_deref());
        let response = request.query_opt("filters", filters.as_deref()).send()?;
        let mut out = cx.stdout();
        for document in response.documents::<Json>() {
            let document = document?;
            match &template {
                Some(template) => {
                    let event = typed("events.Message", &document);
                    let (text, result) = template.execute_partly(event, MissingKey::NoValue);
                    writeln!(out, "{text}")?;
                    out.flush()?;
                    result.map_err(|error| CliError::message(error.to_string()))?;
                }
                None => writeln!(out, "{}", line(&document)?)?,
            }
            out.flush()?;
        }
        Ok(())
    }
}

/// The template of `--format`, tried on an event in which nothing is set.
fn parse(format: &str) -> Result<Option<Template>, CliError> {
    let text = match format {
        "" => return Ok(None),
        "json" => "{{json .}}",
        own => own,
    };
    let tried = Template::parse(text)
        .and_then(|template| template.execute(empty("*events.Message"), MissingKey::NoValue).map(|_| template));
    tried.map(Some).map_err(|error| CliError::with_code(format!("Error parsing format: {error}"), TEMPLATE_CODE))
}

/// `2024-05-01T10:00:00.000000000Z container start 0123 (image=busybox, name=web)`.
fn line(document: &Json) -> Result<String, CliError> {
    let event: Event = serde::Deserialize::deserialize(document)
        .map_err(|error: serde_json::Error| CliError::message(format!("reading an event: {error}")))?;
    let time = match (event.time_nano, event.time) {
        (0, 0) => String::new(),
        (0, seconds) => local_nanos(seconds, 0) + " ",
        (nanos, _) => {
            const NANOS: i64 = 1_000_000_000;
            let rest = u32::try_from(nanos.rem_euclid(NANOS)).unwrap_or_default();
            local_nanos(nanos.div_euclid(NANOS), rest) + " "
        }
    };
    let pairs: Vec<String> = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let attributes = if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) };
    Ok(format!("{time}{} {} {}{attributes}", event.kind, event.action, event.actor.id))
}
