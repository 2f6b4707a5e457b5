//! The beginning and the end of an answer, and its way to a reader who comes back: first token, cancel, resume.

use std::time::Duration;

use reqwest::Client;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::answer::{Answer, End, Heard};
use super::asking::{Tab, send};
use super::client::{PATIENCE, Person};
use super::load::{Work, histogram};
use super::outcome::Outcome;
use super::upstream::{ENDLESS, FIRST, MODEL, Upstream};
use super::{Failure, Setting};
use crate::model::Status;
use crate::protocol::{ClientFrame, Known};

const QUESTIONS: u32 = 50;
const CANCELS: u32 = 20;
const RESUMES: u32 = 50;
/// Longer than any run: who needs one ends it.
const LONG: &str = "/demo tokens=1000000 rate=50 stamp";

pub(super) async fn first_token(setting: &Setting) -> Result<Vec<Outcome>, Failure> {
    let Some(upstream) = setting.upstream().await? else { return Ok(vec![setting.without_upstream("first-token")]) };
    let load = setting.load(QUESTIONS);
    let page = format!("http://{}/v1/chat/completions", upstream.address);
    let direct = |_| Direct { http: setting.gateways.http().clone(), page: page.clone() };
    let direct = setting.run("first-token, directly", load, (0..setting.plan.users).map(direct).collect()).await?;
    let mut workers = Vec::new();
    for person in setting.gateways.people(setting.plan.users).await? {
        workers.push(First { tab: Tab::open(&person, 0).await? });
    }
    let through = setting.run("first-token", load, workers).await?;
    let outcomes = [
        Outcome::new("first-token, directly", format!("question to first token; {} a second", load.rate), &direct),
        Outcome::new("first-token", "`send` to the first `delta`, the same upstream behind".to_owned(), &through),
    ];
    let at = |at: usize, of: fn(&super::outcome::Latency) -> f64| outcomes[at].latency.as_ref().map_or(0.0, of);
    let added = |of: fn(&super::outcome::Latency) -> f64| at(1, of) - at(0, of);
    let added = Outcome::new("first-token, added", "the difference", &histogram())
        .with("p50", added(|latency| latency.p50), "ms")
        .with("p99", added(|latency| latency.p99), "ms");
    Ok(outcomes.into_iter().chain([added]).collect())
}

/// Asks the upstream itself.
struct Direct {
    http: Client,
    page: String,
}

impl Work for Direct {
    async fn once(&mut self, _arrival: u64) -> Result<Instant, Failure> {
        let body = json!({"model": MODEL, "stream": true, "messages": [{"role": "user", "content": "Tell."}]});
        let mut response = self.http.post(&self.page).json(&body).send().await.map_err(Failure::of_http)?;
        let first = response.chunk().await.map_err(Failure::of_http)?.unwrap_or_default();
        let done = Instant::now();
        if !String::from_utf8_lossy(&first).contains(FIRST) {
            return Err(Failure::new("the upstream said something else"));
        }
        while response.chunk().await.map_err(Failure::of_http)?.is_some() {}
        Ok(done)
    }

    async fn end(self) -> Result<(), Failure> {
        Ok(())
    }
}

struct First {
    tab: Tab,
}

impl Work for First {
    async fn once(&mut self, _arrival: u64) -> Result<Instant, Failure> {
        let (accepted, _) = self.tab.ask(send("Tell.", Some(MODEL)), false).await?;
        let answer = |tab: &Tab| tab.answers.get(&accepted.generation).map_or(0, Answer::length);
        while answer(&self.tab) == 0 {
            self.tab.next().await?;
        }
        let done = Instant::now();
        self.tab.all_ended().await?;
        match answer(&self.tab) {
            17 => Ok(done),
            other => Err(Failure::new(format!("`Once upon a time.` has 17 bytes, but {other} came"))),
        }
    }

    async fn end(self) -> Result<(), Failure> {
        Ok(())
    }
}

pub(super) async fn cancel(setting: &Setting) -> Result<Vec<Outcome>, Failure> {
    let load = setting.load(CANCELS);
    let upstream = setting.upstream().await?.map(std::sync::Arc::new);
    let mut workers = Vec::new();
    for person in setting.gateways.people(setting.plan.users).await? {
        let (tab, other) = (Tab::open(&person, 0).await?, Tab::open(&person, 1).await?);
        let mut worker = Cancels { tab, other, upstream: upstream.clone(), demo: setting.demo.clone(), running: None };
        worker.prepare().await?;
        workers.push(worker);
    }
    let found = setting.run("cancel", load, workers).await?;
    let until = if upstream.is_some() { "the upstream's connection is closed" } else { "the answer has ended" };
    let what = format!("`cancel` at another gateway until {until}; {} a second", load.rate);
    let outcome = Outcome::new("cancel", what, &found);
    Ok(if upstream.is_some() { vec![outcome] } else { vec![outcome, setting.without_upstream("cancel of an upstream")] })
}

struct Cancels {
    tab: Tab,
    other: Tab,
    upstream: Option<std::sync::Arc<Upstream>>,
    demo: String,
    /// The answer that the next arrival stops.
    running: Option<(String, Option<oneshot::Receiver<Instant>>)>,
}

impl Cancels {
    async fn prepare(&mut self) -> Result<(), Failure> {
        let question = format!("{ENDLESS}{}", Uuid::new_v4());
        let left = self.upstream.as_ref().map(|upstream| upstream.left(&question));
        let (question, model) = if left.is_some() { (question, MODEL) } else { (LONG.to_owned(), self.demo.as_str()) };
        let (accepted, _) = self.tab.ask(send(&question, Some(model)), left.is_none()).await?;
        while self.tab.answers.get(&accepted.generation).is_none_or(|answer| answer.length() == 0) {
            self.tab.next().await?;
        }
        self.running = Some((accepted.generation, left));
        Ok(())
    }

    async fn stop(&mut self) -> Result<Instant, Failure> {
        let Some((generation, left)) = self.running.take() else { return Err(Failure::new("nothing runs")) };
        self.other.socket.say(&ClientFrame::Cancel { generation: generation.clone() }).await?;
        let closed = async {
            match left {
                None => Ok(None),
                Some(left) => match timeout(PATIENCE, left).await {
                    Ok(Ok(at)) => Ok(Some(at)),
                    _ => Err(Failure::new("an upstream was not closed after a cancel")),
                },
            }
        };
        let ended = async {
            loop {
                let text = self.tab.socket.read_in_time().await?;
                let heard = Heard::parse(&text)?;
                self.tab.hear(&heard)?;
                if heard.kind == "finished" && *heard.generation == *generation {
                    let end: End = serde_json::from_str(&text).map_err(|error| Failure::new(error.to_string()))?;
                    return if end.status == Status::Cancelled {
                        Ok(Instant::now())
                    } else {
                        Err(Failure::new("it was not cancelled"))
                    };
                }
            }
        };
        let (closed, ended) = tokio::try_join!(closed, ended)?;
        self.tab.answers.remove(&generation);
        while self.other.next().await? != "cancel_accepted" {}
        Ok(closed.unwrap_or(ended))
    }
}

impl Work for Cancels {
    async fn once(&mut self, _arrival: u64) -> Result<Instant, Failure> {
        let done = self.stop().await?;
        self.prepare().await?;
        Ok(done)
    }

    async fn end(mut self) -> Result<(), Failure> {
        self.stop().await.map(drop)
    }
}

pub(super) async fn resume(setting: &Setting) -> Result<Vec<Outcome>, Failure> {
    let load = setting.load(RESUMES);
    let mut workers = Vec::new();
    for person in setting.gateways.people(setting.plan.users).await? {
        let mut tab = Tab::open(&person, 0).await?;
        let (accepted, _) = tab.ask(send(LONG, Some(&setting.demo)), true).await?;
        workers.push(Resumes { person, tab, conversation: accepted.conversation.to_string(), gateway: 0 });
    }
    let found = setting.run("resume", load, workers).await?;
    let what = format!("a lost socket until `caught_up` at another gateway; {} a second", load.rate);
    Ok(vec![Outcome::new("resume", what, &found)])
}

struct Resumes {
    person: Person,
    tab: Tab,
    conversation: String,
    gateway: usize,
}

impl Work for Resumes {
    async fn once(&mut self, _arrival: u64) -> Result<Instant, Failure> {
        self.gateway += 1;
        let known = |(generation, answer): (&String, &Answer)| Known {
            generation: generation.clone(),
            position: answer.position,
            offset: answer.length(),
        };
        let known = self.tab.answers.iter().map(known).collect();
        // Dropped without a goodbye, with whatever had come and was not read.
        self.tab.socket = self.person.socket(self.gateway).await?;
        self.tab.socket.say(&ClientFrame::Subscribe { conversation: self.conversation.clone(), known }).await?;
        while self.tab.next().await? != "caught_up" {}
        Ok(Instant::now())
    }

    async fn end(mut self) -> Result<(), Failure> {
        for generation in self.tab.answers.keys().cloned().collect::<Vec<_>>() {
            self.tab.socket.say(&ClientFrame::Cancel { generation }).await?;
        }
        self.tab.all_ended().await
    }
}

impl Setting {
    /// The upstream that the gateways' model asks; `None` when they have none that does.
    async fn upstream(&self) -> Result<Option<Upstream>, Failure> {
        if !self.has_upstream {
            return Ok(None);
        }
        // Somebody may still be leaving the same port.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match Upstream::start(self.plan.upstream).await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(100)).await,
                other => return other.map(Some),
            }
        }
    }

    fn without_upstream(&self, name: &str) -> Outcome {
        let address = self.plan.upstream;
        let what = format!(
            "not measured: no model `{MODEL}` is offered. Give the AI nodes [[models]] id = \"{MODEL}\", provider = \"openai\", base_url = \"http://{address}/v1\""
        );
        Outcome::new(name, what, &histogram())
    }
}
