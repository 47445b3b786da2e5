//! `hosts.toml`, as containerd has it: the server of a registry and its mirrors. Only the part of TOML that such files use is read: tables,
//! and keys whose values are texts, lists of texts, or true and false.

use std::path::{Path, PathBuf};

use crate::url::Url;

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct HostsFile {
    pub server: Option<Url>,
    pub mirrors: Vec<MirrorEntry>,
}

/// One `[host."URL"]`.
#[derive(Debug)]
pub(crate) struct MirrorEntry {
    pub url: Url,
    pub pulls: bool,
    pub skip_verify: bool,
    pub authorities: Vec<PathBuf>,
    pub clients: Vec<(PathBuf, PathBuf)>,
}

enum Value {
    Text(String),
    List(Vec<Value>),
    Flag(bool),
}

impl HostsFile {
    /// Reads the file; names of files in it are relative to `directory`.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, String> {
        let mut file = Self::default();
        let mut skipping = false;
        for (number, statement) in statements(text) {
            let named = |reason: String| format!("line {number}: {reason}");
            if let Some(table) = statement.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                // `[host."URL".header]` and tables of others say nothing here.
                skipping = !file.begin_table(table.trim()).map_err(named)?;
            } else if !skipping {
                let (key, value) =
                    statement.split_once('=').ok_or_else(|| named(format!("{statement:?} is no key = value")))?;
                let value = parse_value(value.trim()).map_err(named)?;
                file.set(key.trim().trim_matches('"'), value, directory).map_err(named)?;
            }
        }
        Ok(file)
    }

    /// Whether the table is one that is read.
    fn begin_table(&mut self, name: &str) -> Result<bool, String> {
        let Some(rest) = name.strip_prefix("host.") else { return Ok(false) };
        let quoted = rest.strip_prefix(['"', '\'']).and_then(|rest| rest.strip_suffix(['"', '\'']));
        let Some(url) = quoted.filter(|url| !url.contains(['"', '\''])) else { return Ok(false) };
        let full = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
        let url = Url::parse(&full).ok_or_else(|| format!("{url:?} is no URL"))?;
        let (authorities, clients) = (Vec::new(), Vec::new());
        self.mirrors.push(MirrorEntry { url, pulls: true, skip_verify: false, authorities, clients });
        Ok(true)
    }

    fn set(&mut self, key: &str, value: Value, directory: &Path) -> Result<(), String> {
        let Some(mirror) = self.mirrors.last_mut() else {
            if let ("server", Value::Text(text)) = (key, value) {
                self.server = Some(Url::parse(&text).ok_or_else(|| format!("{text:?} is no URL"))?);
            }
            return Ok(());
        };
        match (key, value) {
            ("capabilities", Value::List(words)) => {
                mirror.pulls = words.iter().any(|word| matches!(word, Value::Text(text) if text == "pull"));
            }
            ("skip_verify", Value::Flag(flag)) => mirror.skip_verify = flag,
            ("ca", value) => mirror.authorities = texts(value).iter().map(|name| directory.join(name)).collect(),
            ("client", value) => mirror.clients = clients(value, directory),
            _ => {}
        }
        Ok(())
    }
}

fn texts(value: Value) -> Vec<String> {
    match value {
        Value::Text(text) => vec![text],
        Value::List(list) => list.into_iter().flat_map(texts).collect(),
        Value::Flag(_) => Vec::new(),
    }
}

/// Pairs of certificate and key; a single file holds both.
fn clients(value: Value, directory: &Path) -> Vec<(PathBuf, PathBuf)> {
    let one = |names: Vec<String>| {
        let certificate = directory.join(names.first()?);
        let key = names.get(1).map_or_else(|| certificate.clone(), |name| directory.join(name));
        Some((certificate, key))
    };
    match value {
        Value::List(list) => list.into_iter().filter_map(|value| one(texts(value))).collect(),
        other => one(texts(other)).into_iter().collect(),
    }
}

/// The statements without comments; a list may go over several lines.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut open = 0_usize;
    for (at, line) in text.lines().enumerate() {
        let (line, opened, closed) = without_comment(line);
        if line.is_empty() {
            continue;
        }
        match found.last_mut() {
            Some((_, last)) if open > 0 => last.push_str(&line),
            _ => found.push((at + 1, line)),
        }
        open = (open + opened).saturating_sub(closed);
    }
    found
}

/// A line less its comment, and how many brackets open and close in it.
fn without_comment(line: &str) -> (String, usize, usize) {
    let (mut kept, mut quote, mut opened, mut closed) = (String::new(), None, 0, 0);
    for c in line.chars() {
        match (quote, c) {
            (None, '#') => break,
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => opened += 1,
            (None, ']') => closed += 1,
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        kept.push(c);
    }
    (kept.trim().to_owned(), opened, closed)
}

fn parse_value(text: &str) -> Result<Value, String> {
    let unknown = || format!("{text:?} is neither a text, a list nor true or false");
    match text {
        "true" => return Ok(Value::Flag(true)),
        "false" => return Ok(Value::Flag(false)),
        _ => {}
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let parts = split_list(inner);
        return Ok(Value::List(parts.iter().map(|part| parse_value(part)).collect::<Result<_, _>>()?));
    }
    let quoted = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).map(|inner| Value::Text(inner.to_owned())).ok_or_else(unknown)
}

/// The members of a list: commas in texts and in lists within do not part them.
fn split_list(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth, mut quote) = (Vec::new(), String::new(), 0_usize, None);
    for c in text.chars() {
        match (quote, c) {
            (None, ',') if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '[') => depth += 1,
            (None, ']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}
