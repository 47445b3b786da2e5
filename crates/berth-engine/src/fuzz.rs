//! Ways in for the fuzz targets of `fuzz/`.

pub use crate::logs::fuzz::log;
