//! Checking credentials, as `login` does.

use berth_model::Cancel;

use crate::{
    challenge::Challenge,
    error::{DistributionError, reason},
    registries::Registries,
    session::Ask,
};

/// What a registry says to credentials that it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggedIn {
    /// A token to keep instead of the password, if the registry gave one.
    pub identity_token: Option<String>,
}

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The registry does not know them.
    #[error("{0}")]
    Refused(String),
    /// A registry that wants a password was shown another.
    #[error("login attempt to {url} failed with status: 401 Unauthorized")]
    WrongPassword {
        /// Whom.
        url: String,
    },
    /// The registry wants to know who asks.
    #[error("Get \"{url}\": no basic auth credentials")]
    NoCredentials {
        /// Whom.
        url: String,
    },
    /// No answer came.
    #[error("Get \"{url}\": {reason}")]
    Unanswered {
        /// Whom.
        url: String,
        /// Why not.
        reason: String,
    },
    /// Any other reason.
    #[error(transparent)]
    Other(#[from] DistributionError),
}

impl LoginError {
    /// The coarse kind of this error.
    #[must_use]
    pub fn kind(&self) -> berth_model::ErrorKind {
        match self {
            Self::Refused(_) => berth_model::ErrorKind::Unauthorized,
            Self::Other(error) => error.kind(),
            _ => berth_model::ErrorKind::Internal,
        }
    }
}

impl Registries {
    /// Asks a registry whether it knows these credentials.
    ///
    /// # Errors
    /// [`LoginError`].
    pub fn log_in(
        &self,
        domain: &str,
        credentials: crate::Credentials,
        cancel: &Cancel,
    ) -> Result<LoggedIn, LoginError> {
        let session = self.session(domain, credentials)?;
        let unanswered = |error: DistributionError| match error {
            DistributionError::Request { source, .. } => {
                // The last way that was tried is the plain one, where that is allowed.
                let mut url = session.url("");
                url.origin.secure &= !session.endpoint.may_be_plain;
                LoginError::Unanswered { url: url.to_string(), reason: source.to_string() }
            }
            DistributionError::NoCredentials => LoginError::NoCredentials { url: session.url("").to_string() },
            DistributionError::Refused { .. } => LoginError::WrongPassword { url: session.url("").to_string() },
            other => LoginError::Other(other),
        };
        // The first answer tells how the registry wants to know who asks.
        let challenge = session.challenge(cancel).map_err(unanswered)?;
        if let Some(Challenge::Bearer(bearer)) = &challenge {
            let origin = session.origin();
            let token = session.authorizer().fetch(bearer, &bearer.scope, true, &origin, session.agent(), cancel);
            return match token {
                Ok(token) => Ok(LoggedIn { identity_token: token.refresh }),
                Err(DistributionError::Refused { reason, .. }) => {
                    let said = if reason.is_empty() { "incorrect username or password".to_owned() } else { reason };
                    Err(LoginError::Refused(format!("unauthorized: {}", said.trim_start_matches("unauthorized: "))))
                }
                Err(error) => Err(unanswered(error)),
            };
        }
        let mut response = session.send(Ask::new("GET", session.url(""), ""), cancel).map_err(unanswered)?;
        let body = response.whole(64 * 1024).unwrap_or_default();
        match response.status() {
            200..=299 => Ok(LoggedIn::default()),
            401 => Err(LoginError::WrongPassword { url: session.url("").to_string() }),
            status => {
                let (method, url) = ("GET".to_owned(), session.url("").to_string());
                let (status, reason) = (crate::error::Status(status), reason(&body));
                Err(DistributionError::Status { method, url, status, reason }.into())
            }
        }
    }
}
