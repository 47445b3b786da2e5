//! Files with holes: GNU's old headers and its three PAX forms, brought to one map.

use crate::pax::{self, Record};

/// The pieces of a file that an archive carries, in order; everything between them is a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SparseMap {
    /// Offset in the file and length, in bytes.
    pub pieces: Vec<(u64, u64)>,
}

/// What a PAX header says about holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PaxSparse {
    /// Versions 0.0 and 0.1: the map is in the header.
    InHeader { map: SparseMap, real_size: u64 },
    /// Version 1.0: the map is the beginning of the data.
    InData { real_size: u64 },
}

/// How many pieces the map of a version 1.0 file may have; it is held in memory.
const MAX_PIECES: u64 = 1 << 18;

impl SparseMap {
    /// Checks that the pieces are in order, within the file, and together as long as the data.
    pub fn checked(pieces: Vec<(u64, u64)>, real_size: u64, data_size: u64) -> Result<Self, &'static str> {
        let mut end = 0_u64;
        let mut total = 0_u64;
        for (offset, length) in &pieces {
            if *offset < end {
                return Err("the pieces of a sparse file overlap");
            }
            end = offset.checked_add(*length).ok_or("a sparse file is too large")?;
            total += length;
        }
        if end > real_size || i64::try_from(real_size).is_err() {
            return Err("a piece of a sparse file lies behind its end");
        }
        if total != data_size {
            return Err("a sparse file's map does not fit its data");
        }
        Ok(Self { pieces: pieces.into_iter().filter(|(_, length)| *length > 0).collect() })
    }
}

/// Reads the `GNU.sparse.*` records, if there are any.
pub(crate) fn from_pax(records: &[Record], data_size: u64) -> Result<Option<PaxSparse>, &'static str> {
    let find = |key: &str| records.iter().rev().find(|r| r.key == key.as_bytes()).map(|r| r.value.as_slice());
    let size = |key: &str| match find(key) {
        Some(value) => pax::number::<u64>(value).ok_or("a sparse file's size is no number").map(Some),
        None => Ok(None),
    };
    if find("GNU.sparse.major").is_some_and(|major| major == b"1") {
        let real_size = size("GNU.sparse.realsize")?.ok_or("a sparse file has no size")?;
        return Ok(Some(PaxSparse::InData { real_size }));
    }
    let Some(real_size) = size("GNU.sparse.size")?.or(size("GNU.sparse.realsize")?) else {
        return Ok(None);
    };
    let numbers: Vec<u64> = match find("GNU.sparse.map") {
        Some(map) => map.split(|b| *b == b',').map(pax::number).collect::<Option<_>>(),
        None => records
            .iter()
            .filter(|r| r.key == b"GNU.sparse.offset" || r.key == b"GNU.sparse.numbytes")
            .map(|r| pax::number(&r.value))
            .collect(),
    }
    .ok_or("a sparse file's map is not made of numbers")?;
    let map = SparseMap::checked(pairs(&numbers)?, real_size, data_size)?;
    Ok(Some(PaxSparse::InHeader { map, real_size }))
}

/// Pairs of offset and length.
pub(crate) fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, &'static str> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if rest.is_empty() { Ok(pairs.iter().map(|[a, b]| (*a, *b)).collect()) } else { Err("a sparse file's map is cut") }
}

/// Reads lines of decimal numbers out of the blocks that begin a version 1.0 file: how many pieces, then offset and length of each.
#[derive(Default)]
pub(crate) struct MapText {
    line: Vec<u8>,
    wanted: Option<usize>,
    numbers: Vec<u64>,
}

impl MapText {
    /// Adds a block of 512 bytes; gives the numbers when the map is whole.
    pub fn add(&mut self, block: &[u8]) -> Result<Option<Vec<u64>>, &'static str> {
        for byte in block {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > 20 {
                    return Err("a sparse file's map is not made of numbers");
                }
                continue;
            }
            let number: u64 = pax::number(&self.line).ok_or("a sparse file's map is not made of numbers")?;
            self.line.clear();
            match self.wanted {
                Some(_) => self.numbers.push(number),
                None if number > MAX_PIECES => return Err("a sparse file's map is too long"),
                None => self.wanted = Some(number as usize * 2),
            }
            if self.wanted == Some(self.numbers.len()) {
                return Ok(Some(std::mem::take(&mut self.numbers)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        assert!(SparseMap::checked(vec![(0, 4), (8, 4), (100, 0)], 100, 8).is_ok());
        for (pieces, real, data) in [
            (vec![(4, 4), (0, 4)], 100, 8),
            (vec![(0, 8)], 4, 8),
            (vec![(0, 4)], 100, 8),
            (vec![(u64::MAX, 2)], u64::MAX, 2),
        ] {
            assert!(SparseMap::checked(pieces.clone(), real, data).is_err(), "{pieces:?}");
        }
    }

    #[test]
    fn a_map_in_the_data_may_span_blocks() {
        let mut text = MapText::default();
        assert_eq!(text.add(b"2\n0\n51"), Ok(None));
        assert_eq!(text.add(b"2\n1024\n5"), Ok(None));
        assert_eq!(text.add(b"\n\0\0\0"), Ok(Some(vec![0, 512, 1024, 5])));
        assert!(MapText::default().add(b"x\n").is_err());
        assert!(MapText::default().add(b"99999999999999\n").is_err());
    }
}
