//! The write-ahead log of a database, kept in order from beside its writer: brought onto the disk, and moved into the file. Knows no
//! table.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::schema;
use crate::backend::{Error, Result};

/// Pages that wait in the log before they are moved to the file: about 4 MiB. Moving fewer would sync the file for little.
const MOVED_PAGES_MIN: i64 = 1_000;

/// The log of one file, between two looks at it.
#[derive(Debug)]
pub(super) struct Wal {
    file: PathBuf,
    log: PathBuf,
    /// Whether something was committed since the last sync.
    dirty: Arc<AtomicBool>,
    mover: Mutex<Option<Connection>>,
}

impl Wal {
    pub(super) fn new(file: &Path, dirty: Arc<AtomicBool>) -> Self {
        // The name that SQLite gives it.
        let mut log = file.as_os_str().to_owned();
        log.push("-wal");
        Self { file: file.to_owned(), log: log.into(), dirty, mover: Mutex::default() }
    }

    /// Brings what was committed onto the disk, from outside of SQLite. The log's frames carry checksums, so that a part of it on the
    /// disk is a shorter history and never a wrong one. Then moves a long log into the file: the writer would do that as well, but
    /// all that is asked of it meanwhile would wait for the disk. Answers whether it was long: then it soon will be again. Blocks.
    pub(super) fn upkeep(&self) -> Result<bool> {
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(false);
        }
        let synced = File::open(&self.log).and_then(|log| log.sync_data());
        synced.map_err(|error| {
            self.dirty.store(true, Ordering::Release);
            Error::Unavailable(format!("the log can't be synced: {error}"))
        })?;
        self.shorten()
    }

    /// What is moved whole the writer's next commit overwrites (<https://sqlite.org/wal.html>, "Checkpointing").
    fn shorten(&self) -> Result<bool> {
        let mut mover = self.mover.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match mover.take() {
            Some(connection) => connection,
            None => schema::open_mover(&self.file)?,
        };
        let pages = |how: &str| {
            let sql = format!("PRAGMA wal_checkpoint({how})");
            connection.query_row(&sql, [], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        };
        let (all, moved) = pages("NOOP")?;
        let long = all - moved >= MOVED_PAGES_MIN;
        if long {
            pages("PASSIVE")?;
        }
        *mover = Some(connection);
        Ok(long)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(file: &Path) -> u64 {
        std::fs::metadata(file).expect("a file").len()
    }

    #[test]
    fn a_long_log_is_moved_into_the_file_and_then_written_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("test.db");
        let writer = schema::open_writer(Some(&file), None).expect("open");
        writer.execute_batch("CREATE TABLE pages (page BLOB NOT NULL)").expect("create");
        let dirty = Arc::new(AtomicBool::new(false));
        let wal = Wal::new(&file, dirty.clone());
        let mut lengths = Vec::new();
        for _ in 0..4 {
            for _ in 0..300 {
                writer.execute("INSERT INTO pages (page) VALUES (zeroblob(16000))", []).expect("insert");
            }
            dirty.store(true, Ordering::Release);
            assert!(wal.upkeep().expect("upkeep"), "it was long");
            assert!(!wal.upkeep().expect("upkeep"), "nothing was written since");
            lengths.push((bytes(&file), bytes(&wal.log)));
        }
        assert!(lengths.windows(2).all(|two| two[1].0 >= two[0].0 + 300 * 16_000), "all of it is in the file: {lengths:?}");
        assert!(lengths[3].1 < lengths[0].1 * 3 / 2, "the log is not longer than one round: {lengths:?}");
    }

    #[test]
    fn a_log_that_is_gone_is_an_error_and_looked_at_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let dirty = Arc::new(AtomicBool::new(true));
        let wal = Wal::new(&dir.path().join("none.db"), dirty.clone());
        assert!(matches!(wal.upkeep(), Err(Error::Unavailable(_))));
        assert!(dirty.load(Ordering::Acquire));
    }
}
