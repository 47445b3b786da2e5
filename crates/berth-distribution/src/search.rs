//! What else is asked of hosts: images by a word (docker.io's index API, version 1, which other registries answer too), and files by their URL.

use std::io::Read;

use berth_model::Cancel;
use serde::Deserialize;

use crate::{
    Credentials, Registries,
    error::{DistributionError, Status},
    hosts::DEFAULT_DOMAIN,
    session::Ask,
    url::Url,
};

/// Where docker.io answers searches.
const INDEX: &str = "index.docker.io";
/// How long an answer may be, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// One image that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its repository, as the registry calls it.
    pub name: String,
    /// A word about it.
    pub description: String,
    /// How many like it.
    pub star_count: i64,
    /// Whether docker.io's own people make it.
    pub is_official: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Found>,
}

impl Registries {
    /// Looks for a term. `HOST/WORD` asks that host, `WORD` alone docker.io.
    ///
    /// # Errors
    /// [`DistributionError`]; a registry that knows no search answers 404.
    pub fn search(
        &self,
        term: &str,
        limit: usize,
        credentials: &Credentials,
        cancel: &Cancel,
    ) -> Result<Vec<Found>, DistributionError> {
        let (domain, word) = split(term);
        let session = self.session(domain, credentials.clone())?;
        if !credentials.is_empty() {
            // A search is answered to everybody, with what everybody may see. This is what makes us say who we are.
            session.send(Ask::new("GET", session.url(""), ""), cancel)?.forget();
        }
        let url = session.origin().at("/v1/search").with_query("q", word).with_query("n", &limit.to_string());
        let mut response = session.send(Ask::new("GET", url.clone(), ""), cancel)?;
        let (method, url, status) = ("GET".to_owned(), url.to_string(), Status(response.status()));
        let body = response.whole(MAX_ANSWER);
        if status.0 != 200 {
            return Err(DistributionError::Status { method, url, status, reason: String::new() });
        }
        let answer = body.map_err(|error| error.to_string()).and_then(|body| {
            serde_json::from_slice::<Answer>(&body).map_err(|error| format!("no answer to a search: {error}"))
        });
        match answer {
            Ok(answer) => Ok(answer.results),
            Err(reason) => Err(DistributionError::Status { method, url, status, reason }),
        }
    }
}

impl Registries {
    /// What lies at a URL, as it streams in. Redirections are followed; nobody is told any password.
    ///
    /// # Errors
    /// [`DistributionError::Invalid`] for what is no URL; [`DistributionError::Status`] for any answer but 200.
    pub fn download(&self, url: &str, cancel: &Cancel) -> Result<impl Read + Send + use<>, DistributionError> {
        let wrong =
            || DistributionError::Invalid(format!("{url:?} is no URL: give one that begins with http:// or https://"));
        let target = Url::parse(url).ok_or_else(wrong)?;
        let session = self.session(&target.origin.authority(), Credentials::default())?;
        let response = session.send(Ask::new("GET", target, ""), cancel)?;
        match response.status() {
            200 => Ok(response),
            status => {
                let (method, url) = ("GET".to_owned(), url.to_owned());
                Err(DistributionError::Status { method, url, status: Status(status), reason: String::new() })
            }
        }
    }
}

/// Splits a term into the host to ask and the word.
fn split(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((DEFAULT_DOMAIN | INDEX, word)) => (INDEX, word.strip_prefix("library/").unwrap_or(word)),
        Some((host, word)) if host.contains(['.', ':']) || host == "localhost" => (host, word),
        _ => (INDEX, term.strip_prefix("library/").unwrap_or(term)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_before_the_word_is_asked() {
        for (term, expected) in [
            ("debian", ("index.docker.io", "debian")),
            ("library/debian", ("index.docker.io", "debian")),
            ("user/app", ("index.docker.io", "user/app")),
            ("docker.io/library/debian", ("index.docker.io", "debian")),
            ("localhost/app", ("localhost", "app")),
            ("127.0.0.1:5000/a/b", ("127.0.0.1:5000", "a/b")),
        ] {
            assert_eq!(split(term), expected, "{term}");
        }
    }
}
