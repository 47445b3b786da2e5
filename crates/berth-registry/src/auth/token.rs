//! Tokens: JSON Web Tokens that this registry issues and is the only one to verify, so a shared secret (HS256) is enough.
//!
//! The secret lies beside the blobs, so that a restart takes nobody's token away. RFC 7519, RFC 7515.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::{auth::scope::Access, storage::StorageError};

/// How long a token lives. The specification's 60 s are the least; a slow push should not need a second one.
pub const LIFE: Duration = Duration::from_secs(300);
/// How long a refresh token lives.
const REFRESH_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const ISSUER: &str = "berth-registry";
/// Whom refresh tokens are for: no request but that for a token takes them.
const REFRESH_AUDIENCE: &str = "token-refresh";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    nbf: u64,
    iat: u64,
    jti: String,
    /// What it allows.
    #[serde(default)]
    pub access: Vec<Access>,
}

impl Claims {
    /// Whom it was given to.
    pub fn user(&self) -> Option<String> {
        (!self.sub.is_empty()).then(|| self.sub.clone())
    }

    /// Seconds since 1970 at which it was issued.
    pub fn issued(&self) -> u64 {
        self.iat
    }
}

/// A token that is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Not made here, or changed.
    #[error("invalid token")]
    Forged,
    /// For another service.
    #[error("the token is for another registry")]
    Audience,
    /// Too old, or from the future.
    #[error("the token has expired")]
    Expired,
}

/// Issues and verifies tokens.
pub struct Tokens {
    key: hmac::Key,
}

impl Tokens {
    /// The secret of a registry's directory, which is made if it is missing.
    pub fn open(root: &Path) -> Result<Self, StorageError> {
        let path = root.join("token.key");
        let mut secret = Vec::new();
        match File::options().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                let mut bytes = [0_u8; 32];
                let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
                let written = file.write_all(&bytes).and_then(|()| file.sync_all());
                written.map_err(StorageError::io("writing", &path))?;
                secret.extend(bytes);
            }
            Err(_) => {
                let read = File::open(&path).and_then(|mut file| file.read_to_end(&mut secret));
                read.map_err(StorageError::io("reading", &path))?;
            }
        }
        Ok(Self::with_secret(&secret))
    }

    fn with_secret(secret: &[u8]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// A token for a user, or for nobody known.
    pub fn issue(&self, user: Option<&str>, service: &str, access: Vec<Access>) -> (String, Claims) {
        self.sign(user, service, access, LIFE)
    }

    /// A token that stands for the password when the next token is asked for.
    pub fn issue_refresh(&self, user: &str) -> String {
        self.sign(Some(user), REFRESH_AUDIENCE, Vec::new(), REFRESH_LIFE).0
    }

    /// What a token says.
    ///
    /// # Errors
    /// [`InvalidToken`].
    pub fn verify(&self, token: &str, service: &str) -> Result<Claims, InvalidToken> {
        let (signed, signature) = token.rsplit_once('.').ok_or(InvalidToken::Forged)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| InvalidToken::Forged)?;
        hmac::verify(&self.key, signed.as_bytes(), &signature).map_err(|_| InvalidToken::Forged)?;
        // Only we can have signed it, so its header is ours.
        let (_, claims) = signed.split_once('.').ok_or(InvalidToken::Forged)?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| InvalidToken::Forged)?;
        let claims: Claims = serde_json::from_slice(&claims).map_err(|_| InvalidToken::Forged)?;
        let now = seconds();
        if claims.aud != service {
            return Err(InvalidToken::Audience);
        }
        if now >= claims.exp || now < claims.nbf {
            return Err(InvalidToken::Expired);
        }
        Ok(claims)
    }

    /// Whom a refresh token was given to.
    pub fn verify_refresh(&self, token: &str) -> Result<String, InvalidToken> {
        self.verify(token, REFRESH_AUDIENCE)?.user().ok_or(InvalidToken::Forged)
    }

    fn sign(&self, user: Option<&str>, audience: &str, access: Vec<Access>, life: Duration) -> (String, Claims) {
        let now = seconds();
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: user.unwrap_or_default().to_owned(),
            aud: audience.to_owned(),
            exp: now + life.as_secs(),
            // Clocks are the same, but seconds are rounded.
            nbf: now.saturating_sub(1),
            iat: now,
            jti: crate::storage::uploads::random_id(),
            access,
        };
        let body = serde_json::to_vec(&claims).expect("claims have string keys only");
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(body));
        let signature = hmac::sign(&self.key, signed.as_bytes());
        (format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)), claims)
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_one_service_and_cannot_be_changed() {
        let tokens = Tokens::with_secret(b"secret");
        let access = vec![Access { kind: "repository".into(), name: "a".into(), actions: vec!["pull".into()] }];
        let (token, claims) = tokens.issue(Some("ann"), "host:5000", access);
        assert_eq!(tokens.verify(&token, "host:5000"), Ok(claims));
        assert_eq!(tokens.verify(&token, "other"), Err(InvalidToken::Audience));
        let parts: Vec<&str> = token.split('.').collect();
        let other = URL_SAFE_NO_PAD.encode(r#"{"iss":"x"}"#);
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        for forged in [
            format!("{}.{other}.{}", parts[0], parts[2]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{none}.{}.", parts[1]),
            "abc".to_owned(),
            String::new(),
        ] {
            assert_eq!(tokens.verify(&forged, "host:5000"), Err(InvalidToken::Forged), "{forged}");
        }
        assert_eq!(Tokens::with_secret(b"other").verify(&token, "host:5000"), Err(InvalidToken::Forged));
    }

    #[test]
    fn a_token_ends() {
        let tokens = Tokens::with_secret(b"secret");
        let (token, _) = tokens.sign(None, "s", Vec::new(), Duration::ZERO);
        assert_eq!(tokens.verify(&token, "s"), Err(InvalidToken::Expired));
    }

    #[test]
    fn a_refresh_token_opens_nothing_by_itself() {
        let tokens = Tokens::with_secret(b"secret");
        let token = tokens.issue_refresh("ann");
        assert_eq!(tokens.verify_refresh(&token).as_deref(), Ok("ann"));
        assert_eq!(tokens.verify(&token, "s"), Err(InvalidToken::Audience));
        assert_eq!(tokens.verify_refresh(&tokens.issue(Some("ann"), "s", Vec::new()).0), Err(InvalidToken::Audience));
    }
}
