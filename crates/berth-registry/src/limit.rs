//! How much one client may ask for: requests, pulls and bytes in a span of time.
//!
//! Each limit is a bucket that fills evenly, `100/6h` one more every 216 seconds, so that nobody has to wait for the end of a window with
//! everybody else. Clients are known by their name if they have shown a password, or else by their address; of IPv6 by the network of a site.

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use berth_model::{ByteSize, parse_go_duration};

use crate::{
    auth::Caller,
    http::{connection::Peer, response::Response},
    refusal::{Code, Refusal},
};

/// Clients that are remembered before those are forgotten whose bucket is full again.
const REMEMBERED: usize = 4096;

/// So much in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    amount: u64,
    window: Duration,
}

/// A text that is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid limit {0:?}: it must be AMOUNT/TIME, such as 100/6h, or 10GB/1h where bytes are counted")]
pub struct InvalidRate(String);

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let invalid = || InvalidRate(text.to_owned());
        let (amount, window) = text.split_once('/').ok_or_else(invalid)?;
        let amount = amount.parse::<ByteSize>().map_err(|_| invalid())?.bytes();
        let window = parse_go_duration(window).map_err(|_| invalid())?;
        if amount == 0 || window.is_zero() { Err(invalid()) } else { Ok(Self { amount, window }) }
    }
}

impl fmt::Display for Rate {
    /// As docker.io writes it in its headers: the window in seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};w={}", self.amount, self.window.as_secs().max(1))
    }
}

/// What one limit has counted.
pub struct Limit {
    rate: Rate,
    /// By client: the moment at which its bucket is full again.
    full_at: Mutex<HashMap<String, Instant>>,
}

/// How long to wait for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted(Duration);

impl Limit {
    /// With every bucket full.
    pub fn new(rate: Rate) -> Self {
        Self { rate, full_at: Mutex::default() }
    }

    /// Takes one from a client's bucket; gives how many are left.
    fn take(&self, client: &str, now: Instant) -> Result<u64, Exhausted> {
        let mut table = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = table.get(client).copied().unwrap_or(now).max(now) + self.time_of(1);
        if let Some(wait) = (full_at - now).checked_sub(self.rate.window).filter(|wait| !wait.is_zero()) {
            return Err(Exhausted(wait));
        }
        remember(&mut table, client, full_at, now);
        Ok(self.left(full_at, now))
    }

    /// How many are left in a client's bucket.
    ///
    /// # Errors
    /// [`Exhausted`] if there is none.
    fn look(&self, client: &str, now: Instant) -> Result<u64, Exhausted> {
        let table = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = table.get(client).copied().unwrap_or(now).max(now);
        match (full_at + self.time_of(1) - now).checked_sub(self.rate.window) {
            Some(wait) if !wait.is_zero() => Err(Exhausted(wait)),
            _ => Ok(self.left(full_at, now)),
        }
    }

    /// Takes what was used, also more than there is: the next one waits for it.
    fn spend(&self, client: &str, amount: u64, now: Instant) {
        let mut table = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = table.get(client).copied().unwrap_or(now).max(now) + self.time_of(amount);
        remember(&mut table, client, full_at, now);
    }

    /// How long it takes until so many are in the bucket again.
    fn time_of(&self, amount: u64) -> Duration {
        let nanos = self.rate.window.as_nanos() * u128::from(amount) / u128::from(self.rate.amount);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4).min(u64::MAX / 4))
    }

    fn left(&self, full_at: Instant, now: Instant) -> u64 {
        let free = self.rate.window.saturating_sub(full_at - now);
        u64::try_from(free.as_nanos() * u128::from(self.rate.amount) / self.rate.window.as_nanos()).unwrap_or(u64::MAX)
    }
}

fn remember(table: &mut HashMap<String, Instant>, client: &str, full_at: Instant, now: Instant) {
    if table.len() >= REMEMBERED {
        table.retain(|_, full_at| *full_at > now);
    }
    table.insert(client.to_owned(), full_at);
}

/// The limits of a registry.
#[derive(Default)]
pub struct Limits {
    /// Requests of an address, whoever asks.
    pub requests: Option<Limit>,
    /// Manifests that a client fetches.
    pub pulls: Option<Limit>,
    /// Bytes of blobs that a client fetches.
    pub bytes: Option<Limit>,
}

impl Limits {
    /// Counts a request, before anything is looked at: also a wrong password is one.
    ///
    /// # Errors
    /// 429.
    pub fn admit(&self, peer: &Peer) -> Result<(), Refusal> {
        let Some(limit) = self.requests.as_ref().filter(|_| !peer.is_owner) else { return Ok(()) };
        let taken = limit.take(&address(peer), Instant::now());
        taken.map(drop).map_err(|wait| refused(limit, wait, "requests", &address(peer)))
    }

    /// Counts a manifest that is fetched, or only looked at; gives what the answer says about it.
    ///
    /// # Errors
    /// 429.
    pub fn pull(&self, peer: &Peer, caller: &Caller, counts: bool) -> Result<Option<Pulls>, Refusal> {
        let Some(limit) = self.pulls.as_ref().filter(|_| !peer.is_owner) else { return Ok(None) };
        let (client, now) = (client(peer, caller), Instant::now());
        let left = match counts {
            true => limit.take(&client, now).map_err(|wait| refused(limit, wait, "pulls", &client))?,
            false => limit.look(&client, now).unwrap_or(0),
        };
        Ok(Some(Pulls { rate: limit.rate, left, client }))
    }

    /// Lets a blob be fetched if there are bytes left.
    ///
    /// # Errors
    /// 429.
    pub fn may_fetch(&self, peer: &Peer, caller: &Caller) -> Result<(), Refusal> {
        let Some(limit) = self.bytes.as_ref().filter(|_| !peer.is_owner) else { return Ok(()) };
        let client = client(peer, caller);
        limit.look(&client, Instant::now()).map(drop).map_err(|wait| refused(limit, wait, "bytes", &client))
    }

    /// Counts the bytes of a blob.
    pub fn fetched(&self, peer: &Peer, caller: &Caller, bytes: u64) {
        if let Some(limit) = self.bytes.as_ref().filter(|_| !peer.is_owner) {
            limit.spend(&client(peer, caller), bytes, Instant::now());
        }
    }
}

/// What the answer to a pull says about further ones.
pub struct Pulls {
    rate: Rate,
    left: u64,
    client: String,
}

impl Pulls {
    /// Adds the headers that docker.io made usual.
    pub fn tell(&self, response: Response) -> Response {
        let window = self.rate.window.as_secs().max(1);
        response
            .with("RateLimit-Limit", self.rate.to_string())
            .with("RateLimit-Remaining", format!("{};w={window}", self.left))
            .with("Docker-RateLimit-Source", self.client.clone())
    }
}

fn refused(limit: &Limit, Exhausted(wait): Exhausted, what: &str, client: &str) -> Refusal {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let window = limit.rate.window.as_secs().max(1);
    let message = format!(
        "toomanyrequests: {client} has reached its limit of {} {what} in {window} seconds: try again in {seconds} seconds",
        limit.rate.amount
    );
    Refusal::new(Code::TooManyRequests, message)
        .with("Retry-After", seconds.to_string())
        .with("RateLimit-Limit", limit.rate.to_string())
        .with("RateLimit-Remaining", format!("0;w={window}"))
}

fn client(peer: &Peer, caller: &Caller) -> String {
    match caller {
        Caller::User(name) | Caller::Token { user: Some(name), .. } => {
            // It goes into a header.
            name.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
        }
        Caller::Anonymous | Caller::Token { user: None, .. } => address(peer),
    }
}

/// Of IPv6 everybody has a network of addresses.
fn address(peer: &Peer) -> String {
    match peer.address.parse::<SocketAddr>().map(|address| address.ip().to_canonical()) {
        Ok(IpAddr::V4(address)) => address.to_string(),
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).to_string()
        }
        Err(_) => "local".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer { address: address.to_owned(), is_owner: false, scheme: "http" }
    }

    #[test]
    fn a_bucket_fills_evenly() {
        let limit = Limit::new("4/8s".parse().expect("a rate"));
        let now = Instant::now();
        let at = |seconds: u64| now + Duration::from_secs(seconds);
        for left in [3, 2, 1, 0] {
            assert_eq!(limit.take("a", at(0)), Ok(left));
        }
        assert_eq!(limit.take("a", at(0)), Err(Exhausted(Duration::from_secs(2))));
        assert_eq!(limit.take("b", at(0)), Ok(3), "another client");
        assert_eq!(limit.take("a", at(1)), Err(Exhausted(Duration::from_secs(1))));
        assert_eq!(limit.take("a", at(2)), Ok(0));
        assert_eq!(limit.look("a", at(100)), Ok(4));
        // What was used beyond it is waited for.
        limit.spend("a", 6, at(100));
        assert_eq!(limit.look("a", at(100)), Err(Exhausted(Duration::from_secs(6))));
        assert_eq!(limit.look("a", at(106)), Ok(1));
    }

    #[test]
    fn rates_are_amounts_in_a_time() {
        let shown = |text: &str| text.parse::<Rate>().map(|rate| rate.to_string()).ok();
        assert_eq!(shown("100/6h").as_deref(), Some("100;w=21600"));
        assert_eq!(shown("10k/500ms").as_deref(), Some("10240;w=1"));
        for text in ["", "100", "/6h", "0/6h", "1/0s", "-1/1s", "1/h"] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn clients_are_known_by_name_or_address() {
        assert_eq!(client(&peer("10.0.0.1:5"), &Caller::Anonymous), "10.0.0.1");
        assert_eq!(client(&peer("[::ffff:10.0.0.1]:5"), &Caller::Anonymous), "10.0.0.1");
        assert_eq!(client(&peer("[2001:db8:1:2:3::4]:5"), &Caller::Anonymous), "2001:db8:1:2::");
        assert_eq!(client(&peer("unix"), &Caller::Anonymous), "local");
        assert_eq!(client(&peer("10.0.0.1:5"), &Caller::User("ann".to_owned())), "ann");
    }
}
