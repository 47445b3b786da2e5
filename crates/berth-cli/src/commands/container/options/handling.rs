//! How client and engine handle the container: where its image comes from, who is told its id, where its output goes, how it is stopped.

use berth_api::host_config::LogConfig;

use super::environment::pair;
use super::request::word;
use super::value::{self, Stream};

/// The flags.
#[derive(Debug, Default, clap::Args)]
pub struct HandlingOptions {
    /// Connect only the named stdio streams (stdin, stdout, stderr)
    #[arg(long, short = 'a', value_name = "list", value_parser = value::stream)]
    pub attach: Vec<Stream>,
    /// Write the new container ID to this file; fails when it exists
    #[arg(long, value_name = "string")]
    pub cidfile: Option<String>,
    /// Deprecated, accepted and ignored
    #[arg(long, hide = true)]
    pub disable_content_trust: bool,
    /// Read labels from a file, one per line
    #[arg(long = "label-file", value_name = "list")]
    pub label_files: Vec<String>,
    /// Log driver (json-file, local, none, syslog, journald, gelf, fluentd, awslogs, splunk, gcplogs, etwlogs)
    #[arg(long, value_name = "string")]
    pub log_driver: Option<String>,
    /// Option for the log driver
    #[arg(long = "log-opt", value_name = "list")]
    pub log_options: Vec<String>,
    /// Os/arch[/variant] to select from a multi-platform image
    #[arg(long, value_name = "string")]
    pub platform: Option<String>,
    /// When to pull: always, missing or never (default "missing")
    #[arg(long, value_name = "string")]
    pub pull: Option<String>,
    /// No pull output
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// Signal used to stop the process
    #[arg(long, value_name = "string")]
    pub stop_signal: Option<String>,
    /// Seconds to wait before a forced kill
    #[arg(long, value_name = "int")]
    pub stop_timeout: Option<i64>,
}

impl HandlingOptions {
    /// Where the output goes.
    pub(super) fn log_config(&self) -> Result<LogConfig, String> {
        let kind = word(&self.log_driver);
        if kind == "none" && !self.log_options.is_empty() {
            return Err("invalid logging opts for driver none".to_owned());
        }
        Ok(LogConfig { kind, config: Some(self.log_options.iter().map(|text| pair(text)).collect()) })
    }
}
