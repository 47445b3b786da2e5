//! Talking to one server as one user: authorisation, redirects, patience.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use berth_model::Cancel;

use crate::{
    auth::{Authorizer, Credentials, Refusal, go_method},
    error::{DistributionError, Status, reason},
    hosts::Endpoint,
    http::{Agent, Body, Request, Response, SendError},
    url::{Origin, Url},
};

/// How often something is asked that a server was too busy for.
const ATTEMPTS: u32 = 5;
/// Whoever tells us to wait longer is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long to wait where the server does not say; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Nobody sends us further than this.
const MAX_REDIRECTS: usize = 10;
/// No refusal is longer, in bytes.
const MAX_REFUSAL: u64 = 64 * 1024;

/// One server and what it knows of us.
pub(crate) struct Session {
    pub endpoint: Endpoint,
    agent: Arc<Agent>,
    auth: Authorizer,
    scheme: Arc<Scheme>,
}

/// Whether a server that may be plain is: found out once, shared by all sessions with it.
#[derive(Default)]
pub(crate) struct Scheme(AtomicU8);

impl Scheme {
    const PLAIN: u8 = 1;

    fn is_plain(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::PLAIN
    }

    fn set_plain(&self, plain: bool) {
        self.0.store(u8::from(plain), Ordering::Relaxed);
    }
}

/// What is asked of a session.
pub(crate) struct Ask<'a> {
    pub method: &'static str,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body<'a>,
    /// What a token for it must allow.
    pub scope: &'a str,
}

impl<'a> Ask<'a> {
    pub fn new(method: &'static str, url: Url, scope: &'a str) -> Self {
        Self { method, url, headers: Vec::new(), body: Body::Nothing, scope }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, body: Body<'a>) -> Self {
        self.body = body;
        self
    }
}

impl Session {
    pub fn new(endpoint: Endpoint, agent: Arc<Agent>, credentials: Credentials, scheme: Arc<Scheme>) -> Self {
        Self { endpoint, agent, auth: Authorizer::new(credentials), scheme }
    }

    pub fn authorizer(&self) -> &Authorizer {
        &self.auth
    }

    pub fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Where the server is, as far as is known by now.
    pub fn origin(&self) -> Origin {
        let mut origin = self.endpoint.origin.clone();
        if origin.secure && self.endpoint.may_be_plain && self.scheme.is_plain() {
            origin = plain(&origin);
        }
        origin
    }

    /// `/v2/` and what follows, on this server. A mirror is told whose content is meant.
    pub fn url(&self, path: &str) -> Url {
        let url = self.origin().at(format!("{}/v2/{path}", self.endpoint.prefix));
        match &self.endpoint.mirror_of {
            Some(domain) => url.with_query("ns", domain),
            None => url,
        }
    }

    /// Asks until the server answers with what is no refusal to be waited for or answered. Its status is the caller's to look at.
    ///
    /// # Errors
    /// [`DistributionError`]: no answer, no authorisation, or too busy for too long.
    pub fn send(&self, mut ask: Ask<'_>, cancel: &Cancel) -> Result<Response, DistributionError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let response = self.send_once(&mut ask, cancel)?;
            let status = response.status();
            let can_repeat = !matches!(ask.body, Body::Stream(..)) && attempt < ATTEMPTS;
            if !matches!(status, 429 | 502 | 503 | 504) {
                return Ok(response);
            }
            let wait = asked_wait(&response).unwrap_or(FIRST_WAIT * 2_u32.pow(attempt - 1));
            if !can_repeat || wait > LONGEST_WAIT {
                return Err(refusal(response, ask.method, &ask.url));
            }
            response.forget();
            pause(wait, cancel)?;
        }
    }

    fn send_once(&self, ask: &mut Ask<'_>, cancel: &Cancel) -> Result<Response, DistributionError> {
        let mut answered = 0;
        loop {
            let own = ask.url.origin == self.origin();
            let sent = if own { self.auth.header(ask.scope) } else { None };
            let mut response = self.follow(ask, sent.as_deref(), cancel)?;
            // Only the registry itself hears who we are, and at most twice: a token may have ended meanwhile.
            let asks_us = response.status() == 401 && ask.url.origin == self.origin();
            if !asks_us || answered == 2 || matches!(ask.body, Body::Stream(..)) {
                return Ok(response);
            }
            answered += 1;
            let challenges = response.head.all("www-authenticate").map(str::to_owned).collect();
            let said = reason(&response.whole(MAX_REFUSAL).unwrap_or_default());
            let refusal = Refusal {
                origin: &ask.url.origin,
                sent: sent.as_deref(),
                challenges,
                method: ask.method,
                url: ask.url.to_string(),
                reason: said,
            };
            self.auth.answer(&refusal, ask.scope, &self.agent, cancel)?;
        }
    }

    /// Sends, and follows where the answer points to. Credentials stay with the server they belong to.
    fn follow(
        &self,
        ask: &mut Ask<'_>,
        authorization: Option<&str>,
        cancel: &Cancel,
    ) -> Result<Response, DistributionError> {
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = ask.headers.clone();
            if let Some(value) = authorization.filter(|_| url.origin == ask.url.origin) {
                headers.push(("Authorization", value.to_owned()));
            }
            let response = self.exchange(ask, &mut url, headers, cancel)?;
            let redirected = match response.status() {
                301..=303 => matches!(ask.method, "GET" | "HEAD"),
                307 | 308 => !matches!(ask.body, Body::Stream(..)),
                _ => false,
            };
            let location = response.header("location").filter(|_| redirected).map(str::to_owned);
            let Some(location) = location else { return Ok(response) };
            let next = url.join(&location);
            response.forget();
            url = next.ok_or_else(|| DistributionError::Invalid(format!("{url} redirects to {location:?}")))?;
        }
        Err(DistributionError::Invalid(format!("{} redirects more than {MAX_REDIRECTS} times", ask.url)))
    }

    /// One request, first encrypted and, where that is allowed and nothing else is spoken, plain.
    fn exchange(
        &self,
        ask: &mut Ask<'_>,
        url: &mut Url,
        headers: Vec<(&'static str, String)>,
        cancel: &Cancel,
    ) -> Result<Response, DistributionError> {
        let body = match &mut ask.body {
            Body::Nothing => Body::Nothing,
            Body::Bytes(bytes) => Body::Bytes(bytes),
            Body::Stream(source, length) => Body::Stream(&mut **source, *length),
        };
        let mut request = Request { method: ask.method, url: url.clone(), headers, body };
        let failed = |source, url: &Url| {
            if cancel.is_cancelled() {
                return DistributionError::Cancelled;
            }
            DistributionError::Request { method: go_method(ask.method), url: url.to_string(), source }
        };
        let may_be_plain = self.endpoint.may_be_plain && url.origin == self.endpoint.origin;
        match self.agent.send(&mut request, cancel) {
            Ok(response) => Ok(response),
            Err(SendError::NotTls(_)) if may_be_plain => {
                self.scheme.set_plain(true);
                url.origin = plain(&url.origin);
                ask.url.origin = plain(&ask.url.origin);
                request.url = url.clone();
                // Who we are is told only when the server asks for it again.
                request.headers.retain(|(name, _)| *name != "Authorization");
                self.agent.send(&mut request, cancel).map_err(|error| match error {
                    SendError::Io(source) | SendError::NotTls(source) => failed(source, url),
                })
            }
            Err(SendError::Io(source) | SendError::NotTls(source)) => {
                // Next time it may be another server that answers there.
                if self.endpoint.origin.secure {
                    self.scheme.set_plain(false);
                }
                Err(failed(source, url))
            }
        }
    }
}

/// The same server without encryption; without a port of its own it is at the usual one.
fn plain(origin: &Origin) -> Origin {
    let port = if origin.port == 443 { 80 } else { origin.port };
    Origin { secure: false, host: origin.host.clone(), port }
}

/// How long `Retry-After` says to wait. RFC 9110, section 10.2.3.
fn asked_wait(response: &Response) -> Option<Duration> {
    retry_after(response.header("retry-after")?, response.header("date"), SystemTime::now())
}

/// A number of seconds, or a date: the time from the server's own `Date` until then, whose clock may not be ours.
fn retry_after(value: &str, date: Option<&str>, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = http_date(value)?;
    let now = date.and_then(http_date).unwrap_or(now);
    Some(until.duration_since(now).unwrap_or_default())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that is still written. RFC 9110, section 5.6.7.
fn http_date(text: &str) -> Option<SystemTime> {
    // "GMT" is an obsolete zone of the mail format, which says the same otherwise.
    let text = text.trim().replace("GMT", "+0000");
    jiff::fmt::rfc2822::parse(&text).ok().map(|moment| moment.timestamp().into())
}

/// Waits, unless nobody wants it any more.
pub(crate) fn pause(wait: Duration, cancel: &Cancel) -> Result<(), DistributionError> {
    let until = Instant::now() + wait;
    while Instant::now() < until {
        if cancel.is_cancelled() {
            return Err(DistributionError::Cancelled);
        }
        thread::sleep(Duration::from_millis(20).min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// What an answer means that is none of those hoped for.
pub(crate) fn refusal(mut response: Response, method: &str, url: &Url) -> DistributionError {
    let status = response.status();
    let reason = reason(&response.whole(MAX_REFUSAL).unwrap_or_default());
    let (method, url) = (method.to_owned(), url.to_string());
    match status {
        401 => DistributionError::Refused { method, url, reason },
        403 => DistributionError::Denied { reason: if reason.is_empty() { "denied".to_owned() } else { reason } },
        404 => DistributionError::NotFound(if reason.is_empty() { url } else { reason }),
        429 => DistributionError::RateLimited { method, url, reason },
        other => DistributionError::Status { method, url, status: Status(other), reason },
    }
}

impl Session {
    /// How the server wants to know who asks; `None` if it does not.
    pub fn challenge(&self, cancel: &Cancel) -> Result<Option<crate::challenge::Challenge>, DistributionError> {
        let mut ask = Ask::new("GET", self.url(""), "");
        let response = self.follow(&mut ask, None, cancel)?;
        let challenge = match response.status() {
            401 => crate::challenge::Challenge::first(response.head.all("www-authenticate")),
            _ => None,
        };
        response.forget();
        Ok(challenge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_in_seconds_or_by_a_date_how_long_to_wait() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let (date, later) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:07 GMT");
        let wait = |value, date| retry_after(value, date, now).map(|wait| wait.as_secs());
        assert_eq!(wait(" 12 ", None), Some(12));
        assert_eq!(wait(later, None), Some(30));
        assert_eq!(wait(date, None), Some(0));
        // Its clock is ten seconds ahead of ours.
        assert_eq!(wait(later, Some("Sun, 06 Nov 1994 08:49:47 GMT")), Some(20));
        assert_eq!(wait("Wed, 05 Nov 1994 00:00:00 GMT", None), None, "no such day");
        assert_eq!(wait("soon", None), None);
        assert_eq!(wait("-1", None), None);
    }
}
