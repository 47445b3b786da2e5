//! The user's `config.json`, shared with docker: detach keys, formats, headers, proxies, the current context.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What the client reads of `config.json`. Keys that belong to other programs, or that are not read yet, are left alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where it was read from.
    #[serde(skip)]
    pub directory: PathBuf,
    /// Key sequence that detaches, for all commands that have `--detach-keys`.
    #[serde(rename = "detachKeys")]
    pub detach_keys: String,
    /// Default `--format` of `ps`.
    #[serde(rename = "psFormat")]
    pub ps_format: String,
    /// Default `--format` of `images`.
    #[serde(rename = "imagesFormat")]
    pub images_format: String,
    /// Default `--format` of `network ls`.
    #[serde(rename = "networksFormat")]
    pub networks_format: String,
    /// Default `--format` of `volume ls`.
    #[serde(rename = "volumesFormat")]
    pub volumes_format: String,
    /// Default `--format` of `stats`.
    #[serde(rename = "statsFormat")]
    pub stats_format: String,
    /// Headers sent with every request.
    #[serde(rename = "HttpHeaders")]
    pub http_headers: BTreeMap<String, String>,
    /// Proxy variables for new containers, by daemon host or `default`.
    pub proxies: BTreeMap<String, Proxy>,
    /// The context used when nothing else is said.
    #[serde(rename = "currentContext")]
    pub current_context: String,
    /// Filters added to every prune.
    #[serde(rename = "pruneFilters")]
    pub prune_filters: Vec<String>,
}

/// Proxy variables (B197).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Proxy {
    /// `HTTP_PROXY`.
    #[serde(rename = "httpProxy")]
    pub http: String,
    /// `HTTPS_PROXY`.
    #[serde(rename = "httpsProxy")]
    pub https: String,
    /// `FTP_PROXY`.
    #[serde(rename = "ftpProxy")]
    pub ftp: String,
    /// `NO_PROXY`.
    #[serde(rename = "noProxy")]
    pub none: String,
    /// `ALL_PROXY`.
    #[serde(rename = "allProxy")]
    pub all: String,
}

impl Config {
    /// Reads `config.json` of a directory. A missing file is an empty one; a broken file is told on stderr and otherwise ignored, since
    /// no command depends on it.
    pub(crate) fn read(directory: &Path) -> Config {
        let path = directory.join("config.json");
        let mut config = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                eprintln!("WARNING: Error loading config file: {}: {error}", path.display());
                Config::default()
            }),
            Err(_) => Config::default(),
        };
        config.directory = directory.to_owned();
        config
    }

    /// The proxy settings for containers of the daemon at `host`.
    pub fn proxy_for(&self, host: &str) -> Option<&Proxy> {
        self.proxies.get(host).or_else(|| self.proxies.get("default"))
    }
}

impl Proxy {
    /// The variables, each in both cases of letters, since programs read one or the other.
    pub fn variables(&self) -> Vec<(String, String)> {
        let named = [
            ("HTTP_PROXY", &self.http),
            ("HTTPS_PROXY", &self.https),
            ("FTP_PROXY", &self.ftp),
            ("NO_PROXY", &self.none),
            ("ALL_PROXY", &self.all),
        ];
        let set = named.into_iter().filter(|(_, value)| !value.is_empty());
        set.flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_ascii_lowercase(), value.clone())])
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_of_docker_is_read_and_its_other_keys_are_left_alone() {
        let directory = tempfile::tempdir().expect("directory");
        let text =
            r#"{"auths":{},"detachKeys":"ctrl-x","proxies":{"default":{"httpProxy":"http://p:1"}},"plugins":{"a":{}}}"#;
        std::fs::write(directory.path().join("config.json"), text).expect("write");
        let config = Config::read(directory.path());
        assert_eq!(config.detach_keys, "ctrl-x");
        let proxy = config.proxy_for("unix:///x").expect("default proxy");
        assert_eq!(proxy.variables()[1], ("http_proxy".to_owned(), "http://p:1".to_owned()));
    }

    #[test]
    fn a_missing_file_is_an_empty_one() {
        assert_eq!(Config::read(Path::new("/nonexistent")).detach_keys, "");
    }
}
