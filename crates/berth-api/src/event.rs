//! Events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::{is_default, null_is_default};

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Action of a container or image, up to API 1.51.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub status: String,
    /// Id of a container or image, up to API 1.51.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub id: String,
    /// Image of a container, up to API 1.51.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub from: String,
    /// `container`, `image`, `volume`, `network`, `daemon`, ...
    #[serde(rename = "Type", deserialize_with = "null_is_default")]
    pub kind: String,
    /// What happened.
    #[serde(rename = "Action", deserialize_with = "null_is_default")]
    pub action: String,
    /// To what it happened.
    #[serde(rename = "Actor", deserialize_with = "null_is_default")]
    pub actor: Actor,
    /// `local` or `swarm`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub scope: String,
    /// Unix seconds.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub time: i64,
    /// Unix nanoseconds.
    #[serde(rename = "timeNano", deserialize_with = "null_is_default", skip_serializing_if = "is_default")]
    pub time_nano: i64,
}

/// The object of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// Id or name.
    #[serde(rename = "ID", deserialize_with = "null_is_default")]
    pub id: String,
    /// What is known about it.
    #[serde(rename = "Attributes", deserialize_with = "null_is_default")]
    pub attributes: BTreeMap<String, String>,
}
