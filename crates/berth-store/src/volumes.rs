//! Volume records.

use std::sync::Arc;

use rusqlite::params;

use crate::{
    Store, StoreError,
    database::{Database, Purpose},
};

pub(crate) const SCHEMA: &str = "
CREATE TABLE volumes (
    name       TEXT PRIMARY KEY,
    driver     TEXT NOT NULL,
    -- JSON objects of text to text.
    labels     TEXT NOT NULL,
    options    TEXT NOT NULL,
    anonymous  INTEGER NOT NULL,
    -- RFC 3339.
    created    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// One volume's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRow {
    /// The name; 64 hex digits for an anonymous one.
    pub name: String,
    /// The driver's name.
    pub driver: String,
    /// A JSON object of text to text.
    pub labels: String,
    /// A JSON object of text to text.
    pub options: String,
    /// Made without a name.
    pub anonymous: bool,
    /// RFC 3339.
    pub created: String,
}

/// The volume records.
#[derive(Clone)]
pub struct Volumes {
    database: Arc<Database>,
}

impl Store {
    /// The volume records.
    #[must_use]
    pub fn volumes(&self) -> Volumes {
        Volumes { database: Arc::clone(self.of(crate::Durability::Durable)) }
    }
}

impl Volumes {
    /// All records, by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn list(&self) -> Result<Vec<VolumeRow>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT name, driver, labels, options, anonymous, created FROM volumes ORDER BY name",
            )?;
            let rows = statement
                .query_map([], |row| {
                    Ok(VolumeRow {
                        name: row.get(0)?,
                        driver: row.get(1)?,
                        labels: row.get(2)?,
                        options: row.get(3)?,
                        anonymous: row.get(4)?,
                        created: row.get(5)?,
                    })
                })?
                .collect::<Result<_, _>>()?;
            Ok(rows)
        })
    }

    /// Adds a record, and waits until it is on the disk. `false` if the name is held already.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn insert(&self, row: VolumeRow) -> Result<bool, StoreError> {
        self.database.write(Purpose::Keep, move |tx| {
            let added = tx
                .prepare_cached(
                    "INSERT INTO volumes (name, driver, labels, options, anonymous, created)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
                )?
                .execute(params![row.name, row.driver, row.labels, row.options, row.anonymous, row.created])?;
            Ok(added == 1)
        })
    }

    /// Removes a record. `false` if there was none.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn delete(&self, name: String) -> Result<bool, StoreError> {
        self.database.write(Purpose::Release, move |tx| {
            Ok(tx.prepare_cached("DELETE FROM volumes WHERE name = ?1")?.execute([name])? == 1)
        })
    }
}
