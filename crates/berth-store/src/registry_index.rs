//! The index of a registry: which repository holds which blobs, manifests and tags.
//!
//! It is a file of its own in the registry's directory, and belongs to one server. Digests only: the bytes lie in the blob directory, and
//! are synced before the row that names them. Reads see a snapshot and never wait; changes made at the same time share one sync. Times
//! are nanoseconds since 1970.

use std::path::Path;

use berth_model::Digest;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::{
    Durability, StoreError,
    database::{Database, Purpose},
    registry_schema::{NOTIFICATIONS, SCHEMA},
};

/// A repository's row number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryId(i64);

/// A repository's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryRow {
    /// Its row.
    pub id: RepositoryId,
    /// Its name.
    pub name: String,
    /// Number of its last change.
    pub changed: i64,
}

/// A manifest's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRow {
    /// Its address.
    pub digest: Digest,
    /// As it was pushed.
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    /// When it was pushed.
    pub added: i64,
    /// The manifest that it says something about.
    pub subject: Option<Digest>,
    /// The kind of artifact; its configuration's media type where it names none.
    pub artifact: Option<String>,
    /// JSON: its annotations.
    pub annotations: Option<String>,
}

/// A blob's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRow {
    /// Its address.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// When it was pushed or mounted.
    pub added: i64,
}

/// A tag's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRow {
    /// The tag.
    pub tag: String,
    /// The manifest that it points to.
    pub digest: Digest,
    /// When it was set.
    pub moved: i64,
}

/// How much a registry holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegistryTotals {
    /// Repositories.
    pub repositories: u64,
    /// Tags.
    pub tags: u64,
    /// Manifests, each once per repository.
    pub manifests: u64,
    /// Blobs, each once.
    pub blobs: u64,
    /// Bytes of the blobs, each once.
    pub bytes: u64,
}

/// A registry's index.
pub struct RegistryIndex {
    database: Database,
}

/// A snapshot that is being read.
pub struct RegistryView<'a> {
    pub(crate) connection: &'a Connection,
}

/// A transaction that is being written.
pub struct RegistryChange<'a> {
    pub(crate) tx: &'a Transaction<'a>,
}

impl RegistryIndex {
    /// Opens the index, and makes or migrates its tables.
    ///
    /// # Errors
    /// [`StoreError::Newer`] if a newer server wrote it; [`StoreError::Open`] if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { database: Database::open(path, &[&[SCHEMA], &[NOTIFICATIONS]], Durability::Durable)? })
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// What `query` gives; [`StoreError::Open`] if the file cannot be opened again.
    pub fn read<T>(&self, query: impl FnOnce(&RegistryView<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.database.read(|connection| query(&RegistryView { connection }))
    }

    /// Changes the index; `done` is called on the writer's thread once the change is synced, or was taken back.
    pub fn change<T, F, D>(&self, change: F, done: D)
    where
        T: Send + 'static,
        F: FnOnce(&RegistryChange<'_>) -> Result<T, StoreError> + Send + 'static,
        D: FnOnce(Result<T, StoreError>) + Send + 'static,
    {
        self.database.submit(Purpose::Keep, move |tx| change(&RegistryChange { tx }), done);
    }

    /// Changes the index, and waits until it is synced.
    ///
    /// # Errors
    /// What `change` gives, or the reason why it could not be committed.
    pub fn change_now<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&RegistryChange<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.database.write(Purpose::Keep, move |tx| change(&RegistryChange { tx }))
    }
}

impl RegistryView<'_> {
    /// A repository by name.
    pub fn repository(&self, name: &str) -> Result<Option<RepositoryId>, StoreError> {
        repository(self.connection, name)
    }

    /// Repositories after a name, in order of their names; only those that hold anything.
    pub fn repositories(&self, after: &str, limit: usize) -> Result<Vec<RepositoryRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, name, changed FROM repositories r WHERE name > ?1
             AND (EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.id) OR EXISTS (SELECT 1 FROM blobs b WHERE b.repository = r.id))
             ORDER BY name LIMIT ?2",
        )?;
        let rows = statement.query_map(params![after, as_i64(limit as u64)], repository_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Repositories whose name has `word` in it, ignoring case, in order of their names: page `page` (from 0) of `limit`, and how many there are.
    pub fn search(&self, word: &str, page: usize, limit: usize) -> Result<(u64, Vec<String>), StoreError> {
        const MATCH: &str = "FROM repositories r WHERE instr(name, lower(?1)) > 0
             AND EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.id)";
        let count = self.connection.prepare_cached(&format!("SELECT count(*) {MATCH}"))?;
        let count: i64 = { count }.query_row([word], |row| row.get(0))?;
        let mut statement =
            self.connection.prepare_cached(&format!("SELECT name {MATCH} ORDER BY name LIMIT ?2 OFFSET ?3"))?;
        let offset = as_i64((page as u64).saturating_mul(limit as u64));
        let rows = statement.query_map(params![word, as_i64(limit as u64), offset], |row| row.get(0))?;
        Ok((count.unsigned_abs(), rows.collect::<Result<_, _>>()?))
    }

    /// Repositories whose directory shows an older state, and those that have become empty.
    pub fn not_laid_out(&self) -> Result<Vec<RepositoryRow>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT id, name, changed FROM repositories WHERE changed <> laid_out")?;
        Ok(statement.query_map([], repository_row)?.collect::<Result<_, _>>()?)
    }

    /// The manifest that a tag points to.
    pub fn tagged(&self, repository: RepositoryId, tag: &str) -> Result<Option<ManifestRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT m.digest, m.media_type, m.size, m.added, m.subject, m.artifact, m.annotations
             FROM tags t JOIN manifests m ON m.repository = t.repository AND m.digest = t.digest
             WHERE t.repository = ?1 AND t.tag = ?2",
        )?;
        Ok(statement.query_row(params![repository.0, tag], manifest_row).optional()?)
    }

    /// A manifest by digest.
    pub fn manifest(&self, repository: RepositoryId, digest: &Digest) -> Result<Option<ManifestRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT digest, media_type, size, added, subject, artifact, annotations FROM manifests
             WHERE repository = ?1 AND digest = ?2",
        )?;
        Ok(statement.query_row(params![repository.0, digest.as_str()], manifest_row).optional()?)
    }

    /// All manifests of a repository, newest first.
    pub fn manifests(&self, repository: RepositoryId) -> Result<Vec<ManifestRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT digest, media_type, size, added, subject, artifact, annotations FROM manifests
             WHERE repository = ?1 ORDER BY added DESC, digest",
        )?;
        Ok(statement.query_map([repository.0], manifest_row)?.collect::<Result<_, _>>()?)
    }

    /// The size of a blob that the repository holds.
    pub fn blob(&self, repository: RepositoryId, digest: &Digest) -> Result<Option<u64>, StoreError> {
        blob(self.connection, repository, digest)
    }

    /// All blobs of a repository.
    pub fn blobs(&self, repository: RepositoryId) -> Result<Vec<BlobRow>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT digest, size, added FROM blobs WHERE repository = ?1 ORDER BY digest")?;
        Ok(statement.query_map([repository.0], blob_row)?.collect::<Result<_, _>>()?)
    }

    /// Whether a manifest of the repository needs this blob or manifest.
    pub fn is_needed(&self, repository: RepositoryId, digest: &Digest) -> Result<bool, StoreError> {
        is_needed(self.connection, repository, digest)
    }

    /// A manifest of the repository that needs this blob or manifest.
    pub fn needing(&self, repository: RepositoryId, digest: &Digest) -> Result<Option<Digest>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT manifest FROM needs WHERE repository = ?1 AND digest = ?2 ORDER BY manifest LIMIT 1",
        )?;
        let found = statement.query_row(params![repository.0, digest.as_str()], |row| self::digest(row, 0));
        Ok(found.optional()?)
    }

    /// The names of all repositories that hold a blob.
    pub fn holders(&self, digest: &Digest) -> Result<Vec<String>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT r.name FROM blobs b JOIN repositories r ON r.id = b.repository WHERE b.digest = ?1 ORDER BY r.name",
        )?;
        Ok(statement.query_map([digest.as_str()], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// Tags after a tag, in order.
    pub fn tags(&self, repository: RepositoryId, after: &str, limit: usize) -> Result<Vec<TagRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT tag, digest, moved FROM tags WHERE repository = ?1 AND tag > ?2 ORDER BY tag LIMIT ?3",
        )?;
        let rows = statement.query_map(params![repository.0, after, as_i64(limit as u64)], tag_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Manifests that say something about `subject`, after a digest, in order of their digests.
    pub fn referrers(
        &self,
        repository: RepositoryId,
        subject: &Digest,
        artifact: Option<&str>,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ManifestRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT digest, media_type, size, added, subject, artifact, annotations FROM manifests
             WHERE repository = ?1 AND subject = ?2 AND digest > ?3 AND (?4 IS NULL OR artifact = ?4)
             ORDER BY digest LIMIT ?5",
        )?;
        let arguments = params![repository.0, subject.as_str(), after, artifact, as_i64(limit as u64)];
        Ok(statement.query_map(arguments, manifest_row)?.collect::<Result<_, _>>()?)
    }

    /// Whether any repository holds this as a blob or manifest.
    pub fn is_held(&self, digest: &Digest) -> Result<bool, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM blobs WHERE digest = ?1) OR EXISTS (SELECT 1 FROM manifests WHERE digest = ?1)",
        )?;
        Ok(statement.query_row([digest.as_str()], |row| row.get(0))?)
    }

    /// How much there is of everything.
    pub fn totals(&self) -> Result<RegistryTotals, StoreError> {
        let count = |sql: &str| -> Result<u64, StoreError> {
            let count: i64 = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            Ok(count.unsigned_abs())
        };
        Ok(RegistryTotals {
            repositories: count("SELECT count(*) FROM repositories")?,
            tags: count("SELECT count(*) FROM tags")?,
            manifests: count("SELECT count(*) FROM manifests")?,
            blobs: count("SELECT count(DISTINCT digest) FROM blobs")?,
            bytes: count("SELECT coalesce(sum(size), 0) FROM (SELECT DISTINCT digest, size FROM blobs)")?,
        })
    }
}

impl RegistryChange<'_> {
    /// What this transaction sees.
    #[must_use]
    pub fn view(&self) -> RegistryView<'_> {
        RegistryView { connection: self.tx }
    }

    /// A repository by name, which is made if it is missing.
    pub fn repository(&self, name: &str) -> Result<RepositoryId, StoreError> {
        if let Some(id) = repository(self.tx, name)? {
            return Ok(id);
        }
        self.tx.prepare_cached("INSERT INTO repositories (name) VALUES (?1)")?.execute([name])?;
        Ok(RepositoryId(self.tx.last_insert_rowid()))
    }

    /// A blob belongs to a repository from now on; one that does already counts as new.
    pub fn add_blob(&self, repository: RepositoryId, blob: &BlobRow) -> Result<(), StoreError> {
        self.tx
            .prepare_cached(
                "INSERT INTO blobs (repository, digest, size, added) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET added = excluded.added",
            )?
            .execute(params![repository.0, blob.digest.as_str(), as_i64(blob.size), blob.added])?;
        self.touch(repository)
    }

    /// A blob no longer belongs to a repository. `false` if it did not.
    pub fn remove_blob(&self, repository: RepositoryId, digest: &Digest) -> Result<bool, StoreError> {
        let mut statement = self.tx.prepare_cached("DELETE FROM blobs WHERE repository = ?1 AND digest = ?2")?;
        let removed = statement.execute(params![repository.0, digest.as_str()])?;
        self.touch(repository)?;
        Ok(removed > 0)
    }

    /// A manifest belongs to a repository from now on, and what it needs is noted.
    pub fn put_manifest(
        &self,
        repository: RepositoryId,
        row: &ManifestRow,
        needs: &[Digest],
    ) -> Result<(), StoreError> {
        self.tx
            .prepare_cached(
                "INSERT INTO manifests (repository, digest, media_type, size, added, subject, artifact, annotations)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT DO UPDATE SET media_type = excluded.media_type, added = excluded.added,
                 subject = excluded.subject, artifact = excluded.artifact, annotations = excluded.annotations",
            )?
            .execute(params![
                repository.0,
                row.digest.as_str(),
                row.media_type,
                as_i64(row.size),
                row.added,
                row.subject.as_ref().map(Digest::as_str),
                row.artifact,
                row.annotations
            ])?;
        let mut need = self.tx.prepare_cached("INSERT OR IGNORE INTO needs VALUES (?1, ?2, ?3)")?;
        for digest in needs {
            need.execute(params![repository.0, row.digest.as_str(), digest.as_str()])?;
        }
        self.touch(repository)
    }

    /// Removes a manifest and the tags that point to it. `false` if there is none.
    pub fn remove_manifest(&self, repository: RepositoryId, digest: &Digest) -> Result<bool, StoreError> {
        let mut statement = self.tx.prepare_cached("DELETE FROM manifests WHERE repository = ?1 AND digest = ?2")?;
        let removed = statement.execute(params![repository.0, digest.as_str()])?;
        self.touch(repository)?;
        Ok(removed > 0)
    }

    /// Sets or moves a tag.
    pub fn set_tag(&self, repository: RepositoryId, row: &TagRow) -> Result<(), StoreError> {
        self.tx
            .prepare_cached(
                "INSERT INTO tags (repository, tag, digest, moved) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET digest = excluded.digest, moved = excluded.moved",
            )?
            .execute(params![repository.0, row.tag, row.digest.as_str(), row.moved])?;
        self.touch(repository)
    }

    /// Removes a tag. `false` if there is none.
    pub fn remove_tag(&self, repository: RepositoryId, tag: &str) -> Result<bool, StoreError> {
        let mut statement = self.tx.prepare_cached("DELETE FROM tags WHERE repository = ?1 AND tag = ?2")?;
        let removed = statement.execute(params![repository.0, tag])?;
        self.touch(repository)?;
        Ok(removed > 0)
    }

    /// Removes manifests older than `before` that no tag, index or living subject leads to: how many.
    pub fn remove_untagged(&self, before: i64) -> Result<u64, StoreError> {
        let mut total = 0;
        loop {
            let removed = self.tx.execute(
                "DELETE FROM manifests AS m WHERE m.added < ?1
                 AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository = m.repository AND t.digest = m.digest)
                 AND NOT EXISTS (SELECT 1 FROM needs n WHERE n.repository = m.repository AND n.digest = m.digest)
                 AND NOT (m.subject IS NOT NULL AND EXISTS
                    (SELECT 1 FROM manifests s WHERE s.repository = m.repository AND s.digest = m.subject))",
                [before],
            )?;
            // An index that is gone lets go of its manifests, and a subject of its referrers.
            if removed == 0 {
                break;
            }
            total += removed as u64;
        }
        if total > 0 {
            self.tx.execute("UPDATE repositories SET changed = changed + 1", [])?;
        }
        Ok(total)
    }

    /// Removes blobs older than `before` that no manifest of their repository needs, but for those that `keep` speaks for: their digests.
    pub fn remove_unneeded(
        &self,
        before: i64,
        keep: impl Fn(RepositoryId, &Digest) -> bool,
    ) -> Result<Vec<Digest>, StoreError> {
        let mut statement = self.tx.prepare_cached(
            "SELECT repository, digest FROM blobs b WHERE added < ?1
             AND NOT EXISTS (SELECT 1 FROM needs n WHERE n.repository = b.repository AND n.digest = b.digest)",
        )?;
        let found = statement.query_map([before], |row| Ok((RepositoryId(row.get(0)?), digest(row, 1)?)))?;
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let mut removed = Vec::new();
        for (repository, digest) in found {
            if !keep(repository, &digest) {
                self.remove_blob(repository, &digest)?;
                removed.push(digest);
            }
        }
        Ok(removed)
    }

    /// The directory of a repository shows its change number `changed` by now; a repository that is empty is forgotten.
    pub fn laid_out(&self, row: &RepositoryRow) -> Result<(), StoreError> {
        self.tx.execute("UPDATE repositories SET laid_out = ?2 WHERE id = ?1", params![row.id.0, row.changed])?;
        self.tx.execute(
            "DELETE FROM repositories AS r WHERE id = ?1 AND changed = laid_out
             AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository = r.id)
             AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.repository = r.id)",
            [row.id.0],
        )?;
        Ok(())
    }

    fn touch(&self, repository: RepositoryId) -> Result<(), StoreError> {
        let mut statement = self.tx.prepare_cached("UPDATE repositories SET changed = changed + 1 WHERE id = ?1")?;
        statement.execute([repository.0])?;
        Ok(())
    }
}

fn repository(connection: &Connection, name: &str) -> Result<Option<RepositoryId>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id FROM repositories WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0).map(RepositoryId)).optional()?)
}

fn blob(connection: &Connection, repository: RepositoryId, digest: &Digest) -> Result<Option<u64>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT size FROM blobs WHERE repository = ?1 AND digest = ?2")?;
    let size = statement.query_row(params![repository.0, digest.as_str()], |row| row.get::<_, i64>(0));
    Ok(size.optional()?.map(i64::unsigned_abs))
}

fn is_needed(connection: &Connection, repository: RepositoryId, digest: &Digest) -> Result<bool, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM needs WHERE repository = ?1 AND digest = ?2)")?;
    Ok(statement.query_row(params![repository.0, digest.as_str()], |row| row.get(0))?)
}

fn repository_row(row: &Row<'_>) -> rusqlite::Result<RepositoryRow> {
    Ok(RepositoryRow { id: RepositoryId(row.get(0)?), name: row.get(1)?, changed: row.get(2)? })
}

fn manifest_row(row: &Row<'_>) -> rusqlite::Result<ManifestRow> {
    let subject: Option<String> = row.get(4)?;
    Ok(ManifestRow {
        digest: digest(row, 0)?,
        media_type: row.get(1)?,
        size: row.get::<_, i64>(2)?.unsigned_abs(),
        added: row.get(3)?,
        subject: subject.and_then(|text| text.parse().ok()),
        artifact: row.get(5)?,
        annotations: row.get(6)?,
    })
}

fn blob_row(row: &Row<'_>) -> rusqlite::Result<BlobRow> {
    Ok(BlobRow { digest: digest(row, 0)?, size: row.get::<_, i64>(1)?.unsigned_abs(), added: row.get(2)? })
}

fn tag_row(row: &Row<'_>) -> rusqlite::Result<TagRow> {
    Ok(TagRow { tag: row.get(0)?, digest: digest(row, 1)?, moved: row.get(2)? })
}

fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

/// SQLite counts in signed numbers; nothing on a disk is larger.
fn as_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(dir: &tempfile::TempDir) -> RegistryIndex {
        RegistryIndex::open(&dir.path().join("index.db")).expect("open")
    }

    fn digest_of(n: u8) -> Digest {
        Digest::sha256(&[n; 32])
    }

    fn blob_of(n: u8, added: i64) -> BlobRow {
        BlobRow { digest: digest_of(n), size: 10, added }
    }

    fn manifest_of(n: u8, subject: Option<u8>) -> ManifestRow {
        ManifestRow {
            digest: digest_of(n),
            media_type: "m".to_owned(),
            size: 2,
            added: 1,
            subject: subject.map(digest_of),
            artifact: None,
            annotations: None,
        }
    }

    #[test]
    fn a_tag_moves_and_its_old_manifest_stays() {
        let dir = tempfile::tempdir().expect("temp dir");
        let index = index(&dir);
        let moved = index.change_now(|change| {
            let repository = change.repository("a/b")?;
            for n in [1, 2] {
                change.put_manifest(repository, &manifest_of(n, None), &[])?;
                change.set_tag(repository, &TagRow { tag: "t".to_owned(), digest: digest_of(n), moved: 1 })?;
            }
            Ok(repository)
        });
        let repository = moved.expect("written");
        let (tagged, old) = index
            .read(|view| Ok((view.tagged(repository, "t")?, view.manifest(repository, &digest_of(1))?)))
            .expect("read");
        assert_eq!(tagged.expect("tagged").digest, digest_of(2));
        assert!(old.is_some());
    }

    #[test]
    fn a_manifest_takes_its_tags_with_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let index = index(&dir);
        let left = index.change_now(|change| {
            let repository = change.repository("a")?;
            change.put_manifest(repository, &manifest_of(1, None), &[digest_of(9)])?;
            change.set_tag(repository, &TagRow { tag: "t".to_owned(), digest: digest_of(1), moved: 1 })?;
            assert!(change.remove_manifest(repository, &digest_of(1))?);
            assert!(!change.remove_manifest(repository, &digest_of(1))?);
            Ok((change.view().tags(repository, "", 9)?.len(), change.view().is_needed(repository, &digest_of(9))?))
        });
        assert_eq!(left.expect("written"), (0, false));
    }

    #[test]
    fn only_blobs_that_nobody_needs_are_removed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let index = index(&dir);
        let removed = index.change_now(|change| {
            let repository = change.repository("a")?;
            // Needed, old, young, and spoken for.
            for (n, added) in [(1, 1), (2, 1), (3, 100), (4, 1)] {
                change.add_blob(repository, &blob_of(n, added))?;
            }
            change.put_manifest(repository, &manifest_of(9, None), &[digest_of(1)])?;
            change.remove_unneeded(50, |_, digest| *digest == digest_of(4))
        });
        assert_eq!(removed.expect("written"), [digest_of(2)]);
    }

    #[test]
    fn an_untagged_index_goes_with_all_that_only_it_led_to() {
        let dir = tempfile::tempdir().expect("temp dir");
        let index = index(&dir);
        let left = index.change_now(|change| {
            let repository = change.repository("a")?;
            // 1 is an index of 2; 3 says something about 2; 4 is tagged, and 5 is about it; 6 is about something that never came.
            change.put_manifest(repository, &manifest_of(2, None), &[])?;
            change.put_manifest(repository, &manifest_of(1, None), &[digest_of(2)])?;
            change.put_manifest(repository, &manifest_of(3, Some(2)), &[])?;
            change.put_manifest(repository, &manifest_of(4, None), &[])?;
            change.put_manifest(repository, &manifest_of(5, Some(4)), &[])?;
            change.put_manifest(repository, &manifest_of(6, Some(8)), &[])?;
            change.set_tag(repository, &TagRow { tag: "t".to_owned(), digest: digest_of(4), moved: 1 })?;
            assert_eq!(change.remove_untagged(10)?, 4);
            Ok(change.view().manifests(repository)?.into_iter().map(|row| row.digest).collect::<Vec<_>>())
        });
        assert_eq!(left.expect("written"), [digest_of(4), digest_of(5)]);
    }

    #[test]
    fn an_empty_repository_is_forgotten_once_its_directory_is() {
        let dir = tempfile::tempdir().expect("temp dir");
        let index = index(&dir);
        index.change_now(|change| change.repository("gone").map(drop)).expect("written");
        let waiting = index.read(|view| view.not_laid_out()).expect("read");
        assert_eq!(waiting.len(), 1);
        let row = waiting[0].clone();
        index.change_now(move |change| change.laid_out(&row)).expect("written");
        assert_eq!(index.read(|view| view.repository("gone")).expect("read"), None);
    }
}
