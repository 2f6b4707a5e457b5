//! The embedded world: everything in one process and one directory, for those who have no Redis and no NATS.
//!
//! SQLite holds conversations, messages and logs alike; hints stay inside the process. Knows nothing of networks.

mod accounts;
mod backplane;
mod database;
mod entries;
mod generations;
mod limits;
mod record;
mod schema;
mod search;
mod store;
mod submit;
mod sweep;
mod tree;
mod wal;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::database::Database;
use super::accounts::Accounts;
use super::{Backends, Events};
use crate::config::DataDir;
use crate::drain::Drain;
use crate::event::Happened;
use crate::model::{ConversationId, UserId};

/// Name of the database in its data directory; SQLite puts its log beside it.
const FILE: &str = "chatnode.db";

/// Whoever holds this file's lock has the directory.
const LOCK: &str = "chatnode.lock";

/// How to open a data directory.
#[derive(Clone, Debug)]
pub struct Options {
    pub data: DataDir,
    /// How long an owner may be silent.
    pub lease: Duration,
    pub retention: Retention,
    /// Bytes that the database may take, beside its log; absent: what the disk has.
    pub bytes_max: Option<u64>,
}

impl Options {
    #[must_use]
    pub fn new(data: DataDir, lease: Duration) -> Self {
        Self { data, lease, retention: Retention::default(), bytes_max: None }
    }
}

/// How long logs are kept. The messages stay.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// After the end of an answer, when its text is in the message.
    pub ended: Duration,
    /// After the last write of an answer that nobody owns; it is ended as interrupted.
    pub idle: Duration,
    /// Between two sweeps.
    pub interval: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { ended: Duration::from_secs(60 * 60), idle: Duration::from_secs(24 * 60 * 60), interval: Duration::from_secs(60) }
    }
}

/// Why a data directory can't be used; the text names it and says what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data directory {dir} is in use by another chatnode process")]
    InUse { dir: String },
    #[error("the data directory {dir} can't be used: {reason}")]
    Directory { dir: String, reason: String },
    #[error("the database {file} is damaged: {reason}")]
    Damaged { file: String, reason: String },
    #[error("the database {file} was written by a newer chatnode (version {found}, this one knows {known})")]
    Newer { file: String, found: i64, known: i64 },
    #[error("the database {file} can't be opened: {reason}")]
    Database { file: String, reason: String },
}

impl OpenError {
    fn of(error: rusqlite::Error, file: Option<&Path>) -> Self {
        let file = Self::name(file);
        match super::Error::from(error) {
            super::Error::Corrupt(reason) => Self::Damaged { file, reason },
            super::Error::Full(reason) | super::Error::Unavailable(reason) => Self::Database { file, reason },
            other => Self::Database { file, reason: other.to_string() },
        }
    }

    fn name(file: Option<&Path>) -> String {
        file.map_or_else(|| ":memory:".into(), |file| file.display().to_string())
    }
}

/// Opens a data directory for this process alone, and keeps it in order until `drain` stops. Whatever was running when
/// the last process died can be claimed at once.
///
/// Needs a tokio runtime. The directory is free again when the last clone is dropped.
///
/// # Errors
/// [`OpenError`], when nothing was changed.
pub fn open(options: &Options, drain: &Drain) -> Result<Backends, OpenError> {
    let (file, lock) = match &options.data {
        DataDir::Memory => (None, None),
        DataDir::Path(dir) => (Some(dir.join(FILE)), Some(take(dir)?)),
    };
    let connection = schema::open_writer(file.as_deref(), options.bytes_max)?;
    schema::abandon(&connection, file.as_deref())?;
    let database = Database::start(connection, file.as_deref(), lock)
        .map_err(|error| OpenError::Database { file: OpenError::name(file.as_deref()), reason: error.to_string() })?;
    let database = Arc::new(database);
    let sweeping = sweep::run(Arc::downgrade(&database), options.retention, drain.stopped().clone());
    drain.spawn("sweep of the database", sweeping);
    let indexing = sweep::keep_indexed(Arc::downgrade(&database), drain.stopped().clone());
    drain.spawn("index of the database", indexing);
    Ok(Backends {
        store: Arc::new(store::SqliteStore::new(database.clone())),
        health: database.health(),
        accounts: Arc::new(accounts::SqliteAccounts::new(database.clone())),
        limits: Arc::new(limits::Local::new(database.clone())),
        generations: Arc::new(generations::SqliteGenerations::new(database, options.lease)),
        backplane: Arc::new(backplane::Local::default()),
        events: Arc::new(Nobody),
    })
}

/// One process has no bus that others could listen to.
#[derive(Debug)]
struct Nobody;

impl Events for Nobody {
    fn tell(&self, _: &UserId, _: &ConversationId, _: Happened) {}
}

/// The accounts of a data directory, whether or not a node runs on it: accounts alone may be changed from beside, since a
/// node asks for them each time. What was changed is on the disk when the last clone is dropped.
///
/// # Errors
/// [`OpenError`], when nothing was changed.
pub fn open_accounts(dir: &Path) -> Result<Arc<dyn Accounts>, OpenError> {
    let unusable = |error: std::io::Error| OpenError::Directory { dir: dir.display().to_string(), reason: error.to_string() };
    make(dir).map_err(unusable)?;
    let file = dir.join(FILE);
    let connection = schema::open_writer(Some(&file), None)?;
    let database = Database::start(connection, Some(&file), None)
        .map_err(|error| OpenError::Database { file: OpenError::name(Some(&file)), reason: error.to_string() })?;
    Ok(Arc::new(accounts::SqliteAccounts::new(Arc::new(database))))
}

/// Makes the directory where it isn't there, for nobody else to read: conversations are in it, and the key of the cookies.
fn make(dir: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir)
}

/// A data directory that is ours. Given up by unlocking, not by closing: a child process shares the open file until it has become
/// another program, and a lock that is only closed lasts as long as its last holder (`flock(2)`).
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Should it fail, the file is closed right after, as it would have been.
        let _ = self.0.unlock();
    }
}

/// The lock of a directory, which is made where it isn't there.
fn take(dir: &Path) -> Result<Lock, OpenError> {
    let unusable = |error: std::io::Error| OpenError::Directory { dir: dir.display().to_string(), reason: error.to_string() };
    make(dir).map_err(unusable)?;
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK)).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(Lock(lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_once_given_up_though_a_child_process_still_holds_its_file() {
        let kept = tempfile::tempdir().expect("a directory");
        let dir = kept.path().to_owned();
        let lock = take(&dir).expect("free");
        // What a child has between fork and exec: the same open file.
        let inherited = lock.0.try_clone().expect("a second handle");
        assert!(matches!(take(&dir), Err(OpenError::InUse { .. })));
        drop(lock);
        take(&dir).expect("free again");
        drop(inherited);
    }
}
