//! The command line and the environment as layers over the file. Must not know what a value means.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};
use url::Url;

use super::bench::{BenchFlags, BenchPlan};
use super::layers::{Layers, Origin};
use super::{ConfigError, DEFAULT_TOML, Secret, UserCommand};

/// Bytes of a configuration file, or of a file with one secret.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What is named like this is ours.
const PREFIX: &str = "CHATNODE_";

/// Slips of the keyboard within which an unknown variable is taken for a known one. Other variables with our prefix are
/// left alone: Kubernetes makes such for a service called `chatnode`.
const TYPO_DISTANCE_MAX: usize = 2;

pub(super) type Environment = BTreeMap<String, String>;

/// Flag, variable and key of each setting that has all three.
const SETTINGS: [(&str, &str, &str); 14] = [
    ("--role", "CHATNODE_ROLE", "node.role"),
    ("--listen", "CHATNODE_LISTEN", "node.listen"),
    ("--redis-url", "CHATNODE_REDIS_URL", "cluster.redis_url"),
    ("--nats-url", "CHATNODE_NATS_URL", "cluster.nats_url"),
    ("--data-dir", "CHATNODE_DATA_DIR", "storage.data_dir"),
    ("--node-id", "CHATNODE_NODE_ID", "node.id"),
    ("--log-format", "CHATNODE_LOG_FORMAT", "log.format"),
    ("--log", "CHATNODE_LOG", "log.level"),
    ("--auth", "CHATNODE_AUTH", "auth.mode"),
    ("--anonymous", "CHATNODE_ANONYMOUS", "auth.anonymous"),
    ("--admin-listen", "CHATNODE_ADMIN_LISTEN", "node.admin_listen"),
    ("--tls-certificate", "CHATNODE_TLS_CERTIFICATE", "tls.certificate"),
    ("--tls-key", "CHATNODE_TLS_KEY", "tls.key"),
    ("--history-url", "CHATNODE_HISTORY_URL", "history.url"),
];

/// Variables without a flag.
const FLAGLESS: [(&str, &str); 5] = [
    ("CHATNODE_REDIS_URL_FILE", "cluster.redis_url_file"),
    ("CHATNODE_NATS_URL_FILE", "cluster.nats_url_file"),
    ("CHATNODE_TRACES_URL", "traces.url"),
    ("CHATNODE_TRACES_AUTHORIZATION", "traces.authorization"),
    ("CHATNODE_HISTORY_URL_FILE", "history.url_file"),
];

const CONFIG_VARIABLE: &str = "CHATNODE_CONFIG";

/// For `chatnode status` where people log in; not a flag, which everybody on the machine could read.
const API_KEY_VARIABLE: &str = "CHATNODE_API_KEY";

/// What the command line asks for.
pub(super) enum Asked {
    Configured(Layers, Then),
    Status(Url, Option<Secret>),
    Bench(Box<BenchPlan>),
    /// Help or version.
    Text(String),
}

/// What needs a configuration.
pub(super) enum Then {
    Run,
    Check,
    User(UserCommand),
}

pub(super) fn ask(args: impl IntoIterator<Item = OsString>, env: &Environment) -> Result<Asked, ConfigError> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Asked::Text(error.to_string()));
        }
        Err(error) => return Err(sentence(&error)),
    };
    let then = match cli.command {
        // It runs no node, so nothing else matters.
        Some(Subcommands::Status { url }) => {
            return Ok(Asked::Status(address(&url)?, variable(env, API_KEY_VARIABLE).map(Secret::new)));
        }
        Some(Subcommands::Bench(flags)) => {
            let redis_url = cli.flags.redis_url.as_deref().or_else(|| variable(env, "CHATNODE_REDIS_URL"));
            return Ok(Asked::Bench(Box::new(flags.plan(redis_url)?)));
        }
        Some(Subcommands::CheckConfig) => Then::Check,
        Some(Subcommands::User { command }) => Then::User(command.into()),
        None => Then::Run,
    };
    refuse_typos(env)?;
    let mut layers = Layers::default();
    layers.add_toml(DEFAULT_TOML, &Origin::Default)?;
    if let Some(path) = cli.flags.config.as_deref().filter(|path| !path.is_empty()).or_else(|| variable(env, CONFIG_VARIABLE)) {
        layers.add_toml(&read_file(path).map_err(ConfigError::new)?, &Origin::File(path.to_owned()))?;
    }
    for (name, key) in SETTINGS.iter().map(|(_, name, key)| (*name, *key)).chain(FLAGLESS) {
        if let Some(text) = variable(env, name) {
            layers.set(key, text, Origin::Environment(name));
        }
    }
    for ((flag, _, key), text) in SETTINGS.iter().zip(cli.flags.values()) {
        if let Some(text) = text {
            layers.set(key, text, Origin::Flag(flag));
        }
    }
    Ok(Asked::Configured(layers, then))
}

pub(super) fn address(text: &str) -> Result<Url, ConfigError> {
    let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    url.ok_or_else(|| ConfigError::new("command line: --url must be an address like http://127.0.0.1:8080"))
}

/// A variable of the environment; an empty one counts as unset.
pub(super) fn variable<'a>(env: &'a Environment, name: &str) -> Option<&'a str> {
    env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
}

/// The text of a file, or a sentence why not.
pub(super) fn read_file(path: &str) -> Result<String, String> {
    let read = || {
        let size = std::fs::metadata(path)?.len();
        if size > FILE_BYTES_MAX {
            return Err(std::io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        std::fs::read_to_string(path)
    };
    read().map_err(|error| format!("{path} can't be read: {error}"))
}

/// People keep reading an AI answer, token by token, whatever dies underneath.
///
/// Without a command: runs this node. Every setting is described in config/chatnode.toml, which is the built-in default;
/// flags win over CHATNODE_… variables of the environment, those over --config FILE, and that over the default.
#[derive(Parser)]
#[command(name = "chatnode", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Subcommands>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Prints the configuration that results from all sources, as TOML with secrets as ***
    CheckConfig,
    /// Asks a gateway how the cluster stands: nodes, versions, load, what waits. Exit code 1 when nobody answers. Where people
    /// log in, CHATNODE_API_KEY holds an admin's API key
    Status {
        /// Any gateway, or what stands in front of them
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
        url: String,
    },
    /// Measures gateways from outside and checks every byte of what they answer. Exit code 1 when one was wrong
    Bench(BenchFlags),
    /// Looks after the accounts that people log in with. A password is asked for, or read as one line from standard input
    User {
        #[command(subcommand)]
        command: UserCommands,
    },
}

#[derive(Subcommand)]
enum UserCommands {
    /// Makes an account and sets its password
    Add {
        /// a-z 0-9 . _ @ + -
        name: String,
        /// May see how the cluster stands
        #[arg(long)]
        admin: bool,
    },
    /// Shows all accounts
    List,
    /// Lets somebody in no more: sessions end and sockets close within a second, on every node
    Disable { name: String },
    /// Lets somebody in again
    Enable { name: String },
    /// Sets a new password, which ends all sessions
    Passwd { name: String },
}

impl From<UserCommands> for UserCommand {
    fn from(command: UserCommands) -> Self {
        match command {
            UserCommands::Add { name, admin } => Self::Add { name, admin },
            UserCommands::List => Self::List,
            UserCommands::Disable { name } => Self::Disable { name },
            UserCommands::Enable { name } => Self::Enable { name },
            UserCommands::Passwd { name } => Self::Passwd { name },
        }
    }
}

#[derive(Args)]
struct Flags {
    /// gateway serves people, ai runs models, all does both [CHATNODE_ROLE]
    #[arg(long, global = true, value_name = "gateway|ai|all")]
    role: Option<String>,
    /// Address of the web page, the API and the probes [CHATNODE_LISTEN]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// TOML file that is laid over the built-in default [CHATNODE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<String>,
    /// Redis of the cluster; goes with --nats-url [CHATNODE_REDIS_URL]
    #[arg(long, global = true, value_name = "URL")]
    redis_url: Option<String>,
    /// NATS of the cluster; goes with --redis-url [CHATNODE_NATS_URL]
    #[arg(long, global = true, value_name = "URL")]
    nats_url: Option<String>,
    /// Where a node without a cluster keeps its data; :memory: keeps nothing [CHATNODE_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// Name of this node; by default made of host name and port [CHATNODE_NODE_ID]
    #[arg(long, global = true, value_name = "ID")]
    node_id: Option<String>,
    /// [CHATNODE_LOG_FORMAT]
    #[arg(long, global = true, value_name = "text|json")]
    log_format: Option<String>,
    /// off, error, warn, info, debug, trace, or directives such as info,chatnode=debug [CHATNODE_LOG]
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
    /// How people log in [CHATNODE_AUTH]
    #[arg(long, global = true, value_name = "none|local|jwt|oidc|local,jwt|…")]
    auth: Option<String>,
    /// Where a gateway may listen though nobody has to log in [CHATNODE_ANONYMOUS]
    #[arg(long, global = true, value_name = "loopback|anywhere")]
    anonymous: Option<String>,
    /// Address of the probes, the metrics and the cluster's state, apart from what people use [CHATNODE_ADMIN_LISTEN]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    admin_listen: Option<String>,
    /// PEM file of the certificate for https; goes with --tls-key [CHATNODE_TLS_CERTIFICATE]
    #[arg(long, global = true, value_name = "FILE")]
    tls_certificate: Option<String>,
    /// PEM file of the certificate's key [CHATNODE_TLS_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    tls_key: Option<String>,
    /// PostgreSQL for what is old, behind Redis [CHATNODE_HISTORY_URL]
    #[arg(long, global = true, value_name = "URL")]
    history_url: Option<String>,
}

impl Flags {
    /// In the order of [`SETTINGS`].
    fn values(&self) -> [Option<&str>; SETTINGS.len()] {
        [
            &self.role,
            &self.listen,
            &self.redis_url,
            &self.nats_url,
            &self.data_dir,
            &self.node_id,
            &self.log_format,
            &self.log,
            &self.auth,
            &self.anonymous,
            &self.admin_listen,
            &self.tls_certificate,
            &self.tls_key,
            &self.history_url,
        ]
        .map(Option::as_deref)
    }
}

/// Clap's error, which takes several lines, as one sentence.
fn sentence(error: &clap::Error) -> ConfigError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let text = error.to_string();
    // What is missing stands on lines of its own.
    let told: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let first = told.join(" ").trim_start_matches("error: ").to_owned();
    let meant = context(ContextKind::SuggestedArg).or_else(|| context(ContextKind::SuggestedSubcommand));
    let hint =
        meant.map_or_else(|| "`chatnode --help` lists what there is".to_owned(), |meant| format!("the nearest is {meant}"));
    ConfigError::new(format!("command line: {first}; {hint}"))
}

fn refuse_typos(env: &Environment) -> Result<(), ConfigError> {
    let known: Vec<&str> = SETTINGS
        .iter()
        .map(|(_, name, _)| *name)
        .chain(FLAGLESS.iter().map(|(name, _)| *name))
        .chain([CONFIG_VARIABLE, API_KEY_VARIABLE])
        .collect();
    for name in env.keys().filter(|name| name.starts_with(PREFIX) && !known.contains(&name.as_str())) {
        let near = known.iter().find(|known| strsim::damerau_levenshtein(known, name) <= TYPO_DISTANCE_MAX);
        if let Some(near) = near {
            return Err(ConfigError::new(format!("environment: there is no variable {name}, the nearest is {near}")));
        }
    }
    Ok(())
}
