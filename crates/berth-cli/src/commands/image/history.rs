//! `berth history`.

use std::io::Write;

use berth_api::image::HistoryItem;
use berth_client::Client;
use berth_model::decimal_size;
use clap::{ArgAction, Args};

use super::platform_query;
use crate::human::{ago, ellipsis, local_rfc3339, short_id};
use crate::table::{self, ONLY_ID, Row};
use crate::template::Value;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<History>("image", "history", "[OPTIONS] IMAGE", "Show the history of an image", Arity::Exactly(1))
        .top(&["history"]);

/// Shows the steps an image was made in.
#[derive(Args)]
pub struct History {
    #[arg(long, value_name = "string", help = table::FORMAT_HELP)]
    format: Option<String>,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, action = ArgAction::SetFalse)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    image: String,
}

impl Command for History {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let platform = self.platform.as_deref().map(platform_query).transpose()?;
        let request = cx.client()?.get(Client::path("images", &self.image, "/history"));
        let items: Vec<HistoryItem> = request.query_opt("platform", platform.as_deref()).send()?.json()?;
        let format = match self.format.as_deref().filter(|format| !format.is_empty()).unwrap_or("table") {
            "table" if self.quiet => ONLY_ID,
            "table" if self.human => "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
            "table" => "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
            own => own,
        };
        let row = |item| Step { item, trunc: !self.no_trunc, human: self.human };
        let mut out = cx.stdout();
        table::write(&mut out, format, items.into_iter().map(row))?;
        Ok(out.flush()?)
    }
}

struct Step {
    item: HistoryItem,
    trunc: bool,
    human: bool,
}

/// Images without a real date carry one before this: 2000-01-01.
const EPOCH: i64 = 946_684_800;

/// How much of a step's command a table shows.
const COMMAND_WIDTH: usize = 45;

impl Row for Step {
    const GO_TYPE: &'static str = "*image.historyContext";
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Comment", "COMMENT"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("CreatedSince", "CREATED"),
        ("ID", "IMAGE"),
        ("Size", "SIZE"),
    ];

    fn field(&self, name: &str) -> Option<Value> {
        let item = &self.item;
        let command = || item.created_by.replace('\t', " ");
        Some(Value::text(match name {
            "ID" if self.trunc => short_id(&item.id).to_owned(),
            "ID" => item.id.clone(),
            "CreatedAt" => local_rfc3339(item.created),
            "CreatedSince" if !self.human => local_rfc3339(item.created),
            "CreatedSince" if item.created <= EPOCH => "N/A".to_owned(),
            "CreatedSince" => ago(item.created),
            "CreatedBy" if self.trunc => ellipsis(&command(), COMMAND_WIDTH),
            "CreatedBy" => command(),
            "Size" if self.human => decimal_size(item.size as f64, 3),
            "Size" => item.size.to_string(),
            "Comment" => item.comment.clone(),
            _ => return None,
        }))
    }
}
