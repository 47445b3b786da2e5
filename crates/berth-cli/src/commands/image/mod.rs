//! `berth image ...`, and the same commands at the top level.

pub mod history;
pub mod import;
pub mod inspect;
pub mod load;
pub mod ls;
pub mod mount;
mod mounted;
pub mod pin;
pub mod prune;
pub mod pull;
pub mod push;
pub mod rm;
pub mod save;
pub mod tag;
mod tree;
pub mod unmount;

use berth_model::Platform;

use crate::CliError;

/// `--platform` as the daemon takes it: a JSON document.
fn platform_query(platform: &str) -> Result<String, CliError> {
    let parsed: Platform = platform.parse().map_err(|error| CliError::message(format!("invalid platform: {error}")))?;
    let mut document = serde_json::json!({ "architecture": parsed.architecture, "os": parsed.os });
    // The variant as it was written: the usual one of an architecture is dropped by the parser.
    if let Some(variant) = platform.split('/').nth(2) {
        document["variant"] = variant.into();
    }
    Ok(document.to_string())
}

/// The `--platform` of commands that fetch images, which the environment may set for all of them.
fn default_platform(given: Option<String>) -> Option<String> {
    given.or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok()).filter(|platform| !platform.is_empty())
}
