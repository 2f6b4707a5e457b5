//! Chaos: a whole cluster of processes under load, everything of it broken in turn, and every reader's history judged.
//!
//! `cargo test` runs a short fixed schedule; `scripts/chaos` a long random one of the same. Whoever wants another one
//! sets `CHATNODE_CHAOS_MINUTES`, `_SEED`, `_ANSWERS`, `_BIN` (the program to run instead of the one that was just built).
//! A violation is written down with everything that its readers saw.

mod check;
mod check_samples;
mod faults;
mod history;
mod load;
pub(crate) mod proxy;
mod reader;
mod stage;
mod storm;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chatnode::model::{GenerationId, Time};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;

use check::Violation;
use faults::{EVERY, Fault, Hand, Span};
use history::{Story, What};
use load::World;
use reader::Field;
use stage::{Plan, Stage};
use table::{Measure, Row};

use crate::harness::rest;
use crate::harness::servers::{self, Programs, nats_url, redis_url};

/// Everything flows before the first fault.
const WARM: Duration = Duration::from_secs(2);
/// What a node may hold in memory at the end, whoever never read.
const RESIDENT_BYTES_MAX: u64 = 192 * 1024 * 1024;
/// A wait in the middle of an answer that wants an explanation, in milliseconds.
const LONG: u64 = 9_000;
/// Stories with something wrong that are written down whole.
const DUMPS_MAX: usize = 20;

/// What each fault of the short schedule is worth: the ones that are not proved by a scenario of their own.
const SHORT: [Fault; 9] = [
    Fault::WorkerKilled,
    Fault::GatewayKilled,
    Fault::RedisRestarted,
    Fault::NatsStopped,
    Fault::WorkerFrozen,
    Fault::ConnectionsKilled,
    Fault::WorkerRedisCut,
    Fault::LogRemoved,
    Fault::WorkerDrained,
];

#[derive(Debug)]
struct Setup {
    plan: Plan,
    seed: u64,
    answers: usize,
    tokens: (usize, usize),
    stall: Duration,
    /// In their order; without any, random ones until this has passed.
    schedule: Vec<Fault>,
    time: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_breaks_every_reader_gets_every_byte_once() {
    let Some(programs) = Programs::find() else { return };
    let report = run(&programs, setup()).await;
    println!("{}", report.text);
    assert!(report.violations.is_empty(), "{:#?}", report.violations.iter().take(DUMPS_MAX).collect::<Vec<_>>());
    assert!(report.answers > 0, "nobody asked anything");
}

fn setup() -> Setup {
    let told = |name: &str| std::env::vars().find(|(key, _)| key == name).map(|(_, value)| value);
    let number = |name: &str| told(name).map(|value| value.parse::<f64>().unwrap_or_else(|_| panic!("{name} is a number")));
    let program = told("CHATNODE_CHAOS_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_chatnode")), PathBuf::from);
    let whole = |value: f64| format!("{value:.0}").parse().expect("a whole number");
    let answers = number("CHATNODE_CHAOS_ANSWERS").map(|value| whole(value) as usize);
    match number("CHATNODE_CHAOS_MINUTES") {
        Some(minutes) => Setup {
            plan: Plan {
                program,
                gateways: 3,
                workers: 3,
                lease: Duration::from_secs(6),
                renewal: Duration::from_secs(2),
                drain: Duration::from_millis(2_500),
            },
            seed: number("CHATNODE_CHAOS_SEED").map_or_else(|| u64::from(rand::random::<u32>()), whole),
            answers: answers.unwrap_or(60),
            tokens: (100, 500),
            // As the page does it.
            stall: Duration::from_secs(10),
            schedule: Vec::new(),
            time: Duration::from_secs_f64(minutes * 60.0),
        },
        None => Setup {
            plan: Plan {
                program,
                gateways: 2,
                workers: 2,
                lease: Duration::from_millis(1_500),
                renewal: Duration::from_millis(400),
                drain: Duration::from_millis(500),
            },
            seed: 1,
            answers: answers.unwrap_or(8),
            tokens: (60, 140),
            stall: Duration::from_secs(2),
            schedule: SHORT.to_vec(),
            time: Duration::ZERO,
        },
    }
}

struct Report {
    text: String,
    violations: Vec<Violation>,
    answers: usize,
}

/// What has been heard of stories so far.
#[derive(Default)]
struct Heard {
    answers: usize,
    statuses: BTreeMap<String, usize>,
    measures: Vec<Measure>,
    violations: Vec<Violation>,
    /// Stories with a long wait that were written down.
    slow: usize,
}

async fn run(programs: &Programs, setup: Setup) -> Report {
    println!("chaos: seed {}, {} answers at once", setup.seed, setup.answers);
    let mut stage = Stage::set(programs, setup.plan.clone()).await;
    let began = Instant::now();
    let epoch = Time::now().0;
    let field = Arc::new(Field {
        began,
        gateways: stage.gateways.iter().map(|gateway| gateway.front.address).collect(),
        stall: setup.stall,
        open: AtomicUsize::new(0),
        http: rest::client(),
        caught_up: AtomicUsize::new(0),
    });
    let own = servers::World::join(&redis_url(&stage.redis), &nats_url(&stage.nats), setup.plan.lease, "chatnode").await;
    own.ready().await;
    let world = World {
        field: Arc::clone(&field),
        backends: own.backends.clone(),
        removed: Arc::default(),
        stop: Arc::default(),
        tokens: setup.tokens,
    };
    let heard: Arc<Mutex<Heard>> = Arc::default();
    let mut crowd = JoinSet::new();
    for _ in 0..setup.answers {
        let (world, heard, seed) = (world.clone(), Arc::clone(&heard), setup.seed);
        crowd.spawn(load::people(world, move |story| hear(&heard, &story, epoch, seed)));
    }
    let open = tokio::spawn(sample(Arc::clone(&field), Arc::clone(&world.stop)));
    tokio::time::sleep(WARM).await;
    let spans = strike(&mut stage, &field, &world.removed, &setup).await;
    world.stop.store(true, Ordering::SeqCst);
    crowd.join_all().await;
    let open = open.await.expect("samples");
    let swollen = swollen(&mut stage);
    own.end().await;
    let mut heard = std::mem::take(&mut *heard.lock().expect("nobody panics with it"));
    heard.violations.extend(swollen);
    heard.violations.extend(table::check(&heard.measures, &spans, setup.plan.lease));
    let rows = table::rows(&heard.measures, &spans);
    if !heard.violations.is_empty() || !table::are_met(&rows) {
        keep_logs(&mut stage, setup.seed);
    }
    report(&setup, &rows, spans.len(), &open, heard)
}

/// Breaks one thing after the other.
async fn strike(stage: &mut Stage, field: &Arc<Field>, removed: &Mutex<BTreeSet<GenerationId>>, setup: &Setup) -> Vec<Span> {
    let mut dice = StdRng::seed_from_u64(setup.seed);
    let mut order = setup.schedule.clone();
    order.reverse();
    let mut spans = Vec::new();
    let end = field.began + WARM + setup.time;
    while !order.is_empty() || Instant::now() < end {
        if order.is_empty() {
            // Each kind once before any kind again.
            order = EVERY.to_vec();
            for index in (1..order.len()).rev() {
                order.swap(index, dice.random_range(0..=index));
            }
        }
        let Some(fault) = order.pop() else { break };
        let mut roll = |below: usize| dice.random_range(0..below);
        let mut hand = Hand { stage, field, prefix: "chatnode", removed, roll: &mut roll };
        let span = hand.strike(fault).await;
        let seconds = |at: u64| at as f64 / 1_000.0;
        println!("{:>8.1} s  {:<20} {:?}", seconds(span.from), format!("{fault:?}"), span.touched);
        spans.push(span);
        if setup.schedule.is_empty() && Instant::now() >= end {
            break;
        }
    }
    spans
}

/// Answers that were open, once a second.
async fn sample(field: Arc<Field>, stop: Arc<AtomicBool>) -> Vec<u64> {
    let mut samples = Vec::new();
    tokio::time::sleep(WARM).await;
    while !stop.load(Ordering::SeqCst) {
        samples.push(field.open.load(Ordering::SeqCst) as u64);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    samples.sort_unstable();
    samples
}

fn hear(heard: &Mutex<Heard>, story: &Story, epoch: u64, seed: u64) {
    let violations = check::check(story);
    let measures = table::measure(story, epoch);
    let mut heard = heard.lock().expect("nobody panics with it");
    let dump = !violations.is_empty() && heard.violations.len() < DUMPS_MAX;
    let slow =
        measures.iter().filter_map(|measure| measure.longest(0)).max().is_some_and(|gap| gap > LONG) && heard.slow < DUMPS_MAX;
    heard.slow += usize::from(slow);
    for accepted in story.answers().values() {
        heard.answers += 1;
        let status = story.stored.get(&accepted.answer).map_or("unknown", |message| message.status.as_str());
        *heard.statuses.entry(status.to_owned()).or_default() += 1;
    }
    heard.violations.extend(violations.clone());
    heard.measures.extend(measures);
    let number = heard.violations.len() + heard.slow;
    drop(heard);
    if slow {
        let path = folder(seed).join(format!("slow-{number}.txt"));
        std::fs::write(&path, tell(story, &violations)).expect("the story is written down");
    }
    if dump {
        let path = folder(seed).join(format!("story-{number}.txt"));
        std::fs::write(&path, tell(story, &violations)).expect("the story is written down");
        println!("violation: {:?}, written down in {}", violations[0], path.display());
    }
}

fn folder(seed: u64) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("chatnode-chaos-{seed}"));
    std::fs::create_dir_all(&folder).expect("a directory");
    folder
}

fn tell(story: &Story, violations: &[Violation]) -> String {
    let mut text = format!("{violations:#?}\n{:#?}\nremoved: {:?}\n", story.plan, story.removed);
    for history in &story.histories {
        let _ = writeln!(text, "\n== {}", history.reader);
        for seen in &history.seen {
            let _ = match &seen.what {
                What::Heard(frame) => writeln!(text, "{:>9} {}", seen.at, serde_json::to_string(frame).unwrap_or_default()),
                other => writeln!(text, "{:>9} {other:?}", seen.at),
            };
        }
    }
    for (generation, log) in &story.logs {
        let _ = writeln!(text, "\n== log of {generation}");
        for (position, entry) in log {
            let _ = writeln!(text, "{position} {}", serde_json::to_string(entry).unwrap_or_default());
        }
    }
    let _ = writeln!(text, "\n== stored\n{:#?}", story.stored);
    text
}

/// Nodes that hold more memory than readers who never read may cost.
fn swollen(stage: &mut Stage) -> Vec<Violation> {
    let mut found = Vec::new();
    for member in stage.members() {
        let resident = member.server.resident().unwrap_or_default();
        if resident > RESIDENT_BYTES_MAX {
            let what = format!("{} holds {resident} bytes", member.name);
            found.push(Violation { invariant: "I16", reader: member.name.clone(), at: 0, what });
        }
    }
    found
}

fn keep_logs(stage: &mut Stage, seed: u64) {
    let folder = folder(seed);
    let _ = std::fs::write(folder.join("redis.log"), stage.redis.log());
    for member in stage.members() {
        let _ = std::fs::write(folder.join(format!("{}.log", member.name)), member.server.log());
    }
}

fn report(setup: &Setup, rows: &BTreeMap<Fault, Row>, faults: usize, open: &[u64], heard: Heard) -> Report {
    let mut text = format!("\nseed {}\n{}", setup.seed, table::show(rows));
    let (least, middle) = (open.first().copied().unwrap_or_default(), table::rank(open, 50));
    let _ = writeln!(text, "answers open at once: {middle} in the middle, {least} at least");
    let _ = writeln!(text, "answers: {} {:?}; faults: {faults}", heard.answers, heard.statuses);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in &heard.violations {
        *kinds.entry(violation.invariant).or_default() += 1;
    }
    let _ = writeln!(text, "violations: {} {kinds:?}", heard.violations.len());
    Report { text, violations: heard.violations, answers: heard.answers }
}
