//! `berth info`.

use std::fmt::{Display, Write as _};

use berth_api::system::Info as Document;
use berth_model::binary_size;
use clap::Args;
use serde_json::{Value as Json, json};

use super::version::client_version;
use crate::document::typed;
use crate::inspect::{self, TEMPLATE_CODE};
use crate::template::{MissingKey, Template};
use crate::{Arity, CliError, Command, Context, Entry, Place};

/// The command.
pub static ENTRY: Entry =
    Entry::new::<Info>("system", "info", "[OPTIONS]", "Display system-wide information", Arity::Exactly(0))
        .top(&["info"])
        .place(Place::Common(12));

/// Shows facts about the daemon and its host.
#[derive(Args)]
pub struct Info {
    #[arg(short, long, value_name = "string", default_value = "", help = inspect::FORMAT_HELP)]
    format: String,
}

impl Command for Info {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        let mut client = client_version(cx, None);
        client["Debug"] = cx.globals().settings.debug.into();
        if !self.format.is_empty() {
            client["Plugins"] = json!([]);
            return formatted(cx, &self.format, &client);
        }
        cx.say(client_text(&client))?;
        let server = fetch(cx).and_then(|json| {
            serde_json::from_value::<Document>(json)
                .map_err(|error| CliError::message(format!("reading info: {error}")))
        });
        let info = match server {
            Ok(info) => info,
            Err(CliError::Client(error)) if error.status().is_some() => {
                cx.say("Server:")?;
                cx.warn(format!("ERROR: {error}"));
                return Err(CliError::message("errors pretty printing info"));
            }
            Err(error) => {
                cx.say("Server:")?;
                return Err(error);
            }
        };
        cx.say(format!("Server:\n{}", server_text(&info, client["Debug"] == true)))?;
        info.warnings.unwrap_or_default().iter().for_each(|warning| cx.warn(warning));
        Ok(())
    }
}

fn fetch(cx: &Context) -> Result<Json, CliError> {
    Ok(cx.client()?.get("/info").send()?.json()?)
}

/// Fills a template; the daemon is asked only if the template needs it.
fn formatted(cx: &Context, format: &str, client: &Json) -> Result<(), CliError> {
    let text = if format == "json" { "{{json .}}" } else { format };
    let template = Template::parse(text)
        .map_err(|error| CliError::with_code(format!("template parsing error: {error}"), TEMPLATE_CODE))?;
    let own = json!({ "ClientInfo": client });
    let mut failure = None;
    let mut document = json!({});
    if needs_server(format, &template, &own) {
        match fetch(cx) {
            Ok(server) => document = server,
            Err(CliError::Client(error)) if error.status().is_some() => {
                cx.warn(error.to_string());
                document["ServerErrors"] = json!([error.to_string()]);
            }
            Err(error) => failure = Some(error),
        }
    }
    document["ClientInfo"] = own["ClientInfo"].clone();
    let (text, result) = template.execute_partly(typed("system.dockerInfo", &document), MissingKey::NoValue);
    cx.say(text)?;
    failure.map_or(Ok(()), Err)?;
    result.map_err(|error| CliError::message(error.to_string()))
}

fn needs_server(format: &str, template: &Template, own: &Json) -> bool {
    let has_field = format.as_bytes().windows(2).any(|pair| pair[0] == b'.' && pair[1].is_ascii_alphabetic());
    let whole = format == "json" || format == "{{json .}}";
    whole || !has_field || template.execute(typed("system.sparseInfo", own), MissingKey::NoValue).is_err()
}

fn client_text(client: &Json) -> String {
    let text = |key: &str| client[key].as_str().unwrap_or_default().to_owned();
    format!(
        "Client:\n Version:    {}\n Context:    {}\n Debug Mode: {}\n",
        text("Version"),
        text("Context"),
        client["Debug"]
    )
}

/// Lines that are being written, one fact each.
struct Lines(String);

impl Lines {
    fn fact(&mut self, label: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, " {label}: {value}");
    }

    fn fact_if(&mut self, label: &str, value: &str) {
        if !value.is_empty() {
            self.fact(label, value);
        }
    }

    fn list(&mut self, label: &str, items: impl IntoIterator<Item = impl Display>) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            return;
        }
        let _ = writeln!(self.0, " {label}:");
        for item in items {
            let _ = writeln!(self.0, "  {item}");
        }
    }
}

/// What is told about the daemon, in docker's order and words.
fn server_text(info: &Document, debug: bool) -> String {
    let mut lines = Lines(String::with_capacity(2048));
    counts(&mut lines, info);
    plugins(&mut lines, info);
    lines.list("CDI spec directories", info.cdi_spec_dirs.iter().flatten());
    let device = |key: &str, device: &Json| device[key].as_str().unwrap_or_default().to_owned();
    lines.list(
        "Discovered Devices",
        info.discovered_devices.iter().map(|d| format!("{}: {}", device("Source", d), device("ID", d))),
    );
    lines.fact("Swarm", &info.swarm.local_node_state);
    swarm(&mut lines, info);
    programs(&mut lines, info);
    host(&mut lines, info);
    if debug || info.debug {
        lines.fact(" File Descriptors", info.open_descriptors);
        lines.fact(" Goroutines", info.tasks);
        lines.fact(" System Time", &info.system_time);
        lines.fact(" EventsListeners", info.event_listeners);
    }
    lines.fact_if("HTTP Proxy", &info.http_proxy);
    lines.fact_if("HTTPS Proxy", &info.https_proxy);
    lines.fact_if("No Proxy", &info.no_proxy);
    lines.list("Labels", &info.labels);
    lines.fact("Experimental", info.experimental_build);
    registries(&mut lines, info);
    lines.fact("Live Restore Enabled", info.live_restore_enabled);
    lines.list(
        "Default Address Pools",
        info.default_address_pools.iter().map(|p| format!(" Base: {}, Size: {}", p.base, p.size)),
    );
    lines.0
}

fn counts(lines: &mut Lines, info: &Document) {
    lines.fact("Containers", info.containers);
    lines.fact(" Running", info.containers_running);
    lines.fact(" Paused", info.containers_paused);
    lines.fact(" Stopped", info.containers_stopped);
    lines.fact("Images", info.images);
    lines.fact_if("Server Version", &info.server_version);
    lines.fact_if("Storage Driver", &info.driver);
    for [name, value] in info.driver_status.iter().flatten() {
        lines.fact(&format!(" {name}"), value);
    }
    for [name, value] in info.system_status.iter().flatten() {
        lines.fact(name, value);
    }
    lines.fact_if("Logging Driver", &info.logging_driver);
    lines.fact_if("Cgroup Driver", &info.cgroup_driver);
    lines.fact_if("Cgroup Version", &info.cgroup_version);
}

fn plugins(lines: &mut Lines, info: &Document) {
    let names = |list: &Option<Vec<String>>| list.as_deref().unwrap_or_default().join(" ");
    lines.0.push_str(" Plugins:\n");
    lines.fact(" Volume", names(&info.plugins.volume));
    lines.fact(" Network", names(&info.plugins.network));
    let authorization = names(&info.plugins.authorization);
    if !authorization.is_empty() {
        lines.fact(" Authorization", authorization);
    }
    lines.fact(" Log", names(&info.plugins.log));
}

fn swarm(lines: &mut Lines, info: &Document) {
    let swarm = &info.swarm;
    if matches!(swarm.local_node_state.as_str(), "" | "inactive" | "locked") {
        return;
    }
    lines.fact(" NodeID", &swarm.node_id);
    if !swarm.error.is_empty() {
        lines.fact(" Error", &swarm.error);
    }
    lines.fact(" Is Manager", swarm.control_available);
    lines.fact(" Node Address", &swarm.node_addr);
    let mut managers: Vec<_> =
        swarm.remote_managers.iter().flatten().filter_map(|peer| peer["Addr"].as_str()).collect();
    managers.sort_unstable();
    if !managers.is_empty() {
        lines.0.push_str("  Manager Addresses:\n");
        managers.iter().for_each(|address| lines.0.push_str(&format!("   {address}\n")));
    }
}

fn programs(lines: &mut Lines, info: &Document) {
    if !info.runtimes.is_empty() {
        lines.fact("Runtimes", info.runtimes.keys().cloned().collect::<Vec<_>>().join(" "));
        lines.fact("Default Runtime", &info.default_runtime);
    }
    if info.os_type != "linux" {
        return;
    }
    lines.fact("Init Binary", &info.init_binary);
    // An engine without those programs has nothing to say about them.
    let others =
        [("containerd", &info.containerd_commit.id), ("runc", &info.runc_commit.id), ("init", &info.init_commit.id)];
    if others.iter().any(|(_, version)| !version.is_empty()) {
        others.iter().for_each(|(program, version)| lines.fact(&format!("{program} version"), version));
    }
    if info.security_options.is_empty() {
        return;
    }
    lines.0.push_str(" Security Options:\n");
    for option in &info.security_options {
        let pairs: Vec<_> = option.split(',').map(|pair| pair.split_once('=').unwrap_or(("name", pair))).collect();
        for (_, name) in pairs.iter().filter(|(key, _)| *key == "name") {
            lines.0.push_str(&format!("  {name}\n"));
        }
        for (_, profile) in pairs.iter().filter(|(key, _)| *key == "profile") {
            lines.fact("  Profile", profile);
        }
    }
}

fn host(lines: &mut Lines, info: &Document) {
    lines.fact_if("Kernel Version", &info.kernel_version);
    lines.fact_if("Operating System", &info.operating_system);
    lines.fact_if("OSType", &info.os_type);
    lines.fact_if("Architecture", &info.architecture);
    lines.fact("CPUs", info.processors);
    lines.fact("Total Memory", binary_size(info.mem_total as f64));
    lines.fact_if("Name", &info.name);
    lines.fact_if("ID", &info.id);
    // The key of the API carries docker's name, and so do scripts that look for the line.
    lines.fact("Docker Root Dir", &info.docker_root_dir);
    lines.fact("Debug Mode", info.debug);
}

fn registries(lines: &mut Lines, info: &Document) {
    let Some(config) = &info.registry_config else { return };
    if !config.insecure_registry_cidrs.is_empty() || !config.index_configs.is_empty() {
        lines.0.push_str(" Insecure Registries:\n");
        let insecure = config.index_configs.values().filter(|index| !index.secure).map(|index| &index.name);
        insecure.chain(&config.insecure_registry_cidrs).for_each(|name| lines.0.push_str(&format!("  {name}\n")));
    }
    lines.list("Registry Mirrors", &config.mirrors);
}
