//! Repositories that were seen with a blob: a registry can take it from there, so that it need not be sent again.
//!
//! It is a memory, not a promise: a registry may have forgotten the blob since, and then is sent it. So nobody waits for these records.

use std::sync::Arc;

use berth_model::Digest;
use rusqlite::params;

use crate::{
    Durability, Store, StoreError,
    database::{Database, Purpose},
};

pub(crate) const SCHEMA: &str = "
CREATE TABLE blob_origins (
    digest      TEXT NOT NULL,
    -- With its registry: docker.io/library/debian.
    repository  TEXT NOT NULL,
    -- When it was seen there last.
    seen        INTEGER NOT NULL,
    PRIMARY KEY (digest, repository)
) STRICT, WITHOUT ROWID;
";

/// The records of where blobs were seen.
#[derive(Clone)]
pub struct BlobOrigins {
    database: Arc<Database>,
}

impl Store {
    /// The records of where blobs were seen.
    #[must_use]
    pub fn blob_origins(&self) -> BlobOrigins {
        BlobOrigins { database: Arc::clone(self.of(Durability::Durable)) }
    }
}

impl BlobOrigins {
    /// Repositories that were seen with a blob, the latest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn of(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT repository FROM blob_origins WHERE digest = ?1 ORDER BY seen DESC, repository",
            )?;
            let rows = statement.query_map([digest.as_str()], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Remembers that a repository has blobs. `seen` is in nanoseconds since 1970.
    pub fn note(&self, digests: Vec<Digest>, repository: String, seen: i64) {
        let note = move |tx: &rusqlite::Transaction<'_>| {
            let mut insert = tx.prepare_cached(
                "INSERT INTO blob_origins (digest, repository, seen) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET seen = excluded.seen",
            )?;
            Ok(digests
                .iter()
                .try_for_each(|digest| insert.execute(params![digest.as_str(), repository, seen]).map(drop))?)
        };
        self.database.submit(Purpose::Keep, note, drop);
    }

    /// Forgets blobs that are not here any more.
    pub fn forget(&self, digests: Vec<Digest>) {
        let forget = move |tx: &rusqlite::Transaction<'_>| {
            let mut delete = tx.prepare_cached("DELETE FROM blob_origins WHERE digest = ?1")?;
            Ok(digests.iter().try_for_each(|digest| delete.execute([digest.as_str()]).map(drop))?)
        };
        self.database.submit(Purpose::Release, forget, drop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_repository_comes_first_until_the_blob_is_gone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let digest = |byte: u8| Digest::sha256(&[byte; 32]);
        {
            let origins = Store::open(dir.path(), dir.path()).expect("open").blob_origins();
            origins.note(vec![digest(1), digest(2)], "r/a".to_owned(), 1);
            origins.note(vec![digest(1)], "r/b".to_owned(), 2);
            origins.note(vec![digest(1)], "r/a".to_owned(), 3);
        }
        // What nobody waited for is there once the store is closed.
        {
            let origins = Store::open(dir.path(), dir.path()).expect("open").blob_origins();
            assert_eq!(origins.of(&digest(1)).expect("read"), ["r/a", "r/b"]);
            origins.forget(vec![digest(1)]);
        }
        let origins = Store::open(dir.path(), dir.path()).expect("open").blob_origins();
        assert_eq!((origins.of(&digest(1)).expect("read").len(), origins.of(&digest(2)).expect("read").len()), (0, 1));
    }
}
