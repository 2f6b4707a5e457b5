//! What upstreams say when they refuse: statuses and error bodies of every make, turned into a fault. Pure.

use std::time::Duration;

use serde_json::Value;

use super::reply::{Fault, Then, code};

/// Characters of an upstream's own message that people are shown.
const MESSAGE_CHARS_MAX: usize = 300;

/// An answer with a status that isn't a success. `secrets` are blotted out wherever they are repeated.
#[must_use]
pub(super) fn of_status(status: u16, retry_after: Option<Duration>, body: &str, secrets: &[&str]) -> Fault {
    let said = Said::in_body(body);
    let message = match &said.message {
        Some(message) => format!("the model's server answered {status}: {}", clean(message, secrets)),
        None => format!("the model's server answered {status}"),
    };
    let retry = Then::Retry { after: retry_after };
    if let (400..=499, Some(fault)) = (status, said.known(&message)) {
        return fault;
    }
    match status {
        _ if said.is_about_the_account() => Fault::new(code::UPSTREAM_ERROR, Then::Next, message),
        400 | 422 => Fault::new(code::UPSTREAM_ERROR, Then::Lower, message),
        413 => Fault::new(code::TOO_LONG, Then::Stop, message),
        300..=399 => Fault::new(code::UPSTREAM_ERROR, Then::Next, format!("{message} (redirects are not followed)")),
        401..=404 | 407 | 410 => Fault::new(code::UPSTREAM_ERROR, Then::Next, message),
        408 | 409 | 425 | 429 | 500..=599 => Fault::new(code::UPSTREAM_ERROR, retry, message),
        _ => Fault::new(code::UPSTREAM_ERROR, Then::Stop, message),
    }
}

/// An error object inside a stream that began as a success.
#[must_use]
pub(super) fn in_stream(error: &Value, secrets: &[&str]) -> Fault {
    let said = Said::in_object(error);
    let message = match &said.message {
        Some(message) => format!("the model's server reported an error: {}", clean(message, secrets)),
        None => "the model's server reported an error".to_owned(),
    };
    if let Some(fault) = said.known(&message) {
        return fault;
    }
    let then = match said.status {
        _ if said.is_about_the_account() => Then::Next,
        Some(400 | 422) => Then::Lower,
        Some(401..=404) => Then::Next,
        _ if said.is(&["invalid_request_error", "invalid_request", "badrequesterror"]) => Then::Lower,
        _ => Then::Retry { after: None },
    };
    Fault::new(code::UPSTREAM_ERROR, then, message)
}

/// A success whose body is no stream of answers.
#[must_use]
pub(super) fn not_a_stream(body: &str, secrets: &[&str]) -> Fault {
    let message = match html_title(body) {
        Some(title) => format!("the model's server answered with a web page, not with a stream: {}", clean(&title, secrets)),
        None => "the model's server answered with something that is not a stream".to_owned(),
    };
    Fault::new(code::UPSTREAM_ERROR, Then::Retry { after: None }, message)
}

/// What an error object says, whoever wrote it.
#[derive(Default)]
struct Said {
    message: Option<String>,
    /// `type` and `code`, in lower case.
    words: Vec<String>,
    status: Option<u64>,
}

impl Said {
    fn in_body(body: &str) -> Self {
        let trimmed = body.trim();
        match serde_json::from_str::<Value>(trimmed) {
            Ok(Value::Array(items)) => items.first().map(Self::in_object).unwrap_or_default(),
            Ok(value) => Self::in_object(&value),
            Err(_) if trimmed.starts_with('<') => Self { message: html_title(trimmed), ..Self::default() },
            Err(_) => Self { message: (!trimmed.is_empty()).then(|| trimmed.to_owned()), ..Self::default() },
        }
    }

    fn in_object(value: &Value) -> Self {
        let inner = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let message = text(inner)
            .or_else(|| ["message", "detail", "error", "msg"].iter().find_map(|key| inner.get(key).and_then(text)))
            .or_else(|| inner.get("detail").and_then(|detail| detail.get(0)).and_then(|first| first.get("msg")).and_then(text));
        let words =
            ["type", "code", "status"].iter().filter_map(|key| inner.get(key)?.as_str()).map(str::to_ascii_lowercase).collect();
        let status = ["code", "status"].iter().find_map(|key| inner.get(key)?.as_u64());
        Self { message, words, status }
    }

    fn is(&self, words: &[&str]) -> bool {
        self.words.iter().any(|word| words.contains(&word.as_str()))
    }

    /// The key, its rights or its credit, whatever status that comes with: this upstream refuses every question, another one may not.
    fn is_about_the_account(&self) -> bool {
        let text = self.message.as_deref().unwrap_or_default().to_ascii_lowercase();
        self.is(&[
            "authentication_error",
            "permission_error",
            "not_found_error",
            "insufficient_quota",
            "billing_error",
            "billing_hard_limit_reached",
            "invalid_api_key",
        ]) || ["credit balance", "api key not valid", "api key expired"].iter().any(|part| text.contains(part))
    }

    /// Faults of the question that every make tells in words of its own.
    fn known(&self, message: &str) -> Option<Fault> {
        let text = self.message.as_deref().unwrap_or_default().to_ascii_lowercase();
        let too_long = [
            "context length",
            "context_length",
            "context size",
            "context window",
            "prompt is too long",
            "maximum context",
            "too many tokens",
        ];
        if self.is(&["context_length_exceeded", "exceed_context_size_error", "request_too_large"])
            || too_long.iter().any(|part| text.contains(part))
        {
            return Some(Fault::new(code::TOO_LONG, Then::Stop, message));
        }
        if self.is(&["content_filter", "content_policy_violation", "responsibleaipolicyviolation"]) {
            return Some(Fault::new(code::CONTENT_FILTER, Then::Stop, message));
        }
        None
    }
}

/// Fit for people: one line, cut, and without anything that looks like a key or like credentials in an address.
fn clean(message: &str, secrets: &[&str]) -> String {
    let mut text = message.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        text = text.replace(secret, "***");
    }
    let mut bearer = false;
    let words: Vec<String> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .map(|word| {
            let hidden = std::mem::replace(&mut bearer, word.eq_ignore_ascii_case("bearer"));
            if hidden { "***".to_owned() } else { blot(word) }
        })
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn blot(word: &str) -> String {
    if let Some(at) = word.find("://") {
        let (scheme, rest) = word.split_at(at + 3);
        let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let end = rest.find('?').unwrap_or(rest.len());
        let query = if end < rest.len() { "?***" } else { "" };
        return match rest[..authority].rfind('@') {
            Some(user) => format!("{scheme}***{}{query}", &rest[user..end]),
            None => format!("{scheme}{}{query}", &rest[..end]),
        };
    }
    let keys = ["sk-", "sk_", "key-", "AIza", "gsk_", "hf_", "xai-"];
    match keys.iter().filter_map(|key| word.find(key)).min() {
        Some(at) if word.len() - at >= 12 => format!("{}***", &word[..at]),
        _ => word.to_owned(),
    }
}

fn html_title(body: &str) -> Option<String> {
    let lower = body.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower[start..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    let title = body[start..end].trim();
    (!title.is_empty()).then(|| title.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(status: u16, body: &str) -> Fault {
        of_status(status, None, body, &[])
    }

    #[test]
    fn every_make_of_error_body_is_read() {
        for body in [
            r#"{"error":{"message":"no room","type":"server_error"}}"#,
            r#"{"error":"no room"}"#,
            r#"{"type":"error","error":{"type":"api_error","message":"no room"}}"#,
            r#"{"object":"error","message":"no room","code":500}"#,
            r#"{"detail":"no room"}"#,
            r#"{"detail":[{"loc":["body"],"msg":"no room"}]}"#,
            r#"[{"error":{"message":"no room","status":"INTERNAL"}}]"#,
            "<html><head><TITLE>\nno room</TITLE></head><body>secret</body></html>",
            " no  room\n",
        ] {
            let fault = fault(500, body);
            assert_eq!(fault.message, "the model's server answered 500: no room", "{body}");
            assert_eq!(fault.then, Then::Retry { after: None });
        }
        for body in ["", "{}", "[]", "null", "<html></html>", "<title>", "{\"error\":null}"] {
            assert_eq!(fault(502, body).message, "the model's server answered 502", "{body}");
        }
    }

    #[test]
    fn what_may_help_depends_on_whose_fault_it_is() {
        assert_eq!(fault(400, "no").then, Then::Lower);
        assert_eq!(fault(418, "no").then, Then::Stop);
        for status in [302, 401, 403, 404] {
            assert_eq!(fault(status, "no").then, Then::Next, "{status}");
        }
        let after = Some(Duration::from_secs(3));
        assert_eq!(of_status(429, after, "slow down", &[]).then, Then::Retry { after });
        assert_eq!(fault(429, r#"{"error":{"code":"insufficient_quota"}}"#).then, Then::Next);
        let poor = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#;
        assert_eq!(fault(400, poor).then, Then::Next);
        let wrong =
            r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}"#;
        assert_eq!(fault(400, wrong).then, Then::Next);
        assert_eq!(fault(529, "overloaded").then, Then::Retry { after: None });
    }

    #[test]
    fn a_question_too_long_and_a_filter_have_codes_of_their_own() {
        for body in [
            r#"{"error":{"code":"context_length_exceeded","message":"x"}}"#,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"}}"#,
        ] {
            assert_eq!((fault(400, body).code, fault(400, body).then), ("too_long", Then::Stop), "{body}");
        }
        assert_eq!(fault(413, "").code, "too_long");
        assert_eq!(fault(400, r#"{"error":{"code":"content_filter","message":"x"}}"#).code, "content_filter");
    }

    #[test]
    fn nothing_secret_comes_through_and_little_of_the_rest() {
        let body = "Incorrect API key provided: sk-proj-abcdef**wxyz, Bearer abc123 at https://user:pass@host/x?a=b my-own-key";
        let message = of_status(401, None, body, &["my-own-key"]).message;
        let expected =
            "the model's server answered 401: Incorrect API key provided: *** Bearer *** at https://***@host/x?*** ***";
        assert_eq!(message, expected);
        let long = fault(500, &"đ ".repeat(1_000)).message;
        assert_eq!(long.chars().count(), "the model's server answered 500: ".chars().count() + 301);
    }

    #[test]
    fn errors_within_a_stream() {
        let value = serde_json::json!({"error": {"type": "overloaded_error", "message": "Overloaded"}});
        let fault = in_stream(&value, &[]);
        assert_eq!(
            (fault.then, fault.message.as_str()),
            (Then::Retry { after: None }, "the model's server reported an error: Overloaded")
        );
        assert_eq!(in_stream(&serde_json::json!({"code": 401, "message": "x"}), &[]).then, Then::Next);
        assert_eq!(in_stream(&serde_json::json!({"type": "invalid_request_error"}), &[]).then, Then::Lower);
        assert_eq!(in_stream(&serde_json::json!("plain"), &[]).message, "the model's server reported an error: plain");
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_read(body in ".*", status in 100_u16..600) {
            let fault = fault(status, &body);
            proptest::prop_assert!(fault.message.chars().count() < 420);
        }
    }
}
