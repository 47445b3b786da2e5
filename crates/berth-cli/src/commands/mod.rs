//! The list of all commands, and of the groups they belong to.
//!
//! One file per command, `commands/<group>/<command>.rs`, with an `ENTRY`; one line here.

pub mod completion;
pub mod container;
pub mod image;
pub mod inspect;
pub mod manifest;
pub mod network;
pub mod registry;
pub mod system;
pub mod volume;

use crate::command::Entry;

/// Every command. The order is of no meaning: help sorts by name.
pub static ALL: &[&Entry] = &[
    &completion::COMPLETE,
    &completion::ENTRY,
    &container::commit::ENTRY,
    &container::cp::ENTRY,
    &container::diff::ENTRY,
    &container::export::ENTRY,
    &container::inspect::ENTRY,
    &container::ls::ENTRY,
    &container::prune::ENTRY,
    &container::stats::ENTRY,
    &image::history::ENTRY,
    &image::import::ENTRY,
    &image::inspect::ENTRY,
    &image::load::ENTRY,
    &image::ls::ENTRY,
    &image::mount::ENTRY,
    &image::pin::PIN,
    &image::pin::UNPIN,
    &image::prune::ENTRY,
    &image::pull::ENTRY,
    &image::push::ENTRY,
    &image::rm::ENTRY,
    &image::save::ENTRY,
    &image::tag::ENTRY,
    &image::unmount::ENTRY,
    &inspect::ENTRY,
    &manifest::annotate::ENTRY,
    &manifest::create::ENTRY,
    &manifest::inspect::ENTRY,
    &manifest::push::ENTRY,
    &manifest::rm::ENTRY,
    &network::connect::ENTRY,
    &network::create::ENTRY,
    &network::disconnect::ENTRY,
    &network::inspect::ENTRY,
    &network::ls::ENTRY,
    &registry::login::ENTRY,
    &registry::logout::ENTRY,
    &registry::search::ENTRY,
    &network::prune::ENTRY,
    &network::rm::ENTRY,
    &network::rules::ENTRY,
    &network::tap::ENTRY,
    &system::df::ENTRY,
    &system::events::ENTRY,
    &system::fsck::ENTRY,
    &system::info::ENTRY,
    &system::prune::ENTRY,
    &system::version::ENTRY,
    &volume::create::ENTRY,
    &volume::inspect::ENTRY,
    &volume::ls::ENTRY,
    &volume::prune::ENTRY,
    &volume::rm::ENTRY,
    &container::wait::ENTRY,
    &container::update::ENTRY,
    &container::unpause::ENTRY,
    &container::top::ENTRY,
    &container::stop::ENTRY,
    &container::start::ENTRY,
    &container::run::ENTRY,
    &container::rm::ENTRY,
    &container::restart::ENTRY,
    &container::rename::ENTRY,
    &container::port::ENTRY,
    &container::logs::ENTRY,
    &container::kill::ENTRY,
    &container::exec::ENTRY,
    &container::create::ENTRY,
    &container::attach::ENTRY,
    &container::pause::ENTRY,
];

/// Every group with what it is for, in the order of the overview.
pub static GROUPS: &[(&str, &str)] = &[
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("manifest", "Manage image manifests and manifest lists"),
    ("network", "Manage networks"),
    ("system", "Manage Berth"),
    ("volume", "Manage volumes"),
];
