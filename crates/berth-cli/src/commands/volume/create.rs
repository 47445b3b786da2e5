//! `berth volume create`.

use std::collections::BTreeMap;

use berth_api::volume::{CreateRequest, Volume};
use berth_model::ByteSize;
use clap::Args;
use serde_json::{Value, json};

use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Create>("volume", "create", "[OPTIONS] [VOLUME]", "Create a volume", Arity::AtMost(1));

/// Creates a volume; that it exists already is no error.
#[derive(Args)]
pub struct Create {
    /// Cluster Volume availability ("active", "pause", "drain")
    #[arg(long, value_name = "string", hide = true)]
    availability: Option<String>,
    /// Specify volume driver name
    #[arg(short, long, value_name = "string", default_value = "local")]
    driver: String,
    /// Cluster Volume group (cluster volumes)
    #[arg(long, value_name = "string", hide = true)]
    group: Option<String>,
    /// Set metadata for a volume
    #[arg(long, value_name = "list", value_parser = label)]
    label: Vec<String>,
    /// Minimum size of the Cluster Volume in bytes
    #[arg(long, value_name = "bytes", hide = true)]
    limit_bytes: Option<ByteSize>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    /// Maximum size of the Cluster Volume in bytes
    #[arg(long, value_name = "bytes", hide = true)]
    required_bytes: Option<ByteSize>,
    /// Cluster Volume access scope ("single", "multi")
    #[arg(long, value_name = "string", hide = true)]
    scope: Option<String>,
    /// Cluster Volume secrets
    #[arg(long, value_name = "map", hide = true)]
    secret: Vec<String>,
    /// Cluster Volume access sharing ("none", "readonly", "onewriter", "all")
    #[arg(long, value_name = "string", hide = true)]
    sharing: Option<String>,
    /// A topology that the Cluster Volume would be preferred in
    #[arg(long, value_name = "list", hide = true)]
    topology_preferred: Vec<String>,
    /// A topology that the Cluster Volume must be accessible from
    #[arg(long, value_name = "list", hide = true)]
    topology_required: Vec<String>,
    /// Cluster Volume access type ("mount", "block")
    #[arg(long = "type", value_name = "string", hide = true)]
    kind: Option<String>,
    name: Option<String>,
}

impl Command for Create {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let request = CreateRequest {
            cluster_volume_spec: self.cluster_spec(),
            name: self.name.unwrap_or_default(),
            driver: self.driver,
            driver_opts: pairs(&self.opt),
            labels: pairs(&self.label),
        };
        let volume: Volume = cx.client()?.post("/volumes/create").json(&request).send()?.json()?;
        cx.say(volume.name)
    }
}

impl Create {
    /// The description of a volume of a cluster; `None` unless something about one was said.
    fn cluster_spec(&self) -> Option<Value> {
        let said =
            [&self.group, &self.scope, &self.sharing, &self.availability, &self.kind].iter().any(|flag| flag.is_some());
        if !said && self.secret.is_empty() && self.limit_bytes.is_none() && self.required_bytes.is_none() {
            return None;
        }
        let word = |flag: &Option<String>, default: &str| flag.clone().unwrap_or_else(|| default.to_owned());
        let mut access = json!({ "Scope": word(&self.scope, "single"), "Sharing": word(&self.sharing, "none") });
        match self.kind.as_deref().unwrap_or("block") {
            "mount" => access["MountVolume"] = json!({}),
            "block" => access["BlockVolume"] = json!({}),
            _ => {}
        }
        let bytes = |size: Option<ByteSize>| size.map_or(0, ByteSize::bytes);
        let secrets: Vec<Value> =
            pairs(&self.secret).into_iter().map(|(k, v)| json!({ "Key": k, "Secret": v })).collect();
        let mut topology = json!({});
        for (key, list) in [("Requisite", &self.topology_required), ("Preferred", &self.topology_preferred)] {
            if !list.is_empty() {
                topology[key] = list.iter().map(|text| json!({ "Segments": segments(text) })).collect();
            }
        }
        Some(json!({
            "Group": word(&self.group, ""),
            "AccessMode": access,
            "AccessibilityRequirements": topology,
            "CapacityRange": { "RequiredBytes": bytes(self.required_bytes), "LimitBytes": bytes(self.limit_bytes) },
            "Secrets": secrets,
            "Availability": word(&self.availability, "active"),
        }))
    }
}

fn segments(text: &str) -> BTreeMap<&str, &str> {
    text.split(',').map(|segment| segment.split_once('=').unwrap_or((segment, ""))).collect()
}

fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    texts.iter().map(pair).collect()
}

fn label(text: &str) -> Result<String, String> {
    let key = text.split('=').next().unwrap_or_default();
    if key.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if key.contains(char::is_whitespace) {
        return Err(format!("label '{key}' contains whitespaces"));
    }
    Ok(text.to_owned())
}
