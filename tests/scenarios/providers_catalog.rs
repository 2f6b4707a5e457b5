//! Which models a node offers: what is configured, else what is found, else the demonstration.

use std::time::Duration;

use chatnode::ai::provider::catalog::Catalog;
use chatnode::config::{AiConfig, Command, Discovery, ModelSource, ProviderKind};
use chatnode::drain::Drain;
use chatnode::telemetry::Metrics;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::providers::{config, upstream_config};
use crate::harness::upstream::{Act, Script, Upstream, status};

fn ai(models: ModelSource) -> AiConfig {
    let Ok(Command::Run(config)) = chatnode::config::load(["chatnode"], []) else { panic!("the default is a configuration") };
    AiConfig { models, ..config.ai }
}

fn ids(catalog: &Catalog) -> Vec<String> {
    catalog.current().iter().map(|model| model.info.id.clone()).collect()
}

fn list(ids: &[&str]) -> Script {
    let data: Vec<_> = ids.iter().map(|id| json!({"id": id})).collect();
    status(200, "content-type: application/json\r\n", &json!({"data": data}).to_string())
}

fn discovered(base_url: &str) -> AiConfig {
    ai(ModelSource::Discovered(Discovery { openai_base_url: Some(base_url.to_owned()), ..Discovery::default() }))
}

async fn until(catalog: &Catalog, expected: &[&str]) {
    let mut changes = catalog.clone();
    let waiting = async {
        while ids(catalog) != expected {
            changes.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap_or_else(|_| panic!("{:?}, not {expected:?}", ids(catalog)));
}

#[tokio::test]
async fn configured_models_are_there_at_once_and_the_first_is_the_default() {
    let upstream = Upstream::start([]).await;
    let mut one = config(vec![upstream_config(ProviderKind::OpenAi, &upstream)]);
    let two = one.clone();
    one.id = "first".to_owned();
    let catalog = Catalog::start(&ai(ModelSource::Configured(vec![one, two])), &Metrics::new(), &Drain::new());
    assert_eq!(ids(&catalog), ["first", "m"]);
    let defaults: Vec<bool> = catalog.current().iter().map(|model| model.info.default).collect();
    assert_eq!(defaults, [true, false]);
    assert!(catalog.find("m").is_some() && catalog.find("x").is_none());
    assert_eq!(upstream.asked().len(), 0);
}

#[tokio::test]
async fn all_models_of_a_server_are_offered_and_no_demonstration() {
    let upstream = Upstream::start([list(&["text-embedding-3", "chat-a", "chat-b"])]).await;
    let drain = Drain::new();
    let catalog = Catalog::start(&discovered(&upstream.base_url()), &Metrics::new(), &drain);
    catalog.settled().await;
    assert_eq!(ids(&catalog), ["chat-a", "chat-b", "text-embedding-3"], "one that answers questions is the default");
    assert!(catalog.current().iter().all(|model| !model.info.demo && model.info.provider == "openai"));
    assert!(catalog.current()[0].info.default);
    assert_eq!(drain.stop(Duration::from_secs(5)).await, [""; 0]);
}

#[tokio::test]
async fn a_server_that_starts_later_shows_up() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let drain = Drain::new();
    let catalog = Catalog::start(&discovered(&format!("http://127.0.0.1:{port}/v1")), &Metrics::new(), &drain);
    catalog.settled().await;
    assert_eq!(ids(&catalog), [""; 0], "a server was named: the demonstration would hide that it is away");
    let _upstream = Upstream::start_at(port, [list(&["late"])]).await;
    until(&catalog, &["late"]).await;
    drain.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_server_that_says_nothing_holds_nobody_up() {
    let upstream = Upstream::start([vec![Act::Stall]]).await;
    let drain = Drain::new();
    let started = Instant::now();
    let catalog = Catalog::start(&discovered(&upstream.base_url()), &Metrics::new(), &drain);
    assert!(started.elapsed() < Duration::from_millis(100));
    catalog.settled().await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(drain.stop(Duration::from_secs(5)).await, [""; 0]);
}

#[tokio::test]
async fn without_anything_the_demonstration_is_offered() {
    // An Ollama on this machine is a real model, and then this says nothing.
    if tokio::net::TcpStream::connect("127.0.0.1:11434").await.is_ok() {
        return;
    }
    let drain = Drain::new();
    let started = Instant::now();
    let catalog = Catalog::start(&ai(ModelSource::Discovered(Discovery::default())), &Metrics::new(), &drain);
    catalog.settled().await;
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(ids(&catalog), ["demo"]);
    let demo = catalog.find("demo").unwrap();
    assert!(demo.info.demo && demo.info.default && demo.info.provider == "demo");
    drain.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_ollama_that_is_named_offers_what_it_has() {
    let tags = json!({"models": [{"name": "llama3:latest", "model": "llama3:latest"}, {"name": "qwen:4b"}]});
    let upstream = Upstream::start([status(200, "", &tags.to_string())]).await;
    let discovery = Discovery { ollama_host: Some(format!("http://127.0.0.1:{}", upstream.port)), ..Discovery::default() };
    let drain = Drain::new();
    let catalog = Catalog::start(&ai(ModelSource::Discovered(discovery)), &Metrics::new(), &drain);
    catalog.settled().await;
    assert_eq!(ids(&catalog), ["llama3:latest", "qwen:4b"]);
    assert_eq!(upstream.asked()[0].line, "GET /api/tags");
    drain.stop(Duration::from_secs(5)).await;
}
