//! `chatnode bench`: measures gateways from outside, as a browser meets them, and checks every byte of what they answer: a fast
//! wrong answer is a failure. Must not know how a gateway works, nor share its code beyond the wire contract.

mod answer;
mod asking;
mod bare;
mod client;
mod edges;
mod goals;
mod idle;
mod load;
mod locked;
mod outcome;
mod page;
mod progress;
mod streaming;
mod table;
mod upstream;

use serde::{Deserialize, Serialize};
use url::Url;

use self::client::Gateways;
use self::load::Load;
use self::outcome::{Failure, Outcome};
use crate::config::{BenchPlan, Scenario};
use crate::model::{ModelInfo, Time};

/// Why the bench did not end well; the table says the rest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{table}\nnot right: {}", wrong.join("; "))]
    Wrong { table: String, wrong: Vec<String> },
    #[error("{0}")]
    Setting(String),
    #[error("{file} can't be written: {reason}")]
    File { file: String, reason: std::io::Error },
}

/// Runs the scenarios one after the other, and answers the table of what they brought.
///
/// # Errors
/// When nobody answers, when an answer was wrong, or when a file could not be written.
pub fn block_on(plan: BenchPlan) -> Result<String, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Setting(error.to_string()))?;
    let report = runtime.block_on(run(&plan)).map_err(|failure| Error::Setting(failure.to_string()))?;
    runtime.shutdown_background();
    if let Some(path) = &plan.json {
        let text = serde_json::to_string_pretty(&report).unwrap_or_default();
        write(path, &text)?;
    }
    if let Some(path) = &plan.report {
        write(path, &page::html(&report))?;
    }
    let table = table::text(&report, plan.goals);
    if report.wrong.is_empty() { Ok(table) } else { Err(Error::Wrong { table, wrong: report.wrong }) }
}

fn write(path: &std::path::Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|reason| Error::File { file: path.display().to_string(), reason })
}

/// Everything that a run brought.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    at: Time,
    gateways: usize,
    seconds: u64,
    outcomes: Vec<Outcome>,
    /// What was not right, scenario by scenario.
    wrong: Vec<String>,
}

async fn run(plan: &BenchPlan) -> Result<Report, Failure> {
    let setting = Setting::look(plan).await?;
    let (mut outcomes, mut wrong) = (Vec::new(), Vec::new());
    for scenario in &plan.scenarios {
        match setting.measure(*scenario).await {
            Ok(found) => outcomes.extend(found),
            Err(failure) => wrong.push(format!("{scenario:?}: {failure}")),
        }
    }
    let (version, gateways) = (env!("CARGO_PKG_VERSION"), setting.gateways.count());
    Ok(Report { version, at: Time::now(), gateways, seconds: plan.seconds.as_secs(), outcomes, wrong })
}

/// What scenarios share.
#[derive(Clone, Debug)]
struct Setting {
    plan: BenchPlan,
    gateways: Gateways,
    /// The demonstration model's name, whose tokens can be told apart.
    demo: String,
    /// Whether the gateways offer a model that asks the bench.
    has_upstream: bool,
    /// Parts that run side by side share a terminal.
    quiet: bool,
}

#[derive(Deserialize)]
struct Models {
    items: Vec<ModelInfo>,
}

impl Setting {
    async fn look(plan: &BenchPlan) -> Result<Self, Failure> {
        let gateways = Gateways::new(&plan.urls)?;
        for at in 0..plan.urls.len() {
            gateways.connect(at, None).await.map_err(|failure| Failure::new(format!("{}: {failure}", plan.urls[at])))?;
        }
        let models: Models = gateways.person(0).await?.get("/api/models").await?;
        let demo = models.items.iter().find(|model| model.demo).map(|model| model.id.clone());
        let demo = demo.ok_or_else(|| {
            Failure::new("the gateways offer no demonstration model, whose tokens the bench can check: add [[models]] with provider = \"demo\"")
        })?;
        let has_upstream = models.items.iter().any(|model| model.id == upstream::MODEL);
        Ok(Self { plan: plan.clone(), gateways, demo, has_upstream, quiet: false })
    }

    async fn measure(&self, scenario: Scenario) -> Result<Vec<Outcome>, Failure> {
        match scenario {
            Scenario::Connect => asking::connect(self).await,
            Scenario::Send => asking::sends(self).await,
            Scenario::History => asking::history(self).await,
            Scenario::Mixed => asking::mixed(self).await,
            Scenario::Delivery => streaming::delivery(self).await,
            Scenario::Tokens => streaming::tokens(self).await,
            Scenario::Fanout => streaming::fanout(self).await,
            Scenario::Scale => streaming::scale(self).await,
            Scenario::FirstToken => edges::first_token(self).await,
            Scenario::Cancel => edges::cancel(self).await,
            Scenario::Resume => edges::resume(self).await,
            Scenario::Idle => idle::idle(self).await,
        }
    }

    fn load(&self, usual: u32) -> Load {
        Load { rate: self.plan.rate.unwrap_or(usual), length: self.plan.seconds }
    }

    /// The same at a fraction of the load, and without a word.
    fn calmer(&self, fraction: u32) -> Self {
        let mut calm = self.clone();
        calm.quiet = true;
        calm.plan.rate = Some((self.plan.rate.unwrap_or(200) / fraction).max(1));
        calm.plan.answers = (self.plan.answers / 5).max(1);
        calm
    }

    /// Processor time of all nodes that were named.
    async fn cpu_seconds(&self) -> Result<f64, Failure> {
        self.sum("process_cpu_seconds_total", self.plan.urls.iter().chain(&self.plan.watched)).await
    }

    /// Memory of the gateways.
    async fn memory_bytes(&self) -> Result<f64, Failure> {
        self.sum("process_resident_memory_bytes", self.plan.urls.iter()).await
    }

    async fn sum(&self, name: &str, urls: impl Iterator<Item = &Url>) -> Result<f64, Failure> {
        let mut sum = 0.0;
        for url in urls {
            let page = format!("{}/metrics", url.as_str().trim_end_matches('/'));
            let text = self.gateways.http().get(&page).send().await.map_err(Failure::of_http)?;
            let text = text.text().await.map_err(Failure::of_http)?;
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            sum += value.ok_or_else(|| {
                Failure::new(format!("{page} tells no {name}: give the nodes' own addresses, not that of a proxy"))
            })?;
        }
        Ok(sum)
    }
}
