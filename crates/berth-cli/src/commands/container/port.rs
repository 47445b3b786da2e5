//! `berth port`.

use crate::human::{host_port, natural_order};
use crate::{Arity, CliError, Command, Context, Entry};

/// The command.
pub static ENTRY: Entry = Entry::new::<Port>(
    "container",
    "port",
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    Arity::Between(1, 2),
)
.top(&["port"]);

/// Shows which ports of the host lead to a container (B091).
#[derive(clap::Args)]
pub struct Port {
    /// Explain why each port is reached or not, from everywhere or from an address
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    explain: Option<String>,
    container: String,
    port: Option<String>,
}

impl Command for Port {
    fn run(self, cx: &mut Context) -> Result<(), CliError> {
        if let Some(from) = &self.explain {
            let request = cx.client()?.get("/berth/firewall").query("container", &self.container);
            let from = Some(from.as_str()).filter(|from| !from.is_empty());
            let lines: Vec<String> = request.query_opt("from", from).send()?.json()?;
            return lines.iter().try_for_each(|line| cx.say(line));
        }
        let container = cx.client()?.container_inspect(&self.container)?;
        let ports = container.network_settings.unwrap_or_default().ports;
        let mut lines = Vec::new();
        match self.port.filter(|port| !port.is_empty()) {
            None => {
                for (port, bindings) in &ports {
                    let bindings = bindings.iter().flatten();
                    lines.extend(bindings.map(|b| format!("{port} -> {}", host_port(&b.host_ip, &b.host_port))));
                }
            }
            Some(port) => {
                let bindings = ports.get(&full_port(&port)?).into_iter().flatten().flatten();
                lines.extend(bindings.map(|b| host_port(&b.host_ip, &b.host_port)));
                if lines.is_empty() {
                    let text = format!("Error: No public port '{port}' published for {}", self.container);
                    return Err(CliError::message(text));
                }
            }
        }
        lines.sort_by(|a, b| natural_order(a, b));
        lines.iter().try_for_each(|line| cx.say(line))
    }
}

/// `80` is `80/tcp`.
fn full_port(text: &str) -> Result<String, CliError> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, ""));
    if let Err(error) = number.parse::<u16>() {
        let why = match error.kind() {
            std::num::IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let text = format!("Error: invalid port ({number}): strconv.ParseUint: parsing \"{number}\": {why}");
        return Err(CliError::message(text));
    }
    Ok(format!("{number}/{}", if protocol.is_empty() { "tcp" } else { protocol }))
}
