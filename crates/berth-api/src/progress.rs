//! The messages of streams that report progress: pull, load, import, push, build.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::{is_default, null_is_default};

/// One message of a progress stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProgressMessage {
    /// Text to print as it is.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub stream: String,
    /// A word or sentence for the object `id`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub status: String,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The object, usually a short digest.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub id: String,
    /// The same as `error_detail.message`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub error: String,
    /// Why the operation failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// A result for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

/// How far an operation on one object is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// Done so far, in bytes unless `units` says otherwise.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub current: i64,
    /// All, in the same unit.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub total: i64,
    /// Whether only a bar is shown, without numbers.
    #[serde(rename = "hidecounts", deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub hide_counts: bool,
    /// What is counted where it is not bytes: `s` for seconds.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub units: String,
}

/// Why an operation failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// Status, where there is one.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub code: i64,
    /// One line for the user.
    #[serde(deserialize_with = "null_is_default")]
    pub message: String,
}

impl ProgressMessage {
    /// A message that only prints a text.
    pub fn stream(text: impl Into<String>) -> Self {
        ProgressMessage { stream: text.into(), ..Self::default() }
    }

    /// A message that only says a status.
    pub fn status(text: impl Into<String>) -> Self {
        ProgressMessage { status: text.into(), ..Self::default() }
    }

    /// The last message of a failed operation.
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        let error_detail = Some(ErrorDetail { code: 0, message: message.clone() });
        ProgressMessage { error: message, error_detail, ..Self::default() }
    }
}
