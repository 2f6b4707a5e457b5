//! How an entry of a log looks in Redis: two raw fields, the same for every kind, so that a stream stores their names once.
//! It must not know who writes or reads.
//!
//! The field `1` holds `offset * 4 + kind`; its name is the version of the entry. The field `t` holds a delta's text, or the rest of
//! an `own` or `fin` as JSON: those are two per answer, deltas are thousands.
//!
//! Deltas of one channel that follow from each other may stand together as a block, under the position of the last of them: `b` holds
//! `offset * 4 + kind` of the first, `l` the length of each in bytes, one ASCII character each, and `t` their texts. To readers it is
//! the entries that it was made of. The script that appends makes blocks (decision 19).

use serde::{Deserialize, Serialize};

use crate::backend::{Error, Result};
use crate::log::{Channel, Delta, ENTRY_VERSION, Entry, Own, Rung};
use crate::model::Position;

const TEXT: u64 = 0;
const REASONING: u64 = 1;
const OWN: u64 = 2;
const FIN: u64 = 3;

const _: () = assert!(ENTRY_VERSION == 1, "the name of the head field is the version: give the new layout its own name");
/// The names of the fields. Scripts write them too.
const HEAD: &str = "1";
const BODY: &str = "t";
const BLOCK: &str = "b";
const LENGTHS: &str = "l";

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

/// Reads an entry as a stream gives it, names and values in turn: itself, or those that it is made of.
pub(super) fn decode(position: Position, fields: &[String]) -> Result<Vec<(Position, Entry)>> {
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    match fields[..] {
        [HEAD, head, BODY, body] => Ok(vec![(position, single(position, head, body)?)]),
        [BLOCK, head, LENGTHS, lengths, BODY, text] => {
            block(position, head, lengths.as_bytes(), text).ok_or_else(|| corrupt(position, "is no readable block"))
        }
        _ => Err(corrupt(position, "is not of a version that this node knows")),
    }
}

fn corrupt(position: Position, what: &str) -> Error {
    Error::Corrupt(format!("log entry {position} {what}"))
}

fn single(position: Position, head: &str, body: &str) -> Result<Entry> {
    let head: u64 = head.parse().map_err(|_| corrupt(position, "has no readable head"))?;
    let (offset, text) = (head >> 2, body.to_owned());
    Ok(match head & 3 {
        TEXT => Entry::Delta(Delta { channel: Channel::Text, offset, text }),
        REASONING => Entry::Delta(Delta { channel: Channel::Reasoning, offset, text }),
        OWN => {
            let rest: OwnRest = serde_json::from_str(body).map_err(|_| corrupt(position, "has no readable owner"))?;
            let OwnRest { w: worker, m: rung, b: base, r: reasoning_offset, a: attempt, f: first_token_ms } = rest;
            Entry::Own(Own { worker, rung, base, offset, reasoning_offset, attempt, first_token_ms })
        }
        _ => Entry::Fin(serde_json::from_str(body).map_err(|_| corrupt(position, "has no readable outcome"))?),
    })
}

fn block(last: Position, head: &str, lengths: &[u8], text: &str) -> Option<Vec<(Position, Entry)>> {
    let head: u64 = head.parse().ok()?;
    let channel = match head & 3 {
        TEXT => Channel::Text,
        REASONING => Channel::Reasoning,
        _ => return None,
    };
    let begins = head >> 2;
    let mut seq = last.seq.checked_add(1)?.checked_sub(lengths.len() as u64)?;
    let mut at = 0;
    let mut entries = Vec::with_capacity(lengths.len());
    for length in lengths {
        let end = at + usize::from(*length);
        let delta = Delta { channel, offset: begins.checked_add(at as u64)?, text: text.get(at..end)?.to_owned() };
        entries.push((Position { epoch: last.epoch, seq }, Entry::Delta(delta)));
        (seq, at) = (seq + 1, end);
    }
    (at == text.len() && !entries.is_empty()).then_some(entries)
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
            assert_eq!(decode(Position::START, &stored(&entry)), Ok(vec![(Position::START, entry)]));
        }
    }

    fn read(last: Position, fields: &[&str]) -> Result<Vec<(Position, Entry)>> {
        decode(last, &fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_block_reads_as_what_it_was_made_of() {
        let last = Position { epoch: 7, seq: 12 };
        let pieces = ["chào", "", " bạn"];
        let offsets = [40, 45, 45];
        let expected: Vec<_> = (0..3)
            .map(|n| {
                let delta = Delta { channel: Channel::Reasoning, offset: offsets[n], text: pieces[n].to_owned() };
                (Position { epoch: 7, seq: 10 + n as u64 }, Entry::Delta(delta))
            })
            .collect();
        assert_eq!(read(last, &["b", "161", "l", "\u{5}\0\u{6}", "t", &pieces.concat()]), Ok(expected));
    }

    #[test]
    fn what_is_not_ours_stops_the_reader() {
        let place = Position { epoch: 1, seq: 1 };
        for fields in [
            &["2", "0", "t", "x"][..],
            &["1", "x", "t", "x"],
            &["1", "2", "t", "{}"],
            &["1", "3", "t", "x"],
            &["1", "0"],
            &["1", "0", "t", "x", "u", "y"],
            &[],
            // Blocks: no number, of no delta, empty, more than there is place for, too much text, too little, within a character.
            &["b", "x", "l", "\u{1}", "t", "x"],
            &["b", "2", "l", "\u{1}", "t", "x"],
            &["b", "0", "l", "", "t", ""],
            &["b", "0", "l", "\u{1}\u{1}\u{1}", "t", "xyz"],
            &["b", "0", "l", "\u{1}", "t", "xy"],
            &["b", "0", "l", "\u{1}\u{1}", "t", "x"],
            &["b", "0", "l", "\u{1}\u{1}", "t", "à"],
        ] {
            assert!(matches!(read(place, fields), Err(Error::Corrupt(_))), "{fields:?}");
        }
    }
}
