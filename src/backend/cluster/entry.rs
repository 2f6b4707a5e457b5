//! How an entry of a log looks in Redis: two raw fields, the same for every kind, so that a stream stores their names once.
//! It must not know who writes or reads.
//!
//! The field `1` holds `offset * 4 + kind`; its name is the version of the entry. The field `t` holds a delta's text, or the rest of
//! an `own` or `fin` as JSON: those are two per answer, deltas are thousands.

use serde::{Deserialize, Serialize};

use crate::backend::{Error, Result};
use crate::log::{Channel, Delta, ENTRY_VERSION, Entry, Own, Rung};
use crate::model::Position;

const TEXT: u64 = 0;
const REASONING: u64 = 1;
const OWN: u64 = 2;
const FIN: u64 = 3;

const _: () = assert!(ENTRY_VERSION == 1, "the name of the head field is the version: give the new layout its own name");
/// The name of the field that holds an entry's head. Scripts write it too.
const HEAD: &str = "1";
const BODY: &str = "t";

#[derive(Serialize, Deserialize)]
struct OwnRest {
    w: String,
    m: Rung,
    b: Position,
    r: u64,
    a: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    f: Option<u64>,
}

/// Head and body of an entry.
pub(super) fn encode(entry: &Entry) -> (u64, String) {
    match entry {
        Entry::Delta(delta) => {
            let kind = if delta.channel == Channel::Text { TEXT } else { REASONING };
            (delta.offset << 2 | kind, delta.text.clone())
        }
        Entry::Own(own) => {
            let Own { worker, rung, base, reasoning_offset, attempt, first_token_ms, .. } = own.clone();
            let rest = OwnRest { w: worker, m: rung, b: base, r: reasoning_offset, a: attempt, f: first_token_ms };
            (own.offset << 2 | OWN, serde_json::to_string(&rest).expect("plain fields become JSON"))
        }
        Entry::Fin(outcome) => (outcome.length << 2 | FIN, serde_json::to_string(outcome).expect("plain fields become JSON")),
    }
}

/// Reads an entry as a stream gives it: names and values in turn.
pub(super) fn decode(position: Position, fields: &[String]) -> Result<Entry> {
    let corrupt = |what: &str| Error::Corrupt(format!("log entry {position} {what}"));
    let [head_name, head, body_name, body] = fields else {
        return Err(corrupt("is not of a version that this node knows"));
    };
    if head_name != HEAD || body_name != BODY {
        return Err(corrupt("is not of a version that this node knows"));
    }
    let head: u64 = head.parse().map_err(|_| corrupt("has no readable head"))?;
    let offset = head >> 2;
    Ok(match head & 3 {
        TEXT => Entry::Delta(Delta { channel: Channel::Text, offset, text: body.clone() }),
        REASONING => Entry::Delta(Delta { channel: Channel::Reasoning, offset, text: body.clone() }),
        OWN => {
            let rest: OwnRest = serde_json::from_str(body).map_err(|_| corrupt("has no readable owner"))?;
            let OwnRest { w: worker, m: rung, b: base, r: reasoning_offset, a: attempt, f: first_token_ms } = rest;
            Entry::Own(Own { worker, rung, base, offset, reasoning_offset, attempt, first_token_ms })
        }
        _ => Entry::Fin(serde_json::from_str(body).map_err(|_| corrupt("has no readable outcome"))?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Outcome;
    use crate::model::Status;

    fn stored(entry: &Entry) -> Vec<String> {
        let (head, body) = encode(entry);
        vec![HEAD.to_owned(), head.to_string(), BODY.to_owned(), body]
    }

    #[test]
    fn every_kind_reads_back() {
        let outcome = Outcome {
            status: Status::Completed,
            finish_reason: Some("stop".to_owned()),
            usage: None,
            timing: None,
            error: None,
            length: 7,
            crc32: 9,
        };
        let own = Own {
            worker: "a:1".to_owned(),
            rung: Rung::Continue,
            base: Position { epoch: 5, seq: 6 },
            offset: 1 << 40,
            reasoning_offset: 3,
            attempt: 2,
            first_token_ms: Some(40),
        };
        let entries = [
            Entry::Own(own),
            Entry::Delta(Delta { channel: Channel::Text, offset: 0, text: "chào\0\n".to_owned() }),
            Entry::Delta(Delta { channel: Channel::Reasoning, offset: 77, text: String::new() }),
            Entry::Fin(outcome),
        ];
        for entry in entries {
            assert_eq!(decode(Position::START, &stored(&entry)), Ok(entry));
        }
    }

    #[test]
    fn what_is_not_ours_stops_the_reader() {
        let of = |fields: &[&str]| decode(Position::START, &fields.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>());
        for fields in [
            &["2", "0", "t", "x"][..],
            &["1", "x", "t", "x"],
            &["1", "2", "t", "{}"],
            &["1", "3", "t", "x"],
            &["1", "0"],
            &["1", "0", "t", "x", "u", "y"],
            &[],
        ] {
            assert!(matches!(of(fields), Err(Error::Corrupt(_))), "{fields:?}");
        }
    }
}
