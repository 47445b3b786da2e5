//! Volumes.

use berth_api::volume::Volume as Wire;
use berth_engine::volume::Volume;
use berth_model::Timestamp;

/// Shows a volume.
pub fn to_wire(volume: &Volume) -> Wire {
    let map = |map: &std::collections::BTreeMap<String, String>| (!map.is_empty()).then(|| map.clone());
    Wire {
        // Whole seconds: what lists volumes by age has never seen more.
        created_at: Timestamp::from_parts(volume.created.seconds(), 0).to_string(),
        driver: volume.driver.clone(),
        labels: map(&volume.labels),
        mountpoint: volume.data.display().to_string(),
        name: volume.name.to_string(),
        options: map(&volume.options),
        scope: "local".to_owned(),
        status: None,
        usage_data: None,
    }
}
