//! One SQLite file: a writer thread that shares commits, and a few readers.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use rusqlite::{Connection, Transaction, config::DbConfig};

use crate::{Durability, StoreError, reserve::Reserve, schema::Steps};

/// Readers kept open between reads; more may exist for a moment.
const KEPT_READERS: usize = 2;
/// Page cache of one connection, in KiB: the tables are small and the kernel caches the file.
const CACHE_KIB: u32 = 256;

/// One job: runs inside the shared transaction, and gives what tells its caller how it ended.
struct Job {
    purpose: Purpose,
    run: Box<Run>,
}

/// What a job does. Without a transaction the disk is too full for it.
type Run = dyn FnOnce(Option<&Transaction<'_>>) -> Done + Send;

/// What a job is good for, which decides whether it may use the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Something new is remembered.
    Keep,
    /// Something is let go, or has happened anyway.
    Release,
}
/// Whether the job's changes are to be kept, and what tells its caller.
type Done = (bool, Box<Tell>);
/// Tells the caller; the argument is the error of the commit, if it failed.
type Tell = dyn FnOnce(Option<&CommitFailed>) + Send;

/// The shared transaction could not be committed.
struct CommitFailed {
    full: bool,
    reason: String,
}

/// One SQLite file.
pub(crate) struct Database {
    path: PathBuf,
    jobs: Mutex<Option<Sender<Job>>>,
    readers: Mutex<Vec<Connection>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl Database {
    /// Opens the file, brings it to the newest format and starts the writer.
    pub(crate) fn open(path: &Path, steps: &Steps, durability: Durability) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        close_to_others(path).map_err(|error| failed(rusqlite::Error::ToSqlConversionFailure(Box::new(error))))?;
        let mut connection = Connection::open(path).map_err(failed)?;
        let synchronous = match durability {
            Durability::Durable => "FULL",
            Durability::Transient => "OFF",
        };
        configure(&connection, synchronous).map_err(failed)?;
        migrate(&mut connection, path, steps)?;
        let (jobs, queue) = channel();
        let reserve = (durability == Durability::Durable).then(|| Reserve::beside(path));
        let writer = thread::Builder::new()
            .name("store-writer".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || write_loop(connection, reserve.as_ref(), &queue))
            .map_err(|error| failed(rusqlite::Error::ToSqlConversionFailure(Box::new(error))))?;
        Ok(Self {
            path: path.to_owned(),
            jobs: Mutex::new(Some(jobs)),
            readers: Mutex::default(),
            writer: Some(writer),
        })
    }

    /// Runs `job` in a transaction and waits until it is committed (and synced, if durable).
    pub(crate) fn write<T, F>(&self, purpose: Purpose, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let (tell, told): (SyncSender<_>, Receiver<_>) = sync_channel(1);
        self.submit(purpose, job, move |result| {
            // A caller that is gone does not need the answer.
            let _ = tell.send(result);
        });
        told.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// Queues `job` and returns at once; `done` is called on the writer's thread after the commit.
    pub(crate) fn submit<T, F, D>(&self, purpose: Purpose, job: F, done: D)
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
        D: FnOnce(Result<T, StoreError>) + Send + 'static,
    {
        let path = self.path.clone();
        let run = move |tx: Option<&Transaction<'_>>| -> Done {
            let result = tx.map_or_else(|| Err(StoreError::Full { path: path.clone() }), job);
            let keep = result.is_ok();
            let answer = move |commit: Option<&CommitFailed>| {
                done(match (result, commit) {
                    (Ok(_), Some(failure)) => Err(failure.to_error(path)),
                    (Err(error), _) if error.is_full() => Err(StoreError::Full { path }),
                    (result, _) => result,
                });
            };
            (keep, Box::new(answer))
        };
        let job = Job { purpose, run: Box::new(run) };
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = jobs.as_ref() {
            // A writer that is gone drops the job, and with it the caller's channel: `Closed`.
            let _ = jobs.send(job);
        }
    }

    /// Reads a snapshot; never waits for the writer.
    pub(crate) fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let kept = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => self.open_reader()?,
        };
        let result = query(&connection);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < KEPT_READERS {
            readers.push(connection);
        }
        result
    }

    fn open_reader(&self) -> Result<Connection, StoreError> {
        let failed = |source| StoreError::Open { path: self.path.clone(), source };
        let connection = Connection::open(&self.path).map_err(failed)?;
        configure(&connection, "NORMAL").map_err(failed)?;
        Ok(connection)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = self.writer.take() {
            // The writer only ends by its queue's end; what is queued is still committed.
            let _ = writer.join();
        }
    }
}

impl CommitFailed {
    fn new(error: &rusqlite::Error) -> Self {
        let full =
            matches!(error, rusqlite::Error::SqliteFailure(code, _) if code.code == rusqlite::ErrorCode::DiskFull);
        Self { full, reason: error.to_string() }
    }

    fn to_error(&self, path: PathBuf) -> StoreError {
        if self.full {
            return StoreError::Full { path };
        }
        StoreError::Record { what: format!("commit to {}", path.display()), reason: self.reason.clone() }
    }
}

/// Records hold what containers were told in confidence, such as their environment. SQLite gives its side files the mode
/// of the database, so that only those of an earlier version have to be closed by hand.
fn close_to_others(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    for side in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(side);
        match fs::set_permissions(Path::new(&file), fs::Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn configure(connection: &Connection, synchronous: &str) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "cache_size", -i64::from(CACHE_KIB))?;
    connection.set_prepared_statement_cache_capacity(32);
    // Otherwise a prepared statement is prepared again whenever its parameters change, in case the new ones deserve another plan.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Runs the steps that are missing, all in one transaction.
fn migrate(connection: &mut Connection, path: &Path, steps: &Steps) -> Result<(), StoreError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(steps.len()).expect("a handful of formats");
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    if found == known {
        return Ok(());
    }
    let tx = connection.transaction()?;
    for statement in steps.iter().skip(found as usize).copied().flatten() {
        tx.execute_batch(statement)?;
    }
    tx.pragma_update(None, "user_version", known)?;
    tx.commit()?;
    Ok(())
}

/// Takes whatever is queued as one transaction, so that jobs that come together share one sync.
fn write_loop(mut connection: Connection, reserve: Option<&Reserve>, queue: &Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let batch = std::iter::once(first).chain(std::iter::from_fn(|| queue.try_recv().ok()));
        let mut answers = Vec::new();
        let committed = commit(&mut connection, reserve, batch, &mut answers);
        let failure = committed.as_ref().err().map(CommitFailed::new);
        for answer in answers {
            answer(failure.as_ref());
        }
    }
}

fn commit(
    connection: &mut Connection,
    reserve: Option<&Reserve>,
    batch: impl Iterator<Item = Job>,
    answers: &mut Vec<Box<Tell>>,
) -> Result<(), rusqlite::Error> {
    let is_scarce = reserve.is_some_and(Reserve::is_scarce);
    if is_scarce {
        // The journal is as long as it ever was; what is in it can go where it belongs.
        let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    }
    let tx = connection.transaction()?;
    for job in batch {
        if is_scarce && job.purpose == Purpose::Keep {
            answers.push((job.run)(None).1);
            continue;
        }
        if is_scarce && let Some(reserve) = reserve {
            reserve.give();
        }
        tx.prepare_cached("SAVEPOINT job")?.execute([])?;
        let (keep, answer) = (job.run)(Some(&tx));
        answers.push(answer);
        // A job that failed takes back only its own changes.
        if !keep {
            tx.prepare_cached("ROLLBACK TO job")?.execute([])?;
        }
        tx.prepare_cached("RELEASE job")?.execute([])?;
    }
    tx.commit()?;
    if !is_scarce && let Some(reserve) = reserve {
        reserve.take();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [&[&str]; 1] = [&["CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT;"]];

    fn insert(database: &Database, n: i64) -> Result<(), StoreError> {
        let insert = move |tx: &Transaction<'_>| Ok(tx.execute("INSERT INTO t VALUES (?1)", [n]).map(drop)?);
        database.write(Purpose::Keep, insert)
    }

    fn count(database: &Database) -> i64 {
        database.read(|c| Ok(c.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)).expect("count")
    }

    #[test]
    fn a_failed_job_takes_back_only_itself() {
        let dir = tempfile::tempdir().expect("temp dir");
        let database = Database::open(&dir.path().join("t.db"), &STEPS, Durability::Durable).expect("open");
        insert(&database, 1).expect("first");
        let error = database
            .write(Purpose::Keep, |tx| {
                tx.execute("INSERT INTO t VALUES (2)", [])?;
                Ok(tx.execute("INSERT INTO t VALUES (1)", []).map(drop)?)
            })
            .expect_err("a duplicate");
        assert!(error.is_unique_violation());
        assert_eq!(count(&database), 1);
    }

    #[test]
    fn writers_at_the_same_time_all_get_their_answer() {
        let dir = tempfile::tempdir().expect("temp dir");
        let database = Database::open(&dir.path().join("t.db"), &STEPS, Durability::Durable).expect("open");
        thread::scope(|scope| {
            for n in 0..8 {
                let database = &database;
                scope.spawn(move || (0..20).for_each(|i| insert(database, n * 100 + i).expect("insert")));
            }
        });
        assert_eq!(count(&database), 160);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("t.db");
        Connection::open(&path).expect("open").pragma_update(None, "user_version", 9).expect("set");
        let error = Database::open(&path, &STEPS, Durability::Durable).err().expect("refused");
        assert!(error.to_string().contains("has format 9, this engine knows up to 1"), "{error}");
    }

    #[test]
    fn records_are_closed_to_others_with_their_side_files() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("t.db");
        fs::write(&path, "").expect("an open file of before");
        let database = Database::open(&path, &STEPS, Durability::Durable).expect("open");
        insert(&database, 1).expect("insert");
        for entry in fs::read_dir(dir.path()).expect("list") {
            let entry = entry.expect("entry");
            let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", entry.path().display());
        }
    }

    #[test]
    fn what_was_written_is_there_after_reopening() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("t.db");
        insert(&Database::open(&path, &STEPS, Durability::Durable).expect("open"), 7).expect("insert");
        let again = Database::open(&path, &STEPS, Durability::Transient).expect("reopen");
        assert_eq!(count(&again), 1);
    }
}
