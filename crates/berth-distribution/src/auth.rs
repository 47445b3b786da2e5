//! Who we are for a registry: passwords, and the tokens that token servers give for them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use berth_model::Cancel;
use serde::Deserialize;

use crate::{
    challenge::{Bearer, Challenge},
    error::{DistributionError, Status, reason},
    http::{Agent, Body, Request, Response, SendError},
    url::{Origin, Url, encode},
};

/// What a token lasts where the server does not say (REG-069).
const LIFETIME: Duration = Duration::from_secs(60);
/// Tokens are renewed so long before they end: an upload should not begin with one about to end.
const MARGIN: Duration = Duration::from_secs(10);
/// The name we give token servers that ask which program this is.
const CLIENT_ID: &str = "berth";
/// No answer of a token server is longer, in bytes.
const MAX_TOKEN: u64 = 1 << 20;

/// Who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User.
    pub username: String,
    /// Password.
    pub password: String,
    /// A token that stands for user and password, to get others with.
    pub identity_token: String,
    /// A token for the registry itself.
    pub registry_token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Logs are no place for passwords.
        write!(f, "Credentials({})", self.username)
    }
}

impl Credentials {
    /// Whether nothing is known about who asks.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }
}

/// The header for user and password.
pub(crate) fn basic(user_and_password: &str) -> String {
    format!("Basic {}", STANDARD.encode(user_and_password))
}

/// What one server wants to know, and what it was told already.
pub(crate) struct Authorizer {
    credentials: Credentials,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    challenge: Option<Challenge>,
    /// By scope.
    tokens: HashMap<String, (String, Instant)>,
}

/// What a token server gave.
pub(crate) struct Token {
    pub value: String,
    /// To be used instead of the password from now on.
    pub refresh: Option<String>,
    lasts: Duration,
}

impl Authorizer {
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, state: Mutex::default() }
    }

    /// The header for a request, from what is known so far.
    pub fn header(&self, scope: &str) -> Option<String> {
        if !self.credentials.registry_token.is_empty() {
            return Some(format!("Bearer {}", self.credentials.registry_token));
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.challenge {
            Some(Challenge::Basic) => self.password().map(|password| basic(&password)),
            Some(Challenge::Bearer(_)) => {
                let (token, until) = state.tokens.get(scope)?;
                (Instant::now() + MARGIN < *until).then(|| format!("Bearer {token}"))
            }
            None => None,
        }
    }

    fn password(&self) -> Option<String> {
        let Credentials { username, password, .. } = &self.credentials;
        (!username.is_empty()).then(|| format!("{username}:{password}"))
    }

    /// Does what a 401 asks for, after `sent` was not enough. When this returns, the request can be made once more.
    ///
    /// # Errors
    /// If nothing is known that was not sent already, or the token server refuses.
    pub fn answer(
        &self,
        refusal: &Refusal<'_>,
        scope: &str,
        agent: &Arc<Agent>,
        cancel: &Cancel,
    ) -> Result<(), DistributionError> {
        let challenge = Challenge::first(refusal.challenges.iter().map(String::as_str));
        // One at a time: several threads that were refused together share the token that the first one gets.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &challenge {
            None => return Err(refusal.error()),
            Some(Challenge::Basic) => {
                let known = self.password().map(|password| basic(&password)).ok_or(DistributionError::NoCredentials)?;
                if refusal.sent == Some(known.as_str()) {
                    return Err(refusal.error());
                }
            }
            Some(Challenge::Bearer(bearer)) => {
                let newer = state.tokens.get(scope).filter(|(token, _)| {
                    refusal.sent.is_none_or(|sent| sent.strip_prefix("Bearer ") != Some(token.as_str()))
                });
                let usable = newer.is_some_and(|(_, until)| Instant::now() + MARGIN < *until);
                if !usable {
                    if refusal.sent.is_some_and(|sent| sent.starts_with("Bearer "))
                        && bearer.error == "insufficient_scope"
                    {
                        return Err(DistributionError::Denied { reason: denied_reason(bearer, &refusal.reason) });
                    }
                    let asked = with_challenged(scope, &bearer.scope);
                    let token = self.fetch(bearer, &asked, false, refusal.origin, agent, cancel)?;
                    state.tokens.insert(scope.to_owned(), (token.value, Instant::now() + token.lasts));
                }
            }
        }
        state.challenge = challenge;
        Ok(())
    }

    /// Asks the token server. `offline`: also for a token to be used instead of the password.
    pub fn fetch(
        &self,
        bearer: &Bearer,
        scope: &str,
        offline: bool,
        registry: &Origin,
        agent: &Arc<Agent>,
        cancel: &Cancel,
    ) -> Result<Token, DistributionError> {
        let invalid =
            |reason: &str| DistributionError::Invalid(format!("invalid token server {:?}: {reason}", bearer.realm));
        let realm = Url::parse(&bearer.realm).ok_or_else(|| invalid("it is no URL"))?;
        let shows_secret = !self.credentials.is_empty();
        if shows_secret && registry.secure && !realm.origin.secure {
            return Err(invalid("credentials are not sent without encryption"));
        }
        let scopes: Vec<&str> = scope.split(' ').filter(|scope| !scope.is_empty()).collect();
        let response = if self.credentials.identity_token.is_empty() {
            self.get(realm.clone(), bearer, &scopes, offline, agent, cancel)?
        } else {
            self.post(realm.clone(), bearer, &scopes, agent, cancel)?
        };
        read_token(response, &realm)
    }

    /// `GET realm?service=S&scope=X&account=U`, with the password if there is one (REG-064).
    fn get(
        &self,
        mut url: Url,
        bearer: &Bearer,
        scopes: &[&str],
        offline: bool,
        agent: &Arc<Agent>,
        cancel: &Cancel,
    ) -> Result<Response, DistributionError> {
        if !bearer.service.is_empty() {
            url = url.with_query("service", &bearer.service);
        }
        for scope in scopes {
            url = url.with_query("scope", scope);
        }
        let mut headers = Vec::new();
        if let Some(password) = self.password() {
            url = url.with_query("account", &self.credentials.username);
            headers.push(("Authorization", basic(&password)));
        }
        if offline {
            url = url.with_query("offline_token", "true").with_query("client_id", CLIENT_ID);
        }
        let request = Request { method: "GET", url, headers, body: Body::Nothing };
        ask(request, agent, cancel)
    }

    /// The form of OAuth 2, for a refresh token (REG-065).
    fn post(
        &self,
        url: Url,
        bearer: &Bearer,
        scopes: &[&str],
        agent: &Arc<Agent>,
        cancel: &Cancel,
    ) -> Result<Response, DistributionError> {
        let form = format!(
            "grant_type=refresh_token&service={}&client_id={CLIENT_ID}&scope={}&refresh_token={}",
            encode(&bearer.service),
            encode(&scopes.join(" ")),
            encode(&self.credentials.identity_token),
        );
        let headers = vec![("Content-Type", "application/x-www-form-urlencoded".to_owned())];
        ask(Request { method: "POST", url, headers, body: Body::Bytes(form.as_bytes()) }, agent, cancel)
    }
}

/// The scopes that a request needs, and those the server names besides: a cache of several registries has other names for its repositories.
fn with_challenged(scope: &str, challenged: &str) -> String {
    let resource = |scope: &str| scope.rsplit_once(':').map(|(resource, _)| resource.to_owned());
    let known: Vec<_> = scope.split(' ').map(resource).collect();
    let mut all = scope.to_owned();
    for other in challenged.split(' ').filter(|other| !other.is_empty() && !known.contains(&resource(other))) {
        all.push(' ');
        all.push_str(other);
    }
    all
}

/// A 401, and what was sent before it.
pub(crate) struct Refusal<'a> {
    pub origin: &'a Origin,
    pub sent: Option<&'a str>,
    pub challenges: Vec<String>,
    pub method: &'a str,
    pub url: String,
    pub reason: String,
}

impl Refusal<'_> {
    fn error(&self) -> DistributionError {
        if self.sent.is_none() {
            return DistributionError::NoCredentials;
        }
        let (method, url, reason) = (self.method.to_owned(), self.url.clone(), self.reason.clone());
        DistributionError::Refused { method, url, reason }
    }
}

fn denied_reason(bearer: &Bearer, said: &str) -> String {
    if said.is_empty() { format!("server message: {}", bearer.error) } else { said.to_owned() }
}

/// Asks the token server itself; it is trusted with what it asked for, and follows nobody.
fn ask(mut request: Request<'_>, agent: &Arc<Agent>, cancel: &Cancel) -> Result<Response, DistributionError> {
    agent.send(&mut request, cancel).map_err(|error| match error {
        SendError::Io(source) | SendError::NotTls(source) => {
            DistributionError::Request { method: go_method(request.method), url: request.url.to_string(), source }
        }
    })
}

/// `Get` for `GET`, as error texts have it.
pub(crate) fn go_method(method: &str) -> String {
    let mut word = method.to_ascii_lowercase();
    if let Some(first) = word.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    word
}

fn read_token(mut response: Response, realm: &Url) -> Result<Token, DistributionError> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
        expires_in: Option<u64>,
        refresh_token: Option<String>,
    }
    let status = response.status();
    let url = realm.to_string();
    let body = response.whole(MAX_TOKEN);
    let body =
        body.map_err(|source| DistributionError::Request { method: "Get".to_owned(), url: url.clone(), source })?;
    match status {
        200 => {}
        401 | 403 => return Err(DistributionError::Refused { method: "GET".to_owned(), url, reason: reason(&body) }),
        429 => return Err(DistributionError::RateLimited { method: "GET".to_owned(), url, reason: reason(&body) }),
        other => {
            let (method, reason) = ("GET".to_owned(), reason(&body));
            return Err(DistributionError::Status { method, url, status: Status(other), reason });
        }
    }
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|error| DistributionError::Invalid(format!("token server {url}: {error}")))?;
    let value = if answer.token.is_empty() { answer.access_token } else { answer.token };
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(DistributionError::Invalid(format!("token server {url} gave no token")));
    }
    let lasts = answer.expires_in.map_or(LIFETIME, |seconds| Duration::from_secs(seconds.clamp(1, 24 * 3600)));
    Ok(Token { value, refresh: answer.refresh_token.filter(|token| !token.is_empty()), lasts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_knows_a_repository_by_another_name_is_asked_for_both() {
        for (scope, challenged, asked) in [
            ("repository:a:pull", "", "repository:a:pull"),
            ("repository:a:pull,push", "repository:a:pull", "repository:a:pull,push"),
            ("repository:a:pull", "repository:up/a:pull", "repository:a:pull repository:up/a:pull"),
            (
                "repository:a:pull,push repository:b:pull",
                "repository:b:pull registry:catalog:*",
                "repository:a:pull,push repository:b:pull registry:catalog:*",
            ),
        ] {
            assert_eq!(with_challenged(scope, challenged), asked);
        }
    }
}
