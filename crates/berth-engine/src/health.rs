//! A container's health, as its checks found it (B154-B158).

use berth_model::Timestamp;

/// How a container feels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthView {
    /// The verdict.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last five checks, oldest first.
    pub log: Vec<HealthCheckResult>,
}

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthStatus {
    /// No check has succeeded yet.
    Starting,
    /// The last check succeeded.
    Healthy,
    /// Too many failed in a row.
    Unhealthy,
}

impl HealthStatus {
    /// The word of the Engine API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheckResult {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Exit code; -1 when it took too long.
    pub exit_code: i32,
    /// The first 4096 bytes it wrote.
    pub output: String,
}
