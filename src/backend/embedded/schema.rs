//! The layout of the database file, and what must hold of a file before it is used.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::OpenError;

/// Raised with every change of the tables; a file of a newer version is refused.
const VERSION: i64 = 5;

/// Marks a file as one of ours ("chat" in ASCII).
const APPLICATION: i64 = 0x6368_6174;

/// Prepared statements kept for each connection: more than there are different ones.
const STATEMENTS_KEPT: usize = 128;

/// Pages of the write-ahead log, about 64 MiB, after which the writer itself moves them to the file, and everybody waits for the disk:
/// when so much is written without a pause that moving them beside the writer (`wal`) never comes to an end. The log's file stays as long
/// as it once was: to cut it and to let it grow again costs more (p99 of a send 35 ms, not 12).
const CHECKPOINT_PAGES: i64 = 16_000;

/// Order of creation is the order of `n` everywhere. Times are milliseconds since 1970. `messages.jump` is an ancestor
/// further up, which makes "is this below that" cheap (see `tree`). Large columns stand last, since a row is read from
/// its beginning.
///
/// `entries` holds one row for each entry, in one b-tree beside its neighbours of the same log. What an append has to
/// compare and to change is one row of `generations`; none of the columns that it changes is in an index.
const TABLES: &str = "
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE conversations (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL,
    pinned INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    title TEXT NOT NULL
) STRICT;
CREATE INDEX conversations_in_order ON conversations (user, pinned, updated_at);

CREATE TABLE messages (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    conversation INTEGER NOT NULL,
    parent INTEGER,
    depth INTEGER NOT NULL,
    jump INTEGER,
    role INTEGER NOT NULL,
    status INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    generation TEXT,
    model TEXT,
    extra TEXT,
    content TEXT NOT NULL,
    reasoning TEXT
) STRICT;
CREATE INDEX messages_in_order ON messages (conversation);
CREATE INDEX messages_by_parent ON messages (conversation, parent);
CREATE TABLE leaves (conversation INTEGER, message INTEGER, PRIMARY KEY (conversation, message)) STRICT, WITHOUT ROWID;

CREATE TABLE requests (
    user TEXT NOT NULL,
    request TEXT NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (user, request)
) STRICT, WITHOUT ROWID;

CREATE TABLE generations (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    conversation INTEGER NOT NULL,
    message INTEGER NOT NULL,
    model TEXT NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0,
    ended_at INTEGER,
    logged INTEGER NOT NULL DEFAULT 1,
    leased INTEGER NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0,
    status INTEGER NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    nonce TEXT NOT NULL DEFAULT '',
    worker TEXT NOT NULL DEFAULT '',
    lease_until INTEGER NOT NULL DEFAULT 0,
    tail_epoch INTEGER NOT NULL DEFAULT 0,
    tail_seq INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    dry_attempts INTEGER NOT NULL DEFAULT 0,
    progress_at INTEGER NOT NULL,
    written_at INTEGER NOT NULL
) STRICT;
CREATE INDEX generations_open ON generations (leased, model) WHERE ended = 0;
CREATE INDEX generations_of ON generations (conversation, ended);
CREATE INDEX generations_kept ON generations (ended_at) WHERE ended = 1 AND logged = 1;

CREATE TABLE entries (
    generation INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (generation, epoch, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE texts (n INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, folded TEXT NOT NULL) STRICT;
CREATE INDEX texts_of ON texts (conversation);
CREATE VIRTUAL TABLE trigrams USING fts5 (
    folded, content = '', contentless_delete = 1, detail = none, tokenize = 'trigram case_sensitive 1'
);
";

/// Since version 2. `body` is the record as JSON: nothing is looked for inside it.
const ACCOUNTS: &str = "
CREATE TABLE accounts (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE passes (
    user TEXT NOT NULL,
    digest TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (user, digest)
) STRICT, WITHOUT ROWID;
CREATE TABLE access_changes (n INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT NOT NULL) STRICT;
";

/// Since version 3. Which open answers are counted where; `at` is when they came in.
const ROOMS: &str = "
CREATE TABLE rooms (
    generation TEXT NOT NULL,
    room TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (generation, room)
) STRICT, WITHOUT ROWID;
CREATE INDEX rooms_by_name ON rooms (room);
";

/// Since version 4. What budgets have cost, and what is reserved for answers that have not ended; `at` is when they began.
const BUDGETS: &str = "
CREATE TABLE spent (
    budget TEXT NOT NULL,
    period INTEGER NOT NULL,
    used INTEGER NOT NULL,
    kept_until INTEGER NOT NULL,
    PRIMARY KEY (budget, period)
) STRICT, WITHOUT ROWID;
CREATE INDEX spent_by_age ON spent (kept_until);
CREATE TABLE reserved (
    generation TEXT PRIMARY KEY,
    budget TEXT NOT NULL,
    period INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX reserved_by_budget ON reserved (budget, period);
";

/// Since version 5. Titles and messages that `texts` and `trigrams` do not hold yet, by the numbers that they will have there.
const UNINDEXED: &str = "
CREATE TABLE unindexed (n INTEGER PRIMARY KEY, conversation INTEGER NOT NULL) STRICT;
";

/// The one connection that writes, with tables of this version.
pub(super) fn open_writer(file: Option<&Path>, bytes_max: Option<u64>) -> Result<Connection, OpenError> {
    let failed = |error| OpenError::of(error, file);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = match file {
        Some(file) => Connection::open_with_flags(file, flags),
        None => Connection::open_in_memory_with_flags(flags),
    }
    .map_err(failed)?;
    keep_statements(&connection).map_err(failed)?;
    check(&connection, file)?;
    configure(&connection, bytes_max).map_err(failed)?;
    connection.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
    migrate(&connection).map_err(failed)?;
    connection.execute_batch("COMMIT").map_err(failed)?;
    Ok(connection)
}

/// One more connection to a file that a writer has open, which can only read.
pub(super) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    keep_statements(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// A statement is prepared once. Without the stability guarantee SQLite would plan many of them anew for each new value, in the hope
/// of statistics (`SQLITE_ENABLE_STAT4`) that nobody collects here: a sixth of the processor time of an answer.
fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

/// One more connection, which moves the log into the file.
pub(super) fn open_mover(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

/// Refuses what isn't ours or is newer, before anything is changed in it.
fn check(connection: &Connection, file: Option<&Path>) -> Result<(), OpenError> {
    let failed = |error| OpenError::of(error, file);
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if tables > 0 && application != APPLICATION {
        return Err(OpenError::Damaged { file: OpenError::name(file), reason: "it is not a database of chatnode".into() });
    }
    if version > VERSION {
        return Err(OpenError::Newer { file: OpenError::name(file), found: version, known: VERSION });
    }
    Ok(())
}

/// Write-ahead log without a sync at each commit: a commit is in the kernel's hands before it is acknowledged, so the
/// death of this process loses nothing, and a power cut loses only what was not yet synced. `Database` syncs the log
/// every second, which bounds that to about the last second: the same promise as the cluster's (design, section 7).
/// A sync at each commit would add a disk's latency (milliseconds) to every token.
fn configure(connection: &Connection, bytes_max: Option<u64>) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    // Sorting and rollback of one batch fit in memory; nothing else is written beside the database.
    connection.pragma_update(None, "temp_store", "memory")?;
    if let Some(bytes) = bytes_max {
        let page: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
        connection.pragma_update(None, "max_page_count", pages.max(1))?;
    }
    Ok(())
}

fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        connection.execute_batch(TABLES)?;
        connection.pragma_update(None, "application_id", APPLICATION)?;
    }
    if version < 2 {
        connection.execute_batch(ACCOUNTS)?;
    }
    if version < 3 {
        connection.execute_batch(ROOMS)?;
    }
    if version < 4 {
        connection.execute_batch(BUDGETS)?;
    }
    if version < 5 {
        connection.execute_batch(UNINDEXED)?;
    }
    if version < VERSION {
        connection.pragma_update(None, "user_version", VERSION)?;
    }
    Ok(())
}

/// For the one process that has the directory. Whoever held a lease was its predecessor, and is dead: what it had begun can
/// be claimed at once, and that counts as an attempt like any lease that ran out.
pub(super) fn abandon(connection: &Connection, file: Option<&Path>) -> Result<(), OpenError> {
    let sql = "UPDATE generations SET lease_until = 1 WHERE ended = 0 AND leased = 1";
    connection.execute(sql, []).map(|_| ()).map_err(|error| OpenError::of(error, file))
}
