//! Images and their names, unpacked layers, and leases on whatever is in the making.
//!
//! An image exists as long as its row does, with names or without ("dangling"). Content is kept while an image, a container or a lease
//! needs it; what that means is the image crate's to know. Times are nanoseconds since 1970.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, sync_channel},
    },
};

use berth_model::Digest;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::{
    Durability, Store, StoreError,
    database::{Database, Purpose},
    known_names::KnownNames,
};

pub(crate) const SCHEMA: &str = "
CREATE TABLE images (
    -- Of the manifest or index: the image's id.
    digest      TEXT PRIMARY KEY,
    -- JSON: the OCI descriptor that led to it.
    descriptor  TEXT NOT NULL,
    created     INTEGER NOT NULL,
    -- JSON: what the list of images tells, so that it need not read documents; NULL where it must.
    summary     TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE image_names (
    -- In full: docker.io/library/debian:latest.
    name    TEXT PRIMARY KEY,
    digest  TEXT NOT NULL REFERENCES images (digest) ON DELETE CASCADE,
    tagged  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX image_names_by_digest ON image_names (digest);
CREATE TABLE layers (
    -- The chain id; also the name of the directory.
    chain     TEXT PRIMARY KEY,
    -- The chain id below; NULL for a lowest layer.
    parent    TEXT,
    bytes     INTEGER NOT NULL,
    inodes    INTEGER NOT NULL,
    -- The boot it was unpacked in. Valid in that boot, and for ever once it is complete: synced to the disk.
    boot      TEXT NOT NULL,
    complete  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE leases (
    id       TEXT PRIMARY KEY,
    purpose  TEXT NOT NULL,
    created  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// One image's record, with its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRow {
    /// Of the manifest or index.
    pub digest: Digest,
    /// JSON: an OCI descriptor.
    pub descriptor: String,
    /// When it came here.
    pub created: i64,
    /// JSON of the image crate: what the list of images tells, where it can be told once and for all.
    pub summary: Option<String>,
    /// Its names, in order.
    pub names: Vec<ImageNameRow>,
}

/// One name of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageNameRow {
    /// In full.
    pub name: String,
    /// When it was given.
    pub tagged: i64,
}

/// An unpacked layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerRow {
    /// The chain id.
    pub chain: Digest,
    /// The chain id below.
    pub parent: Option<Digest>,
    /// Bytes on disk.
    pub bytes: u64,
    /// Files, directories and links.
    pub inodes: u64,
    /// The boot it was unpacked in.
    pub boot: String,
    /// Whether it was synced since.
    pub complete: bool,
}

/// A lease on whatever is in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// Unguessable.
    pub id: String,
    /// What is being done, for people.
    pub purpose: String,
    /// Since when: content younger than this is held.
    pub created: i64,
}

/// A record on its way to the disk. Records that are written after it get there after it.
#[must_use]
pub struct Recording(Receiver<Result<(), StoreError>>);

impl Recording {
    /// Waits until it is there.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn wait(self) -> Result<(), StoreError> {
        self.0.recv().unwrap_or(Err(StoreError::Closed))
    }
}

/// The records of images, layers and leases.
#[derive(Clone)]
pub struct ImageRecords {
    database: Arc<Database>,
    changes: Arc<AtomicU64>,
    known: Arc<KnownNames>,
}

impl Store {
    /// The records of images, layers and leases.
    #[must_use]
    pub fn images(&self) -> ImageRecords {
        ImageRecords {
            database: Arc::clone(self.of(Durability::Durable)),
            changes: Arc::clone(&self.image_changes),
            known: Arc::clone(&self.known_names),
        }
    }
}

impl ImageRecords {
    /// How often images or their names have changed since the store was opened: what was read is true while this stays the same.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Counts a change that is committed.
    fn changed(&self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        self.changes.fetch_add(1, Ordering::Release);
        result
    }

    /// All images with their names.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn list(&self) -> Result<Vec<ImageRow>, StoreError> {
        self.database.read(|connection| {
            let mut names: HashMap<String, Vec<ImageNameRow>> = HashMap::new();
            let mut statement =
                connection.prepare_cached("SELECT digest, name, tagged FROM image_names ORDER BY name")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let name = ImageNameRow { name: row.get(1)?, tagged: row.get(2)? };
                names.entry(row.get(0)?).or_default().push(name);
            }
            let mut statement = connection.prepare_cached("SELECT digest, descriptor, created, summary FROM images")?;
            let rows = statement.query_map([], |row| {
                let digest: Digest = parsed(row, 0)?;
                let names = names.remove(digest.as_str()).unwrap_or_default();
                Ok(ImageRow { digest, descriptor: row.get(1)?, created: row.get(2)?, summary: row.get(3)?, names })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// One image with its names.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn get(&self, digest: &Digest) -> Result<Option<ImageRow>, StoreError> {
        self.database.read(|connection| get(connection, digest))
    }

    /// The image of that full name.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn by_name(&self, name: &str) -> Result<Option<ImageRow>, StoreError> {
        // Counted before it is read: what changes meanwhile makes it unknown again.
        let changes = self.changes();
        if let Some(row) = self.known.get(changes, name) {
            return Ok(Some(row));
        }
        let found = self.database.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT digest FROM image_names WHERE name = ?1")?;
            match statement.query_row([name], |row| parsed(row, 0)).optional()? {
                Some(digest) => get(connection, &digest),
                None => Ok(None),
            }
        })?;
        if let Some(row) = &found {
            self.known.put(changes, name, row);
        }
        Ok(found)
    }

    /// Ids of images that begin with `prefix` (`sha256:` and some hex digits), two at most: enough to know whether it is ambiguous.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn by_prefix(&self, prefix: &str) -> Result<Vec<Digest>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT digest FROM images WHERE digest >= ?1 AND digest < ?1 || 'g' LIMIT 2")?;
            let rows = statement.query_map([prefix], |row| parsed(row, 0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Records an image and gives it names, which other images lose. What is recorded already stays as it is. Waits for the disk.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn put(&self, image: ImageRow) -> Result<(), StoreError> {
        let put = self.database.write(Purpose::Keep, move |tx| {
            tx.prepare_cached(
                "INSERT INTO images (digest, descriptor, created, summary) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?
            .execute(params![image.digest.as_str(), image.descriptor, image.created, image.summary])?;
            let mut name = tx.prepare_cached(
                "INSERT INTO image_names (name, digest, tagged) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET digest = excluded.digest, tagged = excluded.tagged",
            )?;
            for row in image.names {
                name.execute(params![row.name, image.digest.as_str(), row.tagged])?;
            }
            Ok(())
        });
        self.changed(put)
    }

    /// Takes names away and, if `image` is given, that image with whatever names it has left. Waits for the disk.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn remove(&self, names: Vec<String>, image: Option<Digest>) -> Result<(), StoreError> {
        let removed = self.database.write(Purpose::Release, move |tx| {
            let mut delete = tx.prepare_cached("DELETE FROM image_names WHERE name = ?1")?;
            for name in names {
                delete.execute([name])?;
            }
            if let Some(digest) = image {
                tx.prepare_cached("DELETE FROM images WHERE digest = ?1")?.execute([digest.as_str()])?;
            }
            Ok(())
        });
        self.changed(removed)
    }

    /// All unpacked layers.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn layers(&self) -> Result<Vec<LayerRow>, StoreError> {
        self.database.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT chain, parent, bytes, inodes, boot, complete FROM layers")?;
            let rows = statement.query_map([], layer)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// One unpacked layer.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn layer(&self, chain: &Digest) -> Result<Option<LayerRow>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT chain, parent, bytes, inodes, boot, complete FROM layers WHERE chain = ?1")?;
            Ok(statement.query_row([chain.as_str()], layer).optional()?)
        })
    }

    /// Records an unpacked layer, without waiting for the disk: the next layer can be unpacked meanwhile.
    pub fn put_layer(&self, row: LayerRow) -> Recording {
        let (tell, told) = sync_channel(1);
        self.database.submit(Purpose::Keep, move |tx| put_layer(tx, &row), move |result| drop(tell.send(result)));
        Recording(told)
    }

    /// Marks layers as synced to the disk.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn mark_layers_complete(&self, chains: Vec<Digest>) -> Result<(), StoreError> {
        self.database.write(Purpose::Release, move |tx| {
            let mut update = tx.prepare_cached("UPDATE layers SET complete = 1 WHERE chain = ?1")?;
            chains.iter().try_for_each(|chain| update.execute([chain.as_str()]).map(drop))?;
            Ok(())
        })
    }

    /// Forgets layers. Waits for the disk, so that their directories may go afterwards.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn delete_layers(&self, chains: Vec<Digest>) -> Result<(), StoreError> {
        self.database.write(Purpose::Release, move |tx| {
            let mut delete = tx.prepare_cached("DELETE FROM layers WHERE chain = ?1")?;
            chains.iter().try_for_each(|chain| delete.execute([chain.as_str()]).map(drop))?;
            Ok(())
        })
    }

    /// All leases.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn leases(&self) -> Result<Vec<LeaseRow>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT id, purpose, created FROM leases")?;
            let rows = statement
                .query_map([], |row| Ok(LeaseRow { id: row.get(0)?, purpose: row.get(1)?, created: row.get(2)? }))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Records a lease. Waits for the disk.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn put_lease(&self, row: LeaseRow) -> Result<(), StoreError> {
        self.database.write(Purpose::Keep, move |tx| {
            tx.prepare_cached("INSERT INTO leases (id, purpose, created) VALUES (?1, ?2, ?3)")?.execute(params![
                row.id,
                row.purpose,
                row.created
            ])?;
            Ok(())
        })
    }

    /// Gives a lease back, without waiting: one that stays behind holds a little content for a little longer.
    pub fn end_lease(&self, id: String) {
        self.database.submit(
            Purpose::Release,
            move |tx| Ok(tx.execute("DELETE FROM leases WHERE id = ?1", [id])?),
            drop,
        );
    }

    /// Gives all leases back: those that are found when the engine starts belong to operations that died with the last one.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn end_all_leases(&self) -> Result<(), StoreError> {
        self.database.write(Purpose::Release, |tx| Ok(tx.execute("DELETE FROM leases", []).map(drop)?))
    }
}

fn get(connection: &Connection, digest: &Digest) -> Result<Option<ImageRow>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT descriptor, created, summary FROM images WHERE digest = ?1")?;
    let found = statement.query_row([digest.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let Some((descriptor, created, summary)) = found else {
        return Ok(None);
    };
    let mut statement =
        connection.prepare_cached("SELECT name, tagged FROM image_names WHERE digest = ?1 ORDER BY name")?;
    let names =
        statement.query_map([digest.as_str()], |row| Ok(ImageNameRow { name: row.get(0)?, tagged: row.get(1)? }))?;
    let names = names.collect::<Result<_, _>>()?;
    Ok(Some(ImageRow { digest: digest.clone(), descriptor, created, summary, names }))
}

fn put_layer(tx: &Transaction<'_>, row: &LayerRow) -> Result<(), StoreError> {
    let size = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    tx.prepare_cached(
        "INSERT INTO layers (chain, parent, bytes, inodes, boot, complete) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET bytes = excluded.bytes, inodes = excluded.inodes, boot = excluded.boot, complete = excluded.complete",
    )?
    .execute(params![
        row.chain.as_str(),
        row.parent.as_ref().map(Digest::as_str),
        size(row.bytes),
        size(row.inodes),
        row.boot,
        row.complete
    ])?;
    Ok(())
}

fn layer(row: &Row<'_>) -> Result<LayerRow, rusqlite::Error> {
    let parent: Option<String> = row.get(1)?;
    let size = |column| row.get::<_, i64>(column).map(|n| u64::try_from(n).unwrap_or(0));
    Ok(LayerRow {
        chain: parsed(row, 0)?,
        parent: parent.map(|_| parsed(row, 1)).transpose()?,
        bytes: size(2)?,
        inodes: size(3)?,
        boot: row.get(4)?,
        complete: row.get(5)?,
    })
}

fn parsed(row: &Row<'_>, column: usize) -> Result<Digest, rusqlite::Error> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(dir: &tempfile::TempDir) -> ImageRecords {
        Store::open(dir.path(), dir.path()).expect("open").images()
    }

    fn digest(byte: u8) -> Digest {
        Digest::sha256(&[byte; 32])
    }

    fn image(byte: u8, names: &[&str]) -> ImageRow {
        let names = names.iter().map(|name| ImageNameRow { name: (*name).to_owned(), tagged: 5 }).collect();
        ImageRow { digest: digest(byte), descriptor: "{}".to_owned(), created: i64::from(byte), summary: None, names }
    }

    #[test]
    fn a_name_belongs_to_one_image_and_moves() {
        let dir = tempfile::tempdir().expect("temp dir");
        let records = records(&dir);
        records.put(image(1, &["a", "b"])).expect("put");
        records.put(image(2, &["b", "c"])).expect("put");
        assert_eq!(records.by_name("b").expect("read"), Some(image(2, &["b", "c"])));
        assert_eq!(records.get(&digest(1)).expect("read"), Some(image(1, &["a"])));
        records.remove(vec!["a".to_owned()], None).expect("untag");
        assert_eq!(records.get(&digest(1)).expect("read"), Some(image(1, &[])));
        records.remove(Vec::new(), Some(digest(2))).expect("remove");
        assert_eq!(records.by_name("c").expect("read"), None);
        assert_eq!(records.list().expect("list"), [image(1, &[])]);
    }

    #[test]
    fn prefixes_find_one_or_tell_that_there_are_more() {
        let dir = tempfile::tempdir().expect("temp dir");
        let records = records(&dir);
        for byte in [0x10, 0x11, 0x12, 0xff] {
            records.put(image(byte, &[])).expect("put");
        }
        for (prefix, count) in [("sha256:1", 2), ("sha256:10", 1), ("sha256:f", 1), ("sha256:2", 0), ("sha256:", 2)] {
            assert_eq!(records.by_prefix(prefix).expect("read").len(), count, "{prefix}");
        }
    }

    #[test]
    fn layers_and_leases_come_and_go() {
        let dir = tempfile::tempdir().expect("temp dir");
        let records = records(&dir);
        let row = |byte, parent| LayerRow {
            chain: digest(byte),
            parent,
            bytes: 7,
            inodes: 3,
            boot: "b".to_owned(),
            complete: false,
        };
        let first = records.put_layer(row(1, None));
        records.put_layer(row(2, Some(digest(1)))).wait().expect("put");
        first.wait().expect("put before");
        records.mark_layers_complete(vec![digest(1)]).expect("mark");
        assert_eq!(records.layer(&digest(1)).expect("read"), Some(LayerRow { complete: true, ..row(1, None) }));
        records.delete_layers(vec![digest(1)]).expect("delete");
        assert_eq!(records.layers().expect("read"), [row(2, Some(digest(1)))]);
        let lease = LeaseRow { id: "l".to_owned(), purpose: "load".to_owned(), created: 9 };
        records.put_lease(lease.clone()).expect("put");
        assert_eq!(records.leases().expect("read"), [lease]);
        records.end_all_leases().expect("end");
        assert_eq!(records.leases().expect("read"), []);
    }
}
