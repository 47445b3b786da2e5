//! How a container's health is asked for (B154-B158).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A health check. A zero duration or count means "as the image says, else the default".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// What is run.
    pub test: HealthTest,
    /// Between two checks; 30 s by default.
    pub interval: Duration,
    /// After which a check counts as failed; 30 s by default.
    pub timeout: Duration,
    /// In which failures do not count; 0 by default.
    pub start_period: Duration,
    /// Between two checks in the start period; 5 s by default.
    pub start_interval: Duration,
    /// Failures in a row that make it unhealthy; 3 by default.
    pub retries: u32,
}

/// What a health check runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// What the image says.
    #[default]
    Inherit,
    /// Nothing: no check.
    Disabled,
    /// A program and its arguments.
    Command(Vec<String>),
    /// A line for the container's shell.
    Shell(String),
}
