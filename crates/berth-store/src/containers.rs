//! Container records: who holds which name, what was asked for, and the state it is in.
//!
//! The durable ones are rows of a table, the transient ones files (`record_files.rs`), which are written on the caller's thread.

use std::{path::PathBuf, sync::Arc};

use rusqlite::{Row, params};

use crate::{
    Durability, Store, StoreError,
    database::{Database, Purpose},
    record_files::RecordFiles,
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

/// The container records of one durability.
#[derive(Clone)]
pub struct Containers(Kept);

#[derive(Clone)]
enum Kept {
    Rows(Arc<Database>),
    Files(Arc<RecordFiles>),
}

impl Store {
    /// The container records of that durability.
    #[must_use]
    pub fn containers(&self, durability: Durability) -> Containers {
        Containers(match durability {
            Durability::Durable => Kept::Rows(Arc::clone(self.of(durability))),
            Durability::Transient => Kept::Files(Arc::clone(&self.transient_containers)),
        })
    }
}

impl Containers {
    /// All records.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn list(&self) -> Result<Vec<ContainerRow>, StoreError> {
        match &self.0 {
            Kept::Rows(database) => rows_of(database),
            Kept::Files(files) => Ok(files.list()?.iter().map(|(id, text)| from_text(id, text)).collect()),
        }
    }

    /// Adds a record; it holds id and name from now on. `done` is called on the writer's thread, or before this returns.
    pub fn insert(&self, row: ContainerRow, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        match &self.0 {
            Kept::Rows(database) => {
                let job = move |tx: &rusqlite::Transaction<'_>| {
                    tx.prepare_cached("INSERT INTO containers (id, name, spec, state) VALUES (?1, ?2, ?3, ?4)")?
                        .execute(params![row.id, row.name, row.spec, row.state])?;
                    Ok(())
                };
                database.submit(Purpose::Keep, job, done);
            }
            Kept::Files(files) => done(write_text(files, &row)),
        }
    }

    /// Replaces everything but the id of a record. `done` is called on the writer's thread, or before this returns.
    pub fn update(&self, row: ContainerRow, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        match &self.0 {
            Kept::Rows(database) => {
                let job = move |tx: &rusqlite::Transaction<'_>| {
                    tx.prepare_cached("UPDATE containers SET name = ?2, spec = ?3, state = ?4 WHERE id = ?1")?
                        .execute(params![row.id, row.name, row.spec, row.state])?;
                    Ok(())
                };
                database.submit(Purpose::Keep, job, done);
            }
            Kept::Files(files) => done(rewrite(files, &row.id, |_| row.clone())),
        }
    }

    /// Replaces the state of a record. `done` is called on the writer's thread, or before this returns.
    pub fn set_state(&self, id: String, state: String, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        self.write_state(Purpose::Release, id, state, done);
    }

    /// Replaces the state of a record by one that can be found out again, if there is room: what is kept on a full disk for exits and removals
    /// stays for them, while the container that has just started may be what fills it.
    pub fn note_state(&self, id: String, state: String) {
        self.write_state(Purpose::Keep, id, state, drop);
    }

    fn write_state(
        &self,
        purpose: Purpose,
        id: String,
        state: String,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        match &self.0 {
            Kept::Rows(database) => {
                let job = move |tx: &rusqlite::Transaction<'_>| {
                    tx.prepare_cached("UPDATE containers SET state = ?2 WHERE id = ?1")?.execute([id, state])?;
                    Ok(())
                };
                database.submit(purpose, job, done);
            }
            Kept::Files(files) => done(rewrite(files, &id, |before| ContainerRow { state, ..before })),
        }
    }

    /// Removes a record; its name is free from now on. `done` is called on the writer's thread, or before this returns.
    pub fn delete(&self, id: String, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        match &self.0 {
            Kept::Rows(database) => {
                let job = move |tx: &rusqlite::Transaction<'_>| {
                    tx.prepare_cached("DELETE FROM containers WHERE id = ?1")?.execute([id])?;
                    Ok(())
                };
                database.submit(Purpose::Release, job, done);
            }
            Kept::Files(files) => done(files.remove(&id)),
        }
    }
}

/// A record as a file: its name, its state, and what was asked for, a line each. None of them has a line break: JSON documents escape it.
fn write_text(files: &RecordFiles, row: &ContainerRow) -> Result<(), StoreError> {
    files.write(&row.id, &[&row.name, "\n", &row.state, "\n", &row.spec, "\n"])
}

/// Lines that are missing are empty, which no document is: who reads it will say so, and go on with the others.
fn from_text(id: &str, text: &str) -> ContainerRow {
    let mut lines = text.lines().map(str::to_owned);
    let mut next = || lines.next().unwrap_or_default();
    ContainerRow { id: id.to_owned(), name: next(), state: next(), spec: next() }
}

/// Changes a record that is there.
fn rewrite(files: &RecordFiles, id: &str, change: impl FnOnce(ContainerRow) -> ContainerRow) -> Result<(), StoreError> {
    let Some(text) = files.read(id)? else { return Ok(()) };
    write_text(files, &change(from_text(id, &text)))
}

/// Opens the transient records in a directory. Those that an earlier engine kept in the database are moved there.
pub(crate) fn open_transient(directory: PathBuf, database: &Database) -> Result<RecordFiles, StoreError> {
    let files = RecordFiles::open(directory)?;
    let rows = rows_of(database)?;
    rows.iter().try_for_each(|row| write_text(&files, row))?;
    if !rows.is_empty() {
        database.write(Purpose::Release, |tx| Ok(tx.execute("DELETE FROM containers", []).map(drop)?))?;
    }
    Ok(files)
}

fn rows_of(database: &Database) -> Result<Vec<ContainerRow>, StoreError> {
    database.read(|connection| {
        let mut statement = connection.prepare_cached("SELECT id, name, spec, state FROM containers")?;
        let rows = statement.query_map([], from_row)?.collect::<Result<_, _>>()?;
        Ok(rows)
    })
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

    #[test]
    fn both_kinds_of_records_change_alike() {
        for durability in [Durability::Durable, Durability::Transient] {
            let dir = tempfile::tempdir().expect("temp dir");
            let open = || Store::open(dir.path(), dir.path()).expect("open").containers(durability);
            let row = |name: &str, state: &str| ContainerRow {
                id: "0a".into(),
                name: name.into(),
                spec: r#"{"env":["A=\n"]}"#.into(),
                state: state.into(),
            };
            let step = |change: &dyn Fn(&Containers, Box<dyn FnOnce(Result<(), StoreError>) + Send>)| {
                let (tell, told) = channel();
                change(&open(), Box::new(move |result| tell.send(result).expect("waiting")));
                told.recv().expect("answered").expect("done");
                open().list().expect("list")
            };
            assert_eq!(step(&|all, done| all.insert(row("web", "{}"), done)), [row("web", "{}")]);
            assert_eq!(step(&|all, done| all.set_state("0a".into(), "[1]".into(), done)), [row("web", "[1]")]);
            assert_eq!(step(&|all, done| all.update(row("db", "[2]"), done)), [row("db", "[2]")]);
            assert_eq!(step(&|all, done| all.delete("0a".into(), done)), []);
            // What is gone already is neither brought back nor missed.
            assert_eq!(step(&|all, done| all.set_state("0a".into(), "[3]".into(), done)), []);
            assert_eq!(step(&|all, done| all.update(row("db", "[2]"), done)), []);
            assert_eq!(step(&|all, done| all.delete("0a".into(), done)), []);
        }
    }

    #[test]
    fn a_damaged_file_does_not_hide_the_others() {
        let dir = tempfile::tempdir().expect("temp dir");
        let transient = Store::open(dir.path(), dir.path()).expect("open").containers(Durability::Transient);
        transient.insert(whole("0b"), |result| result.expect("inserted"));
        std::fs::write(dir.path().join("records/0a"), "web\n{").expect("write");
        let mut rows = transient.list().expect("list");
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        let damaged = ContainerRow { id: "0a".into(), name: "web".into(), spec: String::new(), state: "{".into() };
        assert_eq!(rows, [damaged, whole("0b")]);
    }

    #[test]
    fn transient_rows_of_before_become_files() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path(), dir.path()).expect("open");
        let insert = |tx: &rusqlite::Transaction<'_>| {
            tx.execute("INSERT INTO containers (id, name, spec, state) VALUES ('0c', 'web', '{}', '{}')", [])?;
            Ok(())
        };
        store.of(Durability::Transient).write(Purpose::Keep, insert).expect("a row as it used to be");
        drop(store);
        for _ in 0..2 {
            let store = Store::open(dir.path(), dir.path()).expect("reopen");
            assert_eq!(store.containers(Durability::Transient).list().expect("list"), [whole("0c")]);
        }
    }

    fn whole(id: &str) -> ContainerRow {
        ContainerRow { id: id.into(), name: "web".into(), spec: "{}".into(), state: "{}".into() }
    }
}
