//! Images that were asked for by name a moment ago: most containers are made from the image that the last one was made from.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::ImageRow;

/// So many are remembered.
const MOST: usize = 64;

/// What was read, and the number of changes before it was read.
#[derive(Default)]
pub(crate) struct KnownNames(Mutex<Known>);

#[derive(Default)]
struct Known {
    changes: u64,
    rows: HashMap<String, ImageRow>,
}

impl KnownNames {
    /// The image of a full name, if it was read since the last of so many changes.
    pub(crate) fn get(&self, changes: u64, name: &str) -> Option<ImageRow> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.changes == changes { known.rows.get(name).cloned() } else { None }
    }

    /// Remembers what was read after so many changes. Nothing older takes the place of what is newer.
    pub(crate) fn put(&self, changes: u64, name: &str, row: &ImageRow) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.changes > changes {
            return;
        }
        if known.changes < changes || known.rows.len() >= MOST {
            known.rows.clear();
            known.changes = changes;
        }
        known.rows.insert(name.to_owned(), row.clone());
    }
}

#[cfg(test)]
mod tests {
    use berth_model::Digest;

    use super::*;

    fn row(byte: u8) -> ImageRow {
        let digest = Digest::sha256(&[byte; 32]);
        ImageRow { digest, descriptor: String::new(), created: 0, summary: None, names: Vec::new() }
    }

    #[test]
    fn a_change_makes_everything_unknown() {
        let known = KnownNames::default();
        known.put(1, "a", &row(1));
        assert_eq!(known.get(1, "a"), Some(row(1)));
        assert_eq!(known.get(2, "a"), None);
        known.put(2, "b", &row(2));
        known.put(1, "a", &row(1));
        assert_eq!((known.get(2, "a"), known.get(1, "a"), known.get(2, "b")), (None, None, Some(row(2))));
    }

    #[test]
    fn no_more_than_some_are_remembered() {
        let known = KnownNames::default();
        (0..=MOST).for_each(|n| known.put(0, &n.to_string(), &row(1)));
        assert_eq!((known.get(0, "0"), known.get(0, &MOST.to_string())), (None, Some(row(1))));
    }
}
