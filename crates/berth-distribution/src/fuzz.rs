//! Ways in for the fuzz targets of `fuzz/`.

use std::path::Path;

use crate::{HostSettings, Url, challenge::Challenge, hosts::file::HostsFile};

/// Reads what a registry says of itself: challenges, and where to go on.
///
/// # Panics
/// If a URL is not understood again as it is shown.
pub fn said_by_a_registry(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    if let Some(Challenge::Bearer(bearer)) = Challenge::first(lines.iter().copied()) {
        understood_again(Url::parse(&bearer.realm));
    }
    let base = Url::parse("https://registry.example/v2/a/blobs/uploads/1?state=x").expect("a URL");
    for line in lines {
        understood_again(Url::parse(line));
        understood_again(base.join(line));
    }
}

fn understood_again(url: Option<Url>) {
    if let Some(url) = url {
        assert_eq!(Url::parse(&url.to_string()), Some(url.clone()), "{url}");
    }
}

/// Reads a hosts.toml, and finds the servers of a registry by the settings of a daemon.
pub fn hosts(text: &str) {
    let _ = HostsFile::parse(text, Path::new("/"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let settings = HostSettings {
        insecure: words.iter().map(|&word| word.to_owned()).collect(),
        mirrors: words.iter().filter_map(|word| word.parse().ok()).collect(),
        ..HostSettings::default()
    };
    for word in words {
        let _ = settings.endpoints(word);
    }
}
