//! Tokens for passwords: `GET` as the token specification has it, `POST` as OAuth 2 does.

use std::sync::Arc;

use ::http::{Method, StatusCode, header};
use serde_json::json;

use crate::{
    auth::{
        self, Gate,
        rules::Action,
        scope::{self, Access},
        token,
    },
    http::{body::Body, head::Head, query::Query, response::Response},
    refusal::{Code, Refusal},
    registry::Registry,
    routes,
    storage::StorageError,
};

/// Bytes of a form.
const MAX_FORM: usize = 64 << 10;

/// Answers a request for a token.
pub async fn answer(registry: &Arc<Registry>, head: &Head, body: &mut Body<'_>) -> Result<Response, Refusal> {
    match head.method {
        Method::GET => get(&registry.gate, head).await,
        Method::POST => {
            let form = body.whole(MAX_FORM).await.map_err(StorageError::Client)?;
            let form = form.and_then(|bytes| String::from_utf8(bytes).ok());
            let form = form
                .ok_or_else(|| Refusal::new(Code::Unsupported, "a form is needed").status(StatusCode::BAD_REQUEST))?;
            post(&registry.gate, head, &Query::parse(&form)).await
        }
        _ => Err(routes::not_allowed("GET, POST")),
    }
}

async fn get(gate: &Gate, head: &Head) -> Result<Response, Refusal> {
    let shown = head.header(&header::AUTHORIZATION).and_then(|text| text.split_once(' '));
    let user = match shown {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case("basic") => match auth::basic(secret) {
            Some((user, password)) if user.is_empty() && password.is_empty() => None,
            Some((user, password)) => Some(check(gate, user, &password).await?),
            None => return Err(wrong()),
        },
        _ => None,
    };
    let is_offline = head.query.get("offline_token").is_some_and(|word| word == "true");
    give(gate, head, &head.query, user, is_offline)
}

/// RFC 6749, sections 4.3 and 6.
async fn post(gate: &Gate, head: &Head, form: &Query) -> Result<Response, Refusal> {
    let user = match form.get("grant_type") {
        Some("password") => {
            let user = form.get("username").unwrap_or_default().to_owned();
            Some(check(gate, user, form.get("password").unwrap_or_default()).await?)
        }
        Some("refresh_token") => {
            let user = gate.tokens.verify_refresh(form.get("refresh_token").unwrap_or_default());
            let user = user.map_err(|error| Refusal::new(Code::Unauthorized, error))?;
            // Whoever was taken from the file must not live on by his token.
            if !gate.passwords.as_ref().is_some_and(|passwords| passwords.knows(&user)) {
                return Err(wrong());
            }
            Some(user)
        }
        _ => {
            let message = "the grant_type must be password or refresh_token";
            return Err(Refusal::new(Code::Unsupported, message).status(StatusCode::BAD_REQUEST));
        }
    };
    give(gate, head, form, user, form.get("access_type").is_some_and(|word| word == "offline"))
}

async fn check(gate: &Gate, user: String, password: &str) -> Result<String, Refusal> {
    let is_right = match &gate.passwords {
        Some(passwords) => passwords.verify(&user, password).await,
        // An open registry knows nobody, and lets everybody in.
        None => true,
    };
    if is_right { Ok(user) } else { Err(wrong()) }
}

fn wrong() -> Refusal {
    Refusal::new(Code::Unauthorized, "incorrect username or password")
        .with("WWW-Authenticate", "Basic realm=\"Berth registry\", charset=\"UTF-8\"")
}

/// A token for as much of what is asked for as the rules allow; that may be nothing, and still tells that the password is right.
fn give(
    gate: &Gate,
    head: &Head,
    parameters: &Query,
    user: Option<String>,
    is_offline: bool,
) -> Result<Response, Refusal> {
    if user.is_none() && gate.passwords.is_some() && !gate.rules.welcome_strangers() {
        return Err(wrong());
    }
    let asked = scope::parse(parameters.all("scope"));
    let access = asked.into_iter().filter_map(|access| allowed(gate, user.as_deref(), access)).collect();
    let (text, claims) = gate.tokens.issue(user.as_deref(), &gate.service(head), access);
    let issued = i64::try_from(claims.issued()).unwrap_or_default();
    let issued = jiff::Timestamp::from_second(issued).map(|at| at.to_string()).unwrap_or_default();
    let mut document = json!({
        "token": text,
        "access_token": text,
        "expires_in": token::LIFE.as_secs(),
        "issued_at": issued,
    });
    if let Some(user) = user.filter(|_| is_offline) {
        document["refresh_token"] = json!(gate.tokens.issue_refresh(&user));
    }
    Ok(Response::json(StatusCode::OK, &document).with("Cache-Control", "no-store"))
}

fn allowed(gate: &Gate, user: Option<&str>, asked: Access) -> Option<Access> {
    if asked.allows_catalog() {
        return Some(asked);
    }
    let repository = asked.name.parse().ok().filter(|_| asked.kind == "repository")?;
    let is_open = gate.passwords.is_none();
    let wanted = |action: &Action| asked.actions.iter().any(|word| word == action.word() || word == "*");
    let actions = Action::ALL.into_iter().filter(wanted);
    let actions = actions.filter(|action| is_open || gate.rules.allow(user, &repository, *action));
    let actions: Vec<String> = actions.map(|action| action.word().to_owned()).collect();
    (!actions.is_empty()).then_some(Access { actions, ..asked })
}
