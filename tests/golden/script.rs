//! What has to be made before, and during, the documents of an area.
//!
//! A line `[7]` begins what is done before document 7 is asked, `[7+]` what is done after its head has arrived. Lines that begin with `#` are
//! comments. The words of a line are told in [`Step`].

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::differences::parse_numbers;

/// Something to do.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// `create NAME JSON`: of `busybox:latest`, unless the JSON says otherwise.
    Create {
        name: String,
        config: Value,
    },
    /// `exec ID CONTAINER JSON`: creates an exec and gives its id a name.
    Exec {
        id: String,
        container: String,
        config: Value,
    },
    /// `start NAME`
    Start(String),
    /// `api METHOD PATH [JSON]`: must not fail.
    Api {
        method: String,
        path: String,
        body: Option<Value>,
    },
    /// `try METHOD PATH [JSON]`: may fail.
    Try {
        method: String,
        path: String,
        body: Option<Value>,
    },
    /// `until NAME STATE`: running, exited, healthy, or `restarting 4` with the count of restarts.
    Until {
        name: String,
        state: String,
    },
    /// `gone NAME`: waits until there is no such container.
    Gone(String),
    /// `sleep MILLISECONDS`
    Sleep(u64),
    /// `file PATH` makes an empty file, `directory PATH` a directory, `delete PATH` removes either; on the host.
    File(String),
    Directory(String),
    Delete(String),
    /// `replace TEXT time`: in requests from now on, this text is the time it is now; `replace TEXT text OTHER`: another text.
    ReplaceByTime(String),
    Replace {
        text: String,
        by: String,
    },
    /// `without POINTER`: the document's request is sent without this part of its body.
    Without(String),
    /// `renew NAME`: a container of this name is removed whenever another one is to be created.
    Renew(String),
    /// `import NAME CHANGE...`: makes an image of one small file.
    Import {
        name: String,
        changes: Vec<String>,
    },
    /// `busybox NAME CHANGE...`: makes an image of `busybox`.
    Busybox {
        name: String,
        changes: Vec<String>,
    },
    /// `keep NAME PATH`: keeps the answer to a GET; `send NAME`: it is the body of the document's request.
    Keep {
        name: String,
        path: String,
    },
    Send(String),
    /// `registry PORT`: starts a registry on that port of the engine's loopback; `registry PORT NAME:HASH` one that asks for a password.
    Registry {
        port: u16,
        user: Option<String>,
    },
    /// `bind NAME PATH POINTER`: gives an id to a name, from the answer to a GET.
    Bind {
        name: String,
        path: String,
        pointer: String,
    },
}

/// The steps of an area.
#[derive(Default)]
pub(crate) struct Script {
    before: BTreeMap<u64, Vec<Step>>,
    during: BTreeMap<u64, Vec<Step>>,
}

impl Script {
    pub(crate) fn parse(text: &str) -> Self {
        let mut script = Self::default();
        let (mut numbers, mut during) = (parse_numbers("0"), false);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(heading) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                during = heading.ends_with('+');
                numbers = parse_numbers(heading.trim_end_matches('+'));
                continue;
            }
            let steps = if during { &mut script.during } else { &mut script.before };
            for number in &numbers {
                steps.entry(*number).or_default().push(Step::parse(line));
            }
        }
        script
    }

    /// What is to be done before a document is asked.
    pub(crate) fn before(&self, document: u64) -> Vec<Step> {
        self.before.get(&document).cloned().unwrap_or_default()
    }

    /// What is to be done when the head of its answer has arrived.
    pub(crate) fn during(&self, document: u64) -> Vec<Step> {
        self.during.get(&document).cloned().unwrap_or_default()
    }
}

impl Step {
    fn parse(line: &str) -> Self {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
        let owned = str::to_owned;
        match word {
            "create" => Self::Create { name: owned(first), config: container(more) },
            "exec" => {
                let (container, config) = more.split_once(' ').expect("a container and a document");
                let config = serde_json::from_str(config).unwrap_or_else(|error| panic!("{line}: {error}"));
                Self::Exec { id: owned(first), container: owned(container), config }
            }
            "start" => Self::Start(owned(rest)),
            "api" | "try" => {
                let (path, body) = more.split_once(' ').unwrap_or((more, ""));
                let body = (!body.is_empty())
                    .then(|| serde_json::from_str(body).unwrap_or_else(|error| panic!("{line}: {error}")));
                let (method, path) = (owned(first), owned(path));
                if word == "api" { Self::Api { method, path, body } } else { Self::Try { method, path, body } }
            }
            "until" => Self::Until { name: owned(first), state: owned(more) },
            "gone" => Self::Gone(owned(rest)),
            "sleep" => Self::Sleep(rest.parse().expect("milliseconds")),
            "file" => Self::File(owned(rest)),
            "directory" => Self::Directory(owned(rest)),
            "delete" => Self::Delete(owned(rest)),
            "replace" => match more.split_once(' ') {
                Some((_, by)) => Self::Replace { text: owned(first), by: owned(by) },
                None => Self::ReplaceByTime(owned(first)),
            },
            "without" => Self::Without(owned(rest)),
            "renew" => Self::Renew(owned(rest)),
            "import" => Self::Import { name: owned(first), changes: changes(more) },
            "busybox" => Self::Busybox { name: owned(first), changes: changes(more) },
            "keep" => Self::Keep { name: owned(first), path: owned(more) },
            "send" => Self::Send(owned(rest)),
            "registry" => match rest.split_once(' ') {
                Some((port, user)) => {
                    Self::Registry { port: port.parse().expect("a port"), user: Some(user.to_owned()) }
                }
                None => Self::Registry { port: rest.parse().expect("a port"), user: None },
            },
            "bind" => {
                let (path, pointer) = more.split_once(' ').expect("a path and a pointer");
                Self::Bind { name: owned(first), path: owned(path), pointer: owned(pointer) }
            }
            _ => panic!("unknown step: {line}"),
        }
    }
}

/// Changes are separated by bars.
fn changes(text: &str) -> Vec<String> {
    text.split('|').map(|change| change.trim().to_owned()).collect()
}

/// The recorded containers had the label `golden=1`.
fn container(text: &str) -> Value {
    let mut config = json!({"Image": "busybox:latest", "Labels": {"golden": "1"}});
    let given: Value = if text.is_empty() {
        json!({})
    } else {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    };
    for (key, value) in given.as_object().expect("an object") {
        match (key.as_str(), value) {
            ("Labels", Value::Object(labels)) => {
                labels.iter().for_each(|(key, value)| config["Labels"][key] = value.clone());
            }
            _ => config[key] = value.clone(),
        }
    }
    config
}
