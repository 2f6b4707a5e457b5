//! One generation: from the claim to its end, or to the moment when it is another's.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::batch::Batch;
use super::count::Count;
use super::pace::Pace;
use super::patience;
use super::prompt;
use super::provider::catalog::Catalog;
use super::provider::{Request, Step, Steps};
use super::writer::{Lost, Writer};
use crate::backend::{Backends, Claim, Error, Hint, Progress, Subject};
use crate::config::AiConfig;
use crate::drain::Drain;
use crate::event::{self, Answer, Happened};
use crate::log::{Channel, Entry, Outcome, Own, Rung, Transcript};
use crate::model::{Failure, Message, Position, Status, Time, UserId};
use crate::telemetry::{CancelPhase, Metrics, traces};

/// Silence after which readers are told where the log ends.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Until the history of a question is asked for again.
const HISTORY_PAUSE: Duration = Duration::from_millis(200);
/// How long what is on its way may take when the node stops.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// When the end is told again, in case the first word was lost.
const TERMINAL_REPEATS: [Duration; 2] = [Duration::from_millis(250), Duration::from_millis(750)];

/// What a run needs of its node.
#[derive(Clone, Debug)]
pub(super) struct Bench {
    pub(super) node_id: Arc<str>,
    pub(super) config: Arc<AiConfig>,
    pub(super) backends: Backends,
    pub(super) catalog: Catalog,
    pub(super) drain: Drain,
    pub(super) metrics: Metrics,
}

/// How a run ends that somebody else goes on with.
const RELEASED: &str = "released";

/// How the steps of a run came to an end.
enum End {
    Finished {
        reason: String,
    },
    Failed(Failure),
    Cancelled {
        /// When it was asked.
        at: Time,
    },
    /// The node stops: somebody else goes on.
    Released,
    /// The log was taken away under the writer.
    Interrupted,
}

struct Run {
    bench: Bench,
    writer: Writer,
    user: UserId,
    message: Message,
    attempt: u32,
    trace: traces::Parent,
    /// Everything that the model said, stored or on its way.
    transcript: Transcript,
    batch: Batch,
    count: Count,
    /// What goes before the next tokens: this owner's first entry.
    pending: Vec<Entry>,
    first_token_ms: Option<u64>,
    pace: Pace,
    flushed: Instant,
}

/// Runs a claimed generation. Everything that can go wrong ends in the log or with the lease given back.
pub(super) async fn run(bench: Bench, claim: Claim) {
    let generation = claim.lease.generation().clone();
    let started = Instant::now();
    let attempt = claim.attempt;
    tracing::info!(%generation, attempt, "generation claimed");
    let metrics = bench.metrics.clone();
    metrics.generation_started();
    let mut span = metrics.traces().claim(&generation, claim.lease.epoch(), attempt);
    let outcome = Run::carry_out(bench, claim, span.parent()).await;
    span.set("chatnode.outcome", outcome.as_ref().map_or_else(Lost::word, |status| *status));
    if matches!(outcome, Err(_) | Ok(RELEASED)) {
        metrics.generation_left();
    }
    match outcome {
        Ok(status) => tracing::info!(%generation, status, ms = started.elapsed().as_millis(), "generation left"),
        Err(Lost::Fenced) => tracing::info!(%generation, "generation has another owner"),
        Err(Lost::Gone) => tracing::info!(%generation, "generation was removed"),
        Err(Lost::Unreadable) => tracing::error!(%generation, "generation can't be read here, left to another owner"),
    }
}

impl Run {
    async fn carry_out(bench: Bench, claim: Claim, trace: traces::Parent) -> Result<&'static str, Lost> {
        let exhausted = patience::exhausted(&bench.config, &claim);
        let cancelled = claim.cancel;
        if claim.attempt == 1 {
            bench.metrics.work_waited(Duration::from_millis(Time::now().since_ms(claim.message.created_at)));
        }
        let (tail, user, message, attempt) = (claim.tail, claim.user, claim.message, claim.attempt);
        let mut run = Self {
            writer: Writer::new(bench.backends.clone(), claim.lease, tail),
            bench,
            user,
            message,
            attempt,
            trace,
            transcript: Transcript::default(),
            batch: Batch::default(),
            count: Count::default(),
            pending: Vec::new(),
            first_token_ms: None,
            pace: Pace::asked(),
            flushed: Instant::now(),
        };
        run.tell_owner();
        let asked = match (run.load(tail).await, cancelled, exhausted) {
            (Ok(Some(end)), ..) => Some(end),
            (Ok(None), Some(at), _) => Some(End::Cancelled { at }),
            // Also of what nobody can read: it must end.
            (Ok(None) | Err(Lost::Unreadable), _, Some(failure)) => Some(End::Failed(failure)),
            (Ok(None), None, None) => None,
            (Err(lost), ..) => return Err(lost),
        };
        let end = match asked {
            Some(end) => end,
            None => match run.answer().await {
                Err(Lost::Gone) => End::Interrupted,
                other => other?,
            },
        };
        run.close(end).await
    }

    fn tell_owner(&self) {
        match (Answer::of(&self.message), self.attempt) {
            (Some(answer), 1) => self.happened(Happened::Started(answer)),
            (Some(answer), attempt) => self.happened(Happened::TakenOver { answer, attempt }),
            (None, _) => {}
        }
    }

    /// For programs outside.
    fn happened(&self, what: Happened) {
        self.bench.backends.events.tell(&self.user, &self.message.conversation, what);
    }

    /// Reads what earlier owners wrote; answers the end when the node stops meanwhile. A cancel waits for it: what is read is the answer.
    async fn load(&mut self, tail: Position) -> Result<Option<End>, Lost> {
        let generation = self.writer.lease.generation().clone();
        let mut pause = Duration::from_millis(50);
        while self.transcript.position < tail {
            let after = self.transcript.position;
            match self.bench.backends.generations.read(&generation, after, 1024 * 1024).await {
                Ok(page) => {
                    for (position, entry) in &page.entries {
                        if let Entry::Own(own) = entry {
                            self.first_token_ms = own.first_token_ms;
                        }
                        if let Err(error) = self.transcript.apply(*position, entry) {
                            // A log that nobody can read must not be written on; the restart rung voids it.
                            tracing::error!(%generation, %error, "log is broken; starting over");
                            self.transcript = Transcript { position: tail, ..Transcript::default() };
                            break;
                        }
                    }
                    if page.entries.is_empty() {
                        break;
                    }
                }
                Err(error) => {
                    tracing::debug!(%generation, %error, "log could not be read yet");
                    match self.wait_for_store(&error, pause).await? {
                        Some(End::Released) => return Ok(Some(End::Released)),
                        _ => pause = (pause * 2).min(Duration::from_secs(1)),
                    }
                }
            }
        }
        self.batch = Batch::behind(self.transcript.text.len() as u64, self.transcript.reasoning.len() as u64);
        Ok(None)
    }

    /// Waits a little, without losing the lease, where the same call may yet succeed; answers the end that somebody asks for meanwhile.
    async fn wait_for_store(&mut self, error: &Error, pause: Duration) -> Result<Option<End>, Lost> {
        if let Some(lost) = Lost::of(error) {
            return Err(lost);
        }
        tokio::select! {
            () = self.bench.drain.stopped().cancelled() => return Ok(Some(End::Released)),
            () = tokio::time::sleep(pause) => {}
        }
        let cancel = Lost::renewed(self.bench.backends.generations.renew(&self.writer.lease).await)?;
        Ok(cancel.map(|at| End::Cancelled { at }))
    }

    async fn answer(&mut self) -> Result<End, Lost> {
        let progress = if self.attempt > 1 { Progress::Recovering } else { Progress::Running };
        self.tell(progress).await;
        let Some(model) = self.bench.catalog.find(self.message.model.as_deref().unwrap_or_default()) else {
            let message = "the model of this answer is not offered any more".to_owned();
            return Ok(End::Failed(Failure { code: "upstream_error".to_owned(), message }));
        };
        let turns = loop {
            match prompt::turns(&self.bench.backends, &self.message).await {
                Ok(turns) => break turns,
                Err(error) => {
                    tracing::debug!(generation = %self.writer.lease.generation(), %error, "history could not be read yet");
                    if let Some(end) = self.wait_for_store(&error, HISTORY_PAUSE).await? {
                        return Ok(end);
                    }
                }
            }
        };
        let request = Request {
            generation: self.writer.lease.generation().clone(),
            options: self.message.options.clone().unwrap_or_default(),
            turns,
            so_far: self.transcript.text.clone(),
            trace: self.trace,
        };
        self.pace = Pace::asked();
        self.count.asks(&request, model.info.context_tokens);
        self.stream(model.answer(request)).await
    }

    async fn tell(&mut self, progress: Progress) {
        let generation = self.writer.lease.generation().clone();
        let subject = Subject::Conversation(generation.conversation());
        self.bench.backends.backplane.publish(&subject, Hint::Progress { generation, progress }).await;
    }

    /// Takes the model's steps into the log, until one of the ends. Returning drops the steps, which closes the upstream.
    async fn stream(&mut self, mut steps: Steps) -> Result<End, Lost> {
        let backends = self.bench.backends.clone();
        let lease = Arc::clone(&self.writer.lease);
        let stopped = self.bench.drain.stopped().clone();
        let mut cancels = backends.backplane.subscribe(&Subject::Cancel(lease.generation().clone())).await;
        let mut renewal = interval(self.bench.config.renewal);
        let mut heartbeat = interval(HEARTBEAT);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut end: Option<End> = None;
        let mut renewing = None;
        loop {
            let flush_at = self.flush(end.is_some());
            if let Some(end) = end.take_if(|_| self.batch.is_empty() && !self.writer.is_busy()) {
                return Ok(end);
            }
            let room = self.batch.bytes() < self.bench.config.buffer_bytes_max;
            let asked = tokio::select! {
                biased;
                () = stopped.cancelled() => return Ok(End::Released),
                Some(hint) = cancels.next() => match hint.as_ref() {
                    Hint::Cancel { at } => Some(*at),
                    _ => None,
                },
                progress = self.writer.progress() => progress?,
                renewed = async { renewing.as_mut().expect("guarded").await }, if renewing.is_some() => {
                    renewing = None;
                    Lost::renewed(renewed)?
                }
                step = steps.next(), if end.is_none() && room => {
                    end = self.step(step);
                    None
                }
                _ = renewal.tick(), if renewing.is_none() => {
                    let (generations, lease) = (Arc::clone(&backends.generations), Arc::clone(&lease));
                    renewing = Some(Box::pin(async move { generations.renew(&lease).await }));
                    None
                }
                _ = heartbeat.tick() => {
                    if self.flushed.elapsed() >= HEARTBEAT {
                        self.writer.heartbeat().await;
                    }
                    None
                }
                () = tokio::time::sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => None,
            };
            if let Some(at) = asked {
                return Ok(End::Cancelled { at });
            }
        }
    }

    /// Sends what waits, if nothing is in flight; answers when to try again if it is too early, as it never is for an owner's first
    /// words, and for the last ones.
    fn flush(&mut self, ended: bool) -> Option<Instant> {
        if self.writer.is_busy() || self.batch.is_empty() {
            return None;
        }
        let due = self.flushed + self.bench.config.flush_min;
        if self.pending.is_empty() && !ended && Instant::now() < due {
            return Some(due);
        }
        self.flushed = Instant::now();
        let mut entries = std::mem::take(&mut self.pending);
        entries.extend(self.batch.take());
        self.writer.write(entries);
        None
    }

    fn step(&mut self, step: Option<Result<Step, Failure>>) -> Option<End> {
        match step {
            Some(Ok(Step::Opened { rung, keep })) => self.open(rung, keep),
            Some(Ok(Step::Text(token))) => return self.token(Channel::Text, &token),
            Some(Ok(Step::Reasoning(token))) => return self.token(Channel::Reasoning, &token),
            Some(Ok(Step::Usage(usage))) => self.count.told(usage),
            Some(Ok(Step::Finish(reason))) => return Some(End::Finished { reason }),
            Some(Err(failure)) => return Some(End::Failed(failure)),
            None => {
                let message = "the upstream ended without saying so".to_owned();
                return Some(End::Failed(Failure { code: "upstream_eof".to_owned(), message }));
            }
        }
        None
    }

    /// The model has begun: this owner's first entry goes before its tokens.
    fn open(&mut self, rung: Rung, keep: usize) {
        // Who keeps no text thinks anew as well: thoughts of an owner that died before its first word would stand twice.
        let anew = matches!(rung, Rung::Start | Rung::Restart);
        let base = if anew { Position::START } else { self.transcript.position };
        if anew {
            self.transcript.reasoning.clear();
        }
        self.transcript.text.truncate(keep);
        let (offset, reasoning_offset) = (self.transcript.text.len() as u64, self.transcript.reasoning.len() as u64);
        let worker = self.bench.node_id.to_string();
        self.pending = vec![Entry::Own(Own {
            worker,
            rung,
            base,
            offset,
            reasoning_offset,
            attempt: self.attempt,
            first_token_ms: self.first_token_ms,
        })];
        self.batch = Batch::behind(offset, reasoning_offset);
        if rung != Rung::Start {
            self.bench.metrics.takeover(rung.as_str());
        }
    }

    fn token(&mut self, channel: Channel, token: &str) -> Option<End> {
        self.spoken();
        match channel {
            Channel::Text => self.transcript.text.push_str(token),
            Channel::Reasoning => self.transcript.reasoning.push_str(token),
        }
        self.batch.push(channel, token);
        let bytes = self.transcript.text.len() + self.transcript.reasoning.len();
        let max = self.bench.config.answer_bytes_max;
        (bytes > max).then(|| {
            let message = format!("the answer has more than {max} bytes");
            End::Failed(Failure { code: "too_long".to_owned(), message })
        })
    }

    fn spoken(&mut self) {
        let Some(took) = self.pace.token() else { return };
        self.bench.metrics.model_began(self.message.model.as_deref().unwrap_or_default(), took);
        let first = self.first_token_ms.get_or_insert_with(|| Time::now().since_ms(self.message.created_at));
        // This owner's first entry waits for its first token.
        if let Some(Entry::Own(own)) = self.pending.first_mut() {
            own.first_token_ms = Some(*first);
        }
    }

    /// Writes the end, or gives the lease back.
    async fn close(mut self, end: End) -> Result<&'static str, Lost> {
        let (status, finish_reason, error) = match end {
            End::Released => return self.release().await,
            End::Finished { reason } => (Status::Completed, Some(reason), None),
            End::Failed(failure) => (Status::Failed, None, Some(failure)),
            // The steps were dropped on the way here, and the upstream's connection with them.
            End::Cancelled { at } => {
                self.cancelled(at);
                (Status::Cancelled, None, None)
            }
            End::Interrupted => {
                let message = "what was written of this answer was removed".to_owned();
                (Status::Interrupted, None, Some(Failure { code: "unavailable".to_owned(), message }))
            }
        };
        if status != Status::Interrupted {
            self.drain_batch().await?;
        }
        let usage = self.count.total(&self.bench.backends, &self.message, &self.transcript, status).await;
        let outcome = Outcome {
            status,
            finish_reason,
            usage,
            timing: self.first_token_ms.map(|first_token_ms| crate::model::Timing {
                first_token_ms,
                total_ms: Time::now().since_ms(self.message.created_at),
            }),
            error,
            length: self.transcript.text.len() as u64,
            crc32: self.transcript.crc32(),
        };
        let message = self.final_message(&outcome);
        let position = self.writer.finish(&outcome, &message).await?;
        self.bench.metrics.generation_ended(status.as_str());
        if let Some(answer) = Answer::of(&message) {
            self.happened(Happened::Ended { answer, end: event::End::of_message(&message) });
        }
        self.pace.report(&self.bench.metrics, self.message.model.as_deref().unwrap_or_default(), outcome.usage);
        self.announce(position, outcome).await;
        Ok(status.as_str())
    }

    fn cancelled(&self, at: Time) {
        let spoken = self.pace.has_spoken() || self.transcript.position > Position::START;
        let phase = if spoken { CancelPhase::Streaming } else { CancelPhase::Waiting };
        self.bench.metrics.cancelled(phase, Duration::from_millis(Time::now().since_ms(at)));
    }

    async fn drain_batch(&mut self) -> Result<(), Lost> {
        self.writer.settle().await?;
        while !self.batch.is_empty() || !self.pending.is_empty() {
            let mut entries = std::mem::take(&mut self.pending);
            entries.extend(self.batch.take());
            self.writer.write(entries);
            self.writer.settle().await?;
        }
        Ok(())
    }

    async fn release(mut self) -> Result<&'static str, Lost> {
        // What is on its way is worth a moment: the next owner goes on behind it.
        if let Ok(lost) = tokio::time::timeout(RELEASE_TIMEOUT, self.drain_batch()).await {
            lost?;
        }
        if let Err(error) = self.bench.backends.generations.release(&self.writer.lease).await {
            tracing::warn!(generation = %self.writer.lease.generation(), %error, "lease could not be given back");
        }
        let work = Hint::Work { generation: Some(self.writer.lease.generation().clone()) };
        self.bench.backends.backplane.publish(&Subject::Work(self.message.model.clone().unwrap_or_default()), work).await;
        Ok(RELEASED)
    }

    fn final_message(&self, outcome: &Outcome) -> Message {
        Message {
            content: self.transcript.text.clone(),
            reasoning: Some(self.transcript.reasoning.clone()).filter(|text| !text.is_empty()),
            status: outcome.status,
            finish_reason: outcome.finish_reason.clone(),
            usage: outcome.usage,
            timing: outcome.timing,
            error: outcome.error.clone(),
            ..self.message.clone()
        }
    }

    /// Tells the end, more than once: a reader who misses it would wait for the next comparison with the store.
    async fn announce(self, position: Position, outcome: Outcome) {
        let generation = self.writer.lease.generation().clone();
        let subject = Subject::Conversation(generation.conversation());
        let (backends, user) = (self.bench.backends, self.user);
        let hint = Hint::Entry {
            generation: generation.clone(),
            previous: self.writer.tail(),
            position,
            entry: Entry::Fin(outcome),
            stored_us: None,
        };
        backends.backplane.publish(&subject, hint).await;
        let stopped = self.bench.drain.stopped().clone();
        self.bench.drain.spawn("terminal notice", async move {
            if let Ok(state) = backends.store.conversation(&user, &generation.conversation()).await {
                let hint = Hint::Conversation { conversation: state.conversation };
                backends.backplane.publish(&Subject::User(user), hint).await;
            }
            for pause in TERMINAL_REPEATS {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stopped.cancelled() => return,
                }
                let hint = Hint::Tail { generation: generation.clone(), position };
                backends.backplane.publish(&subject, hint).await;
            }
        });
    }
}
