//! Container records: who holds which name, what was asked for, and the state it is in. Both databases have this table.

use std::sync::Arc;

use rusqlite::{Row, params};

use crate::{
    Durability, Store, StoreError,
    database::{Database, Purpose},
};

pub(crate) const SCHEMA: &str = "
CREATE TABLE containers (
    id      TEXT PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    -- What was asked for, as a JSON document of the engine.
    spec    TEXT NOT NULL,
    -- Where it is in its life, likewise.
    state   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// One container's record. The documents are the engine's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRow {
    /// 64 hex digits.
    pub id: String,
    /// Without the slash.
    pub name: String,
    /// What was asked for.
    pub spec: String,
    /// Where it is in its life.
    pub state: String,
}

/// The container records of one database.
#[derive(Clone)]
pub struct Containers {
    database: Arc<Database>,
}

impl Store {
    /// The container records of that durability.
    #[must_use]
    pub fn containers(&self, durability: Durability) -> Containers {
        Containers { database: Arc::clone(self.of(durability)) }
    }
}

impl Containers {
    /// All records.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be read.
    pub fn list(&self) -> Result<Vec<ContainerRow>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT id, name, spec, state FROM containers")?;
            let rows = statement.query_map([], from_row)?.collect::<Result<_, _>>()?;
            Ok(rows)
        })
    }

    /// Adds a record; it holds id and name from now on. `done` is called on the writer's thread.
    pub fn insert(&self, row: ContainerRow, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        let job = move |tx: &rusqlite::Transaction<'_>| {
            tx.prepare_cached("INSERT INTO containers (id, name, spec, state) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![row.id, row.name, row.spec, row.state])?;
            Ok(())
        };
        self.database.submit(Purpose::Keep, job, done);
    }

    /// Replaces everything but the id of a record. `done` is called on the writer's thread.
    pub fn update(&self, row: ContainerRow, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        let job = move |tx: &rusqlite::Transaction<'_>| {
            tx.prepare_cached("UPDATE containers SET name = ?2, spec = ?3, state = ?4 WHERE id = ?1")?
                .execute(params![row.id, row.name, row.spec, row.state])?;
            Ok(())
        };
        self.database.submit(Purpose::Keep, job, done);
    }

    /// Replaces the state of a record. `done` is called on the writer's thread.
    pub fn set_state(&self, id: String, state: String, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        let job = move |tx: &rusqlite::Transaction<'_>| {
            tx.prepare_cached("UPDATE containers SET state = ?2 WHERE id = ?1")?.execute([id, state])?;
            Ok(())
        };
        self.database.submit(Purpose::Release, job, done);
    }

    /// Removes a record; its name is free from now on. `done` is called on the writer's thread.
    pub fn delete(&self, id: String, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        let job = move |tx: &rusqlite::Transaction<'_>| {
            tx.prepare_cached("DELETE FROM containers WHERE id = ?1")?.execute([id])?;
            Ok(())
        };
        self.database.submit(Purpose::Release, job, done);
    }
}

fn from_row(row: &Row<'_>) -> Result<ContainerRow, rusqlite::Error> {
    Ok(ContainerRow { id: row.get(0)?, name: row.get(1)?, spec: row.get(2)?, state: row.get(3)? })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_name_is_held_by_one_record() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path(), dir.path()).expect("open");
        let containers = store.containers(Durability::Durable);
        let row = |id: &str| ContainerRow { id: id.into(), name: "web".into(), spec: "{}".into(), state: "{}".into() };
        let insert = |id| {
            let (tell, told) = channel();
            containers.insert(row(id), move |result| tell.send(result).expect("waiting"));
            told.recv().expect("answered")
        };
        insert("a").expect("free");
        assert!(insert("b").expect_err("taken").is_unique_violation());
        assert_eq!(containers.list().expect("list"), [row("a")]);
        assert_eq!(store.containers(Durability::Transient).list().expect("list"), []);
    }
}
