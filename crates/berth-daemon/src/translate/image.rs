//! Images, and the progress of what is done to them.

use berth_api::descriptor::{Descriptor, Platform as WirePlatform};
use berth_api::image::{
    DeleteItem, HistoryItem, ImageInspect, ImageMetadata, ImageSummary, ManifestAttestationData, ManifestImageData,
    ManifestSize, ManifestSummary, RootFs, UnpackedSize,
};
use berth_api::progress::{ProgressDetail, ProgressMessage};
use berth_image::{Detail, HistoryEntry, ImageDetails, ManifestKind, Progress, Removed};
use berth_model::{ImageRef, Platform};

use crate::http::error::ApiError;

/// What a step of history is called whose image is not known.
const MISSING: &str = "<missing>";

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn familiar(names: &[ImageRef]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(ImageRef::familiar).collect();
    names.sort();
    names
}

/// Shows a pointer to content.
pub fn descriptor(descriptor: &berth_oci::image::Descriptor) -> Descriptor {
    let platform = |platform: &berth_oci::image::Platform| WirePlatform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
        ..WirePlatform::default()
    };
    Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: bytes(descriptor.size),
        urls: descriptor.urls.clone(),
        annotations: descriptor.annotations.clone(),
        platform: descriptor.platform.as_ref().map(platform),
        artifact_type: descriptor.artifact_type.clone().unwrap_or_default(),
    }
}

/// Shows an image in the list. `containers` is how many use it.
pub fn summary(image: &berth_image::ImageSummary, containers: usize) -> ImageSummary {
    ImageSummary {
        containers: i64::try_from(containers).unwrap_or(i64::MAX),
        created: image.created.seconds(),
        id: image.id.to_string(),
        labels: Some(image.labels.clone().unwrap_or_default()),
        parent_id: String::new(),
        descriptor: Some(descriptor(&image.descriptor)),
        manifests: image.manifests.iter().map(manifest).collect(),
        repo_digests: familiar(&image.digests),
        repo_tags: familiar(&image.names),
        shared_size: image.shared_size.map_or(-1, bytes),
        size: bytes(image.size),
    }
}

fn manifest(manifest: &berth_image::ManifestSummary) -> ManifestSummary {
    let (kind, unpacked) = match &manifest.kind {
        ManifestKind::Image { unpacked, .. } => ("image", *unpacked),
        ManifestKind::Attestation { .. } => ("attestation", 0),
        ManifestKind::Unknown => ("unknown", 0),
    };
    let image_data = match &manifest.kind {
        ManifestKind::Image { platform, unpacked } => Some(ManifestImageData {
            platform: platform_to_wire(platform),
            size: UnpackedSize { unpacked: bytes(*unpacked) },
            containers: None,
        }),
        _ => None,
    };
    let attestation_data = match &manifest.kind {
        ManifestKind::Attestation { subject } => Some(ManifestAttestationData { subject: subject.clone() }),
        _ => None,
    };
    ManifestSummary {
        id: manifest.descriptor.digest.to_string(),
        descriptor: descriptor(&manifest.descriptor),
        available: manifest.available,
        size: ManifestSize { content: bytes(manifest.content), total: bytes(manifest.content + unpacked) },
        kind: kind.to_owned(),
        image_data,
        attestation_data,
    }
}

/// Shows a platform.
pub fn platform_to_wire(platform: &Platform) -> WirePlatform {
    WirePlatform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        ..WirePlatform::default()
    }
}

/// Shows everything about an image; its manifests only on request.
pub fn inspect(image: &ImageDetails, with_manifests: bool) -> ImageInspect {
    let config = image.config();
    // The image's document says what its containers run in the API's own words.
    let run = serde_json::to_value(&config.config).and_then(serde_json::from_value).unwrap_or_default();
    ImageInspect {
        id: image.id.to_string(),
        repo_tags: familiar(&image.names),
        repo_digests: familiar(&image.digests),
        parent: image.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        comment: config.comment.clone().or_else(|| last_comment(config)).unwrap_or_default(),
        created: config.created.clone().unwrap_or_default(),
        author: config.author.clone().unwrap_or_default(),
        config: Some(run),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone(),
        os_version: config.os_version.clone().unwrap_or_default(),
        size: bytes(image.size),
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: config.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: ImageMetadata { last_tag_time: image.last_tagged.map(|at| at.to_string()).unwrap_or_default() },
        descriptor: Some(descriptor(&image.descriptor)),
        manifests: if with_manifests { image.manifests.iter().map(manifest).collect() } else { Vec::new() },
        identity: None,
    }
}

fn last_comment(config: &berth_oci::image::ImageConfig) -> Option<String> {
    config.history.last().and_then(|step| step.comment.clone())
}

/// Shows a step of an image's history.
pub fn history(entry: &HistoryEntry) -> HistoryItem {
    HistoryItem {
        comment: entry.comment.clone(),
        created: entry.created.seconds(),
        created_by: entry.created_by.clone(),
        id: entry.id.as_ref().map_or_else(|| MISSING.to_owned(), ToString::to_string),
        size: bytes(entry.size),
        tags: (!entry.tags.is_empty()).then(|| familiar(&entry.tags)),
    }
}

/// Shows what deleting did.
pub fn removed(removed: &Removed) -> DeleteItem {
    match removed {
        Removed::Untagged { name, .. } => DeleteItem { untagged: name.clone(), ..DeleteItem::default() },
        Removed::Deleted(digest) => DeleteItem { deleted: digest.to_string(), ..DeleteItem::default() },
    }
}

/// Shows how far an operation is.
pub fn progress(progress: &Progress) -> ProgressMessage {
    match progress {
        Progress::Stream(text) => ProgressMessage::stream(text.clone()),
        Progress::Pushed { tag, digest, size } => ProgressMessage {
            aux: Some(serde_json::json!({ "Tag": tag, "Digest": digest.to_string(), "Size": size })),
            ..ProgressMessage::default()
        },
        Progress::Status { id, status, detail } => ProgressMessage {
            id: id.clone(),
            progress_detail: detail_to_wire(*detail),
            ..ProgressMessage::status(status.clone())
        },
    }
}

fn detail_to_wire(detail: Detail) -> Option<ProgressDetail> {
    match detail {
        Detail::None => None,
        Detail::Empty => Some(ProgressDetail::default()),
        Detail::Bytes { current, total } => {
            Some(ProgressDetail { current: bytes(current), total: bytes(total), ..ProgressDetail::default() })
        }
        Detail::Seconds(seconds) => {
            Some(ProgressDetail { current: bytes(seconds), units: "s".to_owned(), ..ProgressDetail::default() })
        }
        Detail::Done => Some(ProgressDetail { hide_counts: true, ..ProgressDetail::default() }),
    }
}

/// Reads a platform that a query gives as a JSON document, `{"os":"linux","architecture":"arm64"}`.
pub fn platform(text: &str) -> Result<Option<Platform>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wire: WirePlatform =
        serde_json::from_str(text).map_err(|error| ApiError::invalid(format!("failed to parse platform: {error}")))?;
    let variant = if wire.variant.is_empty() { String::new() } else { format!("/{}", wire.variant) };
    let os = if wire.os.is_empty() { "linux" } else { &wire.os };
    // Through the text form, which knows the other names of architectures.
    format!("{os}/{}{variant}", wire.architecture)
        .parse()
        .map(Some)
        .map_err(|error: berth_model::InvalidPlatform| ApiError::invalid(format!("failed to parse platform: {error}")))
}

/// Reads several platforms, each a document; empty ones count for nothing.
pub fn platforms<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<Platform>, ApiError> {
    texts.filter_map(|text| platform(text).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_a_document() {
        let read = |text: &str| platform(text).map(|platform| platform.map(|platform| platform.to_string()));
        assert_eq!(read(""), Ok(None));
        assert_eq!(read(r#"{"os":"linux","architecture":"arm64"}"#), Ok(Some("linux/arm64".to_owned())));
        assert!(read("x").expect_err("no document").message.starts_with("failed to parse platform: "));
    }

    #[test]
    fn progress_has_the_details_that_clients_draw() {
        let detail = |detail| serde_json::to_string(&detail_to_wire(detail)).expect("json");
        assert_eq!(detail(Detail::None), "null");
        assert_eq!(detail(Detail::Empty), "{}");
        assert_eq!(detail(Detail::Bytes { current: 1, total: 2 }), r#"{"current":1,"total":2}"#);
        assert_eq!(detail(Detail::Done), r#"{"hidecounts":true}"#);
        assert_eq!(detail(Detail::Seconds(3)), r#"{"current":3,"units":"s"}"#);
    }
}
