//! Numbers that nobody can guess, drawn from the kernel many at a time.

use rustix::rand::{GetRandomFlags, getrandom};

/// A stock of random bytes.
#[derive(Debug)]
pub(crate) struct Random {
    stock: [u8; 256],
    left: usize,
}

impl Default for Random {
    fn default() -> Random {
        Random { stock: [0; 256], left: 0 }
    }
}

impl Random {
    /// An id for a query.
    pub(crate) fn id(&mut self) -> u16 {
        if self.left < 2 {
            self.refill();
        }
        self.left -= 2;
        u16::from_ne_bytes([self.stock[self.left], self.stock[self.left + 1]])
    }

    fn refill(&mut self) {
        // Up to 256 bytes come whole; a kernel that has just booted may make us wait for the first.
        while !matches!(getrandom(&mut self.stock, GetRandomFlags::empty()), Ok(256)) {}
        self.left = self.stock.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        let mut random = Random::default();
        let ids: std::collections::HashSet<u16> = (0..1000).map(|_| random.id()).collect();
        assert!(ids.len() > 900, "{}", ids.len());
    }
}
