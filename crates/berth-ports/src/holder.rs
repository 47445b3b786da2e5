//! What is held for whom, and the answers to requests.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::bind::{Held, hold_all};
use crate::place::Place;

/// What is asked: one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Hold all of these or none.
    Hold { owner: String, places: Vec<Place>, limit: usize },
    /// Let go of everything of an owner.
    Release { owner: String },
    /// Tell for whom something is held.
    Owners,
}

/// The answer: one line of JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Done. Whether every place has a socket now, or some only had none in the way.
    Held { all: bool },
    /// The place at this position cannot be had.
    Refused { place: usize, errno: i32 },
    /// For whom something is held.
    Owners { owners: Vec<String> },
}

/// What a request changed beside the table: sockets to relay from, and owners whose relays end.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub relayed: Vec<(String, Held)>,
    pub released: Option<String>,
}

/// Every port that is held.
#[derive(Debug, Default)]
pub(crate) struct Holder {
    owners: BTreeMap<String, Vec<Held>>,
}

impl Holder {
    /// Whether nothing is held for anybody.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// Does what a request says.
    pub fn carry_out(&mut self, request: Request) -> (Answer, Change) {
        match request {
            Request::Hold { owner, places, limit } => self.hold(&owner, &places, limit),
            Request::Release { owner } => {
                self.owners.remove(&owner);
                (Answer::Held { all: true }, Change { released: Some(owner), ..Change::default() })
            }
            Request::Owners => (Answer::Owners { owners: self.owners.keys().cloned().collect() }, Change::default()),
        }
    }

    fn hold(&mut self, owner: &str, places: &[Place], limit: usize) -> (Answer, Change) {
        let held = match hold_all(places) {
            Ok(held) => held,
            Err((place, error)) => {
                let errno = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
                return (Answer::Refused { place, errno }, Change::default());
            }
        };
        let mut room = limit.saturating_sub(self.owners.values().map(Vec::len).sum());
        let mut change = Change::default();
        let mut all = true;
        let mine = self.owners.entry(owner.to_owned()).or_default();
        for one in held {
            if one.place.relay.is_some() {
                // Without its socket it would not work at all.
                change.relayed.push((owner.to_owned(), one));
            } else if room > 0 {
                room -= 1;
                mine.push(one);
            } else {
                all = false;
            }
        }
        (Answer::Held { all }, change)
    }
}

/// Reads a request; a line that is none is answered as a place that cannot be had.
pub(crate) fn read(line: &[u8]) -> io::Result<Request> {
    Ok(serde_json::from_slice(line)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Transport;

    fn places(count: u16) -> Vec<Place> {
        let address = "127.0.0.1".parse().unwrap();
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = |port| Place { transport: Transport::Tcp, address, port, relay: None };
        (0..count).map(|offset| place(first.saturating_sub(offset))).collect()
    }

    #[test]
    fn beyond_the_limit_ports_are_only_tried() {
        let mut holder = Holder::default();
        let wanted = places(2);
        let hold = |owner: &str, places: &[Place], limit| Request::Hold {
            owner: owner.into(),
            places: places.to_vec(),
            limit,
        };
        let (answer, _) = holder.carry_out(hold("a", &wanted[..1], 1));
        if matches!(answer, Answer::Refused { .. }) {
            return; // Somebody else took the port meanwhile.
        }
        assert_eq!(answer, Answer::Held { all: true });
        assert_eq!(holder.carry_out(hold("b", &wanted[1..], 1)).0, Answer::Held { all: false });
        let (refused, _) = holder.carry_out(hold("c", &wanted[..1], 9));
        assert!(matches!(refused, Answer::Refused { place: 0, .. }), "{refused:?}");
        assert_eq!(holder.carry_out(Request::Owners).0, Answer::Owners { owners: vec!["a".into(), "b".into()] });
        let (_, change) = holder.carry_out(Request::Release { owner: "a".into() });
        assert_eq!(change.released.as_deref(), Some("a"));
        holder.carry_out(Request::Release { owner: "b".into() });
        assert!(holder.is_empty());
    }
}
