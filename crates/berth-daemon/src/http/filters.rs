//! The `filters` parameter in both of its forms, and the checks that lists share (B018).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::http::error::ApiError;
use crate::http::query::Query;

/// Filters by key; each has the values of an or-list, except labels, which must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads the `filters` parameter and refuses keys that are not in `known`.
    pub fn of(query: &Query, known: &[&str]) -> Result<Self, ApiError> {
        let filters = Filters::parse(query.text("filters"))?;
        match filters.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(ApiError::invalid(format!("invalid filter '{key}'"))),
            None => Ok(filters),
        }
    }

    /// Reads the text of a `filters` parameter, whatever its keys; the empty text filters nothing.
    ///
    /// Both `{"key":["value"]}` and the older `{"key":{"value":true}}` are understood.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let malformed = || ApiError::invalid("invalid filter");
        if text.is_empty() {
            return Ok(Filters::default());
        }
        let Value::Object(keys) = serde_json::from_str(text).map_err(|_| malformed())? else {
            return Err(malformed());
        };
        let mut filters = BTreeMap::new();
        for (key, values) in keys {
            let values = match values {
                // The older form is a set: whether a member maps to true or false never mattered.
                Value::Object(set) => set.into_iter().map(|(value, _)| value).collect(),
                Value::Array(list) => texts(list).ok_or_else(malformed)?,
                Value::Null => Vec::new(),
                _ => return Err(malformed()),
            };
            filters.insert(key, values);
        }
        Ok(Filters(filters))
    }

    /// The values of a key.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether a key was given with at least one value.
    pub fn has(&self, key: &str) -> bool {
        !self.values(key).is_empty()
    }

    /// Whether a key was not given, or one of its values is accepted.
    pub fn any(&self, key: &str, accepts: impl Fn(&str) -> bool) -> bool {
        !self.has(key) || self.values(key).iter().any(|value| accepts(value))
    }

    /// Whether all values of `label` hold and none of `label!` does.
    pub fn labels<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let holds = |wanted: &String| match wanted.split_once('=') {
            Some((name, value)) => label(name) == Some(value),
            None => label(wanted).is_some(),
        };
        self.values("label").iter().all(holds) && !self.values("label!").iter().any(holds)
    }

    /// A boolean filter; absent is `None`.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, ApiError> {
        let values = self.values(key);
        let word = |value: &String| match value.as_str() {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        };
        let refused = || ApiError::invalid(format!("invalid filter '{key}=[{}]'", values.join(" ")));
        match values {
            [] => Ok(None),
            [one] => word(one).map(Some).ok_or_else(refused),
            _ => Err(refused()),
        }
    }
}

fn texts(list: Vec<Value>) -> Option<Vec<String>> {
    let text = |value| match value {
        Value::String(text) => Some(text),
        _ => None,
    };
    list.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_mean_the_same() {
        let list = Filters::parse(r#"{"label":["a=b"],"x":["1","2"]}"#).expect("list form");
        let map = Filters::parse(r#"{"label":{"a=b":false},"x":{"1":true,"2":true}}"#).expect("map form");
        assert_eq!(list, map);
        assert_eq!(list.values("x"), ["1", "2"]);
        assert_eq!(Filters::parse(""), Ok(Filters::default()));
    }

    #[test]
    fn what_is_not_a_map_of_lists_is_refused() {
        for text in ["xx", "[]", "1", r#"{"label":"x"}"#, r#"{"label":[1]}"#] {
            assert_eq!(Filters::parse(text).expect_err(text).message, "invalid filter", "{text}");
        }
        let query = Query::parse("filters=%7B%22bogus%22%3A%5B%221%22%5D%7D");
        assert_eq!(Filters::of(&query, &["label"]).expect_err("unknown").message, "invalid filter 'bogus'");
    }

    #[test]
    fn labels_must_all_hold_and_excluded_ones_must_not() {
        let own = BTreeMap::from([("a", "b"), ("c", "")]);
        let matches = |text: &str| Filters::parse(text).expect("filters").labels(|name| own.get(name).copied());
        assert!(matches(r#"{"label":["a"]}"#));
        assert!(matches(r#"{"label":["a=b","c="]}"#));
        assert!(!matches(r#"{"label":["a=x"]}"#));
        assert!(!matches(r#"{"label":["a","d"]}"#));
        assert!(!matches(r#"{"label!":["a"]}"#));
        assert!(matches(r#"{"label!":["a=x"]}"#));
    }

    #[test]
    fn a_boolean_filter_has_one_clear_value() {
        let boolean = |text: &str| Filters::parse(text).expect("filters").boolean("dangling");
        assert_eq!(boolean("{}"), Ok(None));
        assert_eq!(boolean(r#"{"dangling":["true"]}"#), Ok(Some(true)));
        assert_eq!(boolean(r#"{"dangling":["0"]}"#), Ok(Some(false)));
        let refused = boolean(r#"{"dangling":["x"]}"#).expect_err("no boolean");
        assert_eq!(refused.message, "invalid filter 'dangling=[x]'");
    }
}
