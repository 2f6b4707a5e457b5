//! Ollama's own chat interface. Pure: bodies to send, lines to understand.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ask::Ask;
use super::reader::{Heard, Said, lenient, text_of};

/// Where it listens unless told otherwise.
pub(super) const HOME: &str = "http://127.0.0.1:11434";

/// The body of a request.
#[must_use]
pub(super) fn body(model: &str, ask: &Ask) -> Value {
    let mut messages = Vec::with_capacity(ask.messages.len() + 1);
    messages.extend(ask.system.as_deref().map(|system| json!({"role": "system", "content": system})));
    messages.extend(ask.messages.iter().map(|message| json!({"role": message.role, "content": message.content})));
    let mut options = Map::new();
    if let Some(temperature) = ask.temperature {
        options.insert("temperature".to_owned(), json!(temperature));
    }
    if let Some(max) = ask.max_tokens {
        options.insert("num_predict".to_owned(), json!(max));
    }
    if let Some(context) = ask.context_tokens {
        // Without it, Ollama silently forgets what its small default window can't hold.
        options.insert("num_ctx".to_owned(), json!(context));
    }
    let mut body = json!({"model": model, "messages": messages, "stream": true});
    if !options.is_empty() {
        body["options"] = Value::Object(options);
    }
    body
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(deserialize_with = "lenient")]
    message: Option<Message>,
    #[serde(deserialize_with = "lenient")]
    done: Option<bool>,
    #[serde(deserialize_with = "lenient")]
    done_reason: Option<String>,
    #[serde(deserialize_with = "lenient")]
    prompt_eval_count: Option<u64>,
    #[serde(deserialize_with = "lenient")]
    eval_count: Option<u64>,
    error: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    content: Option<Value>,
    thinking: Option<Value>,
}

/// Takes one line.
pub(super) fn decode(data: &str, said: &mut Said) -> Result<(), Heard> {
    let line: Line = serde_json::from_str(data).map_err(|_| Heard::Garbled)?;
    if let Some(error) = line.error.filter(|error| !error.is_null()) {
        return Err(Heard::Error(error));
    }
    let message = line.message.unwrap_or_default();
    said.reasoning(text_of(message.thinking));
    said.text(text_of(message.content));
    if line.done == Some(true) {
        said.usage_so_far(line.prompt_eval_count, line.eval_count);
        said.finish(line.done_reason.as_deref().filter(|word| !word.is_empty()).unwrap_or("stop"));
        said.closed();
    }
    Ok(())
}
