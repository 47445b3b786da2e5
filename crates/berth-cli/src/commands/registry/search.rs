//! `berth search`.

use std::io::Write;

use clap::Args;
use serde::Deserialize;

use crate::credentials::Credentials;
use crate::filter::{Filter, Filters};
use crate::human::ellipsis;
use crate::table::{self, Row};
use crate::template::Value;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Search>("", "search", "[OPTIONS] TERM", "Search Docker Hub for images", Arity::Exactly(1))
        .top(&["search"]);

const TABLE: &str = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
/// How much of a description is shown.
const DESCRIPTION: usize = 45;

/// Looks for images in a registry.
#[derive(Args)]
pub struct Search {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Pretty-print search using a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Max number of search results
    #[arg(long, value_name = "int", default_value = "0")]
    limit: i64,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    term: String,
}

#[derive(Deserialize)]
struct Item {
    star_count: i64,
    is_official: bool,
    name: String,
    description: String,
}

impl Command for Search {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let domain = match self.term.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
            _ => "docker.io",
        };
        let credentials = Credentials::open(&cx.globals().config_dir())?;
        let mut request = cx.client()?.get("/images/search").query("term", &self.term);
        request = request.header("X-Registry-Auth", credentials.header(domain)?);
        if self.limit != 0 {
            request = request.query("limit", &self.limit.to_string());
        }
        request = request.query_opt("filters", Filters::of(&self.filter).to_query().as_deref());
        let items: Vec<Item> = request.send()?.json()?;
        let format = match self.format.as_deref().unwrap_or_default() {
            "" | "table" => TABLE,
            own => own,
        };
        let mut out = cx.stdout();
        table::write(&mut out, format, items.into_iter().map(|item| Found { item, trunc: !self.no_trunc }))?;
        Ok(out.flush()?)
    }
}

/// A result as a row.
struct Found {
    item: Item,
    trunc: bool,
}

impl Row for Found {
    const GO_TYPE: &'static str = "*formatter.searchContext";
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Description", "DESCRIPTION"),
        ("IsAutomated", "AUTOMATED"),
        ("IsOfficial", "OFFICIAL"),
        ("Name", "NAME"),
        ("StarCount", "STARS"),
    ];

    fn field(&self, name: &str) -> Option<Value> {
        let item = &self.item;
        Some(Value::text(match name {
            "Name" => item.name.clone(),
            "Description" => {
                let line = item.description.replace(['\n', '\r'], " ");
                if self.trunc { ellipsis(&line, DESCRIPTION) } else { line }
            }
            "StarCount" => item.star_count.to_string(),
            "IsOfficial" if item.is_official => "[OK]".to_owned(),
            "IsOfficial" | "IsAutomated" => String::new(),
            _ => return None,
        }))
    }
}
