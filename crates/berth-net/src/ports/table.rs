//! Who has which port of the host, between two looks at the records.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::published::PublishedPort;

/// Every range that somebody has or is about to get. The lock is held for look-ups only.
#[derive(Debug)]
pub(crate) struct PortTable {
    state: Mutex<State>,
    /// Where ports come from that nobody chose.
    free: (u16, u16),
}

#[derive(Debug)]
struct State {
    held: Vec<PublishedPort>,
    /// The port that was given last: a port that was just given back is not given again soon.
    last: u16,
}

/// Where ports come from when the kernel does not say.
const FREE: (u16, u16) = (49153, 65535);

impl PortTable {
    /// A table of what the records hold. Read in the network namespace of the host: its setting says which ports are free
    /// to be given.
    pub fn new(held: Vec<PublishedPort>) -> PortTable {
        let free = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok().and_then(|text| range(&text));
        let free = free.unwrap_or(FREE);
        PortTable { state: Mutex::new(State { held, last: free.1 }), free }
    }

    /// Takes every range, or none: then the position of the first that overlaps with somebody's is given.
    pub fn take(&self, wanted: &[PublishedPort]) -> Result<(), usize> {
        let mut state = self.lock();
        for (position, one) in wanted.iter().enumerate() {
            if state.held.iter().any(|held| held.overlaps(one)) {
                return Err(position);
            }
        }
        state.held.extend_from_slice(wanted);
        Ok(())
    }

    /// Writes again what is known of ranges that were taken.
    pub fn update(&self, ranges: &[PublishedPort]) {
        for held in &mut self.lock().held {
            if let Some(newer) = ranges.iter().find(|one| one.overlaps(held)) {
                held.clone_from(newer);
            }
        }
    }

    /// Gives back what leads to an endpoint.
    pub fn give_back(&self, endpoint: &berth_model::HexId) {
        self.lock().held.retain(|held| held.endpoint != *endpoint);
    }

    /// Everything that somebody has.
    pub fn all(&self) -> Vec<PublishedPort> {
        self.lock().held.clone()
    }

    /// What leads to an endpoint.
    pub fn of(&self, endpoint: &berth_model::HexId) -> Vec<PublishedPort> {
        self.lock().held.iter().filter(|held| held.endpoint == *endpoint).cloned().collect()
    }

    /// The ports that may be given to whoever minds none, from the one after the last that was given.
    pub fn candidates(&self) -> impl Iterator<Item = u16> + use<> {
        let (first, last) = self.free;
        let start = self.lock().last.saturating_add(1).max(first);
        let start = if start > last { first } else { start };
        (start..=last).chain(first..start)
    }

    /// Notes that a port was given to somebody who minded none.
    pub fn given(&self, port: u16) {
        self.lock().last = port;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is a single step on a collection, so a thread that panicked left nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace().map(|word| word.parse::<u16>().ok());
    let (first, last) = (words.next()??, words.next()??);
    (first > 0 && first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Way;
    use berth_ports::Transport;

    fn port(endpoint: char, address: &str, first: u16, last: u16) -> PublishedPort {
        let id = |c: char| c.to_string().repeat(64);
        PublishedPort {
            endpoint: id(endpoint).parse().unwrap(),
            container: id(endpoint).parse().unwrap(),
            transport: Transport::Tcp,
            address: address.parse().unwrap(),
            first,
            last,
            target: "172.17.0.2".parse().unwrap(),
            target_first: 80,
            way: Way::Translated,
            held: true,
        }
    }

    #[test]
    fn all_or_none_are_taken() {
        let table = PortTable::new(vec![port('a', "0.0.0.0", 80, 89)]);
        let wanted = [port('b', "127.0.0.1", 100, 100), port('b', "127.0.0.1", 85, 85)];
        assert_eq!(table.take(&wanted), Err(1));
        assert_eq!(table.take(&wanted[..1]), Ok(()));
        assert_eq!(table.take(&[port('c', "::", 80, 89)]), Ok(()));
        table.give_back(&"a".repeat(64).parse().unwrap());
        assert_eq!(table.take(&wanted[1..]), Ok(()));
        assert_eq!(table.of(&"b".repeat(64).parse().unwrap()).len(), 2);
    }

    #[test]
    fn a_port_that_was_given_comes_last() {
        let table = PortTable { state: Mutex::new(State { held: Vec::new(), last: 1003 }), free: (1000, 1003) };
        assert_eq!(table.candidates().collect::<Vec<_>>(), [1000, 1001, 1002, 1003]);
        table.given(1001);
        assert_eq!(table.candidates().collect::<Vec<_>>(), [1002, 1003, 1000, 1001]);
        assert_eq!(range("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(range("9 1"), None);
    }
}
