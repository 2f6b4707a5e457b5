//! From layers of keys to a [`Config`]: every range, every default that depends on something, every pair of values that
//! must fit together. The names of the keys stand here and in `config/chatnode.toml`, nowhere else.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use super::auth::{self, AuthConfig};
use super::cli::{Environment, read_file};
use super::http;
use super::layers::{Layers, Section, nearest, quote};
use super::models;
use super::{
    AiConfig, AskerLimits, Config, ConfigError, DataDir, Deployment, GatewayConfig, HistoryConfig, HttpConfig, LimitsConfig,
    LogConfig, RetryConfig, Roles, Secret, TokenLimit, TracesConfig,
};

pub(super) const SECOND_MS: u64 = 1_000;
pub(super) const MINUTE_MS: u64 = 60 * SECOND_MS;
pub(super) const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;
const KIB: u64 = 1024;
const GIB: u64 = KIB * KIB * KIB;
const MILLION: u64 = 1_000_000;
const TOKENS_MAX: u64 = MILLION * MILLION;

/// Node ids and prefixes become parts of keys and subjects.
const NAME_BYTES_MAX: usize = 100;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn config(layers: &mut Layers, env: &Environment, host: &str) -> Result<Config, ConfigError> {
    let listen = listen(&layers.section("node"))?;
    if layers.section("node").optional_text("id")?.is_none() {
        layers.set("node.id", &default_node_id(host, listen), super::layers::Origin::Default);
    }
    let layers = &*layers;
    let node = layers.section("node");
    let http = http::http(layers, listen)?;
    let config = Config {
        roles: roles(&node)?,
        listen,
        node_id: name(&node, "id")?,
        drain: node.ms("drain_ms", 0..=HOUR_MS)?,
        deployment: deployment(layers)?,
        log: log(&layers.section("log"))?,
        traces: traces(&layers.section("traces"))?,
        gateway: gateway(layers, auth::auth(&layers.section("auth"))?, &http)?,
        http,
        ai: ai(layers, env)?,
    };
    auth::refuse_open_house(&layers.section("auth"), &node, config.roles, listen, &config.gateway.auth)?;
    layers.refuse_unknown()?;
    Ok(config)
}

fn roles(node: &Section<'_>) -> Result<Roles, ConfigError> {
    let text = node.text("role")?;
    let (mut gateway, mut ai) = (false, false);
    for word in text.split(',') {
        match word.trim() {
            "gateway" => gateway = true,
            "ai" => ai = true,
            "all" => (gateway, ai) = (true, true),
            _ => return Err(node.error("role", format_args!("must be gateway, ai, all or gateway,ai, not {}", quote(&text)))),
        }
    }
    Ok(match (gateway, ai) {
        (true, false) => Roles::GATEWAY,
        (false, true) => Roles::AI,
        _ => Roles::BOTH,
    })
}

fn listen(node: &Section<'_>) -> Result<SocketAddr, ConfigError> {
    http::address(node, "listen", &node.text("listen")?)
}

fn default_node_id(host: &str, listen: SocketAddr) -> String {
    let host: String =
        host.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(NAME_BYTES_MAX - 6).collect();
    let host = if host.is_empty() { "node" } else { &host };
    format!("{host}:{}", listen.port())
}

fn name(section: &Section<'_>, key: &str) -> Result<String, ConfigError> {
    let text = section.text(key)?;
    let fits = text.len() <= NAME_BYTES_MAX && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c));
    let most = NAME_BYTES_MAX;
    let bad = || section.error(key, format_args!("must be at most {most} of a-z A-Z 0-9 - _ . :, not {}", quote(&text)));
    if fits { Ok(text) } else { Err(bad()) }
}

const PREFIX_BYTES_MAX: usize = 32;

/// What keys and subjects may begin with: 1 to 32 of `a-z 0-9 - _`.
#[must_use]
pub fn is_prefix(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    (1..=PREFIX_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

fn deployment(layers: &Layers) -> Result<Deployment, ConfigError> {
    let cluster = layers.section("cluster");
    let data_dir = layers.section("storage").text("data_dir")?;
    let redis = url_secret(&cluster, "redis_url", "redis_url_file")?;
    let nats = url_secret(&cluster, "nats_url", "nats_url_file")?;
    let prefix = name(&cluster, "prefix")?;
    if !is_prefix(&prefix) {
        return Err(
            cluster.error("prefix", format_args!("must be 1 to {PREFIX_BYTES_MAX} of a-z 0-9 - _, not {}", quote(&prefix)))
        );
    }
    let events_stream = cluster.optional_text("events_stream")?;
    if events_stream.as_ref().is_some_and(|name| !is_stream(name)) {
        return Err(cluster.error("events_stream", "must be 1 to 32 of a-z A-Z 0-9 - _"));
    }
    let half =
        |key: &str, other| cluster.error(key, format_args!("is set, but {other} is not: a cluster needs both, one node neither"));
    let history = history(layers, redis.is_some() || nats.is_some())?;
    match (redis, nats) {
        (None, None) if data_dir == ":memory:" => Ok(Deployment::Embedded(DataDir::Memory)),
        (None, None) => Ok(Deployment::Embedded(DataDir::Path(PathBuf::from(data_dir)))),
        (Some((key, _)), None) => Err(half(key, "cluster.nats_url")),
        (None, Some((key, _))) => Err(half(key, "cluster.redis_url")),
        (Some((redis_key, redis)), Some((nats_key, nats))) => {
            let scheme = redis.split_once("://").map_or("", |(scheme, _)| scheme);
            if !["redis", "rediss", "valkey", "valkeys"].contains(&scheme.split(['-', '+']).next().unwrap_or_default()) {
                return Err(cluster
                    .error(redis_key, "must hold an address like redis://HOST:PORT (or rediss, redis-cluster, redis-sentinel)"));
            }
            let plain =
                |server: &str| server.split_once("://").is_none_or(|(scheme, _)| ["nats", "tls", "ws", "wss"].contains(&scheme));
            if !nats.split(',').all(plain) {
                return Err(cluster.error(nats_key, "must hold addresses like nats://HOST:PORT (or tls), separated by commas"));
            }
            let (redis_url, nats_url) = (Secret::new(redis), Secret::new(nats));
            Ok(Deployment::Cluster { redis_url, nats_url, prefix, events_stream, history })
        }
    }
}

fn history(layers: &Layers, cluster: bool) -> Result<Option<HistoryConfig>, ConfigError> {
    let section = layers.section("history");
    let url = url_secret(&section, "url", "url_file")?;
    let keep = section.ms("keep_ms", 0..=10 * 365 * DAY_MS)?;
    let Some((key, url)) = url else { return Ok(None) };
    if !cluster {
        return Err(
            section.error(key, "is set, but cluster.redis_url is not: a history stands behind Redis, one node keeps its own")
        );
    }
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let Some((address, query)) = rest.map(|rest| rest.split_once('?').unwrap_or((rest, ""))) else {
        return Err(section.error(key, "must hold an address like postgres://USER:PASSWORD@HOST:PORT/DATABASE"));
    };
    let host = address.rsplit_once('@').map_or(address, |(_, host)| host).split('/').next().unwrap_or_default();
    let port = |host: &str| host.rsplit_once(':').is_none_or(|(_, port)| port.ends_with(']') || port.parse::<u16>().is_ok());
    if host.is_empty() || host.split(',').any(|host| host.is_empty() || !port(host)) {
        return Err(section.error(key, "must name a host, and a port only as a number"));
    }
    let mode = query.split('&').find_map(|pair| pair.strip_prefix("sslmode="));
    if mode.is_some_and(|mode| !["disable", "require", "verify-full"].contains(&mode)) {
        return Err(section.error(key, "has an sslmode other than disable, require or verify-full"));
    }
    Ok(Some(HistoryConfig { url: Secret::new(url), keep }))
}

/// What JetStream takes for a name and every system can spell.
fn is_stream(name: &str) -> bool {
    (1..=32).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// An address from the key itself or from the file that another key names; with the key that said so.
fn url_secret(
    section: &Section<'_>,
    key: &'static str,
    file_key: &'static str,
) -> Result<Option<(&'static str, String)>, ConfigError> {
    Ok(match section.one_of(&[key, file_key], true)? {
        None => None,
        Some((0, url)) => Some((key, url)),
        Some((_, path)) => Some((file_key, secret_from_file(section, file_key, &path)?)),
    })
}

/// A secret from the key itself or from the file that another key names.
pub(super) fn secret(section: &Section<'_>, key: &str, file_key: &str) -> Result<Option<String>, ConfigError> {
    match section.one_of(&[key, file_key], false)? {
        Some((1, path)) => secret_from_file(section, file_key, &path).map(Some),
        other => Ok(other.map(|(_, text)| text)),
    }
}

pub(super) fn secret_from_file(section: &Section<'_>, key: &str, path: &str) -> Result<String, ConfigError> {
    let text = read_file(path).map_err(|why| section.error(key, format_args!("names a file, but {why}")))?;
    match text.trim() {
        "" => Err(section.error(key, format_args!("names {path}, which is empty"))),
        text => Ok(text.to_owned()),
    }
}

fn log(section: &Section<'_>) -> Result<LogConfig, ConfigError> {
    let json = section.choice("format", &[("text", false), ("json", true)])?;
    let level = section.text("level")?;
    for directive in level.split(',').map(str::trim).filter(|directive| !directive.contains(['=', '['])) {
        // To the filter a misspelt level is the name of a module.
        if !LEVELS.contains(&directive.to_lowercase().as_str()) {
            let near = nearest(directive, LEVELS.into_iter());
            return Err(section.error("level", format_args!("has no level {}, the nearest is {near}", quote(directive))));
        }
    }
    match tracing_subscriber::EnvFilter::try_new(&level) {
        Ok(_) => Ok(LogConfig { json, level }),
        Err(error) => Err(section.error("level", format_args!("can't be understood: {error}"))),
    }
}

fn traces(section: &Section<'_>) -> Result<Option<TracesConfig>, ConfigError> {
    let url = section.url("url")?;
    let authorization = secret(section, "authorization", "authorization_file")?;
    let share = f64::from(section.count("share_percent", 0..=100)?) / 100.0;
    let Some(url) = url else { return Ok(None) };
    let mut url = url::Url::parse(&url)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| section.error("url", "must be the address of an OTLP collector, like http://127.0.0.1:4318"))?;
    if url.path() == "/" {
        // As OpenTelemetry's own variable for a base address means it.
        url.set_path("/v1/traces");
    }
    Ok(Some(TracesConfig { url: url.into(), authorization: authorization.map(Secret::new), share }))
}

fn gateway(layers: &Layers, auth: AuthConfig, http: &HttpConfig) -> Result<GatewayConfig, ConfigError> {
    let (section, limits) = (&layers.section("gateway"), layers.section("limits"));
    let config = GatewayConfig {
        heartbeat: section.ms("heartbeat_ms", 100..=60 * SECOND_MS)?,
        ping: section.ms("ping_ms", 100..=HOUR_MS)?,
        pong_timeout: section.ms("pong_timeout_ms", 100..=HOUR_MS)?,
        outbox_bytes_max: section.size("outbox_bytes_max", 4 * KIB..=GIB)?,
        prompt_bytes_max: section.size("prompt_bytes_max", 1..=64 * KIB * KIB)?,
        frame_bytes_max: section.size("frame_bytes_max", KIB..=64 * KIB * KIB)?,
        import_bytes_max: section.size("import_bytes_max", KIB..=GIB)?,
        frames_per_second_max: section.count("frames_per_second_max", 1..=100_000)?,
        handshakes_per_second_max: section.count("handshakes_per_second_max", 1..=MILLION)?,
        subscriptions_max: section.size("subscriptions_max", 1..=100_000)?,
        // Less would be looking all the time whether somebody is there.
        linger: section.ms("linger_ms", 100..=HOUR_MS)?,
        allowed_origins: section.texts("allowed_origins")?,
        public_url: auth::public_url(section)?,
        trusted_proxies: auth::trusted_proxies(section)?,
        tls: http.tls.is_some(),
        admin_apart: http.admin_listen.is_some(),
        auth,
        limits: LimitsConfig {
            user: asker_limits(&limits.section("user"))?,
            address: asker_limits(&limits.section("address"))?,
            tokens: token_limit(&limits.section("user"))?,
        },
    };
    if let Some(origin) = config.allowed_origins.iter().find(|origin| !auth::is_origin(origin)) {
        let problem = format_args!("must hold origins like \"https://chat.example.org\", without a path, not {}", quote(origin));
        return Err(section.error("allowed_origins", problem));
    }
    Ok(config)
}

fn asker_limits(section: &Section<'_>) -> Result<AskerLimits, ConfigError> {
    let most = |key| Ok(NonZeroU32::new(section.count(key, 0..=MILLION)?));
    Ok(AskerLimits {
        requests_per_minute: most("requests_per_minute_max")?,
        connections: most("connections_max")?,
        running: most("running_max")?,
    })
}

fn token_limit(section: &Section<'_>) -> Result<Option<TokenLimit>, ConfigError> {
    let per_day = section.number("tokens_per_day", 0..=TOKENS_MAX)?;
    let answer = section.number("answer_tokens_reserved", 1..=u64::from(u32::MAX))?;
    if per_day != 0 && per_day <= answer {
        let why = "is not more than answer_tokens_reserved, so that no question could be asked";
        return Err(section.error("tokens_per_day", why));
    }
    Ok((per_day != 0).then_some(TokenLimit { per_day, answer }))
}

fn ai(layers: &Layers, env: &Environment) -> Result<AiConfig, ConfigError> {
    let section = layers.section("ai");
    let retry = section.section("retry");
    let deadlines = models::deadlines(&section.section("deadlines"), None)?;
    let config = AiConfig {
        capacity: section.size("capacity", 1..=100_000)?,
        lease: section.ms("lease_ms", 200..=HOUR_MS)?,
        renewal: section.ms("renewal_ms", 20..=HOUR_MS)?,
        flush_min: section.ms("flush_min_ms", 0..=10 * SECOND_MS)?,
        answer_bytes_max: section.size("answer_bytes_max", KIB..=GIB)?,
        buffer_bytes_max: section.size("buffer_bytes_max", KIB..=GIB)?,
        attempts_max: section.count("attempts_max", 1..=1_000)?,
        progress_timeout: section.ms("progress_timeout_ms", SECOND_MS..=DAY_MS)?,
        deadlines,
        retry: RetryConfig {
            tries: retry.count("tries", 1..=100)?,
            backoff: retry.ms("backoff_ms", 1..=60 * SECOND_MS)?,
            circuit_failures: retry.count("circuit_failures", 1..=1_000_000)?,
            circuit_open: retry.ms("circuit_open_ms", 1..=HOUR_MS)?,
        },
        models: models::source(layers, deadlines, env)?,
    };
    let together = |keys: [&str; 2], sentence: &str| Err(layers.error_about(&keys, sentence));
    if config.renewal * 2 >= config.lease {
        let why = "ai.renewal_ms must be less than half of ai.lease_ms, so that one lost renewal costs no lease";
        return together(["ai.renewal_ms", "ai.lease_ms"], why);
    }
    if config.progress_timeout <= config.lease {
        let why = "ai.progress_timeout_ms must be more than ai.lease_ms, or one lost owner ends the answer";
        return together(["ai.progress_timeout_ms", "ai.lease_ms"], why);
    }
    Ok(config)
}
