//! How the container's health is checked.

use berth_api::container_config::HealthConfig;

use super::request::word;
use super::value;

/// The flags.
#[derive(Debug, Default, clap::Args)]
pub struct HealthOptions {
    /// Shell command that checks health
    #[arg(long, value_name = "string")]
    pub health_cmd: Option<String>,
    /// Time between health checks
    #[arg(long, value_name = "duration", value_parser = value::duration, default_value_t = 0)]
    pub health_interval: i64,
    /// Failures in a row that mean unhealthy
    #[arg(long, value_name = "int", default_value_t = 0)]
    pub health_retries: i64,
    /// Time between checks during the start period
    #[arg(long, value_name = "duration", value_parser = value::duration, default_value_t = 0)]
    pub health_start_interval: i64,
    /// Grace time in which failures do not count
    #[arg(long, value_name = "duration", value_parser = value::duration, default_value_t = 0)]
    pub health_start_period: i64,
    /// Time limit of one check
    #[arg(long, value_name = "duration", value_parser = value::duration, default_value_t = 0)]
    pub health_timeout: i64,
    /// Turn off the image HEALTHCHECK
    #[arg(long)]
    pub no_healthcheck: bool,
}

impl HealthOptions {
    /// The check; `None` leaves that to the image.
    pub(super) fn healthcheck(&self) -> Result<Option<HealthConfig>, String> {
        let command = word(&self.health_cmd);
        let durations = [
            ("--health-interval", self.health_interval),
            ("--health-timeout", self.health_timeout),
            ("--health-start-period", self.health_start_period),
            ("--health-start-interval", self.health_start_interval),
            ("--health-retries", self.health_retries),
        ];
        let given = !command.is_empty() || durations.iter().any(|(_, value)| *value != 0);
        if self.no_healthcheck {
            let none = HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() };
            return if given {
                Err("--no-healthcheck conflicts with --health-* options".to_owned())
            } else {
                Ok(Some(none))
            };
        }
        if let Some((flag, _)) = durations.iter().find(|(_, value)| *value < 0) {
            return Err(format!("{flag} cannot be negative"));
        }
        Ok(given.then(|| HealthConfig {
            test: (!command.is_empty()).then(|| vec!["CMD-SHELL".to_owned(), command]),
            interval: self.health_interval,
            timeout: self.health_timeout,
            start_period: self.health_start_period,
            start_interval: self.health_start_interval,
            retries: self.health_retries,
        }))
    }
}
