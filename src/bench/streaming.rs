//! Answers on their way from the model to readers at other gateways: latency of each token, tokens a second, processor time
//! of a token, and one answer for many. Each reader checks every byte.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answer::{Answer, Heard};
use super::bare::Bare;
use super::client::{Person, Socket};
use super::load::histogram;
use super::outcome::Outcome;
use super::progress::Progress;
use super::{Failure, Setting, locked};
use crate::model::Conversation;
use crate::protocol::{ClientFrame, Posted};

/// Tokens a second offered to all answers together, until one is not kept.
const STEPS: [usize; 8] = [10_000, 20_000, 50_000, 100_000, 150_000, 200_000, 300_000, 400_000];
/// Tokens a second of the one answer that many read.
const FANOUT_STEPS: [usize; 11] = [10, 40, 80, 120, 160, 200, 250, 300, 400, 600, 1_000];
/// A step is kept when so much of what was offered arrived in its time.
const KEPT: f64 = 0.9;
/// And when 99 of 100 tokens were so fast: a backlog that only grows would show as throughput too.
const KEPT_P99: Duration = Duration::from_millis(250);
/// Answers at once whose tokens are compared in processor time.
const SCALES: [usize; 3] = [10, 100, 1_000];
/// How long nodes are watched that do nothing.
const STANDSTILL: Duration = Duration::from_secs(2);
/// How long it may take until all answers are asked for: that long their models wait, to begin as one.
const LEAD: Duration = Duration::from_millis(500);
const LEAD_EACH: Duration = Duration::from_millis(30);
/// Preparations side by side.
const SIDE_BY_SIDE: usize = 16;

/// What readers got.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) ages: Histogram<u64>,
    pub(super) tokens: usize,
    pub(super) frames: u64,
    began: Instant,
    ended: Instant,
}

impl Read {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { ages: histogram(), tokens: 0, frames: 0, began: now + Duration::from_secs(86_400), ended: now }
    }

    pub(super) fn add(&mut self, other: &Self) -> Result<(), Failure> {
        self.tokens += other.tokens;
        self.frames += other.frames;
        self.began = self.began.min(other.began);
        self.ended = self.ended.max(other.ended);
        self.ages.add(&other.ages).map_err(|error| Failure::new(error.to_string()))
    }

    /// From the first frame that anybody got to the last.
    fn seconds(&self) -> f64 {
        self.ended.saturating_duration_since(self.began).as_secs_f64().max(0.001)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
    fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds()
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
    fn frames_per_second(&self) -> f64 {
        self.frames as f64 / self.seconds()
    }

    #[expect(clippy::cast_precision_loss, reason = "rates are far below 2^52")]
    pub(super) fn kept(&self, offered: usize) -> bool {
        let p99 = Duration::from_micros(self.ages.value_at_quantile(0.99));
        self.tokens_per_second() >= KEPT * offered as f64 && p99 <= KEPT_P99
    }

    pub(super) fn outcome(&self, name: impl Into<String>, what: impl Into<String>) -> Outcome {
        Outcome::new(name, what, &self.ages).with("tokens", self.tokens_per_second(), "/s").with(
            "frames",
            self.frames_per_second(),
            "/s",
        )
    }
}

/// Reads one stamped answer to its end, whichever it is, and gives the socket back.
pub(super) async fn read(mut socket: Socket, tokens: usize) -> Result<(Socket, Read), Failure> {
    let mut answer = Answer::new(true);
    let mut found = Read::new();
    while !answer.ended {
        let text = socket.read_in_time().await?;
        let micros = crate::model::Time::now_us();
        let heard = Heard::parse(&text)?;
        if answer.frames == 0 && heard.kind == "delta" {
            found.began = Instant::now();
        }
        answer.hear(&heard, micros, &mut found.ages)?;
    }
    found.ended = Instant::now();
    (found.tokens, found.frames) = (answer.tokens(), answer.frames);
    if found.tokens != tokens {
        return Err(Failure::new(format!("an answer of {tokens} tokens ended after {}", found.tokens)));
    }
    Ok((socket, found))
}

/// Everybody's reading, all of it right.
pub(super) async fn collect(mut tasks: JoinSet<Result<(Socket, Read), Failure>>) -> Result<(Vec<Socket>, Read), Failure> {
    let (mut sockets, mut all) = (Vec::new(), Read::new());
    while let Some(ended) = tasks.join_next().await {
        let (socket, found) = ended.map_err(|_| Failure::new("a part of the bench panicked"))??;
        all.add(&found)?;
        sockets.push(socket);
    }
    Ok((sockets, all))
}

/// A conversation with a reader at another gateway than its owner's.
struct Stage {
    person: Person,
    conversation: String,
    reader: Socket,
}

impl Stage {
    async fn set(setting: &Setting, home: usize) -> Result<Self, Failure> {
        let person = setting.gateways.person(home).await?;
        let conversation = conversation(&person).await?;
        let reader = subscribed(&person, 1, &conversation).await?;
        Ok(Self { person, conversation, reader })
    }
}

async fn conversation(person: &Person) -> Result<String, Failure> {
    let made: Conversation = person.post("/api/conversations", &json!({})).await?;
    Ok(made.id.to_string())
}

async fn subscribed(person: &Person, further: usize, conversation: &str) -> Result<Socket, Failure> {
    let mut socket = person.socket(further).await?;
    socket.say(&ClientFrame::Subscribe { conversation: conversation.to_owned(), known: Vec::new() }).await?;
    loop {
        let text = socket.read_in_time().await?;
        if Heard::parse(&text)?.kind == "caught_up" {
            return Ok(socket);
        }
    }
}

/// What tells the model to make so many tokens at this rate, the first one after `lead`.
fn order(tokens: usize, rate: usize, lead: Duration) -> String {
    let at = crate::model::Time::now_us() / 1_000 + u64::try_from(lead.as_millis()).unwrap_or(u64::MAX);
    format!("/demo tokens={tokens} rate={rate} stamp at={at}")
}

async fn post(setting: &Setting, person: &Person, conversation: &str, order: &str) -> Result<Posted, Failure> {
    let page = format!("/api/conversations/{conversation}/messages");
    person.post(&page, &json!({ "content": order, "model": setting.demo })).await
}

/// So many answers at once, each of so many tokens at this rate.
async fn answers(setting: &Setting, count: usize, tokens: usize, rate: usize) -> Result<Read, Failure> {
    let stages: Vec<Stage> =
        stream::iter(0..count).map(|home| Stage::set(setting, home)).buffer_unordered(SIDE_BY_SIDE).try_collect().await?;
    let lead = LEAD + LEAD_EACH * u32::try_from(count).unwrap_or(u32::MAX);
    let mut tasks = JoinSet::new();
    let mut asked = Vec::new();
    // Models don't speak in chorus: their tokens are spread over the time between two of one.
    let apart = Duration::from_secs(1) / u32::try_from(count * rate).unwrap_or(u32::MAX);
    for (at, Stage { person, conversation, reader }) in (0_u32..).zip(stages) {
        tasks.spawn(read(reader, tokens));
        asked.push((person, conversation, order(tokens, rate, lead + apart * at)));
    }
    stream::iter(asked)
        .map(|(person, conversation, order)| async move { post(setting, &person, &conversation, &order).await.map(drop) })
        .buffer_unordered(SIDE_BY_SIDE)
        .try_collect::<()>()
        .await?;
    Ok(collect(tasks).await?.1)
}

pub(super) async fn delivery(setting: &Setting) -> Result<Vec<Outcome>, Failure> {
    let progress = setting.progress("delivery");
    let found = costed(setting, setting.plan.answers).await;
    progress.end();
    let (found, cost) = found?;
    let (count, rate) = (setting.plan.answers, setting.plan.token_rate);
    let what = format!("token made by the model to a reader at another gateway; {count} answers at {rate} tokens/s");
    Ok(vec![found.outcome("delivery", what).with("cost of a token", cost, "µs")])
}

/// So many answers at the rate of the plan, and what one token cost in microseconds of all processors of the nodes that were
/// named.
async fn costed(setting: &Setting, count: usize) -> Result<(Read, f64), Failure> {
    let rate = setting.plan.token_rate as usize;
    // Standing still costs as well: it is measured alone, and taken off.
    let (before, began) = (setting.cpu_seconds().await?, Instant::now());
    tokio::time::sleep(STANDSTILL).await;
    let idle = (setting.cpu_seconds().await? - before) / began.elapsed().as_secs_f64();
    let (before, began) = (setting.cpu_seconds().await?, Instant::now());
    let found = answers(setting, count, rate * setting.seconds(), rate).await?;
    let spent = setting.cpu_seconds().await? - before - idle * began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "tokens of one run are far below 2^52")]
    let cost = spent.max(0.0) * 1e6 / found.tokens as f64;
    Ok((found, cost))
}

pub(super) async fn tokens(setting: &Setting) -> Result<Vec<Outcome>, Failure> {
    let count = setting.plan.answers;
    let progress = setting.progress("tokens");
    let mut outcomes = Vec::new();
    let mut kept = 0.0;
    for offered in STEPS {
        let rate = offered.div_ceil(count);
        let found = answers(setting, count, rate * setting.seconds(), rate).await?;
        let step = found.outcome(format!("tokens {offered}/s"), format!("{count} answers at {rate} tokens/s each"));
        let is_kept = found.kept(offered);
        kept = if is_kept { found.tokens_per_second() } else { kept };
        outcomes.push(step.with("kept", f64::from(u8::from(is_kept)), ""));
        if !is_kept {
            break;
        }
    }
    let mut summary =
        Outcome::new("tokens", "stored, published, delivered and checked: the last step that was kept", &histogram())
            .with("tokens", kept, "/s");
    if let Some(url) = &setting.plan.redis_url {
        let (steps, locked) = locked::steps(url, count, setting.seconds()).await?;
        outcomes.extend(steps);
        summary = summary.with("lock for each chunk", locked, "/s").with("of the lock's", kept / locked.max(1.0), "×");
    }
    progress.end();
    outcomes.push(summary);
    Ok(outcomes)
}

pub(super) async fn fanout(setting: &Setting) -> Result<Vec<Outcome>, Failure> {
    let readers = setting.plan.readers;
    let person = setting.gateways.person(0).await?;
    let conversation = conversation(&person).await?;
    let mut sockets: Vec<Socket> = stream::iter(0..readers)
        .map(|further| subscribed(&person, further, &conversation))
        .buffer_unordered(SIDE_BY_SIDE)
        .try_collect()
        .await?;
    let progress = setting.progress("fanout");
    let (mut outcomes, mut ours) = (Vec::new(), Kept::default());
    for rate in FANOUT_STEPS {
        let tokens = rate * setting.seconds();
        let tasks: JoinSet<_> = sockets.into_iter().map(|socket| read(socket, tokens)).collect();
        post(setting, &person, &conversation, &order(tokens, rate, LEAD)).await?;
        let (back, found) = collect(tasks).await?;
        sockets = back;
        if !step("fanout", &found, rate, readers, &mut ours, &mut outcomes) {
            break;
        }
    }
    let bare = Bare::start().await?;
    let (mut sockets, mut ceiling) = (bare.readers(readers).await?, Kept::default());
    for rate in FANOUT_STEPS {
        let tokens = rate * setting.seconds();
        let tasks: JoinSet<_> = sockets.into_iter().map(|socket| read(socket, tokens)).collect();
        bare.tell(tokens, rate).await?;
        let (back, found) = collect(tasks).await?;
        sockets = back;
        if !step("bare fanout", &found, rate, readers, &mut ceiling, &mut outcomes) {
            break;
        }
    }
    progress.end();
    let what = format!("one answer to {readers} readers: the last step that was kept");
    let summary = Outcome::new("fanout", what, &histogram())
        .with("tokens", ours.0, "/s")
        .with("bare, without store and bus", ceiling.0, "/s")
        .with("of the bare", ours.0 / ceiling.0.max(1.0) * 100.0, "%")
        .with("frames", ours.1, "/s")
        .with("bare frames", ceiling.1, "/s");
    outcomes.push(summary);
    Ok(outcomes)
}

/// Tokens and frames a second of the last step that was kept.
type Kept = (f64, f64);

/// Notes a step of a fan-out; `false` when it was the last one.
fn step(name: &str, found: &Read, rate: usize, readers: usize, best: &mut Kept, outcomes: &mut Vec<Outcome>) -> bool {
    let kept = found.kept(rate * readers);
    if kept {
        *best = (found.tokens_per_second(), found.frames_per_second());
    }
    let what = format!("{rate} tokens/s to {readers} readers");
    outcomes.push(found.outcome(format!("{name} {rate}/s"), what).with("kept", f64::from(u8::from(kept)), ""));
    kept
}

/// The same flow of tokens, cut into more and more answers.
pub(super) async fn scale(setting: &Setting) -> Result<Vec<Outcome>, Failure> {
    let progress = setting.progress("scale");
    let rate = setting.plan.token_rate;
    let (mut outcomes, mut costs) = (Vec::new(), Vec::new());
    for count in SCALES {
        let (found, cost) = costed(setting, count).await?;
        costs.push(cost);
        let what = format!("{count} answers at {rate} tokens/s; processor time of all nodes that were named");
        outcomes.push(found.outcome(format!("scale {count}"), what).with("cost of a token", cost, "µs"));
    }
    progress.end();
    let (fewest, most) = (costs.first().copied().unwrap_or(0.0), costs.last().copied().unwrap_or(0.0));
    let summary = Outcome::new("scale", "a token among the most answers, of its cost among the fewest", &histogram());
    outcomes.push(summary.with("cost", most / fewest.max(0.001), "×"));
    Ok(outcomes)
}

impl Setting {
    pub(super) fn progress(&self, name: &str) -> Progress {
        if self.quiet { Progress::none() } else { Progress::new(name) }
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most an hour")]
    pub(super) fn seconds(&self) -> usize {
        self.plan.seconds.as_secs() as usize
    }
}
