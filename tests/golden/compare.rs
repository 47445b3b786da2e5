//! What differs between two answers.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{placeholder::Names, wire::Head};

/// One difference: where, what was recorded, and what we answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Difference {
    pub(crate) place: String,
    pub(crate) recorded: String,
    pub(crate) ours: String,
}

/// The document in a header of base64.
fn decoded(text: &str) -> Value {
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// What is measured on a machine, or counted over its life: only the kind of value, and whether a text is empty, is compared.
const MEASURED: [&str; 52] = [
    "Size",
    "size",
    "SharedSize",
    "SizeRw",
    "SizeRootFs",
    "LayersSize",
    "TotalSize",
    "Reclaimable",
    "SpaceReclaimed",
    "IPAddress",
    "Containers",
    "ContainersRunning",
    "ContainersPaused",
    "ContainersStopped",
    "Images",
    "NCPU",
    "MemTotal",
    "KernelVersion",
    "OperatingSystem",
    "OSVersion",
    "ID",
    "NFd",
    "NGoroutines",
    "NEventsListener",
    "Name of host",
    "NoProxy",
    "system_cpu_usage",
    "total_usage",
    "usage_in_kernelmode",
    "usage_in_usermode",
    "usage",
    "max_usage",
    "current",
    "rx_bytes",
    "tx_bytes",
    "rx_packets",
    "tx_packets",
    "value",
    "BuildTime",
    "GitCommit",
    "GoVersion",
    "Uptime",
    "execDuration",
    "percpu_usage",
    "stats",
    "reclaimed",
    "VirtualSize",
    "Unpacked",
    "Content",
    "Total",
    "TotalCount",
    "ActiveCount",
];

/// Collects what differs in one document.
pub(crate) struct Comparison<'a> {
    names: &'a mut Names,
    found: BTreeSet<Difference>,
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(names: &'a mut Names) -> Self {
        Self { names, found: BTreeSet::new() }
    }

    pub(crate) fn finish(self) -> BTreeSet<Difference> {
        self.found
    }

    /// Notes a difference.
    #[expect(clippy::needless_pass_by_value, reason = "texts, numbers and documents are all given as they are")]
    pub(crate) fn differs(&mut self, place: &str, recorded: impl ToString, ours: impl ToString) {
        let short = |text: String| match text.char_indices().nth(240) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        };
        let [recorded, ours] =
            [recorded.to_string(), ours.to_string()].map(|text| short(text.replace(['\t', '\n', '\r'], " ")));
        self.found.insert(Difference { place: place.to_owned(), recorded, ours });
    }

    /// Compares plain values.
    pub(crate) fn equal<T: PartialEq + ToString>(&mut self, place: &str, recorded: T, ours: T) {
        if recorded != ours {
            self.differs(place, recorded, ours);
        }
    }

    /// Compares texts, in which the recorded one may have placeholders.
    pub(crate) fn text(&mut self, place: &str, recorded: &str, ours: &str) {
        if !self.names.matches(recorded, ours) {
            self.differs(place, format!("{recorded:?}"), format!("{ours:?}"));
        }
    }

    /// Whether a name is what was recorded.
    pub(crate) fn is_named(&mut self, recorded: &str, ours: &str) -> bool {
        self.names.matches(recorded, ours)
    }

    /// Compares two heads: the status line, and the headers whatever their order and case.
    pub(crate) fn head(&mut self, recorded: &Head, ours: &Head) {
        self.text("status", &recorded.status_line, &ours.status_line);
        for (name, value) in &recorded.headers {
            if let Some(encoded) = name.strip_suffix(" (decoded)") {
                let document = ours.header(encoded).map(decoded).unwrap_or_default();
                self.json(&format!("header {name}"), &serde_json::from_str(value).unwrap_or_default(), &document);
                continue;
            }
            match ours.header(name) {
                None => self.differs(&format!("header {name}"), value, "absent"),
                Some(ours) if value.starts_with('<') => self.equal(&format!("header {name}"), false, ours.is_empty()),
                Some(ours) => self.equal(&format!("header {name}"), value.as_str(), ours),
            }
        }
        for (name, value) in ours.headers.iter().filter(|(name, _)| recorded.header(name).is_none()) {
            self.differs(&format!("header {name}"), "absent", value);
        }
    }

    /// Compares two streams of events, one by one where both have the next one.
    fn events(&mut self, place: &str, recorded: &[Value], ours: &[Value]) {
        let kind = |event: &Value| {
            format!("{} {}", event["Type"].as_str().unwrap_or_default(), event["Action"].as_str().unwrap_or_default())
        };
        let mut ours = ours.iter().peekable();
        for recorded in recorded {
            let wanted = kind(recorded);
            if !ours.clone().any(|event| kind(event) == wanted) {
                self.differs(place, wanted, "absent");
                continue;
            }
            for event in ours.by_ref() {
                if kind(event) == wanted {
                    self.json(&format!("{place}[]"), recorded, event);
                    break;
                }
                self.differs(place, "absent", kind(event));
            }
        }
        ours.for_each(|event| self.differs(place, "absent", kind(event)));
    }

    /// Compares two JSON values.
    pub(crate) fn json(&mut self, place: &str, recorded: &Value, ours: &Value) {
        let key = place.rsplit('.').next().unwrap_or_default().trim_end_matches("[]");
        match (recorded, ours) {
            (Value::Object(recorded), Value::Object(ours)) => {
                for (key, value) in recorded {
                    match ours.get(key) {
                        Some(ours) => self.json(&format!("{place}.{key}"), value, ours),
                        None => self.differs(&format!("{place}.{key}"), value, "absent"),
                    }
                }
                for (key, value) in ours.iter().filter(|(key, _)| !recorded.contains_key(*key)) {
                    self.differs(&format!("{place}.{key}"), "absent", value);
                }
            }
            (Value::Array(recorded), Value::Array(ours)) if recorded.iter().chain(ours).all(is_event) => {
                self.events(place, recorded, ours);
            }
            (Value::Array(recorded), Value::Array(ours)) => {
                let (recorded, ours) = (in_order(key, recorded), in_order(key, ours));
                // How many health checks there were until now is a matter of time.
                if recorded.len() != ours.len() && key != "Log" {
                    self.differs(&format!("{place} length"), recorded.len(), ours.len());
                }
                for (recorded, ours) in recorded.iter().zip(&ours) {
                    self.json(&format!("{place}[]"), recorded, ours);
                }
            }
            (Value::String(recorded), Value::Number(ours))
                if recorded.starts_with("<INT:") && ours.as_f64() != Some(0.0) => {}
            (Value::String(recorded), Value::String(ours)) if MEASURED.contains(&key) => {
                self.equal(place, recorded.is_empty(), ours.is_empty());
            }
            (Value::Number(_), Value::Number(_)) if MEASURED.contains(&key) || place.contains("_stats.") => {}
            (Value::String(recorded), Value::String(ours)) => {
                if !self.names.matches(recorded, ours) && without_durations(recorded) != without_durations(ours) {
                    self.differs(place, format!("{recorded:?}"), format!("{ours:?}"));
                }
            }
            _ if recorded == ours => {}
            _ => self.differs(place, recorded, ours),
        }
    }
}

fn is_event(value: &Value) -> bool {
    value["Action"].is_string()
}

/// Mounts and networks come in no certain order.
fn in_order(key: &str, list: &[Value]) -> Vec<Value> {
    let mut list = list.to_vec();
    if key == "Mounts" {
        list.sort_by_key(|mount| mount["Destination"].to_string());
    }
    list
}

/// `Up 2 seconds` is `Up Less than a second` a little later.
fn without_durations(text: &str) -> String {
    let words = text.replace("Less than a", "0").replace("About a", "1");
    let words =
        words.split(' ').filter(|word| !word.bytes().all(|b| b.is_ascii_digit()) && !word.starts_with("second"));
    words.collect::<Vec<_>>().join(" ")
}
