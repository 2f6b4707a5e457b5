//! What a node is told to be. Only valid states exist here: whoever holds a [`Config`] need not check it again.
//!
//! The only place that knows the command line, TOML and the environment.

mod auth;
mod bench;
mod cli;
mod http;
mod layers;
mod models;
mod oidc;
mod read;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

pub use self::auth::{AuthConfig, JwtConfig, JwtKeys, LoginConfig, Network, is_safe_address};
pub use bench::{BenchPlan, Scenario};
pub use http::{HttpConfig, TlsConfig, TlsFiles};
pub use oidc::OidcConfig;
pub use read::is_prefix;

/// The commented default, which is also the documentation of every key.
pub const DEFAULT_TOML: &str = include_str!("../config/chatnode.toml");

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    Run(Box<Config>),
    /// To be printed: the effective configuration, the help, or the version.
    Print(String),
    /// Ask the gateway at this address how the cluster stands, with an API key where people log in.
    Status(Url, Option<Secret>),
    /// Measure these gateways.
    Bench(Box<BenchPlan>),
    /// Look after the accounts that a node with this configuration would use.
    User(Box<Config>, UserCommand),
}

/// What to do with accounts. Names are as they were typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserCommand {
    Add { name: String, admin: bool },
    List,
    Disable { name: String },
    Enable { name: String },
    Passwd { name: String },
}

/// One sentence that names where the mistake is; no secret in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct ConfigError {
    sentence: String,
}

impl ConfigError {
    fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into() }
    }
}

/// What this process was told by its command line and environment.
///
/// # Errors
/// [`ConfigError`] for the first thing that can't be understood.
pub fn from_process() -> Result<Command, ConfigError> {
    // What is not UTF-8 can't be one of our values.
    let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load(std::env::args_os(), env)
}

/// Like [`from_process`], with everything injected but the files that are named: the program's name and its arguments,
/// and the environment.
///
/// # Errors
/// [`ConfigError`] for the first thing that can't be understood.
pub fn load<A: Into<OsString>>(
    args: impl IntoIterator<Item = A>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Command, ConfigError> {
    let env = env.into_iter().collect();
    let (mut layers, then) = match cli::ask(args.into_iter().map(Into::into), &env)? {
        cli::Asked::Text(text) => return Ok(Command::Print(text)),
        cli::Asked::Status(url, key) => return Ok(Command::Status(url, key)),
        cli::Asked::Bench(plan) => return Ok(Command::Bench(plan)),
        cli::Asked::Configured(layers, then) => (layers, then),
    };
    let config = read::config(&mut layers, &env, &host_name())?;
    Ok(match then {
        cli::Then::Run => Command::Run(Box::new(config)),
        cli::Then::User(command) => Command::User(Box::new(config), command),
        cli::Then::Check => Command::Print(format!("{}{}", layers.dump(), models::note(&config.ai.models))),
    })
}

/// The name of this machine, as far as the standard library lets us find it.
fn host_name() -> String {
    let asked = || {
        let output = std::process::Command::new("hostname").output().ok()?;
        String::from_utf8(output.stdout).ok()
    };
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(asked).unwrap_or_default();
    name.trim().to_owned()
}

/// A secret that no dump shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The only way to its text: for the header or the handshake that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A non-empty set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    gateway: bool,
    ai: bool,
}

impl Roles {
    pub const BOTH: Self = Self { gateway: true, ai: true };
    pub const GATEWAY: Self = Self { gateway: true, ai: false };
    pub const AI: Self = Self { gateway: false, ai: true };

    #[must_use]
    pub fn gateway(self) -> bool {
        self.gateway
    }

    #[must_use]
    pub fn ai(self) -> bool {
        self.ai
    }

    #[must_use]
    pub fn names(self) -> Vec<String> {
        [("gateway", self.gateway), ("ai", self.ai)].iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deployment {
    Embedded(DataDir),
    Cluster { redis_url: Secret, nats_url: Secret, prefix: String, events_stream: Option<String>, history: Option<HistoryConfig> },
}

/// Where conversations are that nobody touched lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    pub url: Secret,
    /// How long one that nobody touches stays in Redis.
    pub keep: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// Keeps nothing: for tests.
    Memory,
    Path(PathBuf),
}

#[derive(Clone, Debug)]
pub struct Config {
    pub node_id: String,
    pub roles: Roles,
    pub listen: SocketAddr,
    pub http: HttpConfig,
    pub deployment: Deployment,
    pub log: LogConfig,
    /// Where spans go, if anywhere.
    pub traces: Option<TracesConfig>,
    pub gateway: GatewayConfig,
    pub ai: AiConfig,
    /// How long running answers may go on after the first signal.
    pub drain: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub json: bool,
    /// A `tracing` filter directive, such as `info` or `chatnode=debug`.
    pub level: String,
}

#[derive(Clone, Debug)]
pub struct TracesConfig {
    /// Of an OTLP collector's traces, over HTTP with protobuf.
    pub url: String,
    /// Sent to it as the header of that name.
    pub authorization: Option<Secret>,
    /// Of all answers, how many are traced: 0 to 1.
    pub share: f64,
}

#[derive(Clone, Debug)]
pub struct GatewayConfig {
    pub heartbeat: Duration,
    /// Between WebSocket pings; a connection that stays silent for this and `pong_timeout` is cut.
    pub ping: Duration,
    pub pong_timeout: Duration,
    /// Bytes that may wait for one connection.
    pub outbox_bytes_max: usize,
    /// Bytes of one question.
    pub prompt_bytes_max: usize,
    /// Bytes of any other frame.
    pub frame_bytes_max: usize,
    /// Bytes of an imported conversation.
    pub import_bytes_max: usize,
    /// Frames a second that one connection may send, after a burst of twice as many.
    pub frames_per_second_max: u32,
    /// Sockets a second that one node opens, after a burst of twice as many.
    pub handshakes_per_second_max: u32,
    /// Conversations that one connection may follow.
    pub subscriptions_max: usize,
    /// How long a conversation is followed after its last reader left.
    pub linger: Duration,
    /// Origins that may open a socket, beside the node's own.
    pub allowed_origins: Vec<String>,
    /// Where people find this gateway, `scheme://host:port`, if it isn't where they seem to come from.
    pub public_url: Option<String>,
    /// Whose word on where a request came from is believed.
    pub trusted_proxies: Vec<Network>,
    /// True when people's connections are encrypted by this node itself.
    pub tls: bool,
    /// True when operators have a listener of their own.
    pub admin_apart: bool,
    pub auth: AuthConfig,
    pub limits: LimitsConfig,
}

/// What may be asked for over all gateways together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// By one user, from wherever.
    pub user: AskerLimits,
    /// From one address, by whomever.
    pub address: AskerLimits,
    /// What the answers of one user may cost in a day of UTC.
    pub tokens: Option<TokenLimit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLimit {
    pub per_day: u64,
    /// Set aside for an answer where neither its user nor its model says how long it gets at most.
    pub answer: u64,
}

/// Where there is none, there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskerLimits {
    /// Requests that change something, questions among them, in a minute.
    pub requests_per_minute: Option<NonZeroU32>,
    /// WebSockets and event streams at once.
    pub connections: Option<NonZeroU32>,
    /// Answers that have not ended.
    pub running: Option<NonZeroU32>,
}

impl GatewayConfig {
    /// True when people reach this gateway over https, whoever encrypts.
    #[must_use]
    pub fn encrypted(&self) -> bool {
        self.tls || self.public_url.as_ref().is_some_and(|url| url.starts_with("https://"))
    }
}

#[derive(Clone, Debug)]
pub struct AiConfig {
    /// Answers at once.
    pub capacity: usize,
    pub lease: Duration,
    pub renewal: Duration,
    /// Least time between two appends of one answer; zero flushes a token as soon as nothing is in flight.
    pub flush_min: Duration,
    /// Bytes of one answer, text and reasoning together.
    pub answer_bytes_max: usize,
    /// Bytes of one answer that wait while the store is away.
    pub buffer_bytes_max: usize,
    /// Claims in a row without a token before an answer is given up.
    pub attempts_max: u32,
    /// Time without a token, over all owners, before an answer is given up.
    pub progress_timeout: Duration,
    /// For models that are discovered; configured ones have their own.
    pub deadlines: Deadlines,
    pub models: ModelSource,
    pub retry: RetryConfig,
}

#[derive(Clone, Debug)]
pub enum ModelSource {
    Configured(Vec<ModelConfig>),
    /// No `[[models]]`: what the environment names, else the demonstration model.
    Discovered(Discovery),
}

/// The environment variables that other tools use for the same thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    pub openai_base_url: Option<String>,
    pub openai_api_key: Option<Secret>,
    pub anthropic_api_key: Option<Secret>,
    /// `OLLAMA_HOST` as a URL; without it 127.0.0.1:11434 is tried.
    pub ollama_host: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub id: String,
    pub name: String,
    /// Tokens of the whole window, question and answer together.
    pub context_tokens: Option<u64>,
    /// Longest answer in tokens, where the user sets none.
    pub max_tokens: Option<u32>,
    /// Longest answer in tokens, whatever the user sets.
    pub max_tokens_cap: Option<u32>,
    /// Others than admins don't see it.
    pub admin_only: bool,
    pub deadlines: Deadlines,
    /// At least one, in the order in which they are tried.
    pub upstreams: Vec<UpstreamConfig>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    OpenAi,
    Anthropic,
    Ollama,
    Demo,
}

#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamConfig {
    pub provider: ProviderKind,
    /// Without a trailing slash; empty for the demonstration model.
    pub base_url: String,
    pub api_key: Option<Secret>,
    /// What the upstream calls the model.
    pub model: String,
    /// How it can go on from a text; unset: what its kind is known to do.
    pub continuation: Option<ContinuationConfig>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContinuationConfig {
    Prefill,
    Continue,
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    pub connect: Duration,
    pub first_token: Duration,
    pub idle: Duration,
    pub total: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    /// Tries of one upstream before the next one is asked.
    pub tries: u32,
    /// Before the second try; doubles, with jitter.
    pub backoff: Duration,
    /// Failures in a row that open an upstream's circuit.
    pub circuit_failures: u32,
    /// How long it stays open before one trial request.
    pub circuit_open: Duration,
}

#[cfg(test)]
mod tests;
