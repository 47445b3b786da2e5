//! Health checks: the request's and the container's.

use std::time::Duration;

use berth_api::container;
use berth_api::container_config::HealthConfig;
use berth_engine::health::HealthView;
use berth_engine::spec::{HealthTest, Healthcheck};

use crate::http::error::ApiError;

/// The shortest time that a check can be given.
const MINIMUM: Duration = Duration::from_millis(1);

/// Checks and understands a health check.
pub fn from_wire(wire: &HealthConfig) -> Result<Healthcheck, ApiError> {
    let duration = |nanos: i64, name: &str| match u64::try_from(nanos).map(Duration::from_nanos) {
        Ok(Duration::ZERO) => Ok(Duration::ZERO),
        Ok(duration) if duration >= MINIMUM => Ok(duration),
        _ => Err(ApiError::invalid(format!("{name} in Healthcheck cannot be less than 1ms"))),
    };
    let negative = |_| ApiError::invalid("Retries in Healthcheck cannot be negative");
    Ok(Healthcheck {
        test: test(wire.test.as_deref().unwrap_or_default())?,
        interval: duration(wire.interval, "Interval")?,
        timeout: duration(wire.timeout, "Timeout")?,
        start_period: duration(wire.start_period, "StartPeriod")?,
        start_interval: duration(wire.start_interval, "StartInterval")?,
        retries: u32::try_from(wire.retries).map_err(negative)?,
    })
}

fn test(words: &[String]) -> Result<HealthTest, ApiError> {
    match words {
        [] => Ok(HealthTest::Inherit),
        [kind, rest @ ..] => match (kind.as_str(), rest) {
            ("NONE", _) => Ok(HealthTest::Disabled),
            ("CMD", arguments) => Ok(HealthTest::Command(arguments.to_vec())),
            ("CMD-SHELL", [line]) => Ok(HealthTest::Shell(line.clone())),
            ("CMD-SHELL", words) => Ok(HealthTest::Shell(words.join(" "))),
            (other, _) => Err(ApiError::invalid(format!(
                "unknown type {other:?} in the test of Healthcheck: use NONE, CMD or CMD-SHELL"
            ))),
        },
    }
}

/// Shows a health check as it was asked for.
pub fn to_wire(check: &Healthcheck) -> HealthConfig {
    let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let test = match &check.test {
        HealthTest::Inherit => None,
        HealthTest::Disabled => Some(vec!["NONE".to_owned()]),
        HealthTest::Command(words) => Some([vec!["CMD".to_owned()], words.clone()].concat()),
        HealthTest::Shell(line) => Some(vec!["CMD-SHELL".to_owned(), line.clone()]),
    };
    HealthConfig {
        test,
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
        retries: i64::from(check.retries),
    }
}

/// Shows how a container feels, with its last checks.
pub fn view(health: &HealthView) -> container::Health {
    let result = |check: &berth_engine::health::HealthCheckResult| container::HealthcheckResult {
        start: check.start.to_string(),
        end: check.end.to_string(),
        exit_code: i64::from(check.exit_code),
        output: check.output.clone(),
    };
    container::Health {
        status: health.status.word().to_owned(),
        failing_streak: i64::from(health.failing_streak),
        log: health.log.iter().map(result).collect(),
    }
}

/// Shows how a container feels, in a list.
pub fn summary(health: Option<&HealthView>) -> container::HealthSummary {
    container::HealthSummary {
        status: health.map_or("none", |health| health.status.word()).to_owned(),
        failing_streak: health.map_or(0, |health| i64::from(health.failing_streak)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_retries_have_limits() {
        let refused = |wire: HealthConfig| from_wire(&wire).expect_err("refused").message;
        let short = HealthConfig { interval: 5, ..HealthConfig::default() };
        assert_eq!(refused(short), "Interval in Healthcheck cannot be less than 1ms");
        let negative = HealthConfig { retries: -1, ..HealthConfig::default() };
        assert_eq!(refused(negative), "Retries in Healthcheck cannot be negative");
    }

    #[test]
    fn a_check_is_shown_as_it_was_given() {
        let wire = HealthConfig {
            test: Some(vec!["CMD-SHELL".to_owned(), "true".to_owned()]),
            interval: 1_000_000_000,
            retries: 3,
            ..HealthConfig::default()
        };
        assert_eq!(to_wire(&from_wire(&wire).expect("valid")), wire);
    }
}
