//! Images that somebody has mounted: which one is where.
//!
//! A mount ends with the boot at the latest, so its record is transient. It is what keeps the image's layers from being collected, whoever made
//! the mount, and whether or not an engine runs.

use std::sync::Arc;

use berth_model::Digest;
use rusqlite::{Row, params};

use crate::{
    Durability, Store, StoreError,
    database::{Database, Purpose},
};

pub(crate) const SCHEMA: &str = "
CREATE TABLE image_mounts (
    -- The directory, in the mount namespace of whoever mounted it.
    target    TEXT PRIMARY KEY,
    -- The image's id.
    image     TEXT NOT NULL,
    -- The manifest whose layers are shown.
    manifest  TEXT NOT NULL,
    -- What it was asked for by.
    name      TEXT NOT NULL
) STRICT;
";

/// A mounted image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageMountRow {
    /// The directory.
    pub target: String,
    /// The image's id.
    pub image: Digest,
    /// The manifest whose layers are shown.
    pub manifest: Digest,
    /// What it was asked for by.
    pub name: String,
}

/// The records of mounted images.
#[derive(Clone)]
pub struct ImageMounts {
    database: Arc<Database>,
}

impl Store {
    /// The records of mounted images.
    #[must_use]
    pub fn image_mounts(&self) -> ImageMounts {
        ImageMounts { database: Arc::clone(self.of(Durability::Transient)) }
    }
}

impl ImageMounts {
    /// All records, by directory.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn list(&self) -> Result<Vec<ImageMountRow>, StoreError> {
        self.database.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT target, image, manifest, name FROM image_mounts ORDER BY target")?;
            let rows = statement.query_map([], |row| {
                Ok(ImageMountRow {
                    target: row.get(0)?,
                    image: digest(row, 1)?,
                    manifest: digest(row, 2)?,
                    name: row.get(3)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Adds a record, unless there is one of that directory. Tells whether it was added.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn insert(&self, row: ImageMountRow) -> Result<bool, StoreError> {
        self.database.write(Purpose::Keep, move |tx| {
            let mut insert = tx.prepare_cached(
                "INSERT INTO image_mounts (target, image, manifest, name) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?;
            Ok(insert.execute(params![row.target, row.image.as_str(), row.manifest.as_str(), row.name])? == 1)
        })
    }

    /// Removes the record of a directory. Tells whether there was one.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn delete(&self, target: &str) -> Result<bool, StoreError> {
        let target = target.to_owned();
        self.database.write(Purpose::Release, move |tx| {
            Ok(tx.prepare_cached("DELETE FROM image_mounts WHERE target = ?1")?.execute([target])? == 1)
        })
    }
}

fn digest(row: &Row<'_>, column: usize) -> Result<Digest, rusqlite::Error> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_shows_one_image() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path(), dir.path()).expect("open");
        let mounts = store.image_mounts();
        let row = |target: &str, byte: u8| ImageMountRow {
            target: target.to_owned(),
            image: Digest::sha256(&[byte; 32]),
            manifest: Digest::sha256(&[byte; 32]),
            name: "app".to_owned(),
        };
        assert!(mounts.insert(row("/b", 1)).expect("insert"));
        assert!(mounts.insert(row("/a", 1)).expect("insert"));
        assert!(!mounts.insert(row("/a", 2)).expect("taken"));
        drop(store);
        // It outlives the engine.
        let mounts = Store::open(dir.path(), dir.path()).expect("open").image_mounts();
        assert_eq!(mounts.list().expect("list"), [row("/a", 1), row("/b", 1)]);
        assert!(mounts.delete("/a").expect("delete"));
        assert!(!mounts.delete("/a").expect("gone"));
    }
}
