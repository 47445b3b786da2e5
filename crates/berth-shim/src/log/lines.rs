//! Cuts a stream of output into the pieces that become log records.

/// Longest piece: a longer line comes in several, all but the last without a line break.
pub const MAX_PIECE: usize = 16 * 1024;

/// Cuts one stream. A piece is a line with its line break, 16 KiB of a longer line, or what is left at the end.
#[derive(Debug, Default)]
pub struct Lines {
    pending: Vec<u8>,
    /// The time of a long line's first piece: all its pieces carry it.
    since: Option<i64>,
}

impl Lines {
    /// Takes bytes as they came; `piece` is given each whole piece with its time in nanoseconds.
    pub fn feed(&mut self, mut bytes: &[u8], now: i64, mut piece: impl FnMut(&[u8], i64)) {
        while !bytes.is_empty() {
            let room = MAX_PIECE - self.pending.len();
            let line = bytes.iter().take(room).position(|&byte| byte == b'\n');
            let (count, whole) = match line {
                Some(at) => (at + 1, true),
                None if bytes.len() >= room => (room, true),
                None => (bytes.len(), false),
            };
            let (taken, rest) = bytes.split_at(count);
            bytes = rest;
            if !whole {
                self.pending.extend_from_slice(taken);
                return;
            }
            let time = self.since.unwrap_or(now);
            if self.pending.is_empty() {
                piece(taken, time);
            } else {
                let mut held = std::mem::take(&mut self.pending);
                held.extend_from_slice(taken);
                piece(&held, time);
            }
            self.since = if line.is_some() { None } else { Some(time) };
        }
    }

    /// Gives what is left when the stream has ended.
    pub fn finish(&mut self, now: i64, mut piece: impl FnMut(&[u8], i64)) {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            piece(&rest, self.since.take().unwrap_or(now));
        }
    }

    /// The beginning of a line whose end has not come yet.
    pub fn unfinished(&self) -> &[u8] {
        &self.pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(parts: &[&[u8]]) -> Vec<(usize, bool, i64)> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        let mut note = |piece: &[u8], time| out.push((piece.len(), piece.ends_with(b"\n"), time));
        for (now, part) in (1..).zip(parts) {
            lines.feed(part, now, &mut note);
        }
        lines.finish(99, &mut note);
        out
    }

    #[test]
    fn lines_are_pieces() {
        assert_eq!(cut(&[b"one\ntwo\n"]), [(4, true, 1), (4, true, 1)]);
        assert_eq!(cut(&[b"on", b"e\nrest"]), [(4, true, 2), (4, false, 99)]);
        assert_eq!(cut(&[b"\n\n"]), [(1, true, 1), (1, true, 1)]);
        assert_eq!(cut(&[]), []);
    }

    #[test]
    fn a_long_line_comes_in_pieces_of_one_time() {
        let long = vec![b'x'; MAX_PIECE + 10];
        assert_eq!(cut(&[&long, b"y\n", b"z\n"]), [(MAX_PIECE, false, 1), (12, true, 1), (2, true, 3)]);
        let exact = vec![b'x'; MAX_PIECE];
        assert_eq!(cut(&[&exact, b"\n"]), [(MAX_PIECE, false, 1), (1, true, 1)]);
        let twice = vec![b'x'; 2 * MAX_PIECE];
        assert_eq!(cut(&[&twice]), [(MAX_PIECE, false, 1), (MAX_PIECE, false, 1)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(parts in prop::collection::vec((0usize..40_000, any::<bool>()), 0..12)) {
            let (mut lines, mut out, mut fed) = (Lines::default(), Vec::new(), Vec::new());
            for (length, ends) in parts {
                let mut part = vec![b'x'; length];
                if ends { part.push(b'\n'); }
                fed.extend_from_slice(&part);
                lines.feed(&part, 0, |piece, _| { assert!(piece.len() <= MAX_PIECE); out.extend_from_slice(piece) });
            }
            lines.finish(0, |piece, _| out.extend_from_slice(piece));
            prop_assert!(lines.unfinished().is_empty());
            prop_assert_eq!(out, fed);
        }
    }
}
