//! Bytes that nobody wants: what a client still sends when it was refused. It is read all the same, so that the refusal arrives, but
//! only so much in a second by all connections of a listener: a flood of it must not take the time of those who are wanted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Of one client, to let it finish its sentence.
pub const BYTES_MAX: usize = 16 << 20;
/// How long that may take.
pub const TIME_MAX: Duration = Duration::from_secs(2);
/// For all connections of a listener together. One alone gets through with 16 MiB in half a second.
const BYTES_PER_SECOND: u64 = 32 << 20;
/// How much may come before anybody waits for it, in time: waits are not exact, and most of what is unwanted is small and rare.
const BURST: Duration = Duration::from_millis(50);
/// Who would have to wait longer is not listened to: he would only hold a place.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// One listener's patience, shared by all handles on it.
#[derive(Clone, Debug)]
pub struct Unwanted {
    /// When all that was read so far is paid for.
    paid: Arc<Mutex<Instant>>,
}

impl Default for Unwanted {
    fn default() -> Self {
        Self { paid: Arc::new(Mutex::new(Instant::now())) }
    }
}

impl Unwanted {
    /// Waits as long as these bytes cost, behind all that were read before by anybody; `false`, and at once, when that is too long to
    /// go on.
    pub async fn were_read(&self, bytes: usize) -> bool {
        let cost = Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / BYTES_PER_SECOND);
        let until = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let until = (*paid).max(now.checked_sub(BURST).unwrap_or(now)) + cost;
            if until > now + WAIT_MAX {
                return false;
            }
            *paid = until;
            until
        };
        sleep_until(until).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 1 << 17;

    #[tokio::test(start_paused = true)]
    async fn all_together_read_no_more_than_one_alone() {
        tokio::time::advance(Duration::from_secs(1)).await;
        let unwanted = Unwanted::default();
        let begun = Instant::now();
        let clients = (0..64).map(|_| async {
            for _ in 0..8 {
                assert!(unwanted.were_read(PIECE).await);
            }
        });
        futures_util::future::join_all(clients).await;
        let took = begun.elapsed();
        assert!((Duration::from_millis(1_940)..Duration::from_millis(2_100)).contains(&took), "64 MiB took {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn little_costs_no_time_and_rest_is_not_saved_up() {
        tokio::time::advance(Duration::from_secs(60)).await;
        let unwanted = Unwanted::default();
        tokio::time::advance(Duration::from_secs(60)).await;
        let begun = Instant::now();
        assert!(unwanted.were_read(1 << 20).await);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(unwanted.were_read(16 << 20).await);
        assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_too_long_is_told_at_once_and_costs_nobody_anything() {
        tokio::time::advance(Duration::from_secs(1)).await;
        let unwanted = Unwanted::default();
        let begun = Instant::now();
        let waits: Vec<_> = (0..1_000).map(|_| unwanted.were_read(PIECE)).collect();
        let went_on = futures_util::future::join_all(waits).await.into_iter().filter(|went_on| *went_on).count();
        assert!((120..150).contains(&went_on), "{went_on} of 1000");
        assert!(begun.elapsed() <= WAIT_MAX, "{:?}", begun.elapsed());
        assert!(unwanted.were_read(PIECE).await, "those that were refused did not cost anything");
    }
}
