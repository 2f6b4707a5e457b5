//! Models over real HTTP: what an answer is made of, for each kind of upstream, and how the client leaves.

use std::time::Duration;

use chatnode::ai::provider::http::Http;
use chatnode::ai::provider::{Model, Request, Step, Turn};
use chatnode::config::{Deadlines, ModelConfig, ProviderKind, RetryConfig, Secret, UpstreamConfig};
use chatnode::log::Rung;
use chatnode::model::{ConversationId, Failure, GenerationId, Options, Role, Usage};
use chatnode::telemetry::Metrics;
use futures_util::StreamExt;
use tokio::time::Instant;

use crate::harness::upstream::{Act, Upstream, chunk, head, head_chunked, send, sse};

pub(super) const DEADLINES: Deadlines = Deadlines {
    connect: Duration::from_secs(5),
    first_token: Duration::from_secs(5),
    idle: Duration::from_secs(5),
    total: Duration::from_secs(20),
};

pub(super) const RETRY: RetryConfig =
    RetryConfig { tries: 3, backoff: Duration::from_millis(10), circuit_failures: 100, circuit_open: Duration::from_secs(30) };

pub(super) fn upstream_config(kind: ProviderKind, upstream: &Upstream) -> UpstreamConfig {
    let base_url = match kind {
        ProviderKind::Ollama => format!("http://127.0.0.1:{}", upstream.port),
        _ => upstream.base_url(),
    };
    UpstreamConfig {
        provider: kind,
        base_url,
        api_key: Some(Secret::new("sk-test-0123456789")),
        model: "m-1".to_owned(),
        continuation: None,
    }
}

pub(super) fn config(upstreams: Vec<UpstreamConfig>) -> ModelConfig {
    ModelConfig {
        id: "m".to_owned(),
        name: "M".to_owned(),
        context_tokens: None,
        max_tokens: None,
        max_tokens_cap: None,
        admin_only: false,
        deadlines: DEADLINES,
        upstreams,
    }
}

pub(super) fn model_of(config: &ModelConfig, retry: RetryConfig) -> Model {
    Model::new(config, retry, &Http::default(), &Metrics::new())
}

pub(super) fn model(kind: ProviderKind, upstream: &Upstream) -> Model {
    model_of(&config(vec![upstream_config(kind, upstream)]), RETRY)
}

pub(super) fn request(question: &str, so_far: &str) -> Request {
    Request {
        generation: GenerationId::generate(&ConversationId::generate()),
        options: Options::default(),
        turns: vec![Turn { role: Role::User, content: question.to_owned() }],
        so_far: so_far.to_owned(),
        trace: chatnode::telemetry::traces::Parent::default(),
    }
}

/// All of an answer, with its texts put together.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Heard {
    pub opened: Option<(Rung, usize)>,
    pub reasoning: String,
    pub text: String,
    pub usage: Option<Usage>,
    pub finish: Option<String>,
    pub failure: Option<Failure>,
}

impl Heard {
    /// The code of the failure.
    pub(super) fn code(&self) -> &str {
        self.failure.as_ref().map_or("none", |failure| &failure.code)
    }
}

/// Listens to the end, and holds the answer to the order that it promises.
pub(super) async fn hear(model: &Model, request: Request) -> Heard {
    let mut heard = Heard::default();
    let mut steps = model.answer(request);
    while let Some(step) = steps.next().await {
        assert!(heard.finish.is_none() && heard.failure.is_none(), "nothing follows the end: {step:?} after {heard:?}");
        match step {
            Ok(Step::Opened { rung, keep }) => assert_eq!(heard.opened.replace((rung, keep)), None),
            Ok(_) if heard.opened.is_none() => panic!("{step:?} before the opening"),
            Ok(Step::Reasoning(text)) => heard.reasoning += &text,
            Ok(Step::Text(text)) => heard.text += &text,
            Ok(Step::Usage(usage)) => assert_eq!(heard.usage.replace(usage), None),
            Ok(Step::Finish(word)) => heard.finish = Some(word),
            Err(failure) => heard.failure = Some(failure),
        }
    }
    assert!(heard.finish.is_some() || heard.failure.is_some(), "an answer ends with a word: {heard:?}");
    heard
}

pub(super) const OPENAI: &str = concat!(
    ": OPENROUTER PROCESSING\r\n\r\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null},\"finish_reason\":null}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"Nghĩ 🤔\"},\"finish_reason\":\"\"}],\"usage\":null}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Xin chào\"}}],\"usage\":{}}\r\n\r\n",
    ": ping\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" 🌱 đẹp\"}}]}\r\r",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n",
);

pub(super) const ANTHROPIC: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":4,\"cache_read_input_tokens\":3,\"output_tokens\":1}}}\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"Nghĩ 🤔\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"x\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"Xin chào\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\" 🌱 đẹp\"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

pub(super) const OLLAMA: &str = concat!(
    "{\"message\":{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"Nghĩ 🤔\"},\"done\":false}\n",
    "{\"message\":{\"role\":\"assistant\",\"content\":\"Xin chào\"},\"done\":false}\n\n",
    "{\"message\":{\"role\":\"assistant\",\"content\":\" 🌱 đẹp\"},\"done\":false}\r\n",
    "{\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":7,\"eval_count\":5}\n",
);

pub(super) fn whole() -> Heard {
    Heard {
        opened: Some((Rung::Start, 0)),
        reasoning: "Nghĩ 🤔".to_owned(),
        text: "Xin chào 🌱 đẹp".to_owned(),
        usage: Some(Usage { input_tokens: 7, output_tokens: 5, estimated: false }),
        finish: Some("stop".to_owned()),
        failure: None,
    }
}

const KINDS: [(ProviderKind, &str, &str); 3] = [
    (ProviderKind::OpenAi, "text/event-stream", OPENAI),
    (ProviderKind::Anthropic, "text/event-stream; charset=utf-8", ANTHROPIC),
    (ProviderKind::Ollama, "application/x-ndjson", OLLAMA),
];

#[tokio::test]
async fn every_kind_gives_the_same_answer() {
    for (kind, content_type, body) in KINDS {
        let upstream = Upstream::start([vec![head(content_type), send(body)]]).await;
        assert_eq!(hear(&model(kind, &upstream), request("hi", "")).await, whole(), "{kind:?}");
    }
}

#[tokio::test]
async fn a_hundred_ways_to_cut_the_bytes_change_nothing() {
    for (kind, content_type, body) in KINDS {
        let cuts = (0..34).map(|round: usize| {
            let mut script = vec![head_chunked(content_type)];
            let (mut at, mut step) = (0, round);
            while at < body.len() {
                // Sizes between one byte and a few lines, different in each round.
                step = (step * 7 + round * 13 + 5) % 61;
                let end = (at + 1 + if round == 0 { 0 } else { step }).min(body.len());
                script.push(chunk(&body.as_bytes()[at..end]));
                at = end;
            }
            script.push(chunk(""));
            script
        });
        let upstream = Upstream::start(cuts).await;
        let model = model(kind, &upstream);
        for round in 0..34 {
            assert_eq!(hear(&model, request("hi", "")).await, whole(), "{kind:?}, round {round}");
        }
    }
}

#[tokio::test]
async fn what_is_asked_is_what_the_kind_understands() {
    let mut question = request("How?", "");
    question.options = Options { system: Some("Be brief".to_owned()), temperature: Some(1.5), max_tokens: Some(50) };
    let earlier = [(Role::User, "Hi"), (Role::Assistant, "Hello")].map(|(role, text)| Turn { role, content: text.to_owned() });
    question.turns.splice(0..0, earlier);
    let turns = serde_json::json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "How?"}]);
    let mut with_system = turns.clone();
    with_system.as_array_mut().unwrap().insert(0, serde_json::json!({"role": "system", "content": "Be brief"}));
    for (kind, content_type, body) in KINDS {
        let upstream = Upstream::start([vec![head(content_type), send(body)]]).await;
        hear(&model(kind, &upstream), question.clone()).await;
        let asked = upstream.asked().remove(0);
        let (line, expected, header) = match kind {
            ProviderKind::Anthropic => {
                let body = serde_json::json!({"model": "m-1", "stream": true, "system": "Be brief", "messages": turns, "temperature": 1.0, "max_tokens": 50});
                ("POST /v1/messages", body, "x-api-key: sk-test-0123456789")
            }
            ProviderKind::Ollama => {
                let options = serde_json::json!({"temperature": 1.5, "num_predict": 50});
                let body = serde_json::json!({"model": "m-1", "stream": true, "messages": with_system, "options": options});
                ("POST /api/chat", body, "authorization: bearer sk-test-0123456789")
            }
            _ => {
                let body = serde_json::json!({"model": "m-1", "stream": true, "stream_options": {"include_usage": true}, "messages": with_system, "temperature": 1.5, "max_tokens": 50});
                ("POST /v1/chat/completions", body, "authorization: bearer sk-test-0123456789")
            }
        };
        assert_eq!((asked.line.as_str(), &asked.body), (line, &expected), "{kind:?}");
        assert!(asked.headers.iter().any(|line| line == header), "{header} is missing in {:?}", asked.headers);
    }
}

#[tokio::test]
async fn a_history_is_cut_to_the_window() {
    let upstream = Upstream::start([sse(OPENAI)]).await;
    let mut config = config(vec![upstream_config(ProviderKind::OpenAi, &upstream)]);
    config.context_tokens = Some(400);
    let mut long = request("last", "");
    let turn = |role| Turn { role, content: "word ".repeat(100) };
    long.turns.splice(0..0, [turn(Role::User), turn(Role::Assistant), turn(Role::User), turn(Role::Assistant)]);
    hear(&model_of(&config, RETRY), long).await;
    let messages = upstream.asked().remove(0).body["messages"].as_array().unwrap().clone();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0]["content"], "last");
}

#[tokio::test]
async fn leaving_closes_the_upstream_at_once_in_every_phase() {
    let token = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let before_head = vec![Act::Stall];
    let before_token = vec![head("text/event-stream"), send(": ping\n\n"), Act::Stall];
    let streaming = vec![head("text/event-stream"), send(token), Act::Stall];
    for (phase, script) in [before_head, before_token, streaming].into_iter().enumerate() {
        let upstream = Upstream::start([script]).await;
        let mut steps = model(ProviderKind::OpenAi, &upstream).answer(request("hi", ""));
        if phase == 2 {
            steps.next().await.unwrap().unwrap();
            assert_eq!(steps.next().await.unwrap().unwrap(), Step::Text("a".to_owned()));
        } else {
            tokio::select! {
                step = steps.next() => panic!("{step:?}"),
                _ = upstream.asked_times(1) => {}
            }
        }
        let left = Instant::now();
        drop(steps);
        let noticed = upstream.left(0).await - left;
        assert!(noticed < Duration::from_millis(100), "phase {phase}: {noticed:?}");
    }
}
