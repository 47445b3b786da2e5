//! Sizes in bytes: as people write them, and as they are shown.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A number of bytes, written with binary suffixes: `512`, `64k`, `1.5g`, `2GiB` (1k is 1024).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// A text that is no size. The text is Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid size: '{0}'")]
pub struct InvalidSize(String);

impl ByteSize {
    /// The number of bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Reads a size whose suffixes are decimal, as those of logs are: 1k is 1000, and so is 1KiB.
    ///
    /// # Errors
    /// [`InvalidSize`] for a text that is none.
    pub fn from_decimal(text: &str) -> Result<Self, InvalidSize> {
        parse(text, 1000)
    }
}

impl FromStr for ByteSize {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        parse(text, 1024)
    }
}

fn parse(text: &str, base: u64) -> Result<ByteSize, InvalidSize> {
    let invalid = || InvalidSize(text.to_owned());
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_ascii_lowercase();
    let power = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(invalid()),
    };
    let unit = base.pow(power);
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit).filter(|n| i64::try_from(*n).is_ok()).map(ByteSize).ok_or_else(invalid);
    }
    let fraction: f64 = number.parse().map_err(|_| invalid())?;
    let bytes = fraction * unit as f64;
    if bytes < i64::MAX as f64 { Ok(ByteSize(bytes as u64)) } else { Err(invalid()) }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&binary_size(self.0 as f64))
    }
}

/// `13.3kB`, `1.02GB`: decimal units with up to `digits` significant digits (B085: 3 in most places, 4 in some).
#[must_use]
pub fn decimal_size(bytes: f64, digits: usize) -> String {
    scaled(bytes, 1000.0, digits, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"])
}

/// `7.6MiB`: binary units with up to four significant digits.
#[must_use]
pub fn binary_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"])
}

fn scaled(mut value: f64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// Like Go's `%.Ng`: N significant digits, no trailing zeros, an exponent where the number has more digits than that.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponential = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = exponential.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    let trim = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if exponent >= i32::try_from(digits).unwrap_or(i32::MAX) {
        return format!("{}e+{exponent:02}", trim(mantissa));
    }
    let decimals = usize::try_from(i32::try_from(digits).unwrap_or(i32::MAX) - 1 - exponent).unwrap_or(0);
    trim(&format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32k", 32 << 10),
            ("32KiB", 32 << 10),
            ("1.5g", 3 << 29),
            ("6m", 6 << 20),
            ("1 gb", 1 << 30),
        ] {
            assert_eq!(text.parse::<ByteSize>().expect(text).bytes(), bytes, "{text}");
        }
        for (text, bytes) in [("20m", 20_000_000), ("1.5KiB", 1500), ("7", 7)] {
            assert_eq!(ByteSize::from_decimal(text).expect(text).bytes(), bytes, "{text}");
        }
        for bad in ["", "k", "-1", "1x", "1.2.3", "9999999999g", "1kk"] {
            assert_eq!(bad.parse::<ByteSize>().expect_err(bad).to_string(), format!("invalid size: '{bad}'"));
        }
    }

    #[test]
    fn sizes_are_shown_as_docker_shows_them() {
        for (bytes, shown) in [
            (0.0, "0B"),
            (999.0, "999B"),
            (1000.0, "1kB"),
            (13_256.0, "13.3kB"),
            (1_020_000_000.0, "1.02GB"),
            (121_000_000.0, "121MB"),
        ] {
            assert_eq!(decimal_size(bytes, 3), shown);
        }
        assert_eq!(binary_size(7_969_178.0), "7.6MiB");
        assert_eq!(binary_size(1023.0), "1023B");
        assert_eq!(binary_size(536_870_912.0), "512MiB");
    }
}
