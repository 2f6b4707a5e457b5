//! How much may be asked for, counted once for all nodes. It must not know what is counted, nor for whom.

use std::time::Duration;

use async_trait::async_trait;

use super::Result;

/// Counters that all nodes share.
#[async_trait]
pub trait Limits: Send + Sync + std::fmt::Debug {
    /// Takes one from the bucket of this name, if there is one: then `None`. Else nothing is taken, and it says how long
    /// until there is one. Buckets that nobody knows are full. A bucket is forgotten once it is full again, and may be when
    /// its node or store restarts.
    ///
    /// The name has at most [`BUCKET_NAME_BYTES_MAX`] bytes and no secret in it.
    async fn take(&self, bucket: &str, rate: Rate) -> Result<Option<Duration>>;
}

pub const BUCKET_NAME_BYTES_MAX: usize = 200;

/// How a bucket fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What fits in: so many at once after a rest. At least 1.
    pub burst: u32,
    /// One more after each of these. At least a millisecond.
    pub every: Duration,
}

impl Rate {
    /// When the bucket is full again (milliseconds), if one is taken at `now` from one that is full at `full_at`; else how
    /// long until one can be taken.
    ///
    /// # Errors
    /// The milliseconds to wait.
    pub(in crate::backend) fn take(self, full_at: u64, now: u64) -> std::result::Result<u64, u64> {
        let every = self.every_ms();
        let missing = full_at.saturating_sub(now);
        let room = every * u64::from(self.burst.max(1) - 1);
        if missing > room { Err(missing - room) } else { Ok(now + missing + every) }
    }

    pub(in crate::backend) fn every_ms(self) -> u64 {
        u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX / 1_000_000).max(1)
    }
}
