//! Every operation of `/api/openapi.json`, asked as it says and in every way beside it: nothing breaks the node, and every answer is
//! one that the document names. A short round with every `cargo test`; `scripts/fuzz` goes on for minutes.

use std::collections::BTreeMap;
use std::time::Duration;

use chatnode::backend::Backends;
use chatnode::config::{AskerLimits, Config};
use chatnode::protocol::ServerFrame;
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use reqwest::{Client, Method, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::harness::client::PATIENCE;
use crate::harness::node::{self, Node, world};
use crate::harness::people::{self, PASSWORD};
use crate::harness::requests::{Case, Pool, cases};
use crate::harness::rest::{Rest, unled_client};
use crate::harness::schema::{Document, Operation};

/// How long each round goes on, in seconds.
const SECONDS: &str = "CHATNODE_FUZZ_SECONDS";
/// A number that makes the same requests again, but for the ids in them.
const SEED: &str = "CHATNODE_FUZZ_SEED";
const REQUESTS: u32 = 1_500;
/// Of the short round, which should fail for what was changed, and not by chance.
const USUAL_SEED: u64 = 1;
/// An event stream is read so far; it may go on for as long as its answer.
const STREAM_BYTES: usize = 64 * 1024;
const STREAM_TIME: Duration = Duration::from_millis(300);
/// Tries to make what was found smaller.
const SMALLER: u32 = 150;

/// Which status may stand with which code, by docs/protocol.md. What means "come back later" has no place here: nothing is drained,
/// away or full.
const REFUSALS: [(u16, &str); 10] = [
    (400, "bad_frame"),
    (401, "unauthorized"),
    (403, "unauthorized"),
    (404, "not_found"),
    (405, "bad_frame"),
    (409, "conflict"),
    (413, "too_large"),
    (422, "model_not_found"),
    (429, "rate_limited"),
    (429, "quota_exceeded"),
];

struct Fuzz {
    document: Document,
    operations: Vec<Operation>,
    rest: Rest,
    client: Client,
    pool: Pool,
    runner: TestRunner,
    /// How often each status was answered.
    answers: BTreeMap<String, BTreeMap<u16, u32>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_breaks_a_node_where_nobody_logs_in() {
    let world = world();
    let node = Node::with(unlimited(node::config("a")), &world).await;
    let mut fuzz = Fuzz::new(Rest::open(node.address).await).await;
    fuzz.run().await;
    let closed = ["/api/keys", "/api/keys/{id}", "/api/login/oidc", "/api/login/oidc/callback", "/api/logout"];
    fuzz.all_were_met(&closed, &["POST /api/login"]);
    still_serves(&fuzz.rest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_breaks_a_node_where_people_log_in() {
    let world: Backends = world();
    let node = Node::with(unlimited(people::config("a")), &world).await;
    people::add(&world, "mai", false).await;
    let mut fuzz = Fuzz::new(Rest::log_in(node.address, "mai", PASSWORD).await).await;
    fuzz.run().await;
    fuzz.all_were_met(&["/api/cluster", "/api/login/oidc", "/api/login/oidc/callback"], &["POST /api/logout"]);
    still_serves(&fuzz.rest).await;
}

/// Small bodies are too large here, and nobody asks too much.
fn unlimited(mut config: Config) -> Config {
    let none = AskerLimits { requests_per_minute: None, connections: None, running: None };
    (config.gateway.limits.user, config.gateway.limits.address) = (none, none);
    config.gateway.prompt_bytes_max = 2_000;
    config.gateway.import_bytes_max = 40_000;
    config
}

async fn still_serves(rest: &Rest) {
    assert_eq!(rest.got("/health").await["status"], "ok");
    let mut socket = rest.tab().connect(rest.address).await;
    let (_, answer) = socket.ask(json!({"content": "still there? /demo tokens=20 rate=0"})).await;
    let finished = socket.finished(answer.generation.as_ref().expect("a generation")).await;
    assert_eq!(finished.length, finished.message.content.len() as u64);
    assert!(finished.error.is_none() && finished.length > 0, "{finished:?}");
}

impl Fuzz {
    async fn new(rest: Rest) -> Self {
        let document = Document::new(rest.got("/api/openapi.json").await);
        let mut pool = Pool::default();
        pool.know(
            "content",
            &["hello", "/demo tokens=20 rate=0", "/demo tokens=60 rate=20", "Đà Nẵng /demo tokens=5 rate=0 reason=3"],
        );
        pool.know("model", &["demo"]);
        pool.know("format", &["chatnode.v1"]);
        pool.know("name", &["mai"]);
        pool.know("password", &[PASSWORD]);
        pool.know("idempotency-key", &["one", "two", "3"]);
        pool.know("position", &["0-0", "1-3", "18446744073709551615-18446744073709551615"]);
        let seed = number(SEED).unwrap_or_else(|| number(SECONDS).map_or(USUAL_SEED, |_| rand::random()));
        println!("{SEED}={seed}");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let runner = TestRunner::new_with_rng(proptest::test_runner::Config::default(), rng);
        let operations = document.operations();
        Self { document, operations, rest, client: unled_client(), pool, runner, answers: BTreeMap::new() }
    }

    async fn run(&mut self) {
        let until = Instant::now() + Duration::from_secs(number(SECONDS).unwrap_or(0));
        let which = proptest::sample::select(weighted(&self.operations));
        let mut asked = 0;
        while asked < REQUESTS || Instant::now() < until {
            let operation = drawn(&which.clone().boxed(), &mut self.runner).current();
            let strategy = cases(&self.document, &operation, &self.pool);
            let mut tree = drawn(&strategy, &mut self.runner);
            if let Err(problem) = self.ask(&operation, &tree.current()).await {
                let (case, problem) = self.smallest(&operation, &mut *tree, problem).await;
                panic!("{}: {problem}\n{case:?}", operation.name());
            }
            asked += 1;
        }
        println!("{asked} requests");
        for (operation, statuses) in &self.answers {
            println!("{operation}: {statuses:?}");
        }
    }

    /// What was found, smaller if it comes again.
    async fn smallest(&mut self, operation: &Operation, tree: &mut dyn ValueTree<Value = Case>, found: String) -> (Case, String) {
        let mut smallest = (tree.current(), found);
        let mut more = tree.simplify();
        for _ in 0..SMALLER {
            if !more {
                break;
            }
            let case = tree.current();
            more = match self.ask(operation, &case).await {
                Err(problem) => {
                    smallest = (case, problem);
                    tree.simplify()
                }
                Ok(()) => tree.complicate(),
            };
        }
        smallest
    }

    async fn ask(&mut self, operation: &Operation, case: &Case) -> Result<(), String> {
        let mut request = self.client.request(case.method.clone(), format!("http://{}{}", self.rest.address, case.target));
        for (name, value) in &case.headers {
            request = request.header(name, value.as_slice());
        }
        // Who has logged out can't go on.
        if case.known && operation.path != "/api/logout" {
            request = request.header(header::COOKIE, &self.rest.cookie);
        }
        if let Some(body) = &case.body {
            request = request.body(body.clone());
        }
        let response = timeout(PATIENCE, request.send()).await.map_err(|_| "no answer in time")?;
        let response = response.map_err(|error| format!("no answer: {error:?}"))?;
        let status = response.status();
        // With another method it was another operation, or none.
        if case.method == operation.method {
            *self.answers.entry(operation.name()).or_default().entry(status.as_u16()).or_default() += 1;
        }
        let met = self.judge(operation, case, response).await.map_err(|problem| format!("{status}, {problem}"))?;
        if let Some((schema, body)) = met {
            self.pool.learn(schema.as_deref(), &body);
        }
        Ok(())
    }

    /// What is wrong with an answer; else what it says, and the name of its schema.
    async fn judge(
        &self,
        operation: &Operation,
        case: &Case,
        response: Response,
    ) -> Result<Option<(Option<String>, Value)>, String> {
        let status = response.status();
        if status.is_server_error() {
            return Err(response.text().await.unwrap_or_default());
        }
        let meant = self.operations.iter().find(|other| other.path == operation.path && other.method == case.method);
        let exact = meant.and_then(|meant| meant.responses.get(status.as_str()));
        let documented = match exact {
            Some(documented) => documented,
            None if status.is_client_error() => &operation.responses["default"],
            None => return Err("which is not in the document".to_owned()),
        };
        let kind = response.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().expect("a type").to_owned());
        let kind = kind.as_deref().and_then(|kind| kind.split(';').next()).unwrap_or_default();
        let Some(content) = documented["content"].as_object() else {
            let body = response.bytes().await.map_err(|error| error.to_string())?;
            return if body.is_empty() { Ok(None) } else { Err("a body that is not in the document".to_owned()) };
        };
        let Some(schema) = content.get(kind).map(|content| &content["schema"]) else {
            return Err(format!("a body of the type {kind:?}, not {:?}", content.keys()));
        };
        if kind == "text/event-stream" {
            return Ok(Some((None, events(response).await?)));
        }
        let body = timeout(PATIENCE, response.bytes()).await.map_err(|_| "no end in time")?.map_err(|error| error.to_string())?;
        if kind != "application/json" {
            return std::str::from_utf8(&body).map(|_| None).map_err(|error| error.to_string());
        }
        let value = serde_json::from_slice(&body).map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&body)))?;
        if let Some(misfit) = self.document.misfit(schema, &value) {
            return Err(format!("{misfit}: {value}"));
        }
        if status.is_client_error() {
            refusal(operation, status, &value)?;
        }
        Ok(Some((schema["$ref"].as_str().map(str::to_owned), value)))
    }

    /// That the requests were not all nonsense: but for these, every operation did once what it is for.
    fn all_were_met(&self, paths: &[&str], names: &[&str]) {
        for operation in &self.operations {
            let answers = self.answers.get(&operation.name()).expect("it was asked");
            let good = answers.keys().any(|status| (200..300).contains(status));
            let expected = !paths.contains(&operation.path.as_str()) && !names.contains(&operation.name().as_str());
            assert_eq!(good, expected, "{}: {answers:?}", operation.name());
        }
    }
}

/// What removes comes less often than what makes.
fn weighted(operations: &[Operation]) -> Vec<Operation> {
    let times = |operation: &Operation| if operation.method == Method::DELETE { 1 } else { 4 };
    operations.iter().flat_map(|operation| vec![operation.clone(); times(operation)]).collect()
}

fn drawn<T: std::fmt::Debug + 'static>(strategy: &BoxedStrategy<T>, runner: &mut TestRunner) -> Box<dyn ValueTree<Value = T>> {
    strategy.new_tree(runner).expect("a value")
}

fn refusal(operation: &Operation, status: StatusCode, body: &Value) -> Result<(), String> {
    let code = body["error"]["code"].as_str().unwrap_or_default();
    if !REFUSALS.contains(&(status.as_u16(), code)) {
        return Err(format!("which does not go with {code}"));
    }
    // Only passwords are counted here.
    if status == StatusCode::TOO_MANY_REQUESTS && operation.path != "/api/login" {
        return Err("though nothing is limited".to_owned());
    }
    Ok(())
}

/// The first events of a stream, each a frame of the protocol.
async fn events(mut response: Response) -> Result<Value, String> {
    let until = Instant::now() + STREAM_TIME;
    let mut read = Vec::new();
    while read.len() < STREAM_BYTES {
        match tokio::time::timeout_at(until, response.chunk()).await {
            Ok(Ok(Some(chunk))) => read.extend_from_slice(&chunk),
            Ok(Err(error)) => return Err(format!("a stream that breaks: {error}")),
            Ok(Ok(None)) | Err(_) => break,
        }
    }
    // The last one may be cut.
    let whole = read.windows(2).rposition(|end| end == b"\n\n").map_or(&[][..], |end| &read[..end]);
    let text = std::str::from_utf8(whole).map_err(|error| error.to_string())?;
    let mut frames = Vec::new();
    for data in text.lines().filter_map(|line| line.strip_prefix("data:")) {
        serde_json::from_str::<ServerFrame>(data).map_err(|error| format!("{error}: {data}"))?;
        frames.push(serde_json::from_str(data).expect("it was JSON before"));
    }
    Ok(Value::Array(frames))
}

#[expect(clippy::disallowed_methods, reason = "scripts/fuzz tells a test how long to go on")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().expect("a number"))
}
