//! `Limits` in memory: only this process counts, and after a restart every bucket is full again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::backend::limits::{Limits, Rate};
use crate::backend::{Error, Result};
use crate::model::Time;

/// Buckets that are remembered at once. One that is full again is forgotten, so only a flood of new names comes here.
const BUCKETS_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Local {
    /// When each bucket is full again, in milliseconds.
    buckets: Mutex<HashMap<String, u64>>,
}

#[async_trait]
impl Limits for Local {
    async fn take(&self, bucket: &str, rate: Rate) -> Result<Option<Duration>> {
        let now = Time::now().0;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(bucket) {
            buckets.retain(|_, full_at| *full_at > now);
            if buckets.len() >= BUCKETS_MAX {
                return Err(Error::Full("too many are limited at once".into()));
            }
        }
        let full_at = buckets.get(bucket).copied().unwrap_or_default();
        match rate.take(full_at, now) {
            Ok(full_at) => {
                buckets.insert(bucket.to_owned(), full_at);
                Ok(None)
            }
            Err(wait) => Ok(Some(Duration::from_millis(wait))),
        }
    }
}
