//! What `chatnode bench` is told: what to measure, where, and how hard. Must not know how anything is measured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use url::Url;

use super::cli::address;
use super::{ConfigError, Secret};

const SECONDS_MAX: u64 = 3_600;
const RATE_MAX: u32 = 100_000;
const CONNECTIONS_MAX: usize = 1_000_000;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Scenario {
    /// From opening a TCP connection to `welcome`
    Connect,
    /// From `send` to `accepted`
    Send,
    /// From the making of a token to the socket of a reader at another gateway
    Delivery,
    /// From `send` to the first token, compared with asking the upstream directly
    FirstToken,
    /// The newest 50 messages of conversations of 100 and of 10,000
    History,
    /// From `cancel` to the end of the answer, and of the request to the upstream
    Cancel,
    /// From losing a socket to having caught up on another gateway
    Resume,
    /// Tokens a second, in steps until one is not kept; with --redis-url also by a lock for each chunk
    Tokens,
    /// One answer and many readers, in steps until one is not kept; also without any store and bus
    Fanout,
    /// Memory of a gateway for a connection that does nothing
    Idle,
    /// Processor time of a token as answers grow from 10 to 1,000
    Scale,
    /// Several of the above at once
    Mixed,
}

/// Every value has been checked.
#[derive(Clone, Debug)]
pub struct BenchPlan {
    pub scenarios: Vec<Scenario>,
    /// Gateways; at least one.
    pub urls: Vec<Url>,
    /// Other nodes, whose `/metrics` count too.
    pub watched: Vec<Url>,
    /// The Redis that the lock for each chunk is tried on.
    pub redis_url: Option<Secret>,
    pub seconds: Duration,
    /// Arrivals a second; `None`: what fits the scenario.
    pub rate: Option<u32>,
    pub users: usize,
    pub answers: usize,
    /// Tokens a second of one answer.
    pub token_rate: u32,
    pub readers: usize,
    pub connections: usize,
    /// Where the bench plays an upstream.
    pub upstream: SocketAddr,
    pub json: Option<PathBuf>,
    pub report: Option<PathBuf>,
    pub goals: bool,
}

#[derive(Args)]
pub(super) struct BenchFlags {
    /// What to measure; without any: all but tokens, fanout and scale, which take the whole machine
    #[arg(value_enum, value_name = "SCENARIO")]
    scenarios: Vec<Scenario>,
    /// A gateway; several are used in turn
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    urls: Vec<String>,
    /// Another node whose processor time and memory (`/metrics`) count too, such as an AI node
    #[arg(long = "watch", value_name = "URL")]
    watched: Vec<String>,
    /// How long each scenario, or each step of one, takes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// Arrivals a second, instead of what fits the scenario
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    rate: Option<u32>,
    /// Users that ask in turn
    #[arg(long, default_value_t = 50, value_parser = count)]
    users: usize,
    /// Answers at once, for delivery and tokens
    #[arg(long, default_value_t = 100, value_parser = count)]
    answers: usize,
    /// Tokens a second of one answer, for delivery
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(RATE_MAX)))]
    token_rate: u32,
    /// Readers of one answer, for fanout
    #[arg(long, default_value_t = 1_000, value_parser = count)]
    readers: usize,
    /// Connections that do nothing, for idle
    #[arg(long, default_value_t = 1_000, value_parser = count)]
    connections: usize,
    /// Where the bench plays an upstream, for first-token and cancel: the gateways' model `bench` has to ask it
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8195")]
    upstream: SocketAddr,
    /// Writes all figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a page with tables and plots
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Shows the project's goals beside the figures; they are meant for the cluster on a machine of two cores
    #[arg(long)]
    goals: bool,
}

const USUAL: [Scenario; 9] = [
    Scenario::Connect,
    Scenario::Send,
    Scenario::Delivery,
    Scenario::FirstToken,
    Scenario::History,
    Scenario::Cancel,
    Scenario::Resume,
    Scenario::Idle,
    Scenario::Mixed,
];

impl BenchFlags {
    pub(super) fn plan(self, redis_url: Option<&str>) -> Result<BenchPlan, ConfigError> {
        let all = |urls: &[String]| urls.iter().map(|url| address(url)).collect::<Result<Vec<Url>, _>>();
        Ok(BenchPlan {
            scenarios: if self.scenarios.is_empty() { USUAL.to_vec() } else { self.scenarios },
            urls: all(&self.urls)?,
            watched: all(&self.watched)?,
            redis_url: redis_url.map(Secret::new),
            seconds: Duration::from_secs(self.seconds),
            rate: self.rate,
            users: self.users,
            answers: self.answers,
            token_rate: self.token_rate,
            readers: self.readers,
            connections: self.connections,
            upstream: self.upstream,
            json: self.json,
            report: self.report,
            goals: self.goals,
        })
    }
}

fn count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=CONNECTIONS_MAX).contains(number));
    number.ok_or_else(|| format!("it must be 1 to {CONNECTIONS_MAX}"))
}
