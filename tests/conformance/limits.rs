//! Buckets: a burst, then the rate, and one count however many ask.

use std::time::Duration;

use chatnode::backend::Backends;
use chatnode::backend::limits::Rate;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

const SLOW: Rate = Rate { burst: 3, every: Duration::from_secs(3_600) };

pub(crate) async fn a_burst_then_the_rate(backends: Backends) {
    let rate = Rate { burst: 3, every: Duration::from_millis(400) };
    let begun = Instant::now();
    for n in 0..3 {
        assert_eq!(backends.limits.take("a", rate).await.expect("take"), None, "{n}");
    }
    let wait = backends.limits.take("a", rate).await.expect("take").expect("the burst is used up");
    assert!(wait > Duration::ZERO && wait <= rate.every, "{wait:?}");
    // Asking in vain costs nothing.
    while let Some(wait) = backends.limits.take("a", rate).await.expect("take") {
        assert!(wait <= rate.every, "{wait:?}");
        sleep(wait).await;
    }
    let took = begun.elapsed();
    assert!(took >= rate.every - Duration::from_millis(20) && took < 3 * rate.every, "{took:?}");
}

pub(crate) async fn buckets_are_apart(backends: Backends) {
    for bucket in ["a", "b", "login-from-2001:db8::/64", "{a}", "a*"] {
        for _ in 0..3 {
            assert_eq!(backends.limits.take(bucket, SLOW).await.expect("take"), None, "{bucket}");
        }
        assert!(backends.limits.take(bucket, SLOW).await.expect("take").is_some(), "{bucket}");
    }
}

pub(crate) async fn one_bucket_for_all_at_once(backends: Backends) {
    let takes = (0..50).map(|_| backends.limits.take("a", Rate { burst: 10, ..SLOW }));
    let taken = join_all(takes).await.into_iter().filter(|taken| taken.as_ref().expect("take").is_none()).count();
    assert_eq!(taken, 10);
}
