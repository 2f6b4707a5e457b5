//! Going on from a text that an earlier owner wrote, by the best rung that the upstream takes.

use chatnode::ai::provider::demo;
use chatnode::config::ProviderKind::{Anthropic, Demo, Ollama, OpenAi};
use chatnode::config::{ContinuationConfig, ProviderKind, UpstreamConfig};
use chatnode::log::Rung;
use serde_json::json;

use super::providers::{Heard, RETRY, config, hear, model_of, request, upstream_config};
use crate::harness::upstream::{Script, Upstream, head, send, sse, status};

const SO_FAR: &str = "The quick brown fox jumps over the lazy dog and ";

fn says(text: &str) -> Script {
    let token = json!({"choices": [{"delta": {"content": text}}]});
    sse(format!("data: {token}\n\ndata: {{\"choices\":[{{\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n"))
}

fn list(owner: &str) -> Script {
    status(200, "content-type: application/json\r\n", &json!({"data": [{"id": "m-1", "owned_by": owner}]}).to_string())
}

async fn go_on(upstream: &Upstream, kind: ProviderKind, continuation: Option<ContinuationConfig>) -> Heard {
    let upstream = UpstreamConfig { continuation, ..upstream_config(kind, upstream) };
    let model = model_of(&config(vec![upstream]), RETRY);
    hear(&model, request("Tell me", SO_FAR)).await
}

/// What a reader has in the end.
fn joined(heard: &Heard) -> String {
    format!("{}{}", &SO_FAR[..heard.opened.expect("it was opened").1], heard.text)
}

#[tokio::test]
async fn a_text_is_handed_over_as_the_upstreams_own() {
    let upstream = Upstream::start([says(" runs away.")]).await;
    let heard = go_on(&upstream, OpenAi, Some(ContinuationConfig::Prefill)).await;
    assert_eq!(heard.opened, Some((Rung::Prefill, SO_FAR.trim_end().len())), "a blank at the end is not handed over");
    assert_eq!(joined(&heard), "The quick brown fox jumps over the lazy dog and runs away.");
    let body = &upstream.asked()[0].body;
    let messages = json!([{"role": "user", "content": "Tell me"}, {"role": "assistant", "content": SO_FAR.trim_end()}]);
    assert_eq!(
        (&body["messages"], &body["continue_final_message"], &body["add_generation_prompt"]),
        (&messages, &json!(true), &json!(false))
    );
    let usage = heard.usage.unwrap();
    assert!(usage.estimated && usage.output_tokens > 10, "what was there counts: {usage:?}");
}

#[tokio::test]
async fn an_echo_of_the_text_is_taken_away() {
    let echo = json!({"choices": [{"delta": {"content": SO_FAR.trim_end()}}]});
    let rest = json!({"choices": [{"delta": {"content": " rests."}, "finish_reason": "stop"}]});
    let upstream = Upstream::start([vec![head("text/event-stream"), send(format!("data: {echo}\n\ndata: {rest}\n\n"))]]).await;
    let heard = go_on(&upstream, OpenAi, Some(ContinuationConfig::Prefill)).await;
    assert_eq!(joined(&heard), "The quick brown fox jumps over the lazy dog and rests.");
}

#[tokio::test]
async fn a_refused_prefill_is_no_failure_but_a_lower_rung() {
    let refused =
        || status(400, "", "{\"error\":{\"message\":\"Assistant response prefill is incompatible with enable_thinking.\"}}");
    let upstream = Upstream::start([refused(), says("dog and swims."), says("and sings.")]).await;
    let upstream_config =
        UpstreamConfig { continuation: Some(ContinuationConfig::Prefill), ..upstream_config(OpenAi, &upstream) };
    let retry = chatnode::config::RetryConfig { tries: 1, circuit_failures: 1, ..RETRY };
    let model = model_of(&config(vec![upstream_config]), retry);
    let heard = hear(&model, request("Tell me", SO_FAR)).await;
    assert_eq!(heard.opened, Some((Rung::Continue, SO_FAR.len())));
    assert_eq!(joined(&heard), "The quick brown fox jumps over the lazy dog and swims.");
    let messages = upstream.asked()[1].body["messages"].as_array().unwrap().clone();
    assert_eq!((messages.len(), &messages[1]["content"], &messages[2]["role"]), (3, &json!(SO_FAR), &json!("user")));
    assert_eq!(upstream.asked()[1].body.get("continue_final_message"), None);

    // It is not tried again.
    let heard = hear(&model, request("Tell me", SO_FAR)).await;
    assert_eq!((heard.opened.unwrap().0, upstream.asked().len()), (Rung::Continue, 3));
    assert_eq!(joined(&heard), "The quick brown fox jumps over the lazy dog and sings.");
}

#[tokio::test]
async fn the_last_rung_is_from_the_beginning() {
    let refused = || status(400, "", "no");
    let upstream = Upstream::start([refused(), refused(), says("Anew.")]).await;
    let heard = go_on(&upstream, OpenAi, Some(ContinuationConfig::Prefill)).await;
    assert_eq!((heard.opened, joined(&heard).as_str()), (Some((Rung::Restart, 0)), "Anew."));
    assert_eq!(upstream.asked()[2].body["messages"], json!([{"role": "user", "content": "Tell me"}]));

    let upstream = Upstream::start([refused()]).await;
    let heard = go_on(&upstream, OpenAi, Some(ContinuationConfig::Prefill)).await;
    assert_eq!((heard.code(), upstream.asked().len()), ("upstream_error", 3));
}

#[tokio::test]
async fn without_a_word_in_the_configuration_the_server_is_asked_what_it_is() {
    for (owner, rung) in [("llamacpp", Rung::Prefill), ("vllm", Rung::Prefill), ("openai", Rung::Continue)] {
        let upstream = Upstream::start([list(owner), says(" rests.")]).await;
        let heard = go_on(&upstream, OpenAi, None).await;
        assert_eq!(heard.opened.unwrap().0, rung, "{owner}");
        assert_eq!(upstream.asked()[0].line, "GET /v1/models");
    }
    let upstream = Upstream::start([status(404, "", ""), says("rests.")]).await;
    assert_eq!(go_on(&upstream, OpenAi, None).await.opened.unwrap().0, Rung::Continue);
}

#[tokio::test]
async fn anthropic_and_ollama_are_handed_the_text() {
    let event = json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": " rests."}});
    let upstream = Upstream::start([sse(format!("data: {event}\n\ndata: {{\"type\":\"message_stop\"}}\n\n"))]).await;
    let heard = go_on(&upstream, Anthropic, None).await;
    assert_eq!(
        (heard.opened.unwrap().0, joined(&heard).as_str()),
        (Rung::Prefill, "The quick brown fox jumps over the lazy dog and rests.")
    );

    let upstream = Upstream::start([sse("{\"message\":{\"content\":\" rests.\"},\"done\":true}\n")]).await;
    let heard = go_on(&upstream, Ollama, None).await;
    assert_eq!(
        (heard.opened.unwrap().0, joined(&heard).as_str()),
        (Rung::Prefill, "The quick brown fox jumps over the lazy dog and rests.")
    );
    assert_eq!(upstream.asked()[0].body["messages"][1]["role"], "assistant");
}

#[tokio::test]
async fn the_demonstration_goes_on_at_the_exact_byte_or_anew() {
    let upstream =
        UpstreamConfig { provider: Demo, base_url: String::new(), api_key: None, model: "demo".to_owned(), continuation: None };
    let model = model_of(&config(vec![upstream]), RETRY);
    let prompt = "/demo tokens=300 rate=0";
    let mut asked = request(prompt, "");
    let whole = demo::text(&asked.generation, prompt);
    let cut = whole.char_indices().nth(whole.chars().count() / 2).unwrap().0;
    asked.so_far = whole[..cut].to_owned();
    let heard = hear(&model, asked.clone()).await;
    assert_eq!((heard.opened, format!("{}{}", &whole[..cut], heard.text)), (Some((Rung::Prefill, cut)), whole.clone()));
    asked.so_far = "Somebody else said this".to_owned();
    let heard = hear(&model, asked).await;
    assert_eq!((heard.opened, heard.text), (Some((Rung::Restart, 0)), whole));
}
