//! `berth network ls`.

use std::io::Write;

use berth_api::network::Network;
use clap::Args;

use crate::filter::{Filter, Filters};
use crate::human::{go_time, labels, natural_order, short_id};
use crate::table::{self, ONLY_ID, Row};
use crate::template::Value;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Ls>("network", "ls", "[OPTIONS]", "List networks", Arity::Exactly(0)).aliases(&["list"]);

/// Lists networks.
#[derive(Args)]
pub struct Ls {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    #[arg(long, value_name = "string", help = table::FORMAT_HELP)]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

impl Command for Ls {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let filters = Filters::of(&self.filter).to_query();
        let request = cx.client()?.get("/networks").query_opt("filters", filters.as_deref());
        let mut networks: Vec<Network> = request.send()?.json()?;
        networks.sort_by(|a, b| natural_order(&a.name, &b.name));
        let configured = &cx.config().networks_format;
        let format = match self.format.as_deref().unwrap_or_default() {
            "" if configured.is_empty() || self.quiet => "table",
            "" => configured,
            own => own,
        };
        let format = match format {
            "table" if self.quiet => ONLY_ID,
            "table" => "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
            "raw" if self.quiet => "network_id: {{.ID}}",
            "raw" => "network_id: {{.ID}}\\nname: {{.Name}}\\ndriver: {{.Driver}}\\nscope: {{.Scope}}\\n",
            own => own,
        };
        let row = |network| NetworkRow { network, trunc: !self.no_trunc };
        let mut out = cx.stdout();
        table::write(&mut out, format, networks.into_iter().map(row))?;
        Ok(out.flush()?)
    }
}

struct NetworkRow {
    network: Network,
    trunc: bool,
}

impl Row for NetworkRow {
    const GO_TYPE: &'static str = "*network.networkContext";
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("CreatedAt", "CREATED AT"),
        ("Driver", "DRIVER"),
        ("ID", "NETWORK ID"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("Name", "NAME"),
        ("Scope", "SCOPE"),
    ];

    fn field(&self, name: &str) -> Option<Value> {
        let network = &self.network;
        Some(Value::text(match name {
            "ID" if self.trunc => short_id(&network.id).to_owned(),
            "ID" => network.id.clone(),
            "Name" => network.name.clone(),
            "Driver" => network.driver.clone(),
            "Scope" => network.scope.clone(),
            "IPv4" => network.enable_ipv4.to_string(),
            "IPv6" => network.enable_ipv6.to_string(),
            "Internal" => network.internal.to_string(),
            "Labels" => network.labels.as_ref().map(labels).unwrap_or_default(),
            "CreatedAt" => go_time(&network.created),
            _ => return None,
        }))
    }

    fn label(&self, key: &str) -> Option<String> {
        Some(self.network.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default())
    }
}
