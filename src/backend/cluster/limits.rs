//! `Limits` on Redis: one key for each bucket that isn't full, by the server's clock, so that all nodes count as one.

use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;

use super::Redis;
use super::keys::Key;
use crate::backend::limits::{Limits, Rate};
use crate::backend::{Error, Result};

#[async_trait]
impl Limits for Redis {
    async fn take(&self, bucket: &str, rate: Rate) -> Result<Option<Duration>> {
        let keys = vec![self.link.keys.key(&Key::Bucket(bucket))];
        let args: Vec<Value> = vec![rate.every_ms().to_string().into(), rate.burst.max(1).to_string().into()];
        let mut answer = self.link.run(&self.link.steps.bucket, keys, args).await?;
        let wait: u64 = answer.number().ok_or_else(|| Error::Corrupt("what a bucket answered".to_owned()))?;
        Ok(Some(Duration::from_millis(wait)).filter(|wait| !wait.is_zero()))
    }
}
