//! `berth system prune`.

use berth_client::Client;
use clap::Args;

use crate::commands::{container, image, network, volume};
use crate::filter::{Filter, Filters};
use crate::human::natural_order;
use crate::prune::{Mode, Pruned, confirmed};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Prune>("system", "prune", "[OPTIONS]", "Remove unused data", Arity::Exactly(0));

/// Removes everything that nothing uses.
#[derive(Args)]
pub struct Prune {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

impl Command for Prune {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let filters = Filters::of(&self.filter);
        if self.volumes && filters.contains("until") {
            return Err(CliError::message("ERROR: The \"until\" filter is not supported with \"--volumes\""));
        }
        let all_filters = filters.with_configured(cx.config());
        let mode = Mode::of(self.dry_run);
        confirmed(cx, mode, self.force, &self.question(&all_filters))?;
        let client = cx.client()?;
        let mut bytes = 0;
        let mut account = |pruned: Pruned| {
            bytes += pruned.bytes;
            if pruned.text.is_empty() { Ok(()) } else { cx.say(pruned.text) }
        };
        let containers = container::prune::prune(client, &all_filters, mode)?;
        let gone = containers.names.clone();
        account(containers)?;
        account(network::prune(client, &all_filters, mode)?)?;
        if self.volumes {
            account(volume::prune::prune(client, &all_filters, mode, &gone)?)?;
        }
        account(image::prune::prune(client, self.all, all_filters.clone(), mode, &gone)?)?;
        if mode == Mode::Remove {
            account(build_cache(client, self.all, &all_filters)?)?;
        }
        cx.say(mode.sum(bytes))
    }
}

impl Prune {
    fn question(&self, filters: &Filters) -> String {
        let mut text = "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container"
            .to_owned();
        if self.volumes {
            text.push_str("\n  - all anonymous volumes not used by at least one container");
        }
        text.push_str(match self.all {
            true => "\n  - all images without at least one container associated to them\n  - all build cache",
            false => "\n  - all dangling images\n  - unused build cache",
        });
        text.push('\n');
        let mut shown: Vec<String> = Vec::new();
        for name in ["label", "label!", "until"] {
            shown.extend(filters.values(name).map(|value| format!("{name}={value}")));
        }
        shown.sort_by(|a, b| natural_order(a, b));
        if !shown.is_empty() {
            text.push_str("\n  Items to be pruned will be filtered with:");
            shown.iter().for_each(|filter| text.push_str(&format!("\n  - {filter}")));
            text.push('\n');
        }
        text.push_str("\nAre you sure you want to continue?");
        text
    }
}

/// Removes build cache. A daemon that cannot build has none, which is not worth an error here.
fn build_cache(client: &Client, all: bool, filters: &Filters) -> Result<Pruned, CliError> {
    let request = client.post("/build/prune").flag("all", all).query_opt("filters", filters.to_query().as_deref());
    let response = match request.send() {
        Err(error) if error.is_not_found() || error.status() == Some(501) => return Ok(Pruned::default()),
        other => other?,
    };
    let answer: serde_json::Value = response.json()?;
    let names = answer["CachesDeleted"].as_array().into_iter().flatten().filter_map(|id| id.as_str());
    let bytes = answer["SpaceReclaimed"].as_u64().unwrap_or_default();
    Ok(Pruned::of_names("Deleted build cache objects:", Some(names.map(str::to_owned).collect()), bytes))
}
