//! Open-loop load: arrivals come at a constant rate, whether or not the server keeps up, and a latency counts from when its
//! arrival was due. So a server that stalls is charged for everybody who would have come meanwhile. Must not know what is asked.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Failure;
use super::progress::Progress;

/// Arrivals that wait for one worker; more mean that the server is overloaded beyond measure.
const WAITING_MAX: usize = 10_000;
/// Three digits, up to ten minutes in microseconds.
const MICROS_MAX: u64 = 600_000_000;

/// Who does what is measured, over and over: a connection, a user.
pub(super) trait Work: Send + 'static {
    /// Does it once, and answers when it was done; what comes after that instant is not measured.
    fn once(&mut self, arrival: u64) -> impl Future<Output = Result<Instant, Failure>> + Send;

    /// After the last arrival: waits for what is still to come, and checks it.
    fn end(self) -> impl Future<Output = Result<(), Failure>> + Send;
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Arrivals a second.
    pub(super) rate: u32,
    pub(super) length: Duration,
}

/// Microseconds.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("the bounds are fit for a histogram")
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

impl Load {
    fn arrivals(self) -> u64 {
        u64::from(self.rate) * self.length.as_secs()
    }

    /// Spreads the arrivals over the workers in turn.
    pub(super) async fn run<W: Work>(self, workers: Vec<W>, progress: &Progress) -> Result<Histogram<u64>, Failure> {
        let mut tasks = JoinSet::new();
        let mut queues = Vec::with_capacity(workers.len());
        for mut worker in workers {
            let (queue, mut arrivals) = mpsc::channel::<(u64, Instant)>(WAITING_MAX);
            queues.push(queue);
            let progress = progress.clone();
            tasks.spawn(async move {
                let mut latencies = histogram();
                while let Some((arrival, due)) = arrivals.recv().await {
                    let done = worker.once(arrival).await?;
                    latencies.saturating_record(micros(done.saturating_duration_since(due)));
                    progress.step();
                }
                worker.end().await?;
                Ok::<_, Failure>(latencies)
            });
        }
        let pacer = std::thread::Builder::new().name("arrivals".to_owned()).spawn(move || self.pace(&queues));
        let pacer = pacer.map_err(|error| Failure::new(error.to_string()))?;
        let mut all = histogram();
        while let Some(ended) = tasks.join_next().await {
            let latencies = ended.map_err(|_| Failure::new("a part of the bench panicked"))??;
            all.add(latencies).map_err(|error| Failure::new(error.to_string()))?;
        }
        // It has ended: all its queues have.
        pacer.join().map_err(|_| Failure::new("a part of the bench panicked"))??;
        Ok(all)
    }

    /// A thread of its own, since the runtime's timers tick in whole milliseconds.
    fn pace(self, queues: &[mpsc::Sender<(u64, Instant)>]) -> Result<(), Failure> {
        let began = Instant::now();
        for arrival in 0..self.arrivals() {
            #[expect(clippy::cast_precision_loss, reason = "arrivals of one run are far below 2^52")]
            let due = began + Duration::from_secs_f64(arrival as f64 / f64::from(self.rate));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let queue = &queues[usize::try_from(arrival).unwrap_or(0) % queues.len()];
            match queue.try_send((arrival, due)) {
                // A worker that is gone tells why itself.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    return Err(Failure::new("the server is so far behind that arrivals had to be dropped"));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stalls;

    impl Work for Stalls {
        async fn once(&mut self, arrival: u64) -> Result<Instant, Failure> {
            if arrival == 0 {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok(Instant::now())
        }

        async fn end(self) -> Result<(), Failure> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_stall_is_charged_for_everybody_who_came_meanwhile() {
        let load = Load { rate: 100, length: Duration::from_secs(1) };
        let latencies = load.run(vec![Stalls], &Progress::none()).await.unwrap();
        assert_eq!(latencies.len(), 100);
        // One stall of half a second; a closed loop would show it as one slow call in a hundred. A busy machine makes more late.
        let late = 100 - latencies.count_between(1, 100_000);
        assert!(late >= 30, "{late} of 100 took more than 100 ms");
    }
}
