//! The query of a request: decoded once, then asked for values by name.

use crate::http::error::ApiError;

/// The parameters of a request in the order given; a name may come several times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes a query string; pairs that cannot be decoded are kept as they are.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name, Plus::IsBlank), decode(value, Plus::IsBlank))
                })
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter, or the empty text.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean; absent is false.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(is_true)
    }

    /// A boolean with a default for absence.
    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, is_true)
    }

    /// A whole number; absent and empty are `None`.
    ///
    /// # Errors
    /// The words of the reference engine for a text that is no number.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| ApiError::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax"))),
        }
    }
}

/// Whether a text is a true boolean (B017): all but five words are.
fn is_true(text: &str) -> bool {
    !matches!(text.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

/// What a plus sign means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Plus {
    /// In a query it is a blank.
    IsBlank,
    /// In a path it is a plus.
    IsPlus,
}

/// Decodes percent signs; a malformed one stays as it is.
pub fn decode(text: &str, plus: Plus) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).expect("two hex digits fit a byte"));
                at += 3;
                continue;
            }
            (b'+', ..) if plus == Plus::IsBlank => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_the_first_of_a_name_counts() {
        let query = Query::parse("name=a&name=b&label=x%3Dy+z&empty=&flag&bad=%zz");
        assert_eq!(query.get("name"), Some("a"));
        assert_eq!(query.all("name").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.get("label"), Some("x=y z"));
        assert_eq!(query.get("empty"), Some(""));
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.get("bad"), Some("%zz"));
        assert_eq!(query.get("none"), None);
    }

    #[test]
    fn booleans_are_true_unless_they_are_one_of_five_words() {
        for (text, expected) in [
            ("1", true),
            ("true", true),
            ("True", true),
            ("yes", true),
            ("bogus", true),
            ("", false),
            ("0", false),
            ("no", false),
            ("NO", false),
            ("False", false),
            ("none", false),
        ] {
            assert_eq!(Query::parse(&format!("a={text}")).flag("a"), expected, "{text:?}");
        }
        assert!(!Query::default().flag("a"));
        assert!(Query::default().flag_or("a", true));
        assert!(!Query::parse("a=0").flag_or("a", true));
    }

    #[test]
    fn a_number_is_refused_in_known_words() {
        assert_eq!(Query::parse("t=-1").integer("t"), Ok(Some(-1)));
        assert_eq!(Query::parse("t=").integer("t"), Ok(None));
        let refused = Query::parse("t=abc").integer("t").expect_err("no number");
        assert_eq!(refused.message, "strconv.Atoi: parsing \"abc\": invalid syntax");
    }
}
