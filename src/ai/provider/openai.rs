//! OpenAI's chat completions, as the many servers speak them that call themselves compatible. Pure: bodies to send,
//! events to understand.

use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::Ask;
use super::reader::{Heard, Said, lenient, text_of};

/// Where the answers are asked for. An address without a path gets the usual one.
#[must_use]
pub(super) fn url(base: &str, path: &str) -> String {
    let bare = base.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'));
    if bare { format!("{base}/v1/{path}") } else { format!("{base}/{path}") }
}

/// The body of a request.
#[must_use]
pub(super) fn body(base: &str, model: &str, ask: &Ask) -> Value {
    let mut messages = Vec::with_capacity(ask.messages.len() + 1);
    messages.extend(ask.system.as_deref().map(|system| json!({"role": "system", "content": system})));
    messages.extend(ask.messages.iter().map(|message| json!({"role": message.role, "content": message.content})));
    let mut body = json!({
        "model": model,
        "messages": messages,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    if let Some(temperature) = ask.temperature {
        body["temperature"] = json!(temperature);
    }
    if let Some(max) = ask.max_tokens {
        // OpenAI's own newer models refuse the old name; most others know no new one.
        let name = if base.contains("://api.openai.com") { "max_completion_tokens" } else { "max_tokens" };
        body[name] = json!(max);
    }
    if ask.prefill {
        // vLLM, SGLang and llama.cpp: go on in the last message. Who doesn't know it refuses, or may repeat the text.
        body["continue_final_message"] = json!(true);
        body["add_generation_prompt"] = json!(false);
    }
    body
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Chunk {
    #[serde(deserialize_with = "lenient")]
    choices: Option<Vec<Choice>>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<Tokens>,
    error: Option<Value>,
    #[serde(deserialize_with = "lenient")]
    object: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Choice {
    #[serde(deserialize_with = "lenient")]
    index: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    delta: Option<Delta>,
    /// Of a server that doesn't stream.
    #[serde(deserialize_with = "lenient")]
    message: Option<Delta>,
    #[serde(deserialize_with = "lenient")]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delta {
    content: Option<Value>,
    reasoning: Option<Value>,
    reasoning_content: Option<Value>,
    /// Why it won't answer, in words meant for the user.
    refusal: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tokens {
    #[serde(deserialize_with = "lenient")]
    prompt_tokens: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    completion_tokens: Option<u64>,
}

/// Takes the data of one event.
pub(super) fn decode(data: &str, said: &mut Said) -> Result<(), Heard> {
    let data = data.trim();
    if data == "[DONE]" {
        said.closed();
        return Ok(());
    }
    if data.is_empty() {
        return Ok(());
    }
    let mut chunk: Chunk = serde_json::from_str(data).map_err(|_| Heard::Garbled)?;
    if let Some(error) = chunk.error.take().filter(|error| !error.is_null()) {
        return Err(Heard::Error(error));
    }
    if chunk.object.as_deref() == Some("error") {
        return Err(Heard::Error(serde_json::from_str(data).unwrap_or_default()));
    }
    if let Some(usage) = chunk.usage {
        said.usage_so_far(usage.prompt_tokens, usage.completion_tokens);
    }
    // We ask for one answer; a server that sends more would mix them.
    for choice in chunk.choices.unwrap_or_default().into_iter().filter(|choice| choice.index.unwrap_or(0) == 0) {
        let delta = choice.delta.or(choice.message).unwrap_or_default();
        // Some servers send the same words under both names.
        let thought = text_of(delta.reasoning_content);
        said.reasoning(if thought.is_empty() { text_of(delta.reasoning) } else { thought });
        said.text(text_of(delta.content));
        said.text(text_of(delta.refusal));
        said.finish(choice.finish_reason.as_deref().unwrap_or_default());
    }
    Ok(())
}
