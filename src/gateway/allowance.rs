//! What one user, and one address, may ask of all gateways together. It must not know what a question is.

use std::sync::Arc;
use std::time::Duration;

use super::error::Refusal;
use crate::backend::limits::{Bucket, Budget, Cost, Limits, Opening, Rate, Refused, Room, Used};
use crate::backend::{self, Error};
use crate::config::{LimitsConfig, TokenLimit};
use crate::model::{GenerationId, Time, UserId};
use crate::protocol::ErrorCode;
use crate::telemetry::Metrics;

/// How long a store that doesn't answer holds up a request that does not need it for anything else.
pub(super) const COUNTED_WITHIN: Duration = Duration::from_millis(500);
/// When whoever has too many answers running may try again: nobody knows when one of them ends.
const RUNNING_RETRY: Duration = Duration::from_secs(2);

/// Who asks, and from where: an address, or the network that its owner can choose from. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    pub user: UserId,
    pub near: Arc<str>,
    pub admin: bool,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Allowance {
    limits: Arc<dyn Limits>,
    config: LimitsConfig,
    metrics: Metrics,
}

impl Allowance {
    #[must_use]
    pub fn new(limits: Arc<dyn Limits>, config: LimitsConfig, metrics: Metrics) -> Self {
        Self { limits, config, metrics }
    }

    /// Whether a request that changes something may be carried out.
    ///
    /// # Errors
    /// `rate_limited`.
    pub async fn request(&self, asker: &Asker) -> Result<(), Refusal> {
        let (buckets, scopes) = self.buckets(asker);
        if buckets.is_empty() {
            return Ok(());
        }
        match soon(self.limits.take(&buckets)).await {
            Some(Refused::Empty { bucket, wait }) => Err(self.refusal(scopes[bucket], "too many requests; slow down", wait)),
            _ => Ok(()),
        }
    }

    /// Whether tokens are counted, so that somebody has to say what an answer may cost.
    #[must_use]
    pub fn tokens(&self) -> Option<TokenLimit> {
        self.config.tokens
    }

    /// Whether an answer may begin that costs so many tokens at most. It is counted until it has ended, or [`Self::never_began`].
    ///
    /// # Errors
    /// `rate_limited`, `quota_exceeded`.
    pub async fn answer(&self, asker: &Asker, generation: &GenerationId, tokens: u64) -> Result<(), Refusal> {
        let (buckets, bucket_scopes) = self.buckets(asker);
        let limits = [
            (self.config.user.running, format!("answers-of-{}", asker.user), "user_running"),
            (self.config.address.running, format!("answers-from-{}", asker.near), "address_running"),
        ];
        let set = limits.into_iter().filter_map(|(most, name, scope)| Some((Room { name, most: most?.get() }, scope)));
        let (rooms, room_scopes): (Vec<Room>, Vec<&str>) = set.unzip();
        let now = Time::now();
        let budget = Budget { name: format!("tokens-of-{}", asker.user), period: now.day() };
        let cost = self.config.tokens.map(|limit| Cost { budget, amount: tokens, most: limit.per_day });
        if buckets.is_empty() && rooms.is_empty() && cost.is_none() {
            return Ok(());
        }
        let opening = Opening { generation: generation.clone(), buckets, rooms, cost };
        match soon(self.limits.begin(&opening)).await {
            None => Ok(()),
            Some(Refused::Empty { bucket, wait }) => {
                Err(self.refusal(bucket_scopes[bucket], "too many requests; slow down", wait))
            }
            Some(Refused::Full { room }) => {
                let message = "too many answers are running; wait until one of them has ended";
                Err(self.refusal(room_scopes[room], message, RUNNING_RETRY))
            }
            Some(Refused::Spent { left }) => {
                let message = format!(
                    "of today's tokens {left} are left, and this question with its history and the longest answer may need more; \
                     the next day of UTC brings new ones"
                );
                let wait = Duration::from_millis(now.ms_left_of_day());
                Err(Refusal { code: ErrorCode::QuotaExceeded, ..self.refusal("user_tokens", &message, wait) })
            }
        }
    }

    /// What was to begin did not.
    pub async fn never_began(&self, generation: &GenerationId) {
        let LimitsConfig { user, address, tokens } = self.config;
        if user.running.is_some() || address.running.is_some() || tokens.is_some() {
            let _ = soon(async { self.limits.end(generation, Used::NOTHING).await.map(Some) }).await;
        }
    }

    fn buckets(&self, asker: &Asker) -> (Vec<Bucket>, Vec<&'static str>) {
        let limits = [
            (self.config.user.requests_per_minute, format!("requests-of-{}", asker.user), "user"),
            (self.config.address.requests_per_minute, format!("requests-from-{}", asker.near), "address"),
        ];
        let set = limits
            .into_iter()
            .filter_map(|(most, name, scope)| Some((Bucket { name, rate: Rate::per_minute(most?.get()) }, scope)));
        set.unzip()
    }

    fn refusal(&self, scope: &'static str, message: &str, wait: Duration) -> Refusal {
        self.metrics.rate_limited(scope);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        Refusal::new(ErrorCode::RateLimited, message).retry_after(wait_ms)
    }
}

/// The outcome, or nothing when the store can't say in time: nobody is refused because it is away.
async fn soon<T>(asked: impl Future<Output = backend::Result<Option<T>>>) -> Option<T> {
    let outcome = tokio::time::timeout(COUNTED_WITHIN, asked).await;
    let outcome = outcome.unwrap_or_else(|_| Err(Error::Unavailable("it did not answer in time".to_owned())));
    outcome.unwrap_or_else(|error| {
        tracing::debug!(%error, "somebody was let in uncounted");
        None
    })
}
