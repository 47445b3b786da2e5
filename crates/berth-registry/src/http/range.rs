//! The `Range` header: which parts of a blob are asked for. RFC 9110, section 14.

/// Ranges in one request that are answered one by one; more are answered with the whole, as section 14.2 allows.
const MAX_RANGES: usize = 16;

/// A part: first byte, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub offset: u64,
    /// How many bytes; never none.
    pub length: u64,
}

impl Span {
    /// `bytes FIRST-LAST/SIZE`.
    pub fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.offset, self.offset + self.length - 1)
    }
}

/// What a `Range` header means for content of some size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: there is no such header, or one that is to be ignored.
    Whole,
    /// These parts, in the order asked for.
    Parts(Vec<Span>),
    /// Nothing of what was asked for exists.
    Nothing,
}

/// Reads the header for content of `size` bytes.
pub fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(list) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Wanted::Whole };
    let mut spans = Vec::new();
    for (count, text) in list.split(',').map(str::trim).filter(|text| !text.is_empty()).enumerate() {
        match span(text, size) {
            None => return Wanted::Whole,
            Some(_) if count >= MAX_RANGES => return Wanted::Whole,
            Some(found) => spans.extend(found),
        }
    }
    // Overlapping parts would let a small request draw a large answer.
    if spans.iter().map(|span| span.length).sum::<u64>() > size {
        return Wanted::Whole;
    }
    if spans.is_empty() { Wanted::Nothing } else { Wanted::Parts(spans) }
}

/// `None` if it is no range; `Some(None)` if it is one beyond the end.
fn span(text: &str, size: u64) -> Option<Option<Span>> {
    let (first, last) = text.split_once('-')?;
    if first.is_empty() {
        let length = number(last)?.min(size);
        return Some((length > 0).then_some(Span { offset: size - length, length }));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    // Wrong, and so could be ignored; but whoever asks for it does not expect the whole (the conformance suite, for one).
    if last < first {
        return Some(None);
    }
    let end = last.saturating_add(1).min(size);
    Some((first < end).then(|| Span { offset: first, length: end - first }))
}

/// Digits only; what is too large is as large as can be.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_mean_what_the_standard_says() {
        let parts =
            |list: &[(u64, u64)]| Wanted::Parts(list.iter().map(|&(offset, length)| Span { offset, length }).collect());
        for (header, expected) in [
            ("bytes=0-0", parts(&[(0, 1)])),
            ("bytes=2-5", parts(&[(2, 4)])),
            ("bytes=2-", parts(&[(2, 8)])),
            ("bytes=-3", parts(&[(7, 3)])),
            ("bytes=-30", parts(&[(0, 10)])),
            ("bytes=9-99999999999999999999999", parts(&[(9, 1)])),
            ("bytes=0-1, 8-9", parts(&[(0, 2), (8, 2)])),
            ("bytes=0-1,50-60", parts(&[(0, 2)])),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=", Wanted::Nothing),
            ("bytes=5-2", Wanted::Nothing),
            ("bytes=a-2", Wanted::Whole),
            ("bytes=1", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
            ("bytes=0-,0-,0-", Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), 10), expected, "{header}");
        }
        assert_eq!(wanted(Some("bytes=0-0"), 0), Wanted::Nothing);
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(Span { offset: 2, length: 4 }.content_range(10), "bytes 2-5/10");
    }
}
