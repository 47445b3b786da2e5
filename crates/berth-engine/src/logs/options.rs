//! Options of log drivers: what there is, and what each means (B159).

use std::collections::BTreeMap;

use berth_model::ByteSize;
use regex::bytes::{Regex, RegexBuilder};

use crate::{EngineError, spec::LogConfig, view::ContainerView};

/// Memory for lines that wait, in the non-blocking mode, when nobody says.
const DEFAULT_BUFFER: u64 = 1 << 20;

/// The `local` driver's files are rotated at this size, in bytes, when nobody says.
const LOCAL_MAX_SIZE: u64 = 20 << 20;
/// So many it keeps.
const LOCAL_MAX_FILE: u32 = 5;

/// What a shim must know of a container's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub max_size: u64,
    pub max_file: u32,
    pub compress: bool,
    pub non_blocking_buffer: u64,
    labels: Chosen,
    env: Chosen,
    tag: String,
}

/// Which labels, or which variables, the lines of a log carry: those that are named, and those whose names match.
#[derive(Clone, Debug, Default)]
struct Chosen {
    names: Vec<String>,
    pattern: Option<Regex>,
}

impl Chosen {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
            || self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(name.as_bytes()))
    }
}

impl PartialEq for Chosen {
    fn eq(&self, other: &Self) -> bool {
        let text = |chosen: &Self| chosen.pattern.as_ref().map(|pattern| pattern.as_str().to_owned());
        self.names == other.names && text(self) == text(other)
    }
}

impl Eq for Chosen {}

/// Refuses unknown drivers and options.
///
/// # Errors
/// [`EngineError`] of the kind `Invalid`, in Docker's words.
pub fn check_config(log: &LogConfig) -> Result<(), EngineError> {
    options(log).map(drop)
}

/// What drivers that write files can be told.
const OPTIONS: [&str; 10] = [
    "max-size",
    "max-file",
    "compress",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "tag",
    "mode",
    "max-buffer-size",
];

/// Refuses options that the driver does not have, whatever their values.
///
/// # Errors
/// [`EngineError`] of the kind `Invalid`, in Docker's words.
pub fn check_names(log: &LogConfig) -> Result<(), EngineError> {
    let whose = match log.driver.as_str() {
        "json-file" => "for json-file log driver",
        "local" => "for log driver local",
        _ => return Ok(()),
    };
    match log.options.keys().find(|key| !OPTIONS.contains(&key.as_str())) {
        Some(key) => Err(EngineError::invalid(format!("unknown log opt '{key}' {whose}"))),
        None => Ok(()),
    }
}

/// Reads the options of a container's log.
pub(crate) fn options(log: &LogConfig) -> Result<LogOptions, EngineError> {
    check_names(log)?;
    match log.driver.as_str() {
        "none" => Ok(LogOptions::default()),
        "json-file" => json_file(&log.options),
        "local" => local(&log.options),
        "syslog" | "journald" | "gelf" | "fluentd" | "awslogs" | "splunk" | "gcplogs" | "etwlogs" => {
            Err(EngineError::invalid(format!(
                "logger: the log driver '{}' is not there yet: use json-file, local or none",
                log.driver
            )))
        }
        unknown => Err(EngineError::invalid(format!("logger: no log driver named '{unknown}' is registered"))),
    }
}

fn json_file(given: &BTreeMap<String, String>) -> Result<LogOptions, EngineError> {
    let mut options = LogOptions { max_file: 1, ..LogOptions::default() };
    options.take(given)?;
    if options.compress && (options.max_file < 2 || options.max_size == 0) {
        return Err(EngineError::invalid("compression cannot be enabled when max file count is 1"));
    }
    if options.max_file > 1 && options.max_size == 0 {
        return Err(EngineError::invalid("max-file cannot be set without max-size"));
    }
    Ok(options)
}

fn local(given: &BTreeMap<String, String>) -> Result<LogOptions, EngineError> {
    let mut options =
        LogOptions { max_size: LOCAL_MAX_SIZE, max_file: LOCAL_MAX_FILE, compress: true, ..LogOptions::default() };
    options.take(given)?;
    if options.compress && options.max_file < 2 {
        return Err(EngineError::invalid("compression cannot be enabled when max file count is 1"));
    }
    Ok(options)
}

fn size(key: &str, value: &str) -> Result<u64, EngineError> {
    match ByteSize::from_decimal(value) {
        Ok(size) if size.bytes() > 0 => Ok(size.bytes()),
        Ok(_) => Err(EngineError::invalid(format!("{key} must be a positive number: {value}"))),
        Err(error) => Err(EngineError::invalid(error.to_string())),
    }
}

fn count(value: &str) -> Result<u32, EngineError> {
    match value.parse() {
        Ok(0) => Err(EngineError::invalid("max-file cannot be less than 1")),
        Ok(count) => Ok(count),
        Err(_) => Err(EngineError::invalid(format!("max-file must be a number: {value}"))),
    }
}

fn switch(key: &str, value: &str) -> Result<bool, EngineError> {
    match value {
        "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        _ => Err(EngineError::invalid(format!("{key} must be true or false: {value}"))),
    }
}

/// `true` for the mode that drops instead of waiting.
fn mode(value: &str) -> Result<bool, EngineError> {
    match value {
        "blocking" | "" => Ok(false),
        "non-blocking" => Ok(true),
        _ => Err(EngineError::invalid(format!("logger: logging mode not supported: {value}"))),
    }
}

/// A pattern of names, without tables of Unicode: `\w` means the letters that Docker means by it.
fn pattern(key: &str, value: &str) -> Result<Option<Regex>, EngineError> {
    if value.is_empty() {
        return Ok(None);
    }
    let built = RegexBuilder::new(value).unicode(false).build();
    built.map(Some).map_err(|error| {
        // The last line says what is wrong; those before show where.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        EngineError::invalid(format!("{key} is no regular expression: {value}: {reason}"))
    })
}

/// Words a tag may name in double braces.
const TAG_WORDS: [&str; 7] = ["ID", "FullID", "Name", "ImageName", "ImageID", "ImageFullID", "DaemonName"];

fn tag(value: &str) -> Result<String, EngineError> {
    let known = |field: &str| field.strip_prefix('.').is_some_and(|word| TAG_WORDS.contains(&word));
    for piece in value.split("{{").skip(1) {
        match piece.split_once("}}") {
            Some((field, _)) if known(field.trim()) => {}
            _ => return Err(EngineError::invalid(format!("logger: invalid tag template: {value}"))),
        }
    }
    Ok(value.to_owned())
}

impl LogOptions {
    /// Takes what was given in place of the driver's own values.
    fn take(&mut self, given: &BTreeMap<String, String>) -> Result<(), EngineError> {
        let mut non_blocking = false;
        let mut buffer = DEFAULT_BUFFER;
        for (key, value) in given {
            let list = || value.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect();
            match key.as_str() {
                "max-size" => self.max_size = size(key, value)?,
                "max-file" => self.max_file = count(value)?,
                "compress" => self.compress = switch(key, value)?,
                "labels" => self.labels.names = list(),
                "labels-regex" => self.labels.pattern = pattern(key, value)?,
                "env" => self.env.names = list(),
                "env-regex" => self.env.pattern = pattern(key, value)?,
                "tag" => self.tag = tag(value)?,
                "mode" => non_blocking = mode(value)?,
                "max-buffer-size" => buffer = size(key, value)?,
                // Their names were checked before.
                _ => {}
            }
        }
        if non_blocking {
            self.non_blocking_buffer = buffer;
        }
        Ok(())
    }

    /// The attributes every line of a container carries.
    pub(crate) fn attributes_of(&self, view: &ContainerView) -> BTreeMap<String, String> {
        let config = &view.spec.config;
        let labels = config.labels.iter().filter(|(key, _)| self.labels.has(key));
        let labels = labels.map(|(key, value)| (key.clone(), value.clone()));
        let env = config.env.iter().filter_map(|line| line.split_once('=')).filter(|(key, _)| self.env.has(key));
        let env = env.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let tag = (!self.tag.is_empty()).then(|| ("tag".to_owned(), fill_tag(&self.tag, view)));
        labels.chain(env).chain(tag).collect()
    }
}

fn fill_tag(template: &str, view: &ContainerView) -> String {
    let mut text = String::new();
    let mut pieces = template.split("{{");
    text.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (field, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        match field.trim().trim_start_matches('.') {
            "ID" => text.push_str(view.id.short()),
            "FullID" => text.push_str(view.id.as_str()),
            "Name" => text.push_str(view.name.as_str()),
            "ImageName" => text.push_str(&view.spec.image),
            "ImageID" => text.push_str(view.spec.image_id.short()),
            "ImageFullID" => text.push_str(view.spec.image_id.as_str()),
            _ => text.push_str("berth"),
        }
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[(&str, &str)]) -> Result<LogOptions, String> {
        check_of("json-file", given)
    }

    fn check_of(driver: &str, given: &[(&str, &str)]) -> Result<LogOptions, String> {
        let options = given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        super::options(&LogConfig { driver: driver.to_owned(), options }).map_err(|error| error.to_string())
    }

    #[test]
    fn local_has_values_of_its_own() {
        let options = check_of("local", &[]).expect("valid");
        assert_eq!((options.max_size, options.max_file, options.compress), (20 << 20, 5, true));
        let options = check_of("local", &[("max-file", "1"), ("compress", "false"), ("mode", "non-blocking")]);
        assert_eq!(options.expect("valid").non_blocking_buffer, 1 << 20);
        for (given, message) in [
            (&[("max-file", "1")][..], "compression cannot be enabled when max file count is 1"),
            (&[("nope", "1")], "unknown log opt 'nope' for log driver local"),
            (&[("max-size", "-1")], "invalid size: '-1'"),
        ] {
            assert_eq!(check_of("local", given), Err(message.to_owned()));
        }
    }

    #[test]
    fn labels_and_variables_are_chosen_by_name_and_by_pattern() {
        let options = check(&[("labels", "a, b"), ("labels-regex", r"^com\.\w+$"), ("env-regex", "")]).expect("valid");
        for (name, chosen) in [("a", true), ("b", true), ("com.x", true), ("ab", false), ("a.com.x", false)] {
            assert_eq!(options.labels.has(name), chosen, "{name}");
        }
        assert!(!options.env.has("PATH"));
    }

    #[test]
    fn options_are_read_and_checked() {
        let options = check(&[("max-size", "10m"), ("max-file", "3"), ("compress", "true")]).expect("valid");
        assert_eq!((options.max_size, options.max_file, options.compress), (10_000_000, 3, true));
        for (given, message) in [
            (&[("nope", "1")][..], "unknown log opt 'nope' for json-file log driver"),
            (&[("max-size", "x")], "invalid size: 'x'"),
            (&[("max-file", "0")], "max-file cannot be less than 1"),
            (&[("max-file", "2")], "max-file cannot be set without max-size"),
            (&[("mode", "x")], "logger: logging mode not supported: x"),
            (&[("tag", "{{.Nope}}")], "logger: invalid tag template: {{.Nope}}"),
            (&[("env-regex", "^(A")], "env-regex is no regular expression: ^(A: unclosed group"),
        ] {
            assert_eq!(check(given), Err(message.to_owned()));
        }
        let unknown = LogConfig { driver: "nope".to_owned(), options: BTreeMap::new() };
        assert_eq!(
            super::options(&unknown).expect_err("unknown").to_string(),
            "logger: no log driver named 'nope' is registered"
        );
    }
}
