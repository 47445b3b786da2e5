//! Limits of huge pages, by page size.

use berth_oci::runtime::HugepageLimit;

use crate::{error::CgroupError, layout::Version, settings::Settings};

/// Writes the limits of the `hugetlb` controller: what may be used, and what may be reserved where the kernel counts that.
pub(crate) fn apply(
    settings: &mut Settings<'_>,
    limits: &[HugepageLimit],
    version: Version,
) -> Result<(), CgroupError> {
    let file = match version {
        Version::V1 => "limit_in_bytes",
        Version::V2 => "max",
    };
    for HugepageLimit { page_size, limit } in limits {
        let sized = page_size.ends_with("KB") || page_size.ends_with("MB") || page_size.ends_with("GB");
        if !sized || page_size.contains('/') {
            let reason = format!("{page_size:?} is not a page size like 64KB, 2MB or 1GB");
            return Err(CgroupError::invalid("hugepageLimits", reason));
        }
        settings.set("hugepageLimits", &format!("hugetlb.{page_size}.{file}"), limit)?;
        let reservation = format!("hugetlb.{page_size}.rsvd.{file}");
        if settings.has(&reservation) {
            settings.set("hugepageLimits", &reservation, limit)?;
        }
    }
    Ok(())
}
