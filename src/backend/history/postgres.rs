//! The links to PostgreSQL: a few connections that are made when needed, bounds on every call, and what its errors mean for callers.
//! It must not know what is stored.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::schema;
use super::tls::Tls;
use crate::backend::{Error, Link, Result};
use crate::drain::Drain;

/// Connections of one node, one more beside them that asks how the server stands.
const CONNECTIONS_MAX: usize = 8;
/// How long a call may take: the server gives up a little earlier, so that it says why.
const CALL_MAX: Duration = Duration::from_secs(5);
const STATEMENT_MAX_MS: u32 = 4_000;
/// How long a transaction may stand still, which holds a conversation's lock.
const IDLE_MAX_MS: u32 = 30_000;
/// Between two looks at the server, and how long one may take.
const LOOK: Duration = Duration::from_millis(500);
const LOOK_MAX: Duration = Duration::from_millis(2_500);
/// What holds until the first look.
const NOT_YET: &str = "postgresql was not reached yet";

type Failed = tokio_postgres::Error;

/// A parameter with its type: a statement then takes one way there and back, and no connection has to remember it.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Postgres(Arc<Shared>);

struct Shared {
    config: Config,
    tls: Option<Tls>,
    /// All tables are in a schema of this name.
    schema: String,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
    state: watch::Sender<Link>,
    drain: Drain,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("schema", &self.schema).field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

/// Ends its task with it, whatever the server does.
struct Connection {
    client: Client,
    _cut: DropGuard,
}

impl Postgres {
    /// Answers at once; connects in the background until the node has stopped.
    pub(super) fn start(config: Config, tls: Option<Tls>, schema: String, drain: &Drain) -> Self {
        let (state, _) = watch::channel(Link::Down(NOT_YET.to_owned()));
        let (permits, idle) = (Semaphore::new(CONNECTIONS_MAX), Mutex::default());
        let postgres = Self(Arc::new(Shared { config, tls, schema, permits, idle, state, drain: drain.clone() }));
        drain.spawn_ground("history link", postgres.clone().watch_until(drain.deserted().clone()));
        postgres
    }

    pub(super) fn state(&self) -> watch::Receiver<Link> {
        self.0.state.subscribe()
    }

    pub(super) fn is_up(&self) -> bool {
        self.0.state.borrow().is_up()
    }

    /// A connection for some calls. Refused at once while the server is away; a node that has just started looks first.
    pub(super) async fn session(&self) -> Result<Session<'_>> {
        let mut state = self.state();
        let looked = state.wait_for(|link| *link != Link::Down(NOT_YET.to_owned()));
        let _ = tokio::time::timeout(LOOK_MAX, looked).await;
        if let Link::Down(why) = &*self.0.state.borrow() {
            return Err(Error::Unavailable(why.clone()));
        }
        let permit = tokio::time::timeout(CALL_MAX, self.0.permits.acquire()).await;
        let Ok(Ok(permit)) = permit else { return Err(Error::Unavailable("postgresql has too much waiting".to_owned())) };
        let kept = self.idle().pop();
        let connection = match kept.filter(|kept| !kept.client.is_closed()) {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        Ok(Session { home: self, connection: Some(connection), pending: false, transaction: false, _permit: permit })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Connection> {
        let opened = tokio::time::timeout(CALL_MAX, self.open());
        let client = opened.await.map_err(|_| slow())?.map_err(|error| meaning(&error))?;
        // What an operator turned off for the whole server must not lose what is gone from Redis.
        let settings = format!(
            "SET search_path = \"{}\"; SET statement_timeout = {STATEMENT_MAX_MS}; \
             SET idle_in_transaction_session_timeout = {IDLE_MAX_MS}; \
             SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
            self.0.schema
        );
        let set = tokio::time::timeout(CALL_MAX, client.client.batch_execute(&settings));
        set.await.map_err(|_| slow())?.map_err(|error| meaning(&error))?;
        Ok(client)
    }

    async fn open(&self) -> std::result::Result<Connection, Failed> {
        let cut = CancellationToken::new();
        let client = match &self.0.tls {
            Some(tls) => {
                let (client, connection) = self.0.config.connect(tls.clone()).await?;
                self.carry(connection, &cut);
                client
            }
            None => {
                let (client, connection) = self.0.config.connect(NoTls).await?;
                self.carry(connection, &cut);
                client
            }
        };
        Ok(Connection { client, _cut: cut.drop_guard() })
    }

    /// The task that moves a connection's bytes.
    fn carry(&self, connection: impl Future<Output = std::result::Result<(), Failed>> + Send + 'static, cut: &CancellationToken) {
        let (cut, deserted) = (cut.clone(), self.0.drain.deserted().clone());
        self.0.drain.spawn_ground("history connection", async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(reason = %meaning(&error), "a connection to postgresql ended");
                    }
                }
                () = cut.cancelled() => {}
                () = deserted.cancelled() => {}
            }
        });
    }

    /// The task: until `stopped`, tells how the server stands.
    async fn watch_until(self, stopped: CancellationToken) {
        let mut own = None;
        loop {
            let look = tokio::select! {
                () = stopped.cancelled() => return,
                look = tokio::time::timeout(LOOK_MAX, self.look(&mut own)) => look.unwrap_or_else(|_| Err(slow())),
            };
            self.tell(match look {
                Ok(()) => Link::Up,
                Err(error) => {
                    own = None;
                    Link::Down(why(error))
                }
            });
            tokio::select! {
                () = stopped.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn look(&self, own: &mut Option<Connection>) -> Result<()> {
        let connection = match own.take().filter(|own| !own.client.is_closed()) {
            Some(own) => own,
            None => {
                let fresh = self.open().await.map_err(|error| meaning(&error))?;
                schema::migrate(&fresh.client, &self.0.schema).await?;
                fresh
            }
        };
        let standby = connection.client.query_typed_one("SELECT pg_is_in_recovery()", &[]).await;
        let standby: bool = standby.and_then(|row| row.try_get(0)).map_err(|error| meaning(&error))?;
        *own = Some(connection);
        if standby { Err(Error::Unavailable("postgresql is a standby".to_owned())) } else { Ok(()) }
    }

    fn tell(&self, now: Link) {
        let changed = self.0.state.send_if_modified(|held| {
            let changed = *held != now;
            *held = now.clone();
            changed
        });
        match &now {
            Link::Up if changed => tracing::info!(link = "postgresql", "a link is up"),
            Link::Down(reason) if changed => {
                tracing::warn!(link = "postgresql", reason, "a link is down");
                self.idle().clear();
            }
            _ => {}
        }
    }
}

/// One connection, given back when this is dropped in good order, and cut otherwise: the server then ends what was begun.
pub(super) struct Session<'a> {
    home: &'a Postgres,
    connection: Option<Connection>,
    /// A call was sent whose answer did not come.
    pending: bool,
    transaction: bool,
    _permit: SemaphorePermit<'a>,
}

impl Session<'_> {
    pub(super) async fn begin(&mut self) -> Result<()> {
        self.batch("BEGIN").await?;
        self.transaction = true;
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<()> {
        self.batch("COMMIT").await?;
        self.transaction = false;
        Ok(())
    }

    pub(super) async fn rows(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        self.pending = true;
        let outcome = self.bounded(self.client()?.query_typed(sql, parameters)).await;
        self.settle(outcome)
    }

    pub(super) async fn row(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Option<Row>> {
        self.rows(sql, parameters).await.map(|rows| rows.into_iter().next())
    }

    pub(super) async fn execute(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64> {
        self.pending = true;
        let outcome = self.bounded(self.client()?.execute_typed(sql, parameters)).await;
        self.settle(outcome)
    }

    async fn batch(&mut self, sql: &str) -> Result<()> {
        self.pending = true;
        let outcome = self.bounded(self.client()?.batch_execute(sql)).await;
        self.settle(outcome)
    }

    fn client(&self) -> Result<&Client> {
        self.connection.as_ref().map(|connection| &connection.client).ok_or_else(slow)
    }

    /// Ends when the server is found to be away: nobody should wait for one that hangs.
    async fn bounded<T>(
        &self,
        call: impl Future<Output = std::result::Result<T, Failed>>,
    ) -> Option<std::result::Result<T, Failed>> {
        let mut state = self.home.state();
        tokio::select! {
            outcome = tokio::time::timeout(CALL_MAX, call) => outcome.ok(),
            _ = state.wait_for(|link| !link.is_up()) => None,
        }
    }

    fn settle<T>(&mut self, outcome: Option<std::result::Result<T, Failed>>) -> Result<T> {
        let Some(outcome) = outcome else { return Err(slow()) };
        self.pending = false;
        outcome.map_err(|error| meaning(&error))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if !self.pending && !self.transaction && !connection.client.is_closed() && self.home.is_up() {
            self.home.idle().push(connection);
        }
    }
}

fn slow() -> Error {
    Error::Unavailable("postgresql did not answer in time".to_owned())
}

fn why(error: Error) -> String {
    match error {
        Error::Full(why) | Error::Unavailable(why) | Error::Corrupt(why) => why,
        other => other.to_string(),
    }
}

/// What an error means for the caller. A server's own words may repeat what is stored, so only its code is told.
pub(super) fn meaning(error: &Failed) -> Error {
    let away = |why: &str| Error::Unavailable(format!("postgresql {why}"));
    let Some(code) = error.code() else {
        let said = error.to_string();
        return match () {
            () if said.contains("TLS") || said.contains("tls") => away("could not be trusted"),
            () if said.contains("password missing") || said.contains("authentication") => away("refuses these credentials"),
            () if said.contains("deserializing") => Error::Corrupt("postgresql answered something unexpected".to_owned()),
            () => away("is not reachable"),
        };
    };
    match (code, &code.code()[..2]) {
        (&SqlState::DISK_FULL, _) => Error::Full("postgresql has no room on its disk".to_owned()),
        (&SqlState::QUERY_CANCELED, _) => slow(),
        (&SqlState::INVALID_CATALOG_NAME, _) => away("has no such database"),
        (&SqlState::INSUFFICIENT_PRIVILEGE, _) => away("does not allow this user to do that"),
        (_, "28") => away("refuses these credentials"),
        // Connections, resources, serialization, an operator, the system: all of them pass.
        (code, "08" | "25" | "40" | "53" | "55" | "57" | "58") => away(&format!("answered {}", code.code())),
        (code, _) => Error::Corrupt(format!("postgresql answered {}", code.code())),
    }
}
