//! The link to Redis: one client for single servers, Sentinel and Redis Cluster, its limits, and what its errors mean for callers.
//! It must not know what is stored.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::clients::{Client, WithOptions};
use fred::error::{Error as FredError, ErrorKind};
use fred::interfaces::{ClientLike, EventInterface, LuaInterface};
use fred::types::config::{
    Config, ConnectionConfig, Options as CommandOptions, PerformanceConfig, ReconnectPolicy, TcpConfig, TlsConnector,
    UnresponsiveConfig,
};
use fred::types::{Builder, Value};

use super::address;
use super::keys::Keys;
use super::steps::{Answer, Step, Steps};
use crate::backend::{Error, Result};

/// How long one command may take, its way there and back included.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that answers nothing for so long is cut and made anew.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// Commands that may wait for the socket; more are refused at once.
const COMMANDS_WAITING_MAX: usize = 8_192;
const RECONNECT_FIRST_MS: u32 = 20;
const RECONNECT_LAST_MS: u32 = 250;

/// Cheap to clone; all clones share one connection (per server), on which commands are pipelined by themselves.
#[derive(Clone, Debug)]
pub(super) struct Link {
    client: WithOptions<Client>,
    pub(super) keys: Keys,
    pub(super) steps: Arc<Steps>,
    /// Set when a server said that it is a replica now: the way to the master has to be found anew.
    demoted: Arc<AtomicBool>,
}

impl Link {
    /// Starts to connect, and goes on in the background for ever.
    pub(super) fn open(url: &str, keys: Keys) -> std::result::Result<Self, String> {
        // The client takes any scheme that it does not know for `redis`.
        if !url.starts_with("redis") && !url.starts_with("valkey") {
            return Err(
                "it begins with redis://, rediss://, redis-sentinel:// or redis-cluster:// (or valkey for redis)".to_owned()
            );
        }
        let client = builder(url)?.build().map_err(|error| url_problem(&error))?;
        // The task behind it ends with `close`.
        drop(client.connect());
        // A command is sent once: whether it was done when the connection broke is for the caller to find out, who knows how.
        let options = CommandOptions {
            max_attempts: Some(1),
            timeout: Some(COMMAND_TIMEOUT),
            fail_fast: true,
            ..CommandOptions::default()
        };
        let client = client.with_options(&options);
        Ok(Self { client, keys, steps: Arc::new(Steps::new()), demoted: Arc::default() })
    }

    /// For plain commands; their errors go through [`Self::fail`]. Refused at once while there is no connection: what waited for
    /// the next one would only be told later that it took too long.
    pub(super) fn redis(&self) -> Result<&WithOptions<Client>> {
        if self.client.is_connected() { Ok(&self.client) } else { Err(Error::Unavailable("redis is not reachable".to_owned())) }
    }

    /// What fred tells of its connections by itself.
    pub(super) fn events(&self) -> &impl EventInterface {
        &*self.client
    }

    pub(super) async fn run(&self, step: &Step, keys: Vec<String>, args: Vec<Value>) -> Result<Answer> {
        let redis = self.redis()?;
        let result: std::result::Result<Value, FredError> =
            match redis.evalsha(step.script.sha1().clone(), keys.clone(), args.clone()).await {
                // The server was restarted, promoted, or told to forget: sending the text teaches it again.
                Err(error) if error.details().starts_with("NOSCRIPT") => {
                    let text = step.script.lua().cloned().unwrap_or_default();
                    redis.eval(text, keys, args).await
                }
                result => result,
            };
        match result {
            Ok(value) => Ok(Answer::new(value)),
            Err(error) => {
                let failed = self.fail(&error);
                if matches!(failed, Error::Corrupt(_)) {
                    tracing::error!(step = step.name, reason = %failed, "a step in redis failed");
                }
                Err(failed)
            }
        }
    }

    /// What an error means for the caller. Says nothing of addresses or credentials.
    pub(super) fn fail(&self, error: &FredError) -> Error {
        let failed = meaning(error);
        if error.details().starts_with("READONLY") {
            self.demoted.store(true, Ordering::Relaxed);
        }
        failed
    }

    /// Finds the master again when a replica answered in its place.
    pub(super) async fn leave_replica(&self) {
        if self.demoted.swap(false, Ordering::Relaxed) {
            tracing::warn!("a redis replica answered as master, connecting anew");
            let _ = tokio::time::timeout(COMMAND_TIMEOUT, self.client.force_reconnection()).await;
        }
    }

    pub(super) async fn ping(&self) -> Result<()> {
        let ping: std::result::Result<Value, FredError> = self.redis()?.ping(None).await;
        ping.map(|_| ()).map_err(|error| self.fail(&error))
    }

    pub(super) async fn close(&self) {
        let _ = tokio::time::timeout(COMMAND_TIMEOUT, self.client.quit()).await;
    }
}

/// A client of this server that keeps to our limits.
fn builder(url: &str) -> std::result::Result<Builder, String> {
    let mut config = Config::from_url(url).map_err(|error| url_problem(&error))?;
    // An empty user name is what `redis://:password@host` gives; servers know it as the default user.
    config.username = config.username.filter(|name| !name.is_empty());
    config.fail_fast = false;
    if let (Some(file), true) = (address::parameter(url, "ca"), config.uses_tls()) {
        config.tls = Some(TlsConnector::from(address::trusting(Path::new(&file))?).into());
    }
    let connection = ConnectionConfig {
        connection_timeout: COMMAND_TIMEOUT,
        internal_command_timeout: COMMAND_TIMEOUT,
        max_command_attempts: 1,
        max_command_buffer_len: COMMANDS_WAITING_MAX,
        unresponsive: UnresponsiveConfig { max_timeout: Some(SILENCE_MAX), interval: Duration::from_secs(1) },
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        reconnect_on_auth_error: true,
        ..ConnectionConfig::default()
    };
    let mut builder = Builder::from_config(config);
    builder.set_connection_config(connection);
    builder
        .set_performance_config(PerformanceConfig { default_command_timeout: COMMAND_TIMEOUT, ..PerformanceConfig::default() });
    builder.set_policy(ReconnectPolicy::new_exponential(0, RECONNECT_FIRST_MS, RECONNECT_LAST_MS, 2));
    Ok(builder)
}

fn url_problem(error: &FredError) -> String {
    match error.kind() {
        ErrorKind::Tls => "its certificates can't be loaded".to_owned(),
        // Fred's details may repeat the address, which may hold a password.
        _ => "it is not a redis address (redis://, rediss://, redis-sentinel://, redis-cluster://)".to_owned(),
    }
}

/// The first word of what a server said, where it is one of the server's own codes.
fn code(error: &FredError) -> Option<&str> {
    let word = error.details().split(' ').next().unwrap_or_default();
    (word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase())).then_some(word)
}

fn meaning(error: &FredError) -> Error {
    let details = error.details();
    // Before version 7 a script's own errors came inside one of the script.
    if details.starts_with("OOM") || details.contains("-OOM ") {
        return Error::Full("redis reached its memory limit".to_owned());
    }
    if details.contains("No space left") {
        return Error::Full("redis has no room on its disk".to_owned());
    }
    let away = |why: &str| Error::Unavailable(format!("redis {why}"));
    if details.contains("-READONLY ") {
        return away("answered READONLY");
    }
    if let Some(code) = code(error) {
        return match code {
            "ERR" | "WRONGTYPE" | "NOSCRIPT" | "EXECABORT" => Error::Corrupt(format!("redis answered {code}")),
            "NOAUTH" | "WRONGPASS" | "NOPERM" => away("refuses these credentials"),
            code => away(&format!("answered {code}")),
        };
    }
    // The handshake's failure comes as one of reading and writing.
    if details.to_ascii_lowercase().contains("certificate") {
        return away("could not be trusted");
    }
    match error.kind() {
        ErrorKind::Timeout => away("did not answer in time"),
        ErrorKind::Auth => away("refuses these credentials"),
        ErrorKind::Backpressure => away("has too much waiting"),
        ErrorKind::Tls => away("could not be trusted"),
        ErrorKind::Sentinel => away("sentinel could not name a master"),
        ErrorKind::Parse | ErrorKind::NotFound | ErrorKind::InvalidArgument | ErrorKind::InvalidCommand => {
            Error::Corrupt("redis answered something unexpected".to_owned())
        }
        _ => away("is not reachable"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_reactions() {
        let of = |kind: ErrorKind, details: &'static str| meaning(&FredError::new(kind, details));
        assert!(matches!(of(ErrorKind::Unknown, "OOM command not allowed when used memory"), Error::Full(_)));
        assert!(matches!(of(ErrorKind::Unknown, "MISCONF Errors writing: No space left on device"), Error::Full(_)));
        assert!(matches!(of(ErrorKind::Unknown, "MISCONF Redis is configured to"), Error::Unavailable(_)));
        assert!(matches!(of(ErrorKind::Unknown, "LOADING Redis is loading"), Error::Unavailable(_)));
        let inside =
            "ERR Error running script (call to f_1): @user_script:9: -OOM command not allowed when used memory > 'maxmemory'.";
        assert!(matches!(of(ErrorKind::Unknown, inside), Error::Full(_)));
        let inside =
            "ERR Error running script (call to f_1): @user_script:9: -READONLY You can't write against a read only replica.";
        assert!(matches!(of(ErrorKind::Unknown, inside), Error::Unavailable(_)));
        assert!(matches!(of(ErrorKind::Timeout, "Request timed out."), Error::Unavailable(_)));
        assert!(matches!(of(ErrorKind::IO, "Os { code: 111 }"), Error::Unavailable(_)));
        assert!(matches!(of(ErrorKind::Unknown, "WRONGTYPE Operation against"), Error::Corrupt(_)));
        assert!(matches!(of(ErrorKind::Unknown, "ERR user_script:1: oh"), Error::Corrupt(_)));
    }

    #[tokio::test]
    async fn bad_addresses_are_told_without_their_secrets() {
        for url in ["", "http://user:secret@host", "redis://user:secret@host:notaport", "redis-sentinel://:secret@h:1"] {
            let keys = Keys::new("t").unwrap();
            let problem = match Config::from_url(url) {
                Err(error) => url_problem(&error),
                Ok(_) => Link::open(url, keys).map(|_| ()).expect_err(url),
            };
            assert!(!problem.contains("secret"), "{problem}");
        }
    }
}
