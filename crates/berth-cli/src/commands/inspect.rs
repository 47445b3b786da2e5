//! `berth inspect`.

use berth_client::Client;
use clap::Args;

use super::{container, image, network, volume};
use crate::inspect::{self, Found};
use crate::template::quote;
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Inspect>(
    "",
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on Berth objects",
    Arity::AtLeast(1),
)
.top(&["inspect"]);

/// Shows everything about objects of any kind.
#[derive(Args)]
pub struct Inspect {
    #[arg(short, long, value_name = "string", default_value = "", help = inspect::FORMAT_HELP)]
    format: String,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
    names: Vec<String>,
}

impl Command for Inspect {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let one_of = || {
            let mut words: Vec<String> = KINDS.iter().map(|kind| quote(kind.word)).collect();
            words.sort_unstable();
            words.join(", ")
        };
        let kind = match self.kind.as_deref() {
            None => None,
            Some("") => return Err(CliError::message(format!("type is empty: must be one of {}", one_of()))),
            Some(word) => match KINDS.iter().find(|kind| kind.word == word) {
                None => {
                    return Err(CliError::message(format!(
                        "unknown type: {}: must be one of {}",
                        quote(word),
                        one_of()
                    )));
                }
                known => known,
            },
        };
        inspect::inspect(cx, &self.names, &self.format, |name| self.fetch(cx, kind, name))
    }
}

/// A kind of object that has a document.
struct Kind {
    word: &'static str,
    /// Whether only a manager of a cluster has such objects.
    of_cluster: bool,
    fetch: fn(&Client, &str, size: bool) -> Result<Found, CliError>,
}

/// In the order in which a name is looked up (B093).
static KINDS: &[Kind] = &[
    Kind { word: "container", of_cluster: false, fetch: container::inspect::fetch },
    Kind { word: "image", of_cluster: false, fetch: |client, name, _| image::inspect::fetch(client, name, None) },
    Kind { word: "network", of_cluster: false, fetch: |client, name, _| network::inspect::fetch(client, name, false) },
    Kind { word: "volume", of_cluster: false, fetch: |client, name, _| volume::inspect::fetch(client, name) },
    Kind {
        word: "service",
        of_cluster: true,
        fetch: |client, name, _| other(client, "services", name, "?insertDefaults=true"),
    },
    Kind { word: "task", of_cluster: true, fetch: |client, name, _| other(client, "tasks", name, "") },
    Kind { word: "node", of_cluster: true, fetch: |client, name, _| other(client, "nodes", name, "") },
    Kind { word: "plugin", of_cluster: false, fetch: |client, name, _| other(client, "plugins", name, "/json") },
    Kind { word: "secret", of_cluster: true, fetch: |client, name, _| other(client, "secrets", name, "") },
    Kind { word: "config", of_cluster: true, fetch: |client, name, _| other(client, "configs", name, "") },
];

fn other(client: &Client, noun: &str, name: &str, rest: &str) -> Result<Found, CliError> {
    let json = client.get(Client::path(noun, name, rest)).send()?.read_all()?;
    Ok(Found { go_type: "", json })
}

impl Inspect {
    fn fetch(&self, cx: &Context, wanted: Option<&Kind>, name: &str) -> Result<Found, CliError> {
        let client = cx.client()?;
        if let Some(kind) = wanted {
            let found = (kind.fetch)(client, name, self.size)?;
            self.tell_about_size(cx, kind);
            return Ok(found);
        }
        let mut in_cluster = None;
        for kind in KINDS {
            if kind.of_cluster && !*in_cluster.get_or_insert_with(|| manages_cluster(client)) {
                continue;
            }
            match (kind.fetch)(client, name, self.size) {
                Ok(found) => {
                    self.tell_about_size(cx, kind);
                    return Ok(found);
                }
                Err(error) if is_of_another_kind(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CliError::message(format!("Error: No such object: {name}")))
    }

    fn tell_about_size(&self, cx: &Context, kind: &Kind) {
        if self.size && kind.word != "container" {
            cx.warn(format!("WARNING: --size ignored for {}", kind.word));
        }
    }
}

/// Whether a failure only says that there is no such object of this kind, or no such kind.
fn is_of_another_kind(error: &CliError) -> bool {
    let text = error.to_string();
    let missing = matches!(error, CliError::Client(error) if error.is_not_found());
    missing || text.contains("not supported") || text.contains("invalid reference format")
}

fn manages_cluster(client: &Client) -> bool {
    let info = client.get("/info").send().and_then(berth_client::Response::json::<serde_json::Value>);
    info.is_ok_and(|info| info["Swarm"]["ControlAvailable"] == true)
}
