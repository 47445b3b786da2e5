//! `berth ps`, `berth container ls`.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;

use berth_api::container::{ContainerColumns, ContainerSummary};
use berth_api::descriptor::Platform;
use berth_client::Response;
use berth_model::decimal_size;
use clap::Args;

use crate::filter::{Filter, Filters};
use crate::human::{ago, ellipsis, image_name, labels, local_time, ports, short_id};
use crate::table::{self, ONLY_ID, Row};
use crate::template::{Escape, Object, Value, quote, write_json_text};
use crate::{Arity, CliError, Command, Context, Entry, Place};

/// The command.
pub static ENTRY: Entry = Entry::new::<Ls>("container", "ls", "[OPTIONS]", "List containers", Arity::Exactly(0))
    .aliases(&["list", "ps"])
    .top(&["ps"])
    .place(Place::Common(3));

/// Lists containers.
#[derive(Args)]
pub struct Ls {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    #[arg(long, value_name = "string", help = table::FORMAT_HELP)]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "int", default_value_t = -1)]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(
        short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = crate::flag::boolean
    )]
    size: Option<bool>,
}

impl Command for Ls {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let given = self.format.as_deref().unwrap_or_default();
        let source = if given.is_empty() { cx.config().ps_format.clone() } else { given.to_owned() };
        if !given.is_empty() && self.quiet {
            cx.warn("WARNING: Ignoring custom format, because both --format and --quiet are set.");
        }
        // Sizes cost the daemon a walk through every container's files: only where they are shown.
        let size = match self.size {
            Some(asked) => asked,
            None => {
                let empty = ContainerRow { container: ContainerSummary::default(), trunc: false };
                !source.is_empty() && table::asks_for(&source, "Size", empty)? && !self.quiet
            }
        };
        let response = self.fetch(cx, size)?;
        let row = |container| ContainerRow { container, trunc: !self.no_trunc };
        let format = layout(&source, self.quiet, size);
        let mut out = cx.stdout();
        if matches!(source.as_str(), "" | "table") || self.quiet {
            let containers = response.elements::<ContainerColumns>()?;
            table::write_read(&mut out, &format, containers.map(|container| Ok(row(container?.into()))))?;
        } else {
            let containers = response.elements()?;
            table::write_read(&mut out, &format, containers.map(|container| Ok(row(container?))))?;
        }
        Ok(out.flush()?)
    }
}

impl Ls {
    fn fetch<'c>(&self, cx: &'c Context, size: bool) -> Result<Response<'c>, CliError> {
        let limit = if self.latest && self.last == -1 { 1 } else { self.last };
        let limit = (limit > 0).then(|| limit.to_string());
        let filters = Filters::of(&self.filter).to_query();
        let request = cx.client()?.get("/containers/json").flag("all", self.all).query_opt("limit", limit.as_deref());
        Ok(request.flag("size", size).query_opt("filters", filters.as_deref()).send()?)
    }
}

/// The format of a list of containers.
fn layout(source: &str, quiet: bool, size: bool) -> String {
    match source {
        "raw" if quiet => "container_id: {{.ID}}".to_owned(),
        "raw" => raw_format(size),
        _ if quiet => ONLY_ID.to_owned(),
        "" | "table" => {
            let table = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
            format!("{table}{}", if size { "\t{{.Size}}" } else { "" })
        }
        own => own.to_owned(),
    }
}

/// The format `raw`: a line for each field.
pub(crate) fn raw_format(size: bool) -> String {
    let fields = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
                  state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n\
                  labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n";
    format!("{fields}{}", if size { "size: {{.Size}}\n" } else { "" })
}

/// A container as a row.
pub(crate) struct ContainerRow {
    pub container: ContainerSummary,
    pub trunc: bool,
}

/// How much of a command, and of the name of a mount, a table shows.
const COMMAND_WIDTH: usize = 20;
const MOUNT_WIDTH: usize = 15;

impl Row for ContainerRow {
    const GO_TYPE: &'static str = "*formatter.ContainerContext";
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Labels", "LABELS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Mounts", "MOUNTS"),
        ("Names", "NAMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
        ("Ports", "PORTS"),
        ("RunningFor", "CREATED"),
        ("Size", "SIZE"),
        ("State", "STATE"),
        ("Status", "STATUS"),
    ];

    fn field(&self, name: &str) -> Option<Value> {
        let container = &self.container;
        Some(Value::text(match name {
            "ID" if self.trunc => short_id(&container.id).to_owned(),
            "ID" => container.id.clone(),
            "Names" => self.names(),
            "Image" => self.image(),
            "Command" if self.trunc => quote(&ellipsis(&container.command, COMMAND_WIDTH)),
            "Command" => quote(&container.command),
            "CreatedAt" => local_time(container.created),
            "RunningFor" => ago(container.created),
            "Platform" => return Some(self.platform()),
            "Ports" => ports(&container.ports),
            "State" => container.state.clone(),
            "Status" => container.status.clone(),
            "Size" => self.size(),
            "Labels" => labels(&container.labels),
            "Mounts" => self.mounts(),
            "LocalVolumes" => container.mounts.iter().filter(|mount| mount.driver == "local").count().to_string(),
            "Networks" => {
                let settings = container.network_settings.as_ref();
                settings
                    .map(|settings| settings.networks.keys().cloned().collect::<Vec<_>>().join(","))
                    .unwrap_or_default()
            }
            _ => return None,
        }))
    }

    fn label(&self, key: &str) -> Option<String> {
        Some(self.container.labels.get(key).cloned().unwrap_or_default())
    }
}

impl ContainerRow {
    /// The names without their slash; those that links have given it only in full output.
    fn names(&self) -> String {
        let names: Vec<&str> = self.container.names.iter().map(|name| name.strip_prefix('/').unwrap_or(name)).collect();
        match names.iter().find(|name| self.trunc && !name.contains('/')) {
            Some(own) => (*own).to_owned(),
            None => names.join(","),
        }
    }

    fn image(&self) -> String {
        let container = &self.container;
        if container.image.is_empty() {
            return "<no image>".to_owned();
        }
        if !self.trunc {
            return container.image.clone();
        }
        let short = short_id(&container.image_id);
        if short == short_id(&container.image) { short.to_owned() } else { image_name(&container.image) }
    }

    fn size(&self) -> String {
        let written = decimal_size(self.container.size_rw as f64, 3);
        match self.container.size_root_fs {
            all if all > 0 => format!("{written} (virtual {})", decimal_size(all as f64, 3)),
            _ => written,
        }
    }

    fn mounts(&self) -> String {
        let names = self.container.mounts.iter().map(|mount| {
            let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
            if self.trunc { ellipsis(name, MOUNT_WIDTH) } else { name.clone() }
        });
        names.collect::<Vec<_>>().join(",")
    }

    fn platform(&self) -> Value {
        let platform = self.container.image_manifest_descriptor.as_ref().and_then(|image| image.platform.clone());
        platform.map_or(Value::NilPointer("*formatter.Platform"), |platform| {
            Value::Object(Rc::new(PlatformValue(platform)))
        })
    }
}

/// The platform of a container's image: text in a column, a document in JSON.
struct PlatformValue(Platform);

impl Object for PlatformValue {
    fn go_type(&self) -> &str {
        "*formatter.Platform"
    }

    fn field(&self, name: &str) -> Option<Value> {
        let platform = &self.0;
        match name {
            "Architecture" => Some(Value::text(&platform.architecture)),
            "OS" => Some(Value::text(&platform.os)),
            "OSVersion" => Some(Value::text(&platform.os_version)),
            "OSFeatures" => Some(Value::texts(&platform.os_features)),
            "Variant" => Some(Value::text(&platform.variant)),
            "String" => Some(Value::text(self.display())),
            _ => None,
        }
    }

    fn write_json(&self, out: &mut String) {
        let platform = &self.0;
        let first = Cell::new(true);
        let key = |out: &mut String, name: &str| {
            out.push(if first.replace(false) { '{' } else { ',' });
            write_json_text(out, name, Escape::Html);
            out.push(':');
        };
        let fields = [
            ("architecture", &platform.architecture, true),
            ("os", &platform.os, true),
            ("os.version", &platform.os_version, false),
            ("variant", &platform.variant, false),
        ];
        for (name, value, always) in fields {
            if name == "variant" && !platform.os_features.is_empty() {
                key(out, "os.features");
                Value::texts(&platform.os_features).write_json(out, Escape::Html);
            }
            if always || !value.is_empty() {
                key(out, name);
                write_json_text(out, value, Escape::Html);
            }
        }
        out.push('}');
    }

    fn display(&self) -> String {
        let platform = &self.0;
        if platform.os.is_empty() {
            return "unknown".to_owned();
        }
        let version = if platform.os_version.is_empty() { String::new() } else { format!("({})", platform.os_version) };
        let parts = [format!("{}{version}", platform.os), platform.architecture.clone(), platform.variant.clone()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }
}
