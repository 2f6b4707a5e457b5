//! From the bytes of a body to the pieces of an answer, for every kind of upstream. Pure.
//!
//! Whether an answer ended well is decided here alone: the end of a body without a word that says so is a fault.

use std::collections::VecDeque;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ndjson::Lines;
use super::reply::{Fault, Piece, Then, code, finish_reason};
use super::sse::{EVENT_BYTES_MAX, Sse, TooBig};
use super::{anthropic, ollama, openai, refusal};
use crate::model::Usage;
use crate::tokens::Weight;

/// Whose words are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenAi,
    Anthropic,
    Ollama,
}

/// What a reader made of the bytes so far, in order; a fault is the last.
pub(super) type Out = VecDeque<Result<Piece, Fault>>;

/// No model reads or writes so many tokens; a figure above it is a mistake of the upstream, and would use up any budget.
const TOKENS_MAX: u64 = 1_000_000_000;

/// Words for the end of an answer that is not whole: what engines say of requests that they threw out.
const GIVEN_UP: [&str; 5] = ["abort", "aborted", "error", "cancelled", "canceled"];

/// Reads one body.
#[derive(Debug)]
pub(super) struct Reader {
    dialect: Dialect,
    secrets: Vec<String>,
    frames: Frames,
    said: Said,
    over: bool,
}

#[derive(Debug)]
enum Frames {
    /// Nothing but blanks has come.
    Unknown,
    Sse(Sse),
    Lines(Lines),
    /// One JSON value, or a web page: what a server sends that knows no streams, or a proxy before it.
    Whole(Vec<u8>),
}

impl Reader {
    /// `input_tokens` is our own estimate, for upstreams that tell nothing.
    #[must_use]
    pub(super) fn new(dialect: Dialect, input_tokens: u64, secrets: Vec<String>) -> Self {
        let said = Said { estimated_input: input_tokens, ..Said::default() };
        Self { dialect, secrets, frames: Frames::Unknown, said, over: false }
    }

    /// True when nothing more can come: the upstream said so, or there was a fault.
    #[must_use]
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// True when the answer is whole and only figures about it can follow.
    #[must_use]
    pub(super) fn is_whole(&self) -> bool {
        self.said.finish.is_some()
    }

    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Out) {
        if self.over {
            return;
        }
        if let Err(fault) = self.take(bytes) {
            self.flush(out);
            self.fail(fault, out);
        } else {
            self.flush(out);
            if self.said.closed {
                self.close(out);
            }
        }
    }

    /// The body ended, or nothing more is worth waiting for.
    pub(super) fn end(&mut self, out: &mut Out) {
        if self.over {
            return;
        }
        match self.take_rest() {
            Ok(()) => {
                self.flush(out);
                self.close(out);
            }
            Err(fault) => {
                self.flush(out);
                self.fail(fault, out);
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if matches!(self.frames, Frames::Unknown) {
            let Some(first) = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) else { return Ok(()) };
            self.frames = match (first, self.dialect) {
                (b'<' | b'[', _) => Frames::Whole(Vec::new()),
                (_, Dialect::Ollama) => Frames::Lines(Lines::default()),
                (b'{', _) => Frames::Whole(Vec::new()),
                _ => Frames::Sse(Sse::default()),
            };
        }
        let mut data = Vec::new();
        let fed = match &mut self.frames {
            Frames::Unknown => Ok(()),
            Frames::Lines(lines) => lines.feed(bytes, &mut data),
            Frames::Sse(sse) => {
                let mut events = Vec::new();
                let fed = sse.feed(bytes, &mut events);
                data.extend(events.into_iter().map(|event| event.data));
                fed
            }
            Frames::Whole(whole) if whole.len() + bytes.len() > EVENT_BYTES_MAX => Err(TooBig),
            Frames::Whole(whole) => {
                whole.extend_from_slice(bytes);
                Ok(())
            }
        };
        for event in data {
            self.decode(&event)?;
            if self.said.closed {
                return Ok(());
            }
        }
        fed.map_err(|error| Fault::passing(error.to_string()))
    }

    fn take_rest(&mut self) -> Result<(), Fault> {
        match &mut self.frames {
            Frames::Unknown => Ok(()),
            Frames::Whole(whole) => {
                let body = String::from_utf8_lossy(&std::mem::take(whole)).into_owned();
                if serde_json::from_str::<Value>(&body).is_err() {
                    let secrets: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
                    return Err(refusal::not_a_stream(&body, &secrets));
                }
                self.decode(&body)
            }
            Frames::Lines(lines) => lines.end().map_or(Ok(()), |line| self.decode_last(&line)),
            Frames::Sse(sse) => sse.end().map_or(Ok(()), |event| self.decode_last(&event.data)),
        }
    }

    /// What was cut off by the end of the body is no reason to call it garbled.
    fn decode_last(&mut self, data: &str) -> Result<(), Fault> {
        if data.starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(data).is_err() {
            Ok(())
        } else {
            self.decode(data)
        }
    }

    fn decode(&mut self, data: &str) -> Result<(), Fault> {
        let decode = match self.dialect {
            Dialect::OpenAi => openai::decode,
            Dialect::Anthropic => anthropic::decode,
            Dialect::Ollama => ollama::decode,
        };
        let mut heard = decode(data, &mut self.said);
        if matches!(heard, Err(Heard::Garbled))
            && let Some(mended) = without_lone_surrogates(data)
        {
            heard = decode(&mended, &mut self.said);
        }
        if matches!(heard, Err(Heard::Garbled)) && self.is_whole() {
            // The answer is there: what is garbled now is at most a figure about it.
            return Ok(());
        }
        heard.map_err(|heard| match heard {
            Heard::Error(error) => {
                let secrets: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
                refusal::in_stream(&error, &secrets)
            }
            Heard::Garbled => Fault::passing("the model's server sent an event that can't be understood"),
        })
    }

    fn flush(&mut self, out: &mut Out) {
        out.extend(self.said.pieces.drain(..).map(Ok));
    }

    fn fail(&mut self, fault: Fault, out: &mut Out) {
        self.over = true;
        out.push_back(Err(fault));
    }

    fn close(&mut self, out: &mut Out) {
        let said = &self.said;
        let something = said.text || said.reasoning;
        let word = match &said.finish {
            Some(word) => word.clone(),
            None if said.closed && something => "stop".to_owned(),
            None => return self.fail(Fault::eof(), out),
        };
        if GIVEN_UP.iter().any(|given_up| word.eq_ignore_ascii_case(given_up)) {
            return self.fail(Fault::passing("the model's server gave the answer up"), out);
        }
        if word == "content_filter" && !said.text {
            let message = "the model's server held the answer back (content filter)";
            return self.fail(Fault::new(code::CONTENT_FILTER, Then::Stop, message), out);
        }
        self.over = true;
        out.push_back(Ok(Piece::Usage(self.said.usage())));
        out.push_back(Ok(Piece::Finish(word)));
    }
}

/// What can't be taken as a part of an answer.
#[derive(Debug)]
pub(super) enum Heard {
    Error(Value),
    Garbled,
}

/// What one upstream has said; the decoders of the dialects write it.
#[derive(Debug, Default)]
pub(super) struct Said {
    pieces: Vec<Piece>,
    weight: Weight,
    text: bool,
    reasoning: bool,
    input: Option<u64>,
    output: Option<u64>,
    estimated_input: u64,
    finish: Option<String>,
    closed: bool,
}

impl Said {
    pub(super) fn text(&mut self, text: String) {
        if !text.is_empty() {
            self.weight.add(&text);
            self.text = true;
            self.pieces.push(Piece::Text(text));
        }
    }

    pub(super) fn reasoning(&mut self, text: String) {
        if !text.is_empty() {
            self.weight.add(&text);
            self.reasoning = true;
            self.pieces.push(Piece::Reasoning(text));
        }
    }

    /// The latest figure counts; none changes nothing.
    pub(super) fn usage_so_far(&mut self, input: Option<u64>, output: Option<u64>) {
        self.input = input.or(self.input);
        self.output = output.or(self.output);
    }

    /// Some servers send an empty word in every event.
    pub(super) fn finish(&mut self, word: &str) {
        if !word.is_empty() {
            self.finish = Some(finish_reason(word));
        }
    }

    /// The upstream said that nothing more comes.
    pub(super) fn closed(&mut self) {
        self.closed = true;
    }

    fn usage(&self) -> Usage {
        Usage {
            input_tokens: self.input.unwrap_or(self.estimated_input).min(TOKENS_MAX),
            output_tokens: self.output.unwrap_or_else(|| self.weight.tokens()).min(TOKENS_MAX),
            estimated: self.input.is_none() || self.output.is_none(),
        }
    }
}

/// A field of any make: what doesn't fit is as good as absent.
pub(super) fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: DeserializeOwned,
{
    let value = Value::deserialize(deserializer)?;
    Ok(if value.is_null() { None } else { serde_json::from_value(value).ok() })
}

/// Text as a string, or as a list of parts with a `text` each.
pub(super) fn text_of(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => String::new(),
    }
}

/// JSON that was cut inside a character beyond the basic plane, as servers in JavaScript do: half of a surrogate pair is no character,
/// and becomes U+FFFD. `None` when there is nothing of the kind.
fn without_lone_surrogates(data: &str) -> Option<String> {
    let unit = |at: usize| u16::from_str_radix(data.get(at..at + 6)?.strip_prefix("\\u")?, 16).ok();
    let (mut mended, mut rest, mut at) = (String::new(), 0, 0);
    while let Some(found) = data.get(at..)?.find('\\') {
        at += found;
        let halves = (unit(at), unit(at + 6));
        at += match halves {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended.push_str(&data[rest..at]);
                mended.push_str("\\ufffd");
                rest = at + 6;
                6
            }
            // A backslash and what it escapes.
            _ => 1 + data[at + 1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    mended.push_str(&data[rest..]);
    (rest > 0).then_some(mended)
}

/// For [`crate::fuzz`].
#[cfg(any(test, fuzzing))]
pub(crate) fn ends_once(bytes: &[u8]) {
    for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Ollama] {
        for piece in [1, 7, usize::MAX] {
            let mut reader = Reader::new(dialect, 10, vec!["ch".to_owned()]);
            let mut out = Out::new();
            bytes.chunks(piece.min(bytes.len().max(1))).for_each(|chunk| reader.feed(chunk, &mut out));
            reader.end(&mut out);
            assert!(reader.is_over());
            let is_end = |piece: &Result<Piece, Fault>| matches!(piece, Err(_) | Ok(Piece::Finish(_)));
            assert!(out.back().is_some_and(is_end), "{out:?}");
            assert_eq!(out.iter().filter(|piece| is_end(piece)).count(), 1, "{out:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dialect: Dialect, body: &str) -> Out {
        let (mut reader, mut out) = (Reader::new(dialect, 10, Vec::new()), Out::new());
        reader.feed(body.as_bytes(), &mut out);
        reader.end(&mut out);
        out
    }

    #[test]
    fn an_answer_that_the_engine_threw_out_is_not_whole() {
        for word in ["abort", "error", "Cancelled"] {
            let body = format!(
                "data: {{\"choices\":[{{\"delta\":{{\"content\":\"half\"}},\"finish_reason\":\"{word}\"}}]}}\n\ndata: [DONE]\n\n"
            );
            let fault = read(Dialect::OpenAi, &body).pop_back().expect("an end").expect_err(word);
            assert_eq!(fault.code, code::UPSTREAM_ERROR, "{word}");
        }
    }

    #[test]
    fn figures_beyond_reason_are_no_figures() {
        let huge = u64::MAX;
        let body = format!(
            "{{\"type\":\"message\",\"content\":[{{\"type\":\"text\",\"text\":\"a\"}}],\"stop_reason\":\"end_turn\",\
             \"usage\":{{\"input_tokens\":{huge},\"cache_read_input_tokens\":{huge},\"output_tokens\":{huge}}}}}"
        );
        let out = read(Dialect::Anthropic, &body);
        let usage = Usage { input_tokens: TOKENS_MAX, output_tokens: TOKENS_MAX, estimated: false };
        assert!(out.contains(&Ok(Piece::Usage(usage))), "{out:?}");
    }

    #[test]
    fn a_character_that_was_cut_in_two_spoils_no_answer() {
        let body = concat!(
            r#"data: {"choices":[{"delta":{"content":"a \\ud83d \ud83d\ude00 \ud83d"}}]}"#,
            "\n\n",
            r#"data: {"choices":[{"delta":{"content":"\ude00 ễ"},"finish_reason":"stop"}]}"#,
            "\n\ndata: [DONE]\n\n"
        );
        let said: String = read(Dialect::OpenAi, body)
            .iter()
            .filter_map(|piece| match piece {
                Ok(Piece::Text(text)) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert_eq!(said, "a \\ud83d \u{1F600} \u{FFFD}\u{FFFD} ễ");
    }
}
