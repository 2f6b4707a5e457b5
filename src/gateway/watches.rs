//! When the logs of one conversation are compared with the store. It must not know how, nor what is in them.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::GenerationId;

/// When a log is compared with the store after it came into view; then every [`CHECK_EVERY`] while it is open.
pub(super) const CHECKS: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// While hints can't come, or a read failed.
pub(super) const POLL_EVERY: Duration = Duration::from_millis(200);
/// Whoever writes an answer is heard of once a second, also while it has nothing to say. After this long the store is asked.
const UNHEARD_MAX: Duration = Duration::from_millis(2_500);
/// How often a waiting answer's place in the queue is read.
const QUEUE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Watches(HashMap<GenerationId, Watch>);

/// When a log is compared with the store next.
#[derive(Debug)]
struct Watch {
    next: Instant,
    /// When a hint of it came last, or it was compared.
    heard: Instant,
    checks: usize,
    /// When it ended: its replica is put away after the linger time.
    ended: Option<Instant>,
    /// When the last piece of text came.
    spoke: Option<Instant>,
}

impl Watch {
    fn first(next: Instant) -> Self {
        Self { next, heard: Instant::now(), checks: 0, ended: None, spoke: None }
    }

    fn due(&self) -> Instant {
        self.next.min(self.heard + UNHEARD_MAX)
    }
}

impl Watches {
    /// Begins, unless it is watched already.
    pub(super) fn begin(&mut self, generation: &GenerationId) {
        self.0.entry(generation.clone()).or_insert_with(|| Watch::first(Instant::now() + CHECKS[0]));
    }

    pub(super) fn forget(&mut self, generation: &GenerationId) {
        self.0.remove(generation);
    }

    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    pub(super) fn ended(&mut self, generation: &GenerationId) {
        if let Some(watch) = self.0.get_mut(generation) {
            watch.ended = Some(Instant::now());
        }
    }

    /// Somebody writes it.
    pub(super) fn heard(&mut self, generation: &GenerationId) {
        if let Some(watch) = self.0.get_mut(generation) {
            watch.heard = Instant::now();
        }
    }

    /// The silence before a piece of text that came now.
    pub(super) fn spoke(&mut self, generation: &GenerationId) -> Option<Duration> {
        let before = self.0.get_mut(generation)?.spoke.replace(Instant::now())?;
        Some(before.elapsed())
    }

    /// Brings the next comparison forward.
    pub(super) fn soon(&mut self, generation: &GenerationId) {
        let soon = Instant::now() + POLL_EVERY;
        let watch = self.0.entry(generation.clone()).or_insert(Watch::first(soon));
        watch.next = watch.next.min(soon);
    }

    /// Puts a comparison off that is under way already.
    pub(super) fn again(&mut self, generation: &GenerationId) {
        if let Some(watch) = self.0.get_mut(generation) {
            watch.heard = Instant::now();
            watch.next = watch.heard + POLL_EVERY;
        }
    }

    pub(super) fn has(&self, generation: &GenerationId) -> bool {
        self.0.contains_key(generation)
    }

    pub(super) fn all_soon(&mut self) {
        let soon = Instant::now() + POLL_EVERY;
        self.0.values_mut().for_each(|watch| watch.next = watch.next.min(soon));
    }

    /// Plans the comparison after this one.
    pub(super) fn checked(&mut self, generation: &GenerationId, hints_come: bool, queued: bool) {
        let Some(watch) = self.0.get_mut(generation) else { return };
        watch.checks += 1;
        let planned = CHECKS.get(watch.checks).map_or(CHECK_EVERY, |at| *at - CHECKS[watch.checks - 1]);
        let pause = if !hints_come {
            POLL_EVERY
        } else if queued {
            planned.min(QUEUE_EVERY)
        } else {
            planned
        };
        watch.heard = Instant::now();
        watch.next = watch.heard + pause;
    }

    /// Those to be compared now.
    pub(super) fn due(&self, now: Instant) -> Vec<GenerationId> {
        self.0.iter().filter(|(_, watch)| watch.ended.is_none() && now >= watch.due()).map(|(id, _)| id.clone()).collect()
    }

    /// Those that ended so long ago, which are not watched any more.
    pub(super) fn take_old(&mut self, now: Instant, linger: Duration) -> Vec<GenerationId> {
        let old = |watch: &Watch| watch.ended.is_some_and(|ended| now >= ended + linger);
        self.0.extract_if(|_, watch| old(watch)).map(|(id, _)| id).collect()
    }

    /// When something is to be done.
    pub(super) fn next(&self, linger: Duration) -> Option<Instant> {
        self.0.values().map(|watch| watch.ended.map_or_else(|| watch.due(), |ended| ended + linger)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ConversationId;

    #[tokio::test(start_paused = true)]
    async fn who_is_not_heard_of_is_asked_after() {
        let (mut watches, generation) = (Watches::default(), GenerationId::generate(&ConversationId::generate()));
        let linger = Duration::from_secs(60);
        let due = |watches: &Watches| watches.next(linger).expect("it is watched") - Instant::now();
        watches.begin(&generation);
        for at in CHECKS {
            assert!(due(&watches) <= at);
            tokio::time::advance(due(&watches)).await;
            assert_eq!(watches.due(Instant::now()), std::slice::from_ref(&generation));
            watches.checked(&generation, true, false);
        }
        assert_eq!(due(&watches), UNHEARD_MAX);
        tokio::time::advance(Duration::from_secs(1)).await;
        watches.heard(&generation);
        assert_eq!(due(&watches), UNHEARD_MAX);
        for _ in 0..5 {
            tokio::time::advance(Duration::from_millis(900)).await;
            watches.heard(&generation);
        }
        assert_eq!(watches.due(Instant::now()), [generation], "what is heard of is compared all the same");
    }
}
