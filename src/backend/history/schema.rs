//! The tables of the history, and what must hold of a database before it is used. All are in a schema named like the cluster's prefix, so
//! that several systems may share a database.

use tokio_postgres::Client;

use super::postgres::meaning;
use crate::backend::{Error, Result};

/// Raised with every change of the tables; a newer one is refused.
const VERSION: i32 = 1;
/// Nodes that start together change the tables one after the other ("chatnode" in ASCII).
const LOCK: i64 = 0x6368_6174_6e6f_6465;

/// `record` is the whole row as JSON: text of PostgreSQL can't hold every character that people write, JSON can spell them all. What is
/// searched or ordered by stands beside it. Ids are compared byte by byte, as everywhere else.
///
/// `messages.idx` is the order of creation. `folded` is what search looks at: lower case without diacritics, made in Rust.
const TABLES: &str = "
CREATE TABLE conversations (
    id text COLLATE \"C\" PRIMARY KEY,
    owner text COLLATE \"C\" NOT NULL,
    pinned boolean NOT NULL,
    updated_at bigint NOT NULL,
    version bigint NOT NULL,
    messages bigint NOT NULL,
    record text NOT NULL,
    folded text NOT NULL
);
CREATE INDEX conversations_in_order ON conversations (owner, pinned, updated_at, id);

CREATE TABLE messages (
    conversation text COLLATE \"C\" NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    idx bigint NOT NULL,
    id text COLLATE \"C\" NOT NULL,
    record text NOT NULL,
    folded text NOT NULL,
    PRIMARY KEY (conversation, idx)
);
";

/// Makes the tables, or brings them to this version.
pub(super) async fn migrate(client: &Client, schema: &str) -> Result<()> {
    let failed = |error| meaning(&error);
    let encoding = client.query_typed_one("SELECT current_setting('server_encoding')", &[]).await.map_err(failed)?;
    if encoding.try_get::<_, String>(0).map_err(failed)? != "UTF8" {
        return Err(Error::Unavailable("postgresql keeps this database in another encoding than UTF8".to_owned()));
    }
    let current = found(client, schema).await? == Some(VERSION);
    if current && is_indexed(client, schema).await? {
        return Ok(());
    }
    let lock = format!("BEGIN; SET LOCAL statement_timeout = 0; SELECT pg_advisory_xact_lock({LOCK});");
    client.batch_execute(&lock).await.map_err(failed)?;
    match found(client, schema).await? {
        Some(VERSION) => index(client, schema).await?,
        Some(newer) if newer > VERSION => {
            return Err(Error::Unavailable(format!("postgresql holds tables of version {newer}, this program knows {VERSION}")));
        }
        _ => make(client, schema).await?,
    }
    client.batch_execute("COMMIT").await.map_err(failed)
}

async fn found(client: &Client, schema: &str) -> Result<Option<i32>> {
    let failed = |error| meaning(&error);
    let there = client.query_typed_one(&format!("SELECT to_regclass('\"{schema}\".history') IS NOT NULL"), &[]).await;
    if !there.and_then(|row| row.try_get::<_, bool>(0)).map_err(failed)? {
        return Ok(None);
    }
    let version = client.query_typed_one(&format!("SELECT version FROM \"{schema}\".history"), &[]).await;
    version.and_then(|row| row.try_get(0)).map(Some).map_err(failed)
}

async fn make(client: &Client, schema: &str) -> Result<()> {
    let failed = |error| meaning(&error);
    let sql = format!(
        "CREATE SCHEMA IF NOT EXISTS \"{schema}\"; SET LOCAL search_path = \"{schema}\"; {TABLES}
        CREATE TABLE history (version integer NOT NULL); INSERT INTO history VALUES ({VERSION});"
    );
    client.batch_execute(&sql).await.map_err(failed)?;
    index(client, schema).await
}

async fn is_indexed(client: &Client, schema: &str) -> Result<bool> {
    let failed = |error| meaning(&error);
    let there = client.query_typed_one(&format!("SELECT to_regclass('\"{schema}\".messages_by_text') IS NOT NULL"), &[]).await;
    there.and_then(|row| row.try_get(0)).map_err(failed)
}

/// The index of searches. A backup that was restored where `pg_trgm` was not comes without it.
async fn index(client: &Client, schema: &str) -> Result<()> {
    if is_indexed(client, schema).await? {
        return Ok(());
    }
    let Some(place) = trigrams(client).await? else {
        tracing::warn!("postgresql has no pg_trgm for us: a search reads all texts of its user");
        return Ok(());
    };
    let sql = format!("CREATE INDEX messages_by_text ON \"{schema}\".messages USING gin (folded \"{place}\".gin_trgm_ops)");
    client.batch_execute(&sql).await.map_err(|error| meaning(&error))
}

/// The schema of `pg_trgm`, which is installed if that is allowed.
async fn trigrams(client: &Client) -> Result<Option<String>> {
    let failed = |error| meaning(&error);
    let sql =
        "SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm'";
    if let Some(row) = client.query_typed_opt(sql, &[]).await.map_err(failed)? {
        return row.try_get(0).map(Some).map_err(failed);
    }
    client.batch_execute("SAVEPOINT trigrams").await.map_err(failed)?;
    if client.batch_execute("CREATE EXTENSION pg_trgm SCHEMA public").await.is_err() {
        client.batch_execute("ROLLBACK TO trigrams").await.map_err(failed)?;
        return Ok(None);
    }
    Ok(Some("public".to_owned()))
}
