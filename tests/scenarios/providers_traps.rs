//! What upstreams send that they should not, each a case: understood, or a clear failure; never a cut answer shown as whole.

use chatnode::config::ProviderKind::{self, Anthropic, Ollama, OpenAi};
use chatnode::model::Usage;

use super::providers::RETRY;
use super::providers::{OPENAI, config, hear, model, model_of, request, upstream_config, whole};
use crate::harness::upstream::{Act, Script, Upstream, chunk, head_chunked, send, sse, status};

const TOKEN: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const STOP: &str = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";

/// What should be heard: text, reasoning, and how it ends (a finish reason, or `!` and the code of a failure).
struct Case(&'static str, ProviderKind, String, &'static str, &'static str, &'static str);

fn delta_event(delta: &str) -> String {
    format!("data: {{\"choices\":[{{\"delta\":{delta}}}]}}\n\n")
}

fn openai_cases() -> Vec<Case> {
    let delta = delta_event;
    vec![
        Case("end without a word", OpenAi, TOKEN.into(), "Hi", "", "!upstream_eof"),
        Case("done without a reason", OpenAi, format!("{TOKEN}data: [DONE]\n\n"), "Hi", "", "stop"),
        Case("a reason without done", OpenAi, format!("{TOKEN}{STOP}"), "Hi", "", "stop"),
        Case("no blank line at the end", OpenAi, format!("{TOKEN}data: [DONE]"), "Hi", "", "stop"),
        Case("nothing at all", OpenAi, String::new(), "", "", "!upstream_eof"),
        Case("done and nothing else", OpenAi, "data: [DONE]\n\n".into(), "", "", "!upstream_eof"),
        Case("an empty answer", OpenAi, STOP.into(), "", "", "stop"),
        Case("half an event", OpenAi, format!("{TOKEN}data: {{\"choices\":[{{\"delta\":{{\"con"), "Hi", "", "!upstream_eof"),
        Case(
            "error object",
            OpenAi,
            format!("{TOKEN}data: {{\"error\":{{\"message\":\"boom\"}}}}\n\n{STOP}"),
            "Hi",
            "",
            "!upstream_error",
        ),
        Case(
            "error of vLLM",
            OpenAi,
            format!("{TOKEN}data: {{\"object\":\"error\",\"message\":\"boom\",\"code\":500}}\n\n"),
            "Hi",
            "",
            "!upstream_error",
        ),
        Case("error string", OpenAi, format!("{TOKEN}data: {{\"error\":\"boom\"}}\n\n"), "Hi", "", "!upstream_error"),
        Case(
            "null error",
            OpenAi,
            format!("data: {{\"error\":null,\"choices\":[{{\"delta\":{{\"content\":\"Hi\"}}}}]}}\n\n{STOP}"),
            "Hi",
            "",
            "stop",
        ),
        Case(
            "reasoning",
            OpenAi,
            format!("{}{TOKEN}{STOP}", delta("{\"reasoning\":\"Hm\",\"content\":null}")),
            "Hi",
            "Hm",
            "stop",
        ),
        Case(
            "reasoning under both names",
            OpenAi,
            format!("{}{TOKEN}{STOP}", delta("{\"reasoning\":\"Hm\",\"reasoning_content\":\"Hm\"}")),
            "Hi",
            "Hm",
            "stop",
        ),
    ]
}

fn odd_openai_cases() -> Vec<Case> {
    let delta = delta_event;
    vec![
        Case(
            "content in parts",
            OpenAi,
            format!("{}{STOP}", delta("{\"content\":[{\"type\":\"text\",\"text\":\"Hi\"},{\"type\":\"x\"}]}")),
            "Hi",
            "",
            "stop",
        ),
        Case("refusal", OpenAi, format!("{}{STOP}", delta("{\"refusal\":\"I can't\"}")), "I can't", "", "stop"),
        Case(
            "no delta",
            OpenAi,
            format!(
                "data: {{\"choices\":[{{\"index\":0}}]}}\n\ndata: {{\"choices\":null}}\n\ndata: {{}}\n\ndata:\n\n{TOKEN}{STOP}"
            ),
            "Hi",
            "",
            "stop",
        ),
        Case(
            "wrong types",
            OpenAi,
            format!("{}{STOP}", TOKEN.replace("}]}", "}],\"usage\":\"many\",\"object\":7,\"created\":\"x\"}")),
            "Hi",
            "",
            "stop",
        ),
        Case(
            "second choice",
            OpenAi,
            format!("{TOKEN}data: {{\"choices\":[{{\"index\":1,\"delta\":{{\"content\":\"No\"}}}}]}}\n\n{STOP}"),
            "Hi",
            "",
            "stop",
        ),
        Case("not JSON", OpenAi, format!("{TOKEN}data: oops\n\n"), "Hi", "", "!upstream_error"),
        Case("byte order mark", OpenAi, format!("\u{feff}{TOKEN}{STOP}"), "Hi", "", "stop"),
        Case("length", OpenAi, format!("{TOKEN}{}", STOP.replace("stop", "length")), "Hi", "", "length"),
        Case(
            "filter with text",
            OpenAi,
            format!("{TOKEN}{}", STOP.replace("stop", "content_filter")),
            "Hi",
            "",
            "content_filter",
        ),
        Case("filter without text", OpenAi, STOP.replace("stop", "content_filter"), "", "", "!content_filter"),
        Case(
            "a whole JSON answer",
            OpenAi,
            "{\"choices\":[{\"message\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}".into(),
            "Hi",
            "",
            "stop",
        ),
        Case("a JSON error with 200", OpenAi, "\n {\"error\":{\"message\":\"boom\"}}".into(), "", "", "!upstream_error"),
        Case("a web page", OpenAi, "<!doctype html><title>Log in</title>".into(), "", "", "!upstream_error"),
        Case("text after done", OpenAi, format!("{TOKEN}data: [DONE]\n\n{TOKEN}"), "Hi", "", "stop"),
        Case("an event without end", OpenAi, format!("{TOKEN}data: {}", "x".repeat(1 << 20)), "Hi", "", "!upstream_error"),
    ]
}

fn other_cases() -> Vec<Case> {
    let text = "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n";
    let stop = |word: &str| {
        format!(
            "data: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{word}\"}}}}\n\ndata: {{\"type\":\"message_stop\"}}\n\n"
        )
    };
    let line = "{\"message\":{\"content\":\"Hi\"},\"done\":false}\n";
    vec![
        Case(
            "overloaded",
            Anthropic,
            format!(
                "{text}event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}}}\n\n"
            ),
            "Hi",
            "",
            "!upstream_error",
        ),
        Case("no stop", Anthropic, text.into(), "Hi", "", "!upstream_eof"),
        Case("max tokens", Anthropic, format!("{text}{}", stop("max_tokens")), "Hi", "", "length"),
        Case("stop sequence", Anthropic, format!("{text}{}", stop("stop_sequence")), "Hi", "", "stop"),
        Case("refusal without text", Anthropic, stop("refusal"), "", "", "!content_filter"),
        Case("refusal with text", Anthropic, format!("{text}{}", stop("refusal")), "Hi", "", "content_filter"),
        Case(
            "unknown events",
            Anthropic,
            format!("event: new\ndata: {{\"type\":\"new\",\"delta\":7}}\n\n{text}{}", stop("end_turn")),
            "Hi",
            "",
            "stop",
        ),
        Case("stop without a reason", Anthropic, format!("{text}data: {{\"type\":\"message_stop\"}}\n\n"), "Hi", "", "stop"),
        Case(
            "a whole message",
            Anthropic,
            "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}],\"stop_reason\":\"end_turn\"}".into(),
            "Hi",
            "",
            "stop",
        ),
        Case("error line", Ollama, format!("{line}{{\"error\":\"boom\"}}\n"), "Hi", "", "!upstream_error"),
        Case("not done", Ollama, line.into(), "Hi", "", "!upstream_eof"),
        Case("done without a reason", Ollama, format!("{line}{{\"done\":true}}"), "Hi", "", "stop"),
        Case("length", Ollama, format!("{line}{{\"done\":true,\"done_reason\":\"length\"}}\n"), "Hi", "", "length"),
        Case("half a line", Ollama, format!("{line}{{\"message\":{{\"conte"), "Hi", "", "!upstream_eof"),
        Case("a web page", Ollama, "<html><title>Proxy</title></html>".into(), "", "", "!upstream_error"),
    ]
}

#[tokio::test]
async fn every_trap_is_known() {
    for Case(name, kind, body, text, reasoning, end) in openai_cases().into_iter().chain(odd_openai_cases()).chain(other_cases())
    {
        let upstream = Upstream::start([sse(body)]).await;
        let heard = hear(&model(kind, &upstream), request("hi", "")).await;
        let ended = heard.finish.clone().unwrap_or_else(|| format!("!{}", heard.code()));
        assert_eq!(
            (heard.text.as_str(), heard.reasoning.as_str(), ended.as_str()),
            (text, reasoning, end),
            "{kind:?}: {name}: {heard:?}"
        );
        let message = heard.failure.map(|failure| failure.message).unwrap_or_default();
        assert!(!message.contains("127.0.0.1"), "{name}: {message}");
    }
}

#[tokio::test]
async fn a_connection_cut_within_a_character_is_no_end() {
    let cut = &TOKEN.replace("Hi", "đ🌱").into_bytes()[..TOKEN.len() - 12];
    let half = |last: Act| -> Script { vec![head_chunked("text/event-stream"), chunk(TOKEN), chunk(cut), last] };
    for script in [half(send("")), half(Act::Reset), half(send("7\r\nab"))] {
        let upstream = Upstream::start([script]).await;
        let heard = hear(&model(OpenAi, &upstream), request("hi", "")).await;
        assert_eq!((heard.text.as_str(), heard.code()), ("Hi", "upstream_eof"), "{heard:?}");
        assert_eq!(upstream.asked().len(), 1, "an answer that has begun is never asked for again");
    }
}

#[tokio::test]
async fn a_whole_answer_stays_whole_whatever_follows() {
    let whole_text = format!("{TOKEN}{STOP}");
    let after: [Vec<Act>; 3] = [vec![Act::Reset], vec![Act::Stall], vec![chunk("data: garbage")]];
    for rest in after {
        let script = [vec![head_chunked("text/event-stream"), chunk(&whole_text)], rest].concat();
        let upstream = Upstream::start([script]).await;
        let heard = hear(&model(OpenAi, &upstream), request("hi", "")).await;
        assert_eq!((heard.text.as_str(), heard.finish.as_deref()), ("Hi", Some("stop")), "{heard:?}");
    }
}

#[tokio::test]
async fn usage_that_is_not_told_is_estimated_and_says_so() {
    let upstream = Upstream::start([sse(format!("{TOKEN}{STOP}"))]).await;
    let heard = hear(&model(OpenAi, &upstream), request("What is the meaning of it all?", "")).await;
    let usage = heard.usage.unwrap();
    assert_eq!(usage, Usage { input_tokens: 9, output_tokens: 1, estimated: true });
}

#[tokio::test]
async fn errors_are_told_without_what_nobody_should_see() {
    let key = "sk-test-0123456789";
    let body = format!(
        "{{\"error\":{{\"message\":\"Incorrect API key provided: {key}. See http://user:pw@x/y {}\"}}}}",
        "z".repeat(500)
    );
    let upstream = Upstream::start([status(401, "www-authenticate: Bearer topsecret\r\n", &body)]).await;
    let mut with_credentials = upstream_config(OpenAi, &upstream);
    with_credentials.base_url = format!("http://user:hunter2@127.0.0.1:{}/v1", upstream.port);
    let heard = hear(&model_of(&config(vec![with_credentials]), RETRY), request("hi", "")).await;
    let message = heard.failure.unwrap().message;
    for secret in [key, "hunter2", "topsecret", "user:pw"] {
        assert!(!message.contains(secret), "{message}");
    }
    assert!(
        message.contains("401") && message.contains("Incorrect API key provided") && message.chars().count() < 360,
        "{message}"
    );

    let nowhere = Upstream::start([]).await;
    let mut unreachable = upstream_config(OpenAi, &nowhere);
    unreachable.base_url = "http://user:hunter2@127.0.0.1:1/v1".to_owned();
    let failure = hear(&model_of(&config(vec![unreachable]), RETRY), request("hi", "")).await.failure.unwrap();
    assert_eq!(failure.code, "upstream_error");
    assert!(!failure.message.contains("hunter2") && failure.message.contains("refused"), "{}", failure.message);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Upstream::start([sse(OPENAI)]).await;
    let location = format!("location: {}\r\n", elsewhere.base_url());
    let upstream = Upstream::start([status(307, &location, "")]).await;
    let heard = hear(&model(OpenAi, &upstream), request("hi", "")).await;
    assert_eq!(heard.code(), "upstream_error");
    assert_eq!(elsewhere.asked().len(), 0);
}

#[tokio::test]
async fn slow_heads_and_slow_bytes_are_patiently_read() {
    let mut script = Vec::new();
    let whole_answer =
        [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n".as_slice(), OPENAI.as_bytes()]
            .concat();
    for piece in whole_answer.chunks(40) {
        script.extend([send(piece), Act::Wait(std::time::Duration::from_millis(5))]);
    }
    let upstream = Upstream::start([script]).await;
    assert_eq!(hear(&model(OpenAi, &upstream), request("hi", "")).await, whole());
}
