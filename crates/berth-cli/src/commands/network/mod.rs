//! `berth network ...`.

pub mod connect;
pub mod create;
pub mod disconnect;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rm;
pub mod rules;
pub mod tap;

use berth_api::network::PruneResponse;
use berth_client::Client;

use crate::CliError;
use crate::filter::Filters;
use crate::prune::{Mode, Pruned};

/// Removes networks that no container uses; networks take no space.
pub(crate) fn prune(client: &Client, filters: &Filters, mode: Mode) -> Result<Pruned, CliError> {
    let request = client.post("/networks/prune").query_opt("filters", filters.to_query().as_deref());
    let answer: PruneResponse = mode.ask(request).send()?.json()?;
    let headline = mode.headline("Deleted Networks:", "Would delete networks:");
    Ok(Pruned::of_names(headline, answer.networks_deleted, 0))
}
