//! Restart policies.

use berth_api::host_config::RestartPolicy as Wire;
use berth_engine::spec::RestartPolicy;

use crate::http::error::ApiError;

/// Checks and understands a restart policy; an empty one is `no`.
pub fn from_wire(wire: &Wire) -> Result<RestartPolicy, ApiError> {
    let refused = |reason: &str| Err(ApiError::invalid(format!("invalid restart policy: {reason}")));
    let policy = match wire.name.as_str() {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => match u32::try_from(wire.maximum_retry_count) {
            Ok(max_retries) => return Ok(RestartPolicy::OnFailure { max_retries }),
            Err(_) => return refused("maximum retry count cannot be negative"),
        },
        other => {
            return refused(&format!(
                "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    };
    if wire.maximum_retry_count != 0 {
        return refused("maximum retry count can only be used with 'on-failure'");
    }
    Ok(policy)
}

/// Shows a restart policy.
pub fn to_wire(policy: RestartPolicy) -> Wire {
    let maximum_retry_count = match policy {
        RestartPolicy::OnFailure { max_retries } => i64::from(max_retries),
        _ => 0,
    };
    Wire { name: policy.word().to_owned(), maximum_retry_count }
}
