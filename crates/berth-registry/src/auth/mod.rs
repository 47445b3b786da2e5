//! Who asks, and what he may do.
//!
//! Passwords are in an htpasswd file, rules in the configuration. A client shows a password (Basic) or a token that it got for one
//! (Bearer); both are understood always, and the chosen scheme is the one that strangers are challenged with. Without a password file
//! the registry is open.

pub mod htpasswd;
pub mod rules;
pub mod scope;
pub mod token;

use std::sync::Arc;

use ::http::header;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    auth::{
        htpasswd::Htpasswd,
        rules::{Action, Rules},
        scope::Access,
        token::Tokens,
    },
    http::{connection::Peer, head::Head},
    names::RepositoryName,
    refusal::{Code, Refusal},
};

/// How strangers are challenged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// The password with each request.
    Basic,
    /// A token that the registry gives for a password.
    Token,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody known.
    Anonymous,
    /// Showed a password.
    User(String),
    /// Showed a token.
    Token {
        /// Whom it was given to; nobody for an anonymous one.
        user: Option<String>,
        /// What it allows.
        access: Vec<Access>,
    },
}

/// Passwords, tokens and rules.
pub struct Gate {
    /// Where passwords are; without it the registry is open.
    pub passwords: Option<Arc<Htpasswd>>,
    /// Tokens.
    pub tokens: Tokens,
    /// Rules.
    pub rules: Rules,
    /// How strangers are challenged.
    pub scheme: Scheme,
    /// The address that clients know us by, where it is not the one they name.
    pub public_url: Option<String>,
}

impl Gate {
    /// Who asks.
    ///
    /// # Errors
    /// A challenge, if what the client shows is wrong.
    pub async fn caller(&self, head: &Head, peer: &Peer) -> Result<Caller, Refusal> {
        let Some(passwords) = &self.passwords else { return Ok(Caller::Anonymous) };
        let Some(shown) = head.header(&header::AUTHORIZATION) else { return Ok(Caller::Anonymous) };
        let (scheme, secret) = shown.split_once(' ').unwrap_or((shown, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            return match self.tokens.verify(secret.trim(), &self.service(head)) {
                Ok(claims) => Ok(Caller::Token { user: claims.user(), access: claims.access }),
                Err(error) => Err(self.challenge(head, peer, None, Some("invalid_token"), &error.to_string())),
            };
        }
        let wrong = || self.challenge(head, peer, None, None, "authentication required: wrong user name or password");
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(wrong());
        }
        match basic(secret) {
            // What some clients send that have no password.
            Some((user, password)) if user.is_empty() && password.is_empty() => Ok(Caller::Anonymous),
            Some((user, password)) if passwords.verify(&user, &password).await => Ok(Caller::User(user)),
            _ => Err(wrong()),
        }
    }

    /// Whether the caller may do this to a repository.
    pub fn allows(&self, caller: &Caller, repository: &RepositoryName, action: Action) -> bool {
        if self.passwords.is_none() {
            return true;
        }
        match caller {
            Caller::Anonymous => self.rules.allow(None, repository, action),
            Caller::User(user) => self.rules.allow(Some(user), repository, action),
            Caller::Token { access, .. } => access.iter().any(|access| access.allows(repository, action)),
        }
    }

    /// Lets the caller do this to a repository, or tells what to show.
    ///
    /// # Errors
    /// 401 with a challenge for strangers and for tokens that are not enough; 403 for known users.
    pub fn admit(
        &self,
        head: &Head,
        peer: &Peer,
        caller: &Caller,
        repository: &RepositoryName,
        actions: &[Action],
    ) -> Result<(), Refusal> {
        if actions.iter().all(|action| self.allows(caller, repository, *action)) {
            return Ok(());
        }
        let words: Vec<&str> = actions.iter().map(|action| action.word()).collect();
        let scope = format!("repository:{repository}:{}", words.join(","));
        let message = format!("requested access to the resource is denied: {} of {repository}", words.join(" and "));
        Err(match caller {
            Caller::Anonymous => self.challenge(head, peer, Some(&scope), None, "authentication required"),
            Caller::User(_) => Refusal::new(Code::Denied, message),
            Caller::Token { .. } => self.challenge(head, peer, Some(&scope), Some("insufficient_scope"), &message),
        })
    }

    /// Asks for a token that also opens the repository which a blob is to be mounted from, if its bearer could have one. Without it the mount
    /// would silently become an upload.
    ///
    /// # Errors
    /// 401 with both scopes.
    pub fn admit_mount(
        &self,
        head: &Head,
        peer: &Peer,
        caller: &Caller,
        target: &RepositoryName,
    ) -> Result<(), Refusal> {
        let source: Option<RepositoryName> = head.query.get("from").and_then(|text| text.parse().ok());
        let (Some(source), Caller::Token { user, .. }) = (source, caller) else { return Ok(()) };
        if self.allows(caller, &source, Action::Pull) || !self.rules.allow(user.as_deref(), &source, Action::Pull) {
            return Ok(());
        }
        let scope = format!("repository:{target}:pull,push repository:{source}:pull");
        let message = format!("requested access to the resource is denied: pull of {source}");
        Err(self.challenge(head, peer, Some(&scope), Some("insufficient_scope"), &message))
    }

    /// Lets anybody in who has shown something; strangers are asked to, so that a login finds out whether its password is right.
    pub fn admit_known(&self, head: &Head, peer: &Peer, caller: &Caller) -> Result<(), Refusal> {
        match caller {
            Caller::Anonymous if self.passwords.is_some() => {
                Err(self.challenge(head, peer, None, None, "authentication required"))
            }
            _ => Ok(()),
        }
    }

    /// The name that tokens are for: the host as the client knows it.
    pub fn service(&self, head: &Head) -> String {
        match &self.public_url {
            Some(url) => url.split("://").last().unwrap_or_default().trim_end_matches('/').to_owned(),
            None => {
                let host = head.header(&header::HOST).unwrap_or("registry");
                // It goes into a quoted string.
                host.chars().filter(|c| c.is_ascii_alphanumeric() || ".:-[]_".contains(*c)).collect()
            }
        }
    }

    /// 401, and what to show. RFC 6750, section 3.
    fn challenge(&self, head: &Head, peer: &Peer, scope: Option<&str>, error: Option<&str>, message: &str) -> Refusal {
        let service = self.service(head);
        let challenge = match self.scheme {
            Scheme::Basic => "Basic realm=\"Berth registry\", charset=\"UTF-8\"".to_owned(),
            Scheme::Token => {
                let base = match &self.public_url {
                    Some(url) => url.trim_end_matches('/').to_owned(),
                    None => format!("{}://{service}", peer.scheme),
                };
                let scope = scope.map(|scope| format!(",scope=\"{scope}\"")).unwrap_or_default();
                let error = error.map(|error| format!(",error=\"{error}\"")).unwrap_or_default();
                format!("Bearer realm=\"{base}/token\",service=\"{service}\"{scope}{error}")
            }
        };
        Refusal::new(Code::Unauthorized, message).with("WWW-Authenticate", challenge)
    }
}

/// User and password of a Basic header. RFC 7617.
pub fn basic(secret: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(secret.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
