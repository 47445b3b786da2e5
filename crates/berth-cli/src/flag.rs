//! Values of flags that many commands share: booleans, numbers.

use std::num::{IntErrorKind, ParseIntError};

/// A boolean as docker's flags take it: `true`, `T`, `1` and their opposites.
///
/// # Errors
/// The reference client's text for anything else.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax")),
    }
}

/// The reference client's text for a number that is none.
pub(crate) fn integer_error(text: &str, error: &ParseIntError) -> String {
    let why = match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.ParseInt: parsing \"{text}\": {why}")
}
