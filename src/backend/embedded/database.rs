//! One SQLite database: a thread that writes in groups, and a few connections that read. Knows no table.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::Lock;
use super::schema;
use super::wal::Wal;
use crate::backend::{Error, Health, Link, Result};

/// Writes that may wait for the writer; who comes later waits to get in.
const WAITING_WRITES_MAX: usize = 1_024;

/// Writes of one transaction. More would make the first of them wait without sparing much.
const GROUP_MAX: usize = 256;

/// Reads at once; the rest wait their turn. More than the processors of small machines helps nobody.
const READERS_MAX: usize = 4;

/// A handle on the database. The last one that is dropped closes it.
#[derive(Debug)]
pub(super) struct Database {
    requests: Option<mpsc::Sender<Box<dyn Request>>>,
    writer: Option<JoinHandle<()>>,
    /// Absent in memory, where the writer reads as well.
    readers: Option<Readers>,
    /// Absent in memory.
    wal: Option<Arc<Wal>>,
    health: watch::Receiver<Health>,
}

impl Database {
    /// Takes over a connection and keeps `lock` until it is closed.
    pub(super) fn start(connection: Connection, file: Option<&Path>, lock: Option<Lock>) -> std::io::Result<Self> {
        let (requests, waiting) = mpsc::channel(WAITING_WRITES_MAX);
        let (reporter, health) = watch::channel(Health { store: Link::Up, backplane: Link::Up, history: None });
        let dirty = Arc::new(AtomicBool::new(false));
        let writer = Writer { connection, waiting, reporter, dirty: dirty.clone(), _lock: lock };
        let wal = file.map(|file| Arc::new(Wal::new(file, dirty)));
        let writer = std::thread::Builder::new().name("store".into()).spawn(move || writer.run())?;
        let readers = file.map(Readers::new);
        Ok(Self { requests: Some(requests), writer: Some(writer), readers, wal, health })
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Runs a task in a transaction, and answers once that is committed. When the task fails nothing of it stays.
    /// The task goes on when the caller leaves.
    pub(super) async fn write<T, F>(&self, task: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let request = Box::new(Task { task: Some(task), outcome: None, reply });
        let requests = self.requests.as_ref().ok_or_else(closed)?;
        requests.send(request).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Runs a task that only reads, on one snapshot that holds everything acknowledged before.
    pub(super) async fn read<T, F>(&self, task: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        match &self.readers {
            Some(readers) => readers.run(task).await,
            None => self.write(task).await,
        }
    }

    /// Brings what was committed onto the disk, so that a power cut can take only what came later, and keeps the log short.
    /// Answers whether much was written.
    pub(super) async fn sync(&self) -> Result<bool> {
        let Some(wal) = self.wal.clone() else { return Ok(false) };
        tokio::task::spawn_blocking(move || wal.upkeep()).await.map_err(|_| closed())?
    }
}

impl Drop for Database {
    /// Waits until the file is closed and its lock is free: whoever drops the last handle may open it again.
    fn drop(&mut self) {
        self.readers.take();
        self.wal.take();
        self.requests.take();
        if let Some(writer) = self.writer.take() {
            // A panic of the writer was reported by the panic hook, and whoever waited has an error.
            let _ = writer.join();
        }
    }
}

fn closed() -> Error {
    Error::Unavailable("the database is closed".into())
}

// ---------------------------------------------------------------------------------------------------------------
// Writing

/// A task whose answer waits for the commit.
trait Request: Send {
    fn run(&mut self, connection: &Connection) -> Result<()>;
    fn answer(self: Box<Self>, committed: &Result<()>);
}

impl std::fmt::Debug for dyn Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Request")
    }
}

struct Task<T, F> {
    task: Option<F>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Request for Task<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<()> {
        let Some(task) = self.task.take() else { return Ok(()) };
        let outcome = task(connection);
        let failed = outcome.as_ref().err().cloned();
        self.outcome = Some(outcome);
        failed.map_or(Ok(()), Err)
    }

    fn answer(self: Box<Self>, committed: &Result<()>) {
        let answer = match (self.outcome, committed) {
            (Some(Err(error)), _) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (_, Err(error)) => Err(error.clone()),
            (None, Ok(())) => Err(closed()),
        };
        // Whoever asked may have left.
        let _ = self.reply.send(answer);
    }
}

struct Writer {
    // Dropped in this order: the file is closed before its lock is given up.
    connection: Connection,
    waiting: mpsc::Receiver<Box<dyn Request>>,
    reporter: watch::Sender<Health>,
    dirty: Arc<AtomicBool>,
    _lock: Option<Lock>,
}

impl Writer {
    fn run(mut self) {
        while let Some(first) = self.waiting.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(next) = self.waiting.try_recv()
            {
                group.push(next);
            }
            let before = self.connection.total_changes();
            let mut trouble = None;
            let committed = self.transact(&mut group, &mut trouble);
            let changed = self.connection.total_changes() != before;
            self.report(trouble.or(committed.clone().err()), changed);
            for request in group {
                request.answer(&committed);
            }
        }
    }

    /// All of the group in one transaction, each in a savepoint of its own: one that fails takes nobody with it.
    fn transact(&self, group: &mut [Box<dyn Request>], trouble: &mut Option<Error>) -> Result<()> {
        self.execute("BEGIN IMMEDIATE")?;
        let done = self.run_each(group, trouble).and_then(|()| self.execute("COMMIT"));
        // Whatever went wrong: a transaction that stays open would refuse every one after it.
        if done.is_err() && !self.connection.is_autocommit() {
            let _ = self.execute("ROLLBACK");
        }
        done
    }

    fn run_each(&self, group: &mut [Box<dyn Request>], trouble: &mut Option<Error>) -> Result<()> {
        for request in group {
            self.execute("SAVEPOINT request")?;
            let failed = request.run(&self.connection).err();
            if failed.is_some() && !self.connection.is_autocommit() {
                self.execute("ROLLBACK TO request")?;
            }
            let reason = failed.filter(|error| link_of(error).is_some());
            if self.connection.is_autocommit() {
                // A full disk or a failing one makes SQLite give up the whole transaction: nothing of it was written.
                return Err(reason.unwrap_or_else(|| Error::Unavailable("the transaction was given up".into())));
            }
            *trouble = trouble.take().or(reason);
            self.execute("RELEASE request")?;
        }
        Ok(())
    }

    fn execute(&self, sql: &str) -> Result<()> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Down from the first trouble until something was written again.
    fn report(&self, trouble: Option<Error>, changed: bool) {
        let link = match trouble.as_ref().and_then(link_of) {
            Some(down) => down,
            None if changed => Link::Up,
            None => return,
        };
        if changed {
            self.dirty.store(true, Ordering::Release);
        }
        self.reporter.send_if_modified(|health| {
            let news = health.store != link;
            health.store = link;
            news
        });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.reporter.send_modify(|health| health.store = Link::Down("the database is closed".into()));
    }
}

/// What an error says about the storage itself; nothing when it was the request's own fault.
fn link_of(error: &Error) -> Option<Link> {
    match error {
        Error::Full(_) | Error::Unavailable(_) | Error::Corrupt(_) => Some(Link::Down(error.to_string())),
        Error::Fenced | Error::OutOfOrder { .. } | Error::Gone | Error::NotFound => None,
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Reading

#[derive(Debug)]
struct Readers {
    turns: Arc<Semaphore>,
    idle: Arc<Idle>,
}

#[derive(Debug)]
struct Idle {
    file: PathBuf,
    connections: Mutex<Vec<Connection>>,
}

impl Readers {
    fn new(file: &Path) -> Self {
        let idle = Idle { file: file.to_owned(), connections: Mutex::default() };
        Self { turns: Arc::new(Semaphore::new(READERS_MAX)), idle: Arc::new(idle) }
    }

    async fn run<T, F>(&self, task: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| closed())?;
        let idle = self.idle.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let connection = idle.take()?;
            let result = snapshot(&connection, task);
            // After trouble a fresh connection is worth its price.
            if result.as_ref().err().and_then(link_of).is_none() {
                idle.give_back(connection);
            }
            drop(turn);
            result
        });
        reading.await.map_err(|_| closed())?
    }
}

impl Idle {
    fn take(&self) -> Result<Connection> {
        let idle = self.connections.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => Ok(schema::open_reader(&self.file)?),
        }
    }

    fn give_back(&self, connection: Connection) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

/// All statements of the task see the same moment.
fn snapshot<T>(connection: &Connection, task: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let result = task(connection);
    if !connection.is_autocommit() {
        connection.prepare_cached("COMMIT")?.execute([])?;
    }
    result
}

impl From<rusqlite::Error> for Error {
    /// Without the text of statements and values: only what kind of trouble it is.
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match &error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DiskFull => Self::Full("no room is left for the database".into()),
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Corrupt("the database is damaged".into()),
                _ => Self::Unavailable(failure.to_string()),
            },
            rusqlite::Error::FromSqlConversionFailure(column, kind, _) | rusqlite::Error::InvalidColumnType(column, _, kind) => {
                Self::Corrupt(format!("a value of kind {kind} in column {column} can't be understood"))
            }
            rusqlite::Error::IntegralValueOutOfRange(column, _) => {
                Self::Corrupt(format!("a number in column {column} is out of range"))
            }
            other => Self::Unavailable(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    /// A database with one table of numbers.
    fn database(dir: &Path) -> Database {
        let file = dir.join("test.db");
        let connection = schema::open_writer(Some(&file), None).expect("open");
        connection.execute_batch("CREATE TABLE numbers (n INTEGER PRIMARY KEY)").expect("create");
        Database::start(connection, Some(&file), None).expect("start")
    }

    fn insert(db: &Connection, n: i64) -> Result<()> {
        db.execute("INSERT INTO numbers (n) VALUES (?1)", [n])?;
        Ok(())
    }

    async fn sum(database: &Database) -> i64 {
        let sql = "SELECT total(n) FROM numbers";
        database.read(|db| Ok(db.query_row(sql, [], |row| row.get::<_, f64>(0))? as i64)).await.expect("read")
    }

    #[tokio::test]
    async fn a_failing_write_takes_no_neighbour_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = database(dir.path());
        let writes = (0..1000_i64).map(|n| {
            database.write(move |db| {
                insert(db, n)?;
                // Fails after it wrote: nothing of it may stay.
                if n % 3 == 0 { Err(Error::NotFound) } else { Ok(n) }
            })
        });
        for (n, result) in (0..).zip(join_all(writes).await) {
            assert_eq!(result, if n % 3 == 0 { Err(Error::NotFound) } else { Ok(n) });
        }
        assert_eq!(sum(&database).await, (0..1000).filter(|n| n % 3 != 0).sum::<i64>());
        assert!(database.health().borrow().store.is_up(), "a request's own fault says nothing about the disk");
    }

    #[tokio::test]
    async fn a_write_is_done_though_nobody_waits() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = database(dir.path());
        for n in 0..100 {
            let write = database.write(move |db| insert(db, n));
            // Polled once, so that it is on its way, and left.
            let _ = futures_util::FutureExt::now_or_never(write);
        }
        database.write(|_| Ok(())).await.expect("after all others");
        assert_eq!(sum(&database).await, (0..100).sum::<i64>());
    }

    #[tokio::test]
    async fn trouble_shows_until_something_is_written_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = database(dir.path());
        let health = database.health();
        let failed: Result<()> = database.write(|_| Err(Error::Unavailable("a cable".into()))).await;
        assert!(failed.is_err());
        assert!(!health.borrow().store.is_up());
        database.write(|_| Ok(())).await.expect("nothing written");
        assert!(!health.borrow().store.is_up());
        database.write(|db| insert(db, 1)).await.expect("written");
        assert!(health.borrow().store.is_up());
        drop(database);
        assert!(!health.borrow().store.is_up());
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = database(dir.path());
        assert!(database.read(|db| insert(db, 1)).await.is_err());
        assert_eq!(sum(&database).await, 0);
    }
}
