//! What older clients expect: the differences between the documents of version 1.56 and those before (B030).
//!
//! Endpoints answer the newest shape; these functions add what has left since and take away what came later. Nothing is
//! done for a client that speaks a version without differences.

use berth_api::container::ContainerSummary;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::http::reply::Reply;
use crate::http::version::ApiVersion;

/// The answer of an endpoint whose document has differences before version `1.minor`.
pub fn reply<T: Serialize>(
    document: &T,
    version: ApiVersion,
    minor: u16,
    adapt: impl Fn(&mut Map<String, Value>, ApiVersion),
) -> Reply {
    if !version.before(minor) {
        return Reply::json(document);
    }
    let mut value = serde_json::to_value(document).expect("documents of the API have text keys only");
    match &mut value {
        Value::Object(fields) => adapt(fields, version),
        Value::Array(items) => items.iter_mut().filter_map(Value::as_object_mut).for_each(|item| adapt(item, version)),
        _ => {}
    }
    Reply::json(&value)
}

/// Fields of the first endpoint that stood at the top of `NetworkSettings` before 1.52.
const ENDPOINT_FIELDS: [&str; 8] = [
    "EndpointID",
    "Gateway",
    "GlobalIPv6Address",
    "GlobalIPv6PrefixLen",
    "IPAddress",
    "IPPrefixLen",
    "IPv6Gateway",
    "MacAddress",
];

/// Container inspect before 1.52.
pub fn container_inspect(fields: &mut Map<String, Value>, version: ApiVersion) {
    fields.remove("Storage");
    let driver = fields.get("Driver").cloned().unwrap_or_default();
    fields.insert("GraphDriver".to_owned(), json!({"Data": null, "Name": driver}));
    if version.before(48) {
        fields.remove("ImageManifestDescriptor");
    }
    let short_id: String = fields.get("Id").and_then(Value::as_str).unwrap_or_default().chars().take(12).collect();
    let Some(network) = fields.get_mut("NetworkSettings").and_then(Value::as_object_mut) else { return };
    if version.before(45) {
        add_short_id_to_aliases(network, &short_id);
    }
    // They are those of the default bridge; a container that is not on it never had them.
    let bridge = network.get("Networks").and_then(|networks| networks.get("bridge")).cloned();
    let Some(bridge) = bridge else { return };
    for field in ENDPOINT_FIELDS {
        let nothing = if field.ends_with("Len") { json!(0) } else { json!("") };
        network.insert(field.to_owned(), bridge.get(field).cloned().unwrap_or(nothing));
    }
}

/// On user networks the short id was an alias until `DNSNames` came.
fn add_short_id_to_aliases(network: &mut Map<String, Value>, short_id: &str) {
    let Some(endpoints) = network.get_mut("Networks").and_then(Value::as_object_mut) else { return };
    for (name, endpoint) in endpoints {
        if matches!(name.as_str(), "bridge" | "host" | "none") {
            continue;
        }
        if let Some(aliases) = endpoint.get_mut("Aliases") {
            match aliases {
                Value::Array(list) => list.push(json!(short_id)),
                other => *other = json!([short_id]),
            }
        }
    }
}

/// What clients of a version see of an entry of the container list, from the fewest fields to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SummaryShape {
    /// Before 1.46.
    First,
    /// With annotations.
    Annotated,
    /// With the image's manifest, from 1.48.
    Described,
    /// With health, from 1.52.
    Whole,
}

impl SummaryShape {
    /// The shape that clients of a version expect.
    pub fn of(version: ApiVersion) -> Self {
        match version {
            _ if version.before(46) => SummaryShape::First,
            _ if version.before(48) => SummaryShape::Annotated,
            _ if version.before(52) => SummaryShape::Described,
            _ => SummaryShape::Whole,
        }
    }

    /// Whether entries say which manifest the container runs.
    pub fn has_manifest(self) -> bool {
        self >= SummaryShape::Described
    }

    /// Takes away what came later.
    pub fn adapt(self, entry: &mut ContainerSummary) {
        if self < SummaryShape::Whole {
            entry.health = None;
        }
        if !self.has_manifest() {
            entry.image_manifest_descriptor = None;
        }
        if self < SummaryShape::Annotated {
            entry.host_config.annotations.clear();
        }
    }
}

/// An entry of the image list before 1.51.
pub fn image_summary(fields: &mut Map<String, Value>, version: ApiVersion) {
    fields.insert("Containers".to_owned(), json!(-1));
    if version.before(48) {
        fields.remove("Descriptor");
        fields.remove("Manifests");
    }
    if version.before(44) {
        let size = fields.get("Size").cloned().unwrap_or_default();
        fields.insert("VirtualSize".to_owned(), size);
    }
}

/// Image inspect before 1.52.
pub fn image_inspect(fields: &mut Map<String, Value>, version: ApiVersion) {
    let mut add = |name: &str, value: Value| {
        fields.entry(name).or_insert(value);
    };
    for name in ["Author", "Comment", "Created", "DockerVersion", "Parent"] {
        add(name, json!(""));
    }
    add("GraphDriver", json!({"Data": null, "Name": crate::translate::inspect::STORAGE_DRIVER}));
    if version.before(45) {
        add("Container", json!(""));
        add("ContainerConfig", Value::Null);
    }
    if version.before(48) {
        fields.remove("Descriptor");
        fields.remove("Manifests");
    }
    if version.before(44) {
        let size = fields.get("Size").cloned().unwrap_or_default();
        fields.insert("VirtualSize".to_owned(), size);
    }
    fields.remove("Identity");
    let Some(config) = fields.get_mut("Config").and_then(Value::as_object_mut) else { return };
    if version.before(50) {
        for name in ["AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"] {
            config.insert(name.to_owned(), json!(false));
        }
        for name in ["Domainname", "Hostname", "Image"] {
            config.insert(name.to_owned(), json!(""));
        }
    }
    for name in ["User", "WorkingDir"] {
        config.entry(name).or_insert(json!(""));
    }
    for name in ["Cmd", "Entrypoint", "Env", "Labels", "Volumes"] {
        config.entry(name).or_insert(Value::Null);
    }
}

/// Network inspect and an entry of the network list before 1.52.
pub fn network(fields: &mut Map<String, Value>, _: ApiVersion) {
    fields.remove("Status");
}

/// Info before 1.50.
pub fn info(fields: &mut Map<String, Value>, version: ApiVersion) {
    if version.before(50) {
        fields.insert("BridgeNfIptables".to_owned(), json!(false));
        fields.insert("BridgeNfIp6tables".to_owned(), json!(false));
    }
    if version.before(49) {
        fields.remove("FirewallBackend");
        for part in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            if let Some(commit) = fields.get_mut(part).and_then(Value::as_object_mut) {
                let id = commit.get("ID").cloned().unwrap_or_default();
                commit.insert("Expected".to_owned(), id);
            }
        }
    }
    if version.before(50) {
        fields.remove("DiscoveredDevices");
    }
    if version.before(47)
        && let Some(registries) = fields.get_mut("RegistryConfig").and_then(Value::as_object_mut)
    {
        registries.insert("AllowNondistributableArtifactsCIDRs".to_owned(), Value::Null);
        registries.insert("AllowNondistributableArtifactsHostnames".to_owned(), Value::Null);
    }
    if version.before(46) {
        fields.remove("Containerd");
    }
    if version.before(44)
        && let Some(runtimes) = fields.get_mut("Runtimes").and_then(Value::as_object_mut)
    {
        for runtime in runtimes.values_mut().filter_map(Value::as_object_mut) {
            runtime.remove("status");
        }
    }
}

/// The entries inside disk usage's lists before 1.52.
pub fn disk_usage(fields: &mut Map<String, Value>, version: ApiVersion) {
    for entry in entries(fields, "Containers") {
        if version.before(48) {
            entry.remove("ImageManifestDescriptor");
        }
    }
    if version.before(44) {
        for entry in entries(fields, "Images") {
            let size = entry.get("Size").cloned().unwrap_or_default();
            entry.insert("VirtualSize".to_owned(), size);
        }
    }
}

fn entries<'a>(fields: &'a mut Map<String, Value>, list: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    fields.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}
