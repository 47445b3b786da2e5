//! `--filter name=value` of lists and prunes, as the daemon takes it.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::config::Config;

/// One `--filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    name: String,
    value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Filter, String> {
        let (name, value) = text.split_once('=').ok_or("bad format of filter (expected name=value)")?;
        Ok(Filter { name: name.trim().to_lowercase(), value: value.trim().to_owned() })
    }
}

/// All filters of a request: every name with its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeMap<String, bool>>);

impl Filters {
    /// The filters given on the command line.
    pub fn of(filters: &[Filter]) -> Filters {
        let mut all = Filters::default();
        for filter in filters {
            all.add(&filter.name, &filter.value);
        }
        all
    }

    /// Adds one value.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_owned()).or_default().insert(value.to_owned(), true);
    }

    /// Adds the filters that the configuration has for every prune, unless they contradict those given (B187).
    pub fn with_configured(mut self, config: &Config) -> Filters {
        for text in &config.prune_filters {
            let Some((name, value)) = text.split_once('=') else { continue };
            let opposite = match name {
                "label" => "label!",
                "label!" => "label",
                _ => "",
            };
            if !self.values(opposite).any(|known| known == value) {
                self.add(name, value);
            }
        }
        self
    }

    /// Whether there is a filter of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The values of one name.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).into_iter().flat_map(|values| values.keys().map(String::as_str))
    }

    /// The text of the query parameter `filters`; `None` without filters.
    pub fn to_query(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        Some(serde_json::to_string(&self.0).expect("maps of text are JSON"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_grouped_by_name() {
        let filters: Vec<Filter> = ["label=a=b", "LABEL = c ", "status=exited"].map(|f| f.parse().expect(f)).to_vec();
        let query = Filters::of(&filters).to_query();
        assert_eq!(query.as_deref(), Some(r#"{"label":{"a=b":true,"c":true},"status":{"exited":true}}"#));
        assert_eq!(Filters::default().to_query(), None);
        assert!("bogus".parse::<Filter>().is_err());
    }

    #[test]
    fn configured_filters_yield_to_their_opposite() {
        let config =
            Config { prune_filters: vec!["label=keep".into(), "until=24h".into(), "junk".into()], ..Config::default() };
        let mut given = Filters::default();
        given.add("label!", "keep");
        let all = given.with_configured(&config);
        assert_eq!(all.to_query().as_deref(), Some(r#"{"label!":{"keep":true},"until":{"24h":true}}"#));
    }
}
