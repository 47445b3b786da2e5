//! The engine's clock and its source of ids.

use std::time::SystemTime;

use berth_model::{HexId, Timestamp};

/// The present time.
pub(crate) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// A new random id.
pub(crate) fn new_id() -> HexId {
    loop {
        let mut bytes = [0; 32];
        // 32 bytes never come in parts, and the kernel's generator is long seeded when an engine runs.
        if rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) != Ok(bytes.len()) {
            continue;
        }
        if let Some(id) = HexId::from_random(bytes) {
            return id;
        }
    }
}
