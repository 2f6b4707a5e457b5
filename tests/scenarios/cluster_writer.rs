//! A writer that never gives up while it may go on: what every cluster scenario lets run while servers die.

use std::time::Duration;

use chatnode::backend::{Backends, Claim, Error, Result};
use chatnode::log::{Entry, Transcript};
use chatnode::model::{Message, Position, Status};
use tokio::time::Instant;

use crate::conformance::stage::{self, own, text};

/// Longest outage that a scenario makes.
const OUTAGE_MAX: Duration = Duration::from_secs(40);

#[derive(Debug)]
pub(crate) struct StubbornWriter {
    backends: Backends,
    pub(crate) claim: Claim,
    /// Everything of this epoch, so that a suffix that the store lost can be sent again.
    entries: Vec<(Position, Entry)>,
    /// How many of them the store has, as far as is known.
    stored: usize,
    pub(crate) said: String,
    /// How often the store turned out to have less than was acknowledged.
    pub(crate) resent: u32,
    pub(crate) longest_wait: Duration,
}

impl StubbornWriter {
    pub(crate) async fn claim(backends: &Backends) -> Self {
        let claim = stage::claim_of(backends, &[stage::MODEL]).await;
        let first = own(&claim);
        let mut writer = Self {
            backends: backends.clone(),
            claim,
            entries: Vec::new(),
            stored: 0,
            said: String::new(),
            resent: 0,
            longest_wait: Duration::ZERO,
        };
        writer.push(first).await.expect("own");
        writer
    }

    pub(crate) async fn say(&mut self, words: &str) -> Result<()> {
        let entry = text(self.said.len() as u64, words);
        self.said.push_str(words);
        self.push(entry).await
    }

    async fn push(&mut self, entry: Entry) -> Result<()> {
        let position = self.tail().next(self.claim.lease.epoch());
        self.entries.push((position, entry));
        self.flush().await
    }

    /// Where the log ends once all is stored.
    pub(crate) fn tail(&self) -> Position {
        self.entries.last().map_or(self.claim.tail, |(position, _)| *position)
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        let began = Instant::now();
        while self.stored < self.entries.len() {
            let previous = if self.stored == 0 { self.claim.tail } else { self.entries[self.stored - 1].0 };
            let missing: Vec<Entry> = self.entries[self.stored..].iter().map(|(_, entry)| entry.clone()).collect();
            let result = self.backends.generations.append(&self.claim.lease, previous, &missing).await;
            self.learn(result.map(|_| ()), began).await?;
        }
        self.longest_wait = self.longest_wait.max(began.elapsed());
        Ok(())
    }

    /// What an answer to an append or finish means for what has to be sent next.
    async fn learn(&mut self, result: Result<()>, began: Instant) -> Result<()> {
        match result {
            Ok(()) => self.stored = self.entries.len(),
            Err(Error::OutOfOrder { tail }) => {
                let known = self.entries.iter().take_while(|(position, _)| *position <= tail).count();
                assert!(known > 0 || tail == self.claim.tail, "the store ends at {tail}, which nobody wrote");
                if known < self.stored {
                    self.resent += 1;
                }
                self.stored = known;
            }
            Err(error @ (Error::Unavailable(_) | Error::Full(_))) => {
                assert!(began.elapsed() < OUTAGE_MAX, "still: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(crate) async fn finish(&mut self) -> Result<()> {
        let began = Instant::now();
        let outcome = stage::outcome(Status::Completed, &self.said);
        let message = Message { content: self.said.clone(), status: outcome.status, ..self.claim.message.clone() };
        let message = Message { finish_reason: outcome.finish_reason.clone(), ..message };
        loop {
            self.flush().await?;
            match self.backends.generations.finish(&self.claim.lease, self.tail(), &outcome, &message).await {
                Ok(()) => return Ok(()),
                other => self.learn(other, began).await?,
            }
        }
    }

    /// The log and the message say exactly what was said, once.
    pub(crate) async fn check(&self) {
        let transcript = self.stored_text().await;
        assert!(transcript.text == self.said, "the log says something else");
        assert!(transcript.outcome.is_some(), "the log has no end");
        let message = self.backends.store.message(&self.claim.message.id).await.expect("message");
        assert!(message.content == self.said, "the message says something else");
        assert_eq!(message.status, Status::Completed);
    }

    pub(crate) async fn stored_text(&self) -> Transcript {
        let (entries, _) = stage::read_all(&self.backends, self.claim.lease.generation()).await;
        stage::fold(&entries)
    }
}
