//! The container list: one line about each container.

use std::collections::BTreeMap;

use berth_api::container::{ContainerSummary, HostConfigSummary};
use berth_api::descriptor::Descriptor;
use berth_api::endpoint::{EndpointSettings, NetworkSettingsSummary};
use berth_engine::ContainerView;
use berth_engine::health::HealthStatus;
use berth_model::lifecycle::State;
use berth_model::{Timestamp, human_duration};

use crate::translate::inspect::Sizes;
use crate::translate::{endpoints, health, mounts, ports};

/// Shows a container in the list, its state in the words of [`status`].
pub fn container(
    view: &ContainerView,
    status: String,
    manifest: Option<Descriptor>,
    sizes: Option<Sizes>,
) -> ContainerSummary {
    let sizes = sizes.unwrap_or_default();
    let spec = &view.spec;
    ContainerSummary {
        id: view.id.to_string(),
        names: vec![format!("/{}", view.name)],
        image: spec.image.clone(),
        image_id: spec.image_id.to_string(),
        image_manifest_descriptor: manifest,
        command: command(&spec.config.command_line()),
        created: view.created.seconds(),
        ports: ports::summary(view),
        size_rw: sizes.written,
        size_root_fs: sizes.whole,
        labels: spec.config.labels.clone(),
        state: view.state.word().to_owned(),
        status,
        host_config: HostConfigSummary {
            network_mode: endpoints::main_network(&spec.host.network),
            annotations: spec.host.annotations.clone(),
        },
        health: Some(health::summary(view.health.as_ref())),
        network_settings: Some(NetworkSettingsSummary { networks: without_names(endpoints::of_container(view)) }),
        mounts: mounts::of_container(view),
    }
}

/// Program and arguments as one line; an argument with a blank stands in quotes.
fn command(words: &[String]) -> String {
    let shown = |(index, word): (usize, &String)| {
        if index > 0 && word.contains(' ') { format!("'{word}'") } else { word.clone() }
    };
    words.iter().enumerate().map(shown).collect::<Vec<_>>().join(" ")
}

/// The state in words (B083).
pub fn status(view: &ContainerView, now: Timestamp) -> String {
    let ago = |at: Timestamp| human_duration(now.since(at));
    match &view.state {
        State::Created { .. } => "Created".to_owned(),
        State::Running { since, .. } => {
            let feels = match view.health.as_ref().map(|health| health.status) {
                None => "",
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{feels}", ago(*since))
        }
        State::Paused { since, .. } => format!("Up {} (Paused)", ago(*since)),
        State::Restarting { last } => format!("Restarting ({}) {} ago", last.code, ago(last.finished)),
        State::Exited { last } => format!("Exited ({}) {} ago", last.code, ago(last.finished)),
        State::Removing => "Removal In Progress".to_owned(),
    }
}

/// Lists leave out by which names a container is found.
fn without_names(mut endpoints: BTreeMap<String, EndpointSettings>) -> BTreeMap<String, EndpointSettings> {
    endpoints.values_mut().for_each(|endpoint| endpoint.dns_names = None);
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_with_a_blank_is_quoted() {
        let words = ["sh", "-c", "echo hi"].map(str::to_owned);
        assert_eq!(command(&words), "sh -c 'echo hi'");
    }
}
