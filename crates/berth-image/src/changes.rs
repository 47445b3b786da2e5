//! Changes of an import or a commit: a few instructions of a Dockerfile, applied to an image's configuration.

use std::collections::BTreeMap;

use berth_model::parse_go_duration;
use berth_oci::image::{ContainerConfig, Empty, Healthcheck};

use crate::ImageError;

/// Applies instructions in order: `CMD`, `ENTRYPOINT`, `ENV`, `EXPOSE`, `HEALTHCHECK`, `LABEL`, `ONBUILD`, `STOPSIGNAL`, `USER`, `VOLUME`,
/// `WORKDIR`. Each text is one instruction, or several on lines of their own.
///
/// # Errors
/// [`ImageError::NotAChange`] for any other instruction; [`ImageError::Change`] for wrong arguments.
pub fn apply(config: &mut ContainerConfig, changes: &[String]) -> Result<(), ImageError> {
    for line in changes.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty()) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        instruction(config, &word.to_ascii_uppercase(), rest.trim())?;
    }
    Ok(())
}

fn instruction(config: &mut ContainerConfig, word: &str, rest: &str) -> Result<(), ImageError> {
    let is_known = matches!(
        word,
        "CMD"
            | "ENTRYPOINT"
            | "ENV"
            | "EXPOSE"
            | "HEALTHCHECK"
            | "LABEL"
            | "ONBUILD"
            | "STOPSIGNAL"
            | "USER"
            | "VOLUME"
            | "WORKDIR"
    );
    if !is_known {
        return Err(ImageError::NotAChange(word.to_owned()));
    }
    if rest.is_empty() {
        return Err(ImageError::Change(format!("{word} requires at least one argument")));
    }
    match word {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => env(config, rest)?,
        "EXPOSE" => expose(config, rest)?,
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        "LABEL" => {
            let pairs = pairs(word, rest, &config.env)?;
            config.labels.get_or_insert_with(BTreeMap::new).extend(pairs);
        }
        "ONBUILD" => config.on_build.push(onbuild(rest)?),
        "STOPSIGNAL" => config.stop_signal = one(word, rest, &config.env)?,
        "USER" => config.user = one(word, rest, &config.env)?,
        "VOLUME" => volume(config, rest)?,
        _ => workdir(config, rest)?,
    }
    Ok(())
}

/// `["a", "b"]`, or else a line for the shell.
fn command(rest: &str) -> Vec<String> {
    json_words(rest).unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.to_owned()])
}

fn json_words(rest: &str) -> Option<Vec<String>> {
    if rest.starts_with('[') { serde_json::from_str(rest).ok() } else { None }
}

fn env(config: &mut ContainerConfig, rest: &str) -> Result<(), ImageError> {
    for (name, value) in pairs("ENV", rest, &config.env)? {
        let line = format!("{name}={value}");
        match config.env.iter_mut().find(|have| have.split('=').next() == Some(&name)) {
            Some(have) => *have = line,
            None => config.env.push(line),
        }
    }
    Ok(())
}

fn expose(config: &mut ContainerConfig, rest: &str) -> Result<(), ImageError> {
    for word in words(rest, &config.env)? {
        let invalid = || ImageError::Change(format!("invalid containerPort: {word}"));
        let (ports, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(ImageError::Change(format!("invalid proto: {protocol}")));
        }
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last): (u16, u16) = (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
        if first > last {
            return Err(invalid());
        }
        config.exposed_ports.extend((first..=last).map(|port| (format!("{port}/{protocol}"), Empty {})));
    }
    Ok(())
}

fn volume(config: &mut ContainerConfig, rest: &str) -> Result<(), ImageError> {
    let paths = match json_words(rest) {
        Some(paths) => paths,
        None => words(rest, &config.env)?,
    };
    if paths.iter().any(|path| path.trim().is_empty()) {
        return Err(ImageError::Change("VOLUME specified can not be an empty string".to_owned()));
    }
    config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
    Ok(())
}

fn workdir(config: &mut ContainerConfig, rest: &str) -> Result<(), ImageError> {
    let path = one("WORKDIR", rest, &config.env)?;
    let from = if path.starts_with('/') { "" } else { config.working_dir.as_str() };
    let mut parts: Vec<&str> = Vec::new();
    for part in from.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    config.working_dir = format!("/{}", parts.join("/"));
    Ok(())
}

fn onbuild(rest: &str) -> Result<String, ImageError> {
    let word = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match word.as_str() {
        "ONBUILD" => Err(ImageError::Change("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned())),
        "FROM" | "MAINTAINER" => Err(ImageError::Change(format!("{word} isn't allowed as an ONBUILD trigger"))),
        _ => Ok(rest.to_owned()),
    }
}

fn healthcheck(rest: &str) -> Result<Healthcheck, ImageError> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while rest.starts_with("--") {
        let (flag, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let invalid = |reason: String| ImageError::Change(format!("HEALTHCHECK {name}: {reason}"));
        let time = || {
            let time = parse_go_duration(value).map_err(|error| invalid(error.to_string()))?;
            i64::try_from(time.as_nanos()).map_err(|_| invalid("too long".to_owned()))
        };
        match name {
            "--interval" => check.interval = time()?,
            "--timeout" => check.timeout = time()?,
            "--start-period" => check.start_period = time()?,
            "--start-interval" => check.start_interval = time()?,
            "--retries" => check.retries = value.parse().map_err(|_| invalid(format!("{value:?} is no number")))?,
            _ => return Err(ImageError::Change(format!("unknown flag: {}", name.trim_start_matches('-')))),
        }
        rest = tail.trim_start();
    }
    let (kind, command_line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match (kind.to_ascii_uppercase().as_str(), command_line.trim()) {
        ("NONE", "") => vec!["NONE".to_owned()],
        ("NONE", _) => return Err(ImageError::Change("HEALTHCHECK NONE takes no arguments".to_owned())),
        ("CMD", "") => return Err(ImageError::Change("Missing command after HEALTHCHECK CMD".to_owned())),
        ("CMD", line) => match json_words(line) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), line.to_owned()],
        },
        (other, _) => return Err(ImageError::Change(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)"))),
    };
    Ok(check)
}

/// `name=value name="other value"`, or the old form with one name and the rest of the line as its value.
fn pairs(word: &str, rest: &str, env: &[String]) -> Result<Vec<(String, String)>, ImageError> {
    let first = rest.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| ImageError::Change(format!("{word} must have two arguments")))?;
        return Ok(vec![(name.to_owned(), unquoted(value.trim(), env)?)]);
    }
    let syntax = |text: &str| {
        ImageError::Change(format!("Syntax error - can't find = in {text:?}. Must be of the form: name=value"))
    };
    words(rest, env)?
        .into_iter()
        .map(|pair| match pair.split_once('=') {
            Some(("", _)) => Err(ImageError::Change(format!("{word} names can not be blank"))),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(syntax(&pair)),
        })
        .collect()
}

fn one(word: &str, rest: &str, env: &[String]) -> Result<String, ImageError> {
    let text = unquoted(rest, env)?;
    if text.is_empty() { Err(ImageError::Change(format!("{word} requires exactly one argument"))) } else { Ok(text) }
}

/// The whole text as one word: quotes undone, variables put in.
fn unquoted(text: &str, env: &[String]) -> Result<String, ImageError> {
    let mut reader = Words { rest: text.chars().peekable(), env };
    reader.until(|_| false)
}

/// The words of a line: quotes undone, variables put in.
fn words(text: &str, env: &[String]) -> Result<Vec<String>, ImageError> {
    let mut reader = Words { rest: text.chars().peekable(), env };
    let mut words = Vec::new();
    loop {
        while reader.rest.next_if(|c| c.is_whitespace()).is_some() {}
        if reader.rest.peek().is_none() {
            return Ok(words);
        }
        words.push(reader.until(char::is_whitespace)?);
    }
}

struct Words<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    env: &'a [String],
}

impl Words<'_> {
    fn until(&mut self, end: impl Fn(char) -> bool) -> Result<String, ImageError> {
        let mut word = String::new();
        while let Some(c) = self.rest.next_if(|c| !end(*c)) {
            match c {
                '\'' => loop {
                    match self.rest.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(unterminated()),
                    }
                },
                '"' => self.double_quoted(&mut word)?,
                '\\' => word.extend(self.rest.next()),
                '$' => self.variable(&mut word)?,
                c => word.push(c),
            }
        }
        Ok(word)
    }

    fn double_quoted(&mut self, word: &mut String) -> Result<(), ImageError> {
        loop {
            match self.rest.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.rest.next() {
                    Some(c @ ('"' | '\\' | '$')) => word.push(c),
                    Some(c) => word.extend(['\\', c]),
                    None => return Err(unterminated()),
                },
                Some('$') => self.variable(word)?,
                Some(c) => word.push(c),
                None => return Err(unterminated()),
            }
        }
    }

    /// `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:+other}`.
    fn variable(&mut self, word: &mut String) -> Result<(), ImageError> {
        let braced = self.rest.next_if_eq(&'{').is_some();
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        let value = self.env.iter().find_map(|line| line.strip_prefix(name.as_str())?.strip_prefix('='));
        let value = value.filter(|_| !name.is_empty()).map(str::to_owned);
        if !braced {
            // A dollar sign that begins no name stands for itself.
            word.push_str(&if name.is_empty() { "$".to_owned() } else { value.unwrap_or_default() });
            return Ok(());
        }
        let mut modifier = String::new();
        loop {
            match self.rest.next() {
                Some('}') => break,
                Some(c) => modifier.push(c),
                None => return Err(ImageError::Change("syntax error: missing '}'".to_owned())),
            }
        }
        let set = value.filter(|value| !value.is_empty());
        if let Some(default) = modifier.strip_prefix(":-") {
            word.push_str(&set.unwrap_or_else(|| default.to_owned()));
        } else if let Some(other) = modifier.strip_prefix(":+") {
            word.push_str(if set.is_some() { other } else { "" });
        } else if modifier.is_empty() {
            word.push_str(&set.unwrap_or_default());
        } else {
            return Err(ImageError::Change(format!("unsupported modifier ({modifier}) in substitution")));
        }
        Ok(())
    }
}

fn unterminated() -> ImageError {
    ImageError::Change("unexpected end of statement while looking for matching quote".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Result<ContainerConfig, ImageError> {
        let mut config = ContainerConfig::default();
        apply(&mut config, &changes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())?;
        Ok(config)
    }

    #[test]
    fn every_instruction_does_what_a_dockerfile_says() {
        let config = applied(&[
            "CMD [\"c\"]",
            "ENTRYPOINT /a b",
            "ENV A=b C=\"d e\" F=x\\ y",
            "env OLD some value",
            "ENV A=$C-${OLD} G=${NONE:-z}",
            "EXPOSE 80 53/udp 8000-8002",
            "LABEL g-i=1 'a b'=c",
            "ONBUILD RUN x",
            "STOPSIGNAL SIGINT",
            "USER 1:2",
            "VOLUME /v /w",
            "VOLUME [\"/x y\"]",
            "WORKDIR /etc",
            "WORKDIR ../var/./lib",
            "HEALTHCHECK --interval=5s --retries=3 CMD curl -f x",
        ])
        .expect("valid");
        assert_eq!(config.cmd, Some(vec!["c".to_owned()]));
        assert_eq!(config.entrypoint, Some(vec!["/bin/sh".into(), "-c".into(), "/a b".into()]));
        assert_eq!(config.env, ["A=d e-some value", "C=d e", "F=x y", "OLD=some value", "G=z"]);
        assert_eq!(
            config.exposed_ports.keys().collect::<Vec<_>>(),
            ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]
        );
        let labels = config.labels.expect("labels");
        assert_eq!((labels["g-i"].as_str(), labels["a b"].as_str()), ("1", "c"));
        assert_eq!(
            (config.on_build, config.stop_signal.as_str(), config.user.as_str()),
            (vec!["RUN x".into()], "SIGINT", "1:2")
        );
        assert_eq!(config.volumes.keys().collect::<Vec<_>>(), ["/v", "/w", "/x y"]);
        assert_eq!(config.working_dir, "/var/lib");
        let check = config.healthcheck.expect("check");
        assert_eq!(
            (check.test, check.interval, check.retries),
            (vec!["CMD-SHELL".into(), "curl -f x".into()], 5_000_000_000, 3)
        );
    }

    #[test]
    fn wrong_changes_are_refused_in_docker_s_words() {
        for (change, message) in [
            ("RUN x", "RUN is not a valid change command"),
            ("bogus", "BOGUS is not a valid change command"),
            ("SHELL [\"/s\"]", "SHELL is not a valid change command"),
            ("CMD", "CMD requires at least one argument"),
            ("ENV A", "ENV must have two arguments"),
            ("ENV =b", "ENV names can not be blank"),
            ("EXPOSE x", "invalid containerPort: x"),
            ("LABEL a=\"b", "unexpected end of statement while looking for matching quote"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ] {
            assert_eq!(applied(&[change]).expect_err(change).to_string(), message);
        }
    }
}
