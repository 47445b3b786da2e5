//! Which daemon is meant, and the connection to it.
//!
//! Order: `-H`, `--context`, `BERTH_HOST`, `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context of the configuration, our own socket. Only
//! the last one may start a daemon: a host that somebody named is theirs to run.

use std::env;
use std::path::{Path, PathBuf};

use berth_client::{ApiVersion, Client, Endpoint, TlsFiles, TlsMode};
use serde::Deserialize;

use crate::autostart;
use crate::config::Config;
use crate::error::CliError;
use crate::seldom::Seldom;

/// Where our daemon listens when nobody says otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/berth/berth.sock";

/// Flags that stand before the command.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct Globals {
    /// Connection context to use; wins over DOCKER_HOST
    #[arg(long, short = 'c', value_name = "string")]
    pub context: Option<String>,
    /// Daemon address to connect to (unix, tcp)
    #[arg(long, short = 'H', value_name = "list")]
    pub host: Vec<String>,
    /// How to connect, and how to speak of it.
    #[command(flatten)]
    pub settings: Seldom<Settings>,
}

/// How to connect, and how to speak of it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Settings {
    /// Directory of client configuration files (default "~/.docker")
    #[arg(long, value_name = "string")]
    pub config: Option<PathBuf>,
    /// Print debug messages
    #[arg(long, short = 'D')]
    pub debug: bool,
    /// Client log level ("debug", "info", "warn", "error", "fatal") (default "info")
    #[arg(long, short = 'l', value_name = "string")]
    pub log_level: Option<String>,
    /// Use TLS; implied by --tlsverify
    #[arg(long)]
    pub tls: bool,
    /// CA certificate file (default "~/.docker/ca.pem")
    #[arg(long, value_name = "string")]
    pub tlscacert: Option<PathBuf>,
    /// Client certificate file (default "~/.docker/cert.pem")
    #[arg(long, value_name = "string")]
    pub tlscert: Option<PathBuf>,
    /// Client key file (default "~/.docker/key.pem")
    #[arg(long, value_name = "string")]
    pub tlskey: Option<PathBuf>,
    /// Use TLS and check the peer certificate
    #[arg(long)]
    pub tlsverify: bool,
    /// Print version information and quit
    #[arg(long, short = 'v')]
    pub version: bool,
}

/// A daemon that was chosen, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Chosen {
    /// Somebody named it.
    Host(String),
    /// A context names it.
    Context(String),
    /// Nobody named one: ours.
    Default,
}

impl Globals {
    /// The directory of `config.json`, contexts and certificates.
    pub fn config_dir(&self) -> PathBuf {
        self.settings
            .config
            .clone()
            .or_else(|| variable("DOCKER_CONFIG").map(PathBuf::from))
            .unwrap_or_else(|| Path::new(&variable("HOME").unwrap_or_else(|| "/".to_owned())).join(".docker"))
    }

    /// The name of the context in use; `default` where a host decides.
    pub fn context_name(&self, config: &Config) -> String {
        match self.choose(config, variable) {
            Ok(Chosen::Context(name)) => name,
            _ => "default".to_owned(),
        }
    }

    /// A client of the chosen daemon, which is started first where that is the rule.
    pub(crate) fn connect(&self, config: &Config) -> Result<Client, CliError> {
        let (endpoint, may_start) = match self.choose(config, variable)? {
            Chosen::Host(host) => (self.endpoint(&host)?, false),
            Chosen::Context(name) => (context_endpoint(&self.config_dir(), &name)?, false),
            Chosen::Default => (Endpoint::Unix(DEFAULT_SOCKET.into()), true),
        };
        let headers = config.http_headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let agent = concat!("Berth-Client/", env!("CARGO_PKG_VERSION"), " (linux)");
        let mut client = Client::new(endpoint, agent).with_headers(headers);
        if let Some(version) = variable("DOCKER_API_VERSION") {
            let version: ApiVersion = version.parse().map_err(|error| CliError::message(format!("{error}")))?;
            client = client.with_version(version);
        }
        if may_start {
            match client.probe() {
                Err(error) if error.is_nobody_there() && rustix::process::geteuid().is_root() => {
                    autostart::start(&client)?;
                }
                other => other?,
            }
        }
        Ok(client)
    }

    fn choose(&self, config: &Config, variable: impl Fn(&str) -> Option<String>) -> Result<Chosen, CliError> {
        match (self.host.as_slice(), &self.context) {
            ([], None) => {}
            ([_, ..], Some(_)) => {
                return Err(CliError::message("conflicting options: cannot specify both --host and --context"));
            }
            ([host], None) => return Ok(Chosen::Host(host.clone())),
            ([_, _, ..], None) => return Err(CliError::message("specify only one -H")),
            ([], Some(name)) => return Ok(Chosen::context(name)),
        }
        let host = variable("BERTH_HOST").or_else(|| variable("DOCKER_HOST")).map(Chosen::Host);
        let context =
            || variable("DOCKER_CONTEXT").or_else(|| Some(config.current_context.clone()).filter(|n| !n.is_empty()));
        Ok(host.or_else(|| context().map(|name| Chosen::context(&name))).unwrap_or(Chosen::Default))
    }

    fn endpoint(&self, host: &str) -> Result<Endpoint, CliError> {
        Endpoint::parse(&with_scheme(host), self.tls_files()).map_err(|error| CliError::message(error.to_string()))
    }

    fn tls_files(&self) -> Option<TlsFiles> {
        let verify = self.settings.tlsverify || variable("DOCKER_TLS_VERIFY").is_some();
        if !verify && !self.settings.tls && variable("DOCKER_TLS").is_none() {
            return None;
        }
        let directory = variable("DOCKER_CERT_PATH").map_or_else(|| self.config_dir(), PathBuf::from);
        // A file that was named must be there; one of the usual place may be.
        let usual = |name: &str| Some(directory.join(name)).filter(|path| path.exists());
        Some(TlsFiles {
            mode: if verify { TlsMode::Verify } else { TlsMode::Encrypt },
            ca: self.settings.tlscacert.clone().or_else(|| verify.then(|| directory.join("ca.pem"))),
            cert: self.settings.tlscert.clone().or_else(|| usual("cert.pem")),
            key: self.settings.tlskey.clone().or_else(|| usual("key.pem")),
        })
    }
}

impl Chosen {
    fn context(name: &str) -> Chosen {
        if name == "default" { Chosen::Default } else { Chosen::Context(name.to_owned()) }
    }
}

/// `-H :2375` and `-H host:2375` mean tcp, `-H /path` a socket.
fn with_scheme(host: &str) -> String {
    match host {
        _ if host.contains("://") => host.to_owned(),
        _ if host.starts_with('/') => format!("unix://{host}"),
        _ => format!("tcp://{host}"),
    }
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[derive(Deserialize)]
struct ContextFile {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Endpoints", default)]
    endpoints: std::collections::BTreeMap<String, ContextEndpoint>,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_verify: bool,
}

/// The daemon of a context, from docker's store: `contexts/meta/<id>/meta.json`, certificates in `contexts/tls/<id>/docker`.
fn context_endpoint(config_dir: &Path, name: &str) -> Result<Endpoint, CliError> {
    let store = config_dir.join("contexts");
    let missing =
        || CliError::message(format!("context {name:?}: context not found: no such context in {}", store.display()));
    for entry in std::fs::read_dir(store.join("meta")).map_err(|_| missing())?.flatten() {
        let Ok(bytes) = std::fs::read(entry.path().join("meta.json")) else { continue };
        let Ok(file) = serde_json::from_slice::<ContextFile>(&bytes) else { continue };
        if file.name != name {
            continue;
        }
        let endpoint = file.endpoints.get("docker").filter(|endpoint| !endpoint.host.is_empty());
        let endpoint = endpoint.ok_or_else(|| CliError::message(format!("context {name:?} has no docker endpoint")))?;
        let certs = store.join("tls").join(entry.file_name()).join("docker");
        let file = |name: &str| Some(certs.join(name)).filter(|path| path.exists());
        let tls = certs.is_dir().then(|| TlsFiles {
            mode: if endpoint.skip_verify { TlsMode::Encrypt } else { TlsMode::Verify },
            ca: file("ca.pem"),
            cert: file("cert.pem"),
            key: file("key.pem"),
        });
        return Endpoint::parse(&endpoint.host, tls).map_err(|error| CliError::message(error.to_string()));
    }
    Err(missing())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(globals: &Globals, current: &str, variables: &[(&str, &str)], want: &Chosen) {
        let config = Config { current_context: current.to_owned(), ..Config::default() };
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        assert_eq!(globals.choose(&config, variable).expect("choice"), *want, "{variables:?} {current}");
    }

    #[test]
    fn the_nearest_word_about_the_host_wins() {
        let none = Globals::default();
        let flag = Globals { host: vec!["tcp://flag".into()], ..Globals::default() };
        let context = Globals { context: Some("far".into()), ..Globals::default() };
        let host = |text: &str| Chosen::Host(text.to_owned());
        let env = [("BERTH_HOST", "b"), ("DOCKER_HOST", "d"), ("DOCKER_CONTEXT", "c")];
        check(&none, "", &[], &Chosen::Default);
        check(&none, "current", &[], &Chosen::Context("current".into()));
        check(&none, "default", &[], &Chosen::Default);
        check(&none, "current", &env[2..], &Chosen::Context("c".into()));
        check(&none, "current", &env[1..], &host("d"));
        check(&none, "current", &env, &host("b"));
        check(&context, "current", &env, &Chosen::Context("far".into()));
        check(&flag, "current", &env, &host("tcp://flag"));
    }

    #[test]
    fn host_and_context_together_are_refused() {
        let both = Globals { host: vec!["a".into()], context: Some("b".into()), ..Globals::default() };
        let error = both.choose(&Config::default(), |_| None).expect_err("refused");
        assert_eq!(error.to_string(), "conflicting options: cannot specify both --host and --context");
    }

    #[test]
    fn a_context_of_docker_names_its_host_and_certificates() {
        let directory = tempfile::tempdir().expect("directory");
        let meta = directory.path().join("contexts/meta/abc");
        std::fs::create_dir_all(&meta).expect("mkdir");
        let text = r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://10.0.0.1:2376","SkipTLSVerify":false}}}"#;
        std::fs::write(meta.join("meta.json"), text).expect("write");
        let endpoint = context_endpoint(directory.path(), "far").expect("endpoint");
        assert_eq!(endpoint, Endpoint::Tcp { host: "10.0.0.1".into(), port: 2376, tls: None });
        std::fs::create_dir_all(directory.path().join("contexts/tls/abc/docker")).expect("mkdir");
        let endpoint = context_endpoint(directory.path(), "far").expect("endpoint");
        assert!(matches!(endpoint, Endpoint::Tcp { tls: Some(TlsFiles { mode: TlsMode::Verify, .. }), .. }));
        assert!(context_endpoint(directory.path(), "near").is_err());
    }
}
