//! A circuit breaker: an upstream that failed again and again is left alone for a while, then tried by one. No IO.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::reply::{Fault, Then, code};
use crate::telemetry::Circuit as Phase;

/// Shared by all answers that one upstream gives.
#[derive(Debug)]
pub(super) struct Circuit {
    failures_max: u32,
    open_for: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// With failures in a row.
    Closed(u32),
    Open {
        until: Instant,
    },
    /// Half open: one is trying.
    Trial,
}

impl Circuit {
    #[must_use]
    pub(super) fn new(failures_max: u32, open_for: Duration) -> Self {
        Self { failures_max: failures_max.max(1), open_for, state: Mutex::new(State::Closed(0)) }
    }

    /// The right to ask once.
    ///
    /// # Errors
    /// How long the upstream is left alone yet; zero while another tries it.
    pub(super) fn permit(self: &Arc<Self>) -> Result<Permit, Duration> {
        let now = Instant::now();
        self.change(|state| match *state {
            State::Closed(_) => Ok(false),
            State::Open { until } if until > now => Err(until - now),
            State::Open { .. } => {
                *state = State::Trial;
                Ok(true)
            }
            State::Trial => Err(Duration::ZERO),
        })
        .map(|trial| Permit { circuit: self.clone(), trial })
    }

    /// For operators.
    pub(super) fn phase(&self) -> Phase {
        self.change(|state| match state {
            State::Closed(_) => Phase::Closed,
            State::Trial => Phase::HalfOpen,
            State::Open { .. } => Phase::Open,
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request. Dropped without a word (somebody cancelled), it says nothing about the upstream.
#[derive(Debug)]
pub(super) struct Permit {
    circuit: Arc<Circuit>,
    /// It is the one that tries, and has not found out yet.
    trial: bool,
}

impl Permit {
    /// The upstream answers: a trial has succeeded. Failures in a row count on until an answer is whole.
    pub(super) fn answers(&mut self) {
        if std::mem::take(&mut self.trial) {
            self.circuit.change(|state| *state = State::Closed(0));
        }
    }

    /// The upstream did what it should.
    pub(super) fn succeeded(mut self) {
        self.trial = false;
        self.circuit.change(|state| *state = State::Closed(0));
    }

    /// Judged by what went wrong: a question that is refused, or held back in the middle, says nothing against the upstream, and a time for
    /// the whole answer that ran out nothing at all.
    pub(super) fn judged(self, fault: &Fault) {
        match fault.then {
            Then::Retry { .. } | Then::Next => self.failed(),
            Then::Lower | Then::Stop if fault.code == code::TOTAL_TIMEOUT => {}
            Then::Lower | Then::Stop => self.succeeded(),
        }
    }

    /// It didn't.
    fn failed(mut self) {
        let trial = std::mem::take(&mut self.trial);
        let Circuit { failures_max, open_for, .. } = *self.circuit;
        self.circuit.change(|state| {
            let open = State::Open { until: Instant::now() + open_for };
            *state = match *state {
                State::Trial if trial => open,
                State::Closed(failures) if failures + 1 < failures_max => State::Closed(failures + 1),
                State::Closed(_) => open,
                // A straggler from before tells nothing new.
                other => other,
            };
        });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.trial {
            self.circuit.change(|state| *state = State::Open { until: Instant::now() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_secs(30);

    fn opened() -> Arc<Circuit> {
        let circuit = Arc::new(Circuit::new(3, OPEN));
        for _ in 0..3 {
            circuit.permit().unwrap().failed();
        }
        circuit
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_only() {
        let circuit = Arc::new(Circuit::new(3, OPEN));
        for _ in 0..5 {
            circuit.permit().unwrap().failed();
            circuit.permit().unwrap().failed();
            circuit.permit().unwrap().succeeded();
        }
        assert!(circuit.permit().is_ok());
        assert_eq!(opened().permit().unwrap_err(), OPEN);
    }

    /// Whoever asks what is held back every time closes nobody else's way.
    #[tokio::test(start_paused = true)]
    async fn a_question_that_is_refused_says_nothing_against_the_upstream() {
        let circuit = Arc::new(Circuit::new(3, OPEN));
        for (code, then) in
            [(code::CONTENT_FILTER, Then::Stop), (code::UPSTREAM_ERROR, Then::Lower), (code::TOTAL_TIMEOUT, Then::Stop)].repeat(5)
        {
            circuit.permit().unwrap().judged(&Fault::new(code, then, "no"));
        }
        assert!(circuit.permit().is_ok());
        for _ in 0..3 {
            circuit.permit().unwrap().judged(&Fault::passing("broken"));
        }
        assert_eq!(circuit.permit().unwrap_err(), OPEN);
    }

    #[tokio::test(start_paused = true)]
    async fn then_one_tries_and_its_luck_decides() {
        let circuit = opened();
        tokio::time::advance(OPEN).await;
        let mut trial = circuit.permit().unwrap();
        assert_eq!(circuit.permit().unwrap_err(), Duration::ZERO);
        trial.answers();
        assert!(circuit.permit().is_ok());

        let circuit = opened();
        tokio::time::advance(OPEN).await;
        circuit.permit().unwrap().failed();
        assert_eq!(circuit.permit().unwrap_err(), OPEN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_is_dropped_leaves_room_for_the_next() {
        let circuit = opened();
        tokio::time::advance(OPEN).await;
        drop(circuit.permit().unwrap());
        assert!(circuit.permit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_straggler_does_not_lengthen_the_pause() {
        let circuit = Arc::new(Circuit::new(1, OPEN));
        let straggler = circuit.permit().unwrap();
        circuit.permit().unwrap().failed();
        tokio::time::advance(OPEN / 2).await;
        straggler.failed();
        assert_eq!(circuit.permit().unwrap_err(), OPEN / 2);
    }
}
