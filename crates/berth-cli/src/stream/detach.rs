//! The keys that detach a terminal, and the filter that finds them in what is typed.

/// Ctrl-P Ctrl-Q, when nobody says otherwise (B039).
const DEFAULT: [u8; 2] = [16, 17];

/// A sequence of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`, `a,b` and the like; an empty text is the default.
    pub fn parse(text: &str) -> Result<DetachKeys, String> {
        if text.is_empty() {
            return Ok(DetachKeys(DEFAULT.to_vec()));
        }
        let key =
            |word: &str| key(word).ok_or_else(|| format!("invalid detach keys ({text}): unknown character: '{word}'"));
        text.split(',').map(key).collect::<Result<_, _>>().map(DetachKeys)
    }
}

fn key(word: &str) -> Option<u8> {
    match *word.as_bytes() {
        [letter] => Some(letter),
        [b'c', b't', b'r', b'l', b'-', letter] => match letter {
            b'a'..=b'z' => Some(letter - b'a' + 1),
            b'@' => Some(0),
            b'['..=b'_' => Some(letter - b'@'),
            _ => None,
        },
        _ => None,
    }
}

/// Holds back what may be the beginning of the sequence, until it is or is not.
#[derive(Debug)]
pub(crate) struct DetachFilter {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachFilter {
    pub fn new(keys: DetachKeys) -> DetachFilter {
        DetachFilter { keys: keys.0, matched: 0 }
    }

    /// Passes typed bytes on to `out`; true when the sequence is complete, and then the rest is dropped.
    pub fn pass(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in typed {
            if byte != self.keys[self.matched] {
                out.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
            } else {
                out.push(byte);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_keys() {
        for (text, want) in [
            ("", Some(vec![16, 17])),
            ("ctrl-p,ctrl-q", Some(vec![16, 17])),
            ("a,ctrl-@,ctrl-[,ctrl-_", Some(vec![b'a', 0, 27, 31])),
            ("ctrl-\\", Some(vec![28])),
            ("foo", None),
            ("ctrl-1", None),
            ("a,,b", None),
        ] {
            assert_eq!(DetachKeys::parse(text).ok().map(|keys| keys.0), want, "{text}");
        }
    }

    fn check(typed: &[&[u8]], want: &[u8], detached: bool) {
        let mut filter = DetachFilter::new(DetachKeys(vec![16, 17]));
        let mut out = Vec::new();
        let found = typed.iter().any(|part| filter.pass(part, &mut out));
        assert_eq!((out.as_slice(), found), (want, detached), "{typed:?}");
    }

    #[test]
    fn the_sequence_is_found_over_pieces_and_anything_else_passes() {
        check(&[b"ab"], b"ab", false);
        check(&[b"a\x10\x11b"], b"a", true);
        check(&[b"a\x10", b"\x11"], b"a", true);
        check(&[b"\x10", b"x"], b"\x10x", false);
        check(&[b"\x10\x10\x11"], b"\x10", true);
        check(&[b"\x11"], b"\x11", false);
    }
}
