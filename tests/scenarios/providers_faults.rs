//! Deadlines, retries, fallback and the circuit breaker, over real HTTP.

use std::time::Duration;

use chatnode::ai::provider::Step;
use chatnode::config::ProviderKind::OpenAi;
use chatnode::config::{Deadlines, ModelConfig, RetryConfig};
use futures_util::StreamExt;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::providers::{DEADLINES, Heard, OPENAI, RETRY, config, hear, model, model_of, request, upstream_config, whole};
use crate::harness::upstream::{Act, Script, Upstream, head, send, sse, status};

const TOKEN: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
const SHORT: Duration = Duration::from_millis(150);

fn ms(ms: u64) -> Act {
    Act::Wait(Duration::from_millis(ms))
}

async fn hear_within(script: Script, deadlines: Deadlines) -> (Heard, Duration, usize) {
    let upstream = Upstream::start([script]).await;
    let config = ModelConfig { deadlines, ..config(vec![upstream_config(OpenAi, &upstream)]) };
    let started = Instant::now();
    let heard = hear(&model_of(&config, RETRY), request("hi", "")).await;
    (heard, started.elapsed(), upstream.asked().len())
}

#[tokio::test]
async fn a_server_that_never_finishes_connecting_is_a_connect_timeout() {
    // It accepts, but says nothing when a TLS handshake is wanted.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = Upstream::start([]).await;
    let mut upstream = upstream_config(OpenAi, &nowhere);
    upstream.base_url = format!("https://127.0.0.1:{}/v1", silent.local_addr().unwrap().port());
    let config = ModelConfig { deadlines: Deadlines { connect: SHORT, ..DEADLINES }, ..config(vec![upstream]) };
    let retry = RetryConfig { tries: 1, ..RETRY };
    let heard = hear(&model_of(&config, retry), request("hi", "")).await;
    assert_eq!(heard.code(), "connect_timeout", "{heard:?}");
}

#[tokio::test]
async fn silence_before_the_first_token_is_a_first_token_timeout() {
    let deadlines = Deadlines { first_token: SHORT, ..DEADLINES };
    let pings = || (0..100).flat_map(|_| [send(": ping\n\n"), ms(20)]);
    let before_head = vec![Act::Stall];
    let slow_head = vec![send("HTTP/1.1 200 OK\r\ncontent-"), Act::Stall];
    let only_pings = [head("text/event-stream")].into_iter().chain(pings()).collect();
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let only_the_role = vec![head("text/event-stream"), send(role), Act::Stall];
    for script in [before_head, slow_head, only_pings, only_the_role] {
        let (heard, took, asked) = hear_within(script, deadlines).await;
        assert_eq!((heard.code(), heard.opened, asked), ("first_token_timeout", None, 1));
        assert!((SHORT..Duration::from_secs(2)).contains(&took), "{took:?}");
    }
}

#[tokio::test]
async fn silence_between_tokens_is_an_idle_timeout_and_pings_are_silence() {
    // Two pauses that are longer together than the deadline is, each far below it.
    let deadlines = Deadlines { idle: Duration::from_millis(800), ..DEADLINES };
    let tokens = || [head("text/event-stream"), send(TOKEN), ms(450), send(TOKEN), ms(450), send(TOKEN)].into_iter();
    let silent = tokens().chain([Act::Stall]).collect();
    let pinging = tokens().chain((0..300).flat_map(|_| [send(": ping\n\n"), ms(20)])).collect();
    for script in [silent, pinging] {
        let (heard, took, asked) = hear_within(script, deadlines).await;
        assert_eq!((heard.text.as_str(), heard.code(), asked), ("aaa", "idle_timeout", 1));
        assert!((Duration::from_millis(1_700)..Duration::from_secs(4)).contains(&took), "{took:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_a_total_timeout() {
    let deadlines = Deadlines { total: Duration::from_millis(300), first_token: SHORT, idle: SHORT, connect: SHORT };
    let endless = [head("text/event-stream")].into_iter().chain((0..1_000).flat_map(|_| [send(TOKEN), ms(20)])).collect();
    let (heard, took, asked) = hear_within(endless, deadlines).await;
    assert_eq!((heard.code(), asked), ("total_timeout", 1));
    assert!(heard.text.len() > 3 && took < Duration::from_secs(1), "{took:?}");

    // Retries don't lengthen it.
    let upstream = Upstream::start([status(503, "retry-after: 1\r\n", "busy")]).await;
    let config = ModelConfig { deadlines, ..config(vec![upstream_config(OpenAi, &upstream)]) };
    let heard = hear(&model_of(&config, RETRY), request("hi", "")).await;
    assert_eq!((heard.code(), upstream.asked().len()), ("upstream_error", 1));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_before_the_first_token() {
    let reset = vec![Act::Reset];
    let closed = vec![];
    let empty = sse("");
    let error_in_stream = sse("data: {\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n");
    for first in [status(503, "", "busy"), status(429, "", "slow down"), reset, closed, empty, error_in_stream] {
        let upstream = Upstream::start([first.clone(), first.clone(), sse(OPENAI)]).await;
        let heard = hear(&model(OpenAi, &upstream), request("hi", "")).await;
        assert_eq!((heard, upstream.asked().len()), (whole(), 3), "{first:?}");
    }
    let upstream = Upstream::start([status(500, "", "broken")]).await;
    let heard = hear(&model(OpenAi, &upstream), request("hi", "")).await;
    let message = "the model's server answered 500: broken";
    assert_eq!((heard.failure.unwrap().message.as_str(), upstream.asked().len()), (message, RETRY.tries as usize));
}

#[tokio::test]
async fn an_upstream_says_when_to_come_back() {
    let upstream = Upstream::start([status(429, "retry-after: 0.3\r\n", "slow down"), sse(OPENAI)]).await;
    let started = Instant::now();
    assert_eq!(hear(&model(OpenAi, &upstream), request("hi", "")).await, whole());
    assert!(started.elapsed() >= Duration::from_millis(300));

    // Nobody waits for so long.
    let upstream = Upstream::start([status(429, "retry-after: 600\r\n", "slow down")]).await;
    let heard = hear(&model(OpenAi, &upstream), request("hi", "")).await;
    assert_eq!((heard.code(), upstream.asked().len()), ("upstream_error", 1));
}

#[tokio::test]
async fn the_questions_own_fault_is_told_at_once() {
    for (code, body, expected) in [
        (400, "{\"error\":{\"message\":\"bad temperature\"}}", "upstream_error"),
        (422, "{}", "upstream_error"),
        (413, "", "too_long"),
        (400, "{\"error\":{\"code\":\"context_length_exceeded\",\"message\":\"too long\"}}", "too_long"),
        (400, "{\"error\":{\"code\":\"content_filter\",\"message\":\"no\"}}", "content_filter"),
    ] {
        let (first, second) = (Upstream::start([status(code, "", body)]).await, Upstream::start([sse(OPENAI)]).await);
        let config = config(vec![upstream_config(OpenAi, &first), upstream_config(OpenAi, &second)]);
        let heard = hear(&model_of(&config, RETRY), request("hi", "")).await;
        assert_eq!((heard.code(), first.asked().len(), second.asked().len()), (expected, 1, 0), "{code} {body}");
    }
}

#[tokio::test]
async fn the_next_upstream_is_asked_before_the_first_token_only() {
    for (first, times) in [(status(401, "", "who?"), 1), (status(404, "", "no such model"), 1), (status(500, "", "broken"), 3)] {
        let (one, two) = (Upstream::start([first]).await, Upstream::start([sse(OPENAI)]).await);
        let config = config(vec![upstream_config(OpenAi, &one), upstream_config(OpenAi, &two)]);
        assert_eq!(hear(&model_of(&config, RETRY), request("hi", "")).await, whole());
        assert_eq!((one.asked().len(), two.asked().len()), (times, 1));
    }
    let begun = vec![head("text/event-stream"), send(TOKEN)];
    let (one, two) = (Upstream::start([begun]).await, Upstream::start([sse(OPENAI)]).await);
    let config = config(vec![upstream_config(OpenAi, &one), upstream_config(OpenAi, &two)]);
    let heard = hear(&model_of(&config, RETRY), request("hi", "")).await;
    assert_eq!((heard.text.as_str(), heard.code(), one.asked().len(), two.asked().len()), ("a", "upstream_eof", 1, 0));
}

#[tokio::test]
async fn an_upstream_that_only_fails_is_left_alone_then_tried_once() {
    let upstream = Upstream::start([status(500, "", "broken"), status(500, "", "broken"), sse(OPENAI)]).await;
    let config = config(vec![upstream_config(OpenAi, &upstream)]);
    let retry = RetryConfig { tries: 5, circuit_failures: 2, circuit_open: Duration::from_millis(300), ..RETRY };
    let model = model_of(&config, retry);
    let heard = hear(&model, request("hi", "")).await;
    assert_eq!((heard.code(), upstream.asked().len()), ("upstream_error", 2), "{heard:?}");
    let heard = hear(&model, request("hi", "")).await;
    assert_eq!((heard.code(), upstream.asked().len()), ("upstream_error", 2), "{heard:?}");
    tokio::time::sleep(Duration::from_millis(320)).await;
    assert_eq!(hear(&model, request("hi", "")).await, whole());
    assert_eq!(hear(&model, request("hi", "")).await, whole());
}

#[tokio::test]
async fn a_slow_reader_is_no_idle_upstream() {
    let script =
        [head("text/event-stream")].into_iter().chain((0..50).map(|_| send(TOKEN))).chain([send("data: [DONE]\n\n")]).collect();
    let upstream = Upstream::start([script]).await;
    let deadlines = Deadlines { idle: SHORT, ..DEADLINES };
    let config = ModelConfig { deadlines, ..config(vec![upstream_config(OpenAi, &upstream)]) };
    let mut steps = model_of(&config, RETRY).answer(request("hi", ""));
    assert!(matches!(steps.next().await, Some(Ok(Step::Opened { .. }))));
    tokio::time::sleep(SHORT * 2).await;
    let rest: Vec<_> = steps.collect().await;
    assert_eq!(rest.last(), Some(&Ok(Step::Finish("stop".to_owned()))));
}
