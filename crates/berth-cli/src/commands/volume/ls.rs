//! `berth volume ls`.

use std::io::Write;

use berth_api::volume::{ListResponse, Volume};
use berth_model::decimal_size;
use clap::Args;

use crate::filter::{Filter, Filters};
use crate::human::{labels, natural_order};
use crate::table::{self, Row};
use crate::template::Value;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Ls>("volume", "ls", "[OPTIONS]", "List volumes", Arity::Exactly(0)).aliases(&["list"]);

/// Lists volumes.
#[derive(Args)]
pub struct Ls {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    #[arg(long, value_name = "string", help = table::FORMAT_HELP)]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

impl Command for Ls {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let filters = Filters::of(&self.filter).to_query();
        let request = cx.client()?.get("/volumes").query_opt("filters", filters.as_deref());
        let mut volumes = request.send()?.json::<ListResponse>()?.volumes;
        volumes.sort_by(|a, b| natural_order(&a.name, &b.name));
        let configured = &cx.config().volumes_format;
        let format = match self.format.as_deref().unwrap_or_default() {
            "" if configured.is_empty() || self.quiet => "table",
            "" => configured,
            own => own,
        };
        let format = match format {
            "table" if self.quiet => "{{.Name}}",
            "table" => "table {{.Driver}}\t{{.Name}}",
            "raw" if self.quiet => "name: {{.Name}}",
            "raw" => RAW,
            own => own,
        };
        let mut out = cx.stdout();
        table::write(&mut out, format, volumes.into_iter().map(VolumeRow))?;
        Ok(out.flush()?)
    }
}

/// The format `raw`: a line for each field.
pub(crate) const RAW: &str = "name: {{.Name}}\\ndriver: {{.Driver}}\\n";

/// A volume as a row.
pub(crate) struct VolumeRow(pub Volume);

impl Row for VolumeRow {
    const GO_TYPE: &'static str = "*formatter.volumeContext";
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Availability", "AVAILABILITY"),
        ("Driver", "DRIVER"),
        ("Group", "GROUP"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
    ];

    fn field(&self, name: &str) -> Option<Value> {
        let volume = &self.0;
        let usage = volume.usage_data.as_ref();
        let unknown = || "N/A".to_owned();
        Some(Value::text(match name {
            "Name" => volume.name.clone(),
            "Driver" => volume.driver.clone(),
            "Scope" => volume.scope.clone(),
            "Mountpoint" => volume.mountpoint.clone(),
            "Labels" => volume.labels.as_ref().map(labels).unwrap_or_default(),
            "Links" => usage.map_or_else(unknown, |usage| usage.ref_count.to_string()),
            "Size" => usage.map_or_else(unknown, |usage| decimal_size(usage.size as f64, 4)),
            // Words about volumes of a cluster.
            "Availability" | "Group" | "Status" => unknown(),
            _ => return None,
        }))
    }

    fn label(&self, key: &str) -> Option<String> {
        Some(self.0.labels.as_ref().and_then(|labels| labels.get(key)).cloned().unwrap_or_default())
    }
}
