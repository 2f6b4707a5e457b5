//! Bytes that nobody wants: what a client still sends when it was refused. It is read all the same, so that the refusal arrives, but
//! only so much in a second by the whole node: a flood of it must not take the time of those who are wanted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// For all connections of a node together. One alone gets through with 16 MiB in half a second.
const BYTES_PER_SECOND: u64 = 32 << 20;

/// One node's patience, shared by all handles on it.
#[derive(Clone, Debug)]
pub struct Unwanted {
    free: Arc<Mutex<Instant>>,
}

impl Default for Unwanted {
    fn default() -> Self {
        Self { free: Arc::new(Mutex::new(Instant::now())) }
    }
}

impl Unwanted {
    /// Waits as long as these bytes cost, behind all that were read before by anybody.
    pub async fn were_read(&self, bytes: usize) {
        let cost = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / BYTES_PER_SECOND);
        let until = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            *free = (*free).max(Instant::now()) + cost;
            *free
        };
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_together_read_no_more_than_one_alone() {
        let unwanted = Unwanted::default();
        let begun = Instant::now();
        let clients = (0..64).map(|_| async {
            for _ in 0..8 {
                unwanted.were_read(1 << 17).await;
            }
        });
        futures_util::future::join_all(clients).await;
        let took = begun.elapsed();
        assert!((Duration::from_millis(1_990)..Duration::from_millis(2_100)).contains(&took), "64 MiB took {took:?}");
        // Time in which nobody read anything is not saved up.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        unwanted.were_read(32 << 20).await;
        assert!(begun.elapsed() >= Duration::from_millis(990), "{:?}", begun.elapsed());
    }
}
