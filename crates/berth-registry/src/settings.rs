//! What the options mean together: checked once, before anything is opened.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    auth::{Scheme, rules::Rules},
    limit::{InvalidRate, Rate},
    listen::{Address, InvalidAddress},
    notify::Endpoint,
    options::{File, Serve, Upstream},
    registry::Writes,
};

/// Seconds between two collections.
const GC_INTERVAL: u64 = 24 * 3600;
const DEFAULT_ADDRESS: &str = "127.0.0.1:5000";

/// Options that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The configuration file cannot be read.
    #[error("reading the configuration file {}: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The configuration file says something that is not understood.
    #[error("configuration file {}: {source}", .path.display())]
    File { path: PathBuf, source: serde_json::Error },
    /// An address in it.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// A limit in it.
    #[error(transparent)]
    Limit(#[from] InvalidRate),
    /// An option that does nothing without another.
    #[error("{0} needs a password file: name one with --htpasswd")]
    NeedsPasswords(&'static str),
    /// A certificate without its key, or the other way round.
    #[error("a certificate and its key must be given together: --tls-cert and --tls-key")]
    HalfTls,
    /// Not one of the levels.
    #[error("invalid log level {0:?}: use error, warn, info, debug or trace")]
    LogLevel(String),
}

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Nothing is encrypted.
    Off,
    /// A certificate of its own, also for these names.
    Own(Vec<String>),
    /// Certificate and key.
    Files(PathBuf, PathBuf),
}

/// Everything that a server is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    pub directory: PathBuf,
    pub listen: Vec<Address>,
    pub tls: Tls,
    pub htpasswd: Option<PathBuf>,
    pub scheme: Scheme,
    pub rules: Rules,
    pub writes: Writes,
    pub public_url: Option<String>,
    /// The registries that this is a cache of; the first is meant where a client names none.
    pub proxies: Vec<Upstream>,
    /// Servers to tell what happens.
    pub notifications: Vec<Endpoint>,
    /// Requests of one address, manifests and bytes for one client.
    pub limits: [Option<Rate>; 3],
    /// Between two collections; none if there are to be none.
    pub gc_interval: Option<Duration>,
    pub log_level: tracing::Level,
}

impl Settings {
    /// Puts the command line and its configuration file together.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn of(options: Serve) -> Result<Self, SettingsError> {
        let file = match &options.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let mut listen = options.listen;
        if listen.is_empty() {
            listen = file.listen.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        }
        if listen.is_empty() {
            listen.push(DEFAULT_ADDRESS.parse()?);
        }
        let names = [options.tls_name, file.tls_names].concat();
        let tls = match (options.tls_cert.or(file.tls_cert), options.tls_key.or(file.tls_key)) {
            (Some(certificate), Some(key)) => Tls::Files(certificate, key),
            (None, None) if options.tls || file.tls => Tls::Own(names),
            (None, None) => Tls::Off,
            _ => return Err(SettingsError::HalfTls),
        };
        let htpasswd = options.htpasswd.or(file.htpasswd);
        let anonymous_read = options.anonymous_read || file.anonymous_read;
        let auth = options.auth.or(file.auth);
        if htpasswd.is_none() {
            let useless = [
                (auth.is_some(), "--auth"),
                (!file.rules.is_empty(), "a rule for users"),
                (anonymous_read, "--anonymous-read"),
            ];
            if let Some((_, name)) = useless.into_iter().find(|(is_given, _)| *is_given) {
                return Err(SettingsError::NeedsPasswords(name));
            }
        }
        let rules = Rules::new(file.rules, file.groups, anonymous_read);
        // A client without a password answers a challenge for a token, but not one for a password.
        let usual = if rules.welcome_strangers() { Scheme::Token } else { Scheme::Basic };
        let log_level = options.log_level.parse().map_err(|_| SettingsError::LogLevel(options.log_level.clone()))?;
        let named = |host: String| Upstream {
            host,
            username: String::new(),
            password: String::new(),
            tag_seconds: None,
            certificates: Vec::new(),
        };
        let mut proxies: Vec<Upstream> = options.proxy.into_iter().map(named).collect();
        if proxies.is_empty() {
            proxies = file.proxy.into_iter().chain(file.proxies).collect();
        }
        let url = |url| Endpoint {
            name: String::new(),
            url,
            headers: BTreeMap::new(),
            actions: Vec::new(),
            attempts: None,
            certificates: Vec::new(),
        };
        let notifications = options.notify.into_iter().map(url).chain(file.notifications).collect();
        let limit = |given: Option<Rate>, text: Option<String>| match given {
            Some(rate) => Ok(Some(rate)),
            None => text.map(|text| text.parse()).transpose(),
        };
        let limits = [
            limit(options.limit_requests, file.limit_requests)?,
            limit(options.limit_pulls, file.limit_pulls)?,
            limit(options.limit_bytes, file.limit_bytes)?,
        ];
        let interval = options.gc_interval.or(file.gc_interval).unwrap_or(GC_INTERVAL);
        Ok(Self {
            directory: options.directory,
            listen,
            tls,
            htpasswd,
            scheme: auth.unwrap_or(usual),
            rules,
            writes: match (
                options.read_only || file.read_only || !proxies.is_empty(),
                options.no_delete || file.no_delete,
            ) {
                (true, _) => Writes::Refused,
                (false, true) => Writes::NoDelete,
                (false, false) => Writes::Allowed,
            },
            proxies,
            notifications,
            limits,
            public_url: options.public_url.or(file.public_url),
            gc_interval: (interval > 0).then(|| Duration::from_secs(interval)),
            log_level,
        })
    }
}

fn read(path: &Path) -> Result<File, SettingsError> {
    let text = std::fs::read(path).map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| SettingsError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::options::{Command, CommandLine};

    fn settings(words: &[&str]) -> Result<Settings, String> {
        let words = ["berth-registry", "serve", "/r"].iter().chain(words);
        let Command::Serve(serve) = CommandLine::try_parse_from(words).map_err(|error| error.to_string())?.command
        else {
            panic!("serve")
        };
        Settings::of(*serve).map_err(|error| error.to_string())
    }

    #[test]
    fn options_take_their_defaults() {
        let plain = settings(&[]).expect("fine");
        assert_eq!(
            (plain.listen[0].to_string().as_str(), plain.tls, plain.writes),
            (DEFAULT_ADDRESS, Tls::Off, Writes::Allowed)
        );
        assert_eq!((plain.scheme, plain.gc_interval), (Scheme::Basic, Some(Duration::from_secs(GC_INTERVAL))));
        let open = settings(&["--htpasswd", "f", "--anonymous-read", "--gc-interval", "0", "--read-only", "--tls"])
            .expect("fine");
        assert_eq!((open.scheme, open.gc_interval, open.writes), (Scheme::Token, None, Writes::Refused));
        assert_eq!(open.tls, Tls::Own(Vec::new()));
    }

    #[test]
    fn options_that_would_do_nothing_are_refused() {
        for (words, reason) in [
            (&["--anonymous-read"][..], "needs a password file"),
            (&["--auth", "token"], "needs a password file"),
            (&["--tls-cert", "c"], "--tls-key"),
            (&["--log-level", "loud"], "invalid log level"),
            (&["--listen", "nowhere"], "invalid address"),
            (&["--config", "/does/not/exist"], "reading the configuration file"),
        ] {
            let error = settings(words).expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn the_configuration_file_says_more_and_nothing_unknown() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("config.json");
        let rules = r#"[{"users": ["ci"], "repositories": ["**"], "actions": ["pull", "push"]}]"#;
        std::fs::write(&path, format!(r#"{{"listen": [":5001"], "htpasswd": "f", "rules": {rules}}}"#)).expect("write");
        let path = path.to_string_lossy();
        let found = settings(&["--config", &path]).expect("fine");
        assert_eq!(found.listen[0].to_string(), "[::]:5001");
        let here = settings(&["--config", &path, "--listen", "127.0.0.1:1"]).expect("fine");
        assert_eq!(here.listen[0].to_string(), "127.0.0.1:1");
        std::fs::write(&*path, r#"{"lisen": []}"#).expect("write");
        assert!(settings(&["--config", &path]).expect_err("unknown").contains("unknown field `lisen`"));
    }
}
