//! `berth system df`.

use std::io::Write;
use std::rc::Rc;

use berth_api::container::ContainerSummary;
use berth_api::disk_usage::{BuildCache, DiskUsage};
use berth_api::image::ImageSummary;
use berth_api::volume::Volume;
use berth_model::decimal_size;
use clap::Args;

use crate::commands::container::ls::ContainerRow;
use crate::commands::image::ls::ImageRow;
use crate::commands::volume::ls::VolumeRow;
use crate::human::{ago, go_time, short_id};
use crate::table::{self, Row, row_value};
use crate::template::{List, MissingKey, Object, Template, Value};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Df>("system", "df", "[OPTIONS]", "Show Berth disk usage", Arity::Exactly(0));

/// Shows what takes space in the daemon's directory.
#[derive(Args)]
pub struct Df {
    #[arg(long, value_name = "string", help = table::FORMAT_HELP)]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

impl Command for Df {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        // Daemons since API 1.52 tell sums, and the objects only on request; older ones always tell the objects.
        let usage: DiskUsage = cx.client()?.get("/system/df").flag("verbose", self.verbose).send()?.json()?;
        let format = self.format.as_deref().filter(|format| !format.is_empty()).unwrap_or("table");
        let mut out = cx.stdout();
        if self.verbose {
            details(&mut out, format, Objects::of(usage))?;
        } else {
            let format = match format {
                "table" => "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
                "raw" => RAW,
                own => own,
            };
            table::write(&mut out, format, sums(&usage))?;
        }
        Ok(out.flush()?)
    }
}

const RAW: &str =
    "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n";

/// One kind of objects: how many, how large.
struct Sum {
    kind: &'static str,
    total: usize,
    active: usize,
    bytes: i64,
    reclaimable: i64,
    /// Whether the share that can be freed is shown in per cent.
    share: bool,
}

impl Row for Sum {
    const GO_TYPE: &'static str = "*formatter.diskUsageImagesContext";
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("Active", "ACTIVE"),
        ("Reclaimable", "RECLAIMABLE"),
        ("Size", "SIZE"),
        ("TotalCount", "TOTAL"),
        ("Type", "TYPE"),
    ];

    fn field(&self, name: &str) -> Option<Value> {
        let size = |bytes: i64| decimal_size(bytes as f64, 4);
        Some(Value::text(match name {
            "Type" => self.kind.to_owned(),
            "TotalCount" => self.total.to_string(),
            "Active" => self.active.to_string(),
            "Size" => size(self.bytes),
            "Reclaimable" if self.share && self.bytes > 0 => {
                format!("{} ({}%)", size(self.reclaimable), self.reclaimable * 100 / self.bytes)
            }
            "Reclaimable" => size(self.reclaimable),
            _ => return None,
        }))
    }
}

/// The sums of all kinds: those the daemon tells, or those of the objects it lists.
fn sums(usage: &DiskUsage) -> Vec<Sum> {
    let count = |n: i64| usize::try_from(n).unwrap_or_default();
    let told = |kind, total, active, bytes, reclaimable, share| Sum {
        kind,
        total: count(total),
        active: count(active),
        bytes,
        reclaimable,
        share,
    };
    let images = usage.image_usage.as_ref().map_or_else(
        || images(usage.images.as_deref().unwrap_or_default(), usage.layers_size.unwrap_or_default()),
        |u| told("Images", u.total_count, u.active_count, u.total_size, u.reclaimable, true),
    );
    let containers = usage.container_usage.as_ref().map_or_else(
        || containers(usage.containers.as_deref().unwrap_or_default()),
        |u| told("Containers", u.total_count, u.active_count, u.total_size, u.reclaimable, true),
    );
    let volumes = usage.volume_usage.as_ref().map_or_else(
        || volumes(usage.volumes.as_deref().unwrap_or_default()),
        |u| told("Local Volumes", u.total_count, u.active_count, u.total_size, u.reclaimable, true),
    );
    let cache = usage.build_cache_usage.as_ref().map_or_else(
        || build_cache(usage.build_cache.as_deref().unwrap_or_default()),
        |u| told("Build Cache", u.total_count, u.active_count, u.total_size, u.reclaimable, false),
    );
    vec![images, containers, volumes, cache]
}

fn images(list: &[ImageSummary], bytes: i64) -> Sum {
    let used = list.iter().filter(|image| image.containers != 0 && image.size != -1 && image.shared_size != -1);
    let in_use: i64 = used.map(|image| image.size - image.shared_size).sum();
    Sum {
        kind: "Images",
        total: list.len(),
        active: list.iter().filter(|image| image.containers > 0).count(),
        bytes,
        reclaimable: bytes - in_use,
        share: true,
    }
}

fn containers(list: &[ContainerSummary]) -> Sum {
    let active =
        |container: &&ContainerSummary| matches!(container.state.as_str(), "running" | "paused" | "restarting");
    let bytes: i64 = list.iter().map(|container| container.size_rw).sum();
    let in_use: i64 = list.iter().filter(active).map(|container| container.size_rw).sum();
    Sum {
        kind: "Containers",
        total: list.len(),
        active: list.iter().filter(active).count(),
        bytes,
        reclaimable: bytes - in_use,
        share: true,
    }
}

fn volumes(list: &[Volume]) -> Sum {
    let usage = || list.iter().filter_map(|volume| volume.usage_data.as_ref());
    let known = || usage().filter(|usage| usage.size != -1);
    Sum {
        kind: "Local Volumes",
        total: list.len(),
        active: usage().filter(|usage| usage.ref_count > 0).count(),
        bytes: known().map(|usage| usage.size).sum(),
        reclaimable: known().filter(|usage| usage.ref_count == 0).map(|usage| usage.size).sum(),
        share: true,
    }
}

fn build_cache(list: &[BuildCache]) -> Sum {
    let bytes = cache_bytes(list);
    let in_use: i64 = list.iter().filter(|record| record.in_use && !record.shared).map(|record| record.size).sum();
    Sum {
        kind: "Build Cache",
        total: list.len(),
        active: list.iter().filter(|record| record.in_use).count(),
        bytes,
        reclaimable: bytes - in_use,
        share: false,
    }
}

fn cache_bytes(list: &[BuildCache]) -> i64 {
    list.iter().filter(|record| !record.shared).map(|record| record.size).sum()
}

/// All objects that take space.
struct Objects {
    images: Vec<ImageSummary>,
    containers: Vec<ContainerSummary>,
    volumes: Vec<Volume>,
    cache: Vec<BuildCache>,
}

impl Objects {
    fn of(usage: DiskUsage) -> Objects {
        let mut cache = usage.build_cache_usage.map_or_else(|| usage.build_cache.unwrap_or_default(), |u| u.items);
        cache.sort_by(|a, b| (&a.last_used_at, &a.id).cmp(&(&b.last_used_at, &b.id)));
        Objects {
            images: usage.image_usage.map_or_else(|| usage.images.unwrap_or_default(), |u| u.items),
            containers: usage.container_usage.map_or_else(|| usage.containers.unwrap_or_default(), |u| u.items),
            volumes: usage.volume_usage.map_or_else(|| usage.volumes.unwrap_or_default(), |u| u.items),
            cache,
        }
    }

    fn rows(self, trunc: bool) -> Rows {
        let container = |mut container: ContainerSummary| {
            // The size of the image is in the list of images.
            container.size_root_fs = 0;
            ContainerRow { container, trunc }
        };
        Rows {
            images: self.images.into_iter().map(|image| ImageRow::first_name(image, trunc)).collect(),
            containers: self.containers.into_iter().map(container).collect(),
            volumes: self.volumes.into_iter().map(VolumeRow).collect(),
            cache: self.cache.into_iter().map(|record| CacheRow { record, trunc }).collect(),
        }
    }
}

struct Rows {
    images: Vec<ImageRow>,
    containers: Vec<ContainerRow>,
    volumes: Vec<VolumeRow>,
    cache: Vec<CacheRow>,
}

/// `--verbose`: four tables, or one template over everything.
fn details(out: &mut dyn Write, format: &str, objects: Objects) -> Result<(), CliError> {
    let cache_size = decimal_size(cache_bytes(&objects.cache) as f64, 4);
    let rows = objects.rows(table::is_table(format));
    if format != "table" {
        return one_template(out, format, rows);
    }
    writeln!(out, "Images space usage:\n")?;
    table::write(
        out,
        "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
        rows.images,
    )?;
    writeln!(out, "\nContainers space usage:\n")?;
    table::write(
        out,
        "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
        rows.containers,
    )?;
    writeln!(out, "\nLocal Volumes space usage:\n")?;
    table::write(out, "table {{.Name}}\t{{.Links}}\t{{.Size}}", rows.volumes)?;
    writeln!(out, "\nBuild cache usage: {cache_size}\n")?;
    table::write(
        out,
        "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
        rows.cache,
    )
}

fn one_template(out: &mut dyn Write, format: &str, rows: Rows) -> Result<(), CliError> {
    let raw = || {
        use crate::commands::{container, image, volume};
        let kinds = [
            ("Images", "Image", image::ls::raw_format(true)),
            ("Containers", "Container", container::ls::raw_format(true)),
            ("Volumes", "Volume", volume::ls::RAW.replace("\\n", "\n")),
            ("BuildCache", "Build Cache", RAW_CACHE.to_owned()),
        ];
        kinds.map(|(list, kind, raw)| format!("{{{{range .{list}}}}}type: {kind}\n{raw}\n{{{{end -}}}}\n")).concat()
    };
    let text = if format == "raw" { raw() } else { table::template_text(format) };
    let failed = |error| CliError::message(format!("template parsing error: {error}"));
    let template = Template::parse(text.trim_end_matches('\n')).map_err(failed)?;
    let all = Value::Object(Rc::new(All {
        images: list(rows.images),
        containers: list(rows.containers),
        volumes: list(rows.volumes),
        cache: list(rows.cache),
    }));
    let (text, result) = template.execute_partly(all, MissingKey::NoValue);
    out.write_all(text.as_bytes())?;
    result.map_err(|error| CliError::message(error.to_string()))
}

const RAW_CACHE: &str = "build_cache_id: {{.ID}}\nparent_id: {{.Parent}}\nbuild_cache_type: {{.CacheType}}\n\
                         description: {{.Description}}\ncreated_at: {{.CreatedAt}}\ncreated_since: {{.CreatedSince}}\n\
                         last_used_at: {{.LastUsedAt}}\nlast_used_since: {{.LastUsedSince}}\nusage_count: {{.UsageCount}}\n\
                         in_use: {{.InUse}}\nshared: {{.Shared}}\n";

fn list<R: Row>(rows: Vec<R>) -> Value {
    let items = rows.into_iter().map(row_value).collect();
    Value::List(Rc::new(List { go_type: "[]interface {}", is_nil: false, items }))
}

/// Everything at once, for templates.
struct All {
    images: Value,
    containers: Value,
    volumes: Value,
    cache: Value,
}

impl Object for All {
    fn go_type(&self) -> &str {
        "*formatter.diskUsageContext"
    }

    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Images" => Some(self.images.clone()),
            "Containers" => Some(self.containers.clone()),
            "Volumes" => Some(self.volumes.clone()),
            "BuildCache" => Some(self.cache.clone()),
            _ => None,
        }
    }

    fn write_json(&self, out: &mut String) {
        let lists = [&self.images, &self.containers, &self.volumes, &self.cache].map(Value::to_json);
        let [images, containers, volumes, cache] = lists;
        out.push_str(&format!(
            "{{\"Images\":{images},\"Containers\":{containers},\"Volumes\":{volumes},\"BuildCache\":{cache}}}"
        ));
    }

    fn display(&self) -> String {
        String::new()
    }
}

/// A record of the build cache.
struct CacheRow {
    record: BuildCache,
    trunc: bool,
}

impl Row for CacheRow {
    const GO_TYPE: &'static str = "*formatter.buildCacheContext";
    const COLUMNS: &'static [(&'static str, &'static str)] = &[
        ("CacheType", "CACHE TYPE"),
        ("CreatedAt", ""),
        ("CreatedSince", "CREATED"),
        ("Description", "DESCRIPTION"),
        ("ID", "CACHE ID"),
        ("InUse", "IN USE"),
        ("LastUsedAt", ""),
        ("LastUsedSince", "LAST USED"),
        ("Parent", "PARENT"),
        ("Shared", "SHARED"),
        ("Size", "SIZE"),
        ("UsageCount", "USAGE"),
    ];

    fn field(&self, name: &str) -> Option<Value> {
        let record = &self.record;
        let short = |id: &str| if self.trunc { short_id(id).to_owned() } else { id.to_owned() };
        let since = |time: &str| ago(time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second));
        let last_used = record.last_used_at.as_deref();
        Some(Value::text(match name {
            "ID" => format!("{}{}", short(&record.id), if record.in_use { "*" } else { "" }),
            "Parent" => short(&record.parents.join(", ")),
            "CacheType" => record.kind.clone(),
            "Description" => record.description.clone(),
            "Size" => decimal_size(record.size as f64, 3),
            "CreatedAt" => go_time(&record.created_at),
            "CreatedSince" => since(&record.created_at),
            "LastUsedAt" => last_used.map(go_time).unwrap_or_default(),
            "LastUsedSince" => last_used.map(since).unwrap_or_default(),
            "UsageCount" => record.usage_count.to_string(),
            "InUse" => record.in_use.to_string(),
            "Shared" => record.shared.to_string(),
            _ => return None,
        }))
    }
}
