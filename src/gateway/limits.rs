//! How much one connection may ask.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket: `rate` a second, after a burst of twice as many.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: f64,
    tokens: f64,
    refilled: Instant,
}

impl Bucket {
    #[must_use]
    pub fn new(rate: u32, now: Instant) -> Self {
        let rate = f64::from(rate.max(1));
        Self { rate, tokens: rate * 2.0, refilled: now }
    }

    /// Takes one token; else says how long until there is one.
    ///
    /// # Errors
    /// The time to wait.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.tokens = (self.tokens + passed * self.rate).min(self.rate * 2.0);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_rules() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, start);
        assert_eq!((0..50).filter(|_| bucket.take(start).is_ok()).count(), 20);
        let wait = bucket.take(start).expect_err("the burst is used up");
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert!(bucket.take(start + wait + Duration::from_millis(1)).is_ok());
        let later = start + Duration::from_secs(60);
        assert_eq!((0..50).filter(|_| bucket.take(later).is_ok()).count(), 20);
    }
}
