//! Rows and the nouns of the domain, there and back. No statement is made here.

use std::ops::Deref;

use rusqlite::Row;
use rusqlite::types::{FromSqlError, Type};
use serde::{Deserialize, Serialize};

use crate::backend::{Error, Result};
use crate::log::{Channel, Delta, ENTRY_VERSION, Entry};
use crate::model::{Conversation, Failure, Message, Options, Role, Status, Time, Timing, Usage};

/// SQLite's integers are signed; nothing of ours comes near the end of them.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

pub(super) fn status_code(status: Status) -> i64 {
    match status {
        Status::Queued => 0,
        Status::Running => 1,
        Status::Completed => 2,
        Status::Cancelled => 3,
        Status::Interrupted => 4,
        Status::Failed => 5,
    }
}

pub(super) fn status_of(code: i64) -> Result<Status> {
    Ok(match code {
        0 => Status::Queued,
        1 => Status::Running,
        2 => Status::Completed,
        3 => Status::Cancelled,
        4 => Status::Interrupted,
        5 => Status::Failed,
        other => return Err(Error::Corrupt(format!("unknown status {other}"))),
    })
}

pub(super) fn role_code(role: Role) -> i64 {
    match role {
        Role::User => 0,
        Role::Assistant => 1,
    }
}

/// The columns that [`conversation`] reads, of `conversations AS c`.
pub(super) const CONVERSATION: &str = "c.n, c.id, c.title, c.pinned, c.version, c.created_at, c.updated_at,
    EXISTS (SELECT 1 FROM generations WHERE conversation = c.n AND ended = 0)";

pub(super) fn conversation(row: &Row<'_>) -> rusqlite::Result<(i64, Conversation)> {
    let conversation = Conversation {
        id: parsed(row, 1)?,
        title: row.get(2)?,
        pinned: row.get(3)?,
        version: unsigned(row.get(4)?),
        created_at: Time(unsigned(row.get(5)?)),
        updated_at: Time(unsigned(row.get(6)?)),
        generating: row.get(7)?,
    };
    Ok((row.get(0)?, conversation))
}

/// The columns that [`message`] reads, of `messages AS m` with its parent `LEFT JOIN`ed as `p`.
pub(super) const MESSAGE: &str = "m.n, m.id, p.id, m.role, m.status, m.created_at, m.generation, m.model, m.extra, m.content,
    m.reasoning, m.parent";

/// What few messages have, as JSON in one column.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Extra {
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<Options>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timing: Option<Timing>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

impl Extra {
    /// `NULL` when there is nothing to keep.
    pub(super) fn of(message: &Message) -> Option<String> {
        let extra = Self {
            options: message.options.clone(),
            finish_reason: message.finish_reason.clone(),
            usage: message.usage,
            timing: message.timing,
            error: message.error.clone(),
        };
        (extra != Self::default()).then(|| serde_json::to_string(&extra).expect("plain data becomes JSON"))
    }
}

/// A message as it is stored.
pub(super) struct Stored {
    pub(super) n: i64,
    pub(super) parent: Option<i64>,
    pub(super) message: Message,
}

impl Deref for Stored {
    type Target = Message;
    fn deref(&self) -> &Message {
        &self.message
    }
}

pub(super) fn message(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let id: crate::model::MessageId = parsed(row, 1)?;
    let extra: Extra = match row.get_ref(8)?.as_str_or_null().map_err(|error| wrong(8, error))? {
        Some(json) => serde_json::from_str(json).map_err(|error| wrong(8, error))?,
        None => Extra::default(),
    };
    let message = Message {
        conversation: id.conversation(),
        id,
        parent: optional(row, 2)?,
        role: if row.get::<_, i64>(3)? == 0 { Role::User } else { Role::Assistant },
        status: status_of(row.get(4)?).map_err(|error| wrong(4, error))?,
        created_at: Time(unsigned(row.get(5)?)),
        generation: optional(row, 6)?,
        model: row.get(7)?,
        options: extra.options,
        finish_reason: extra.finish_reason,
        usage: extra.usage,
        timing: extra.timing,
        error: extra.error,
        content: row.get(9)?,
        reasoning: row.get(10)?,
    };
    Ok(Stored { n: row.get(0)?, parent: row.get(11)?, message })
}

/// An id in a column.
pub(super) fn parsed<T: TryFrom<String>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    T::try_from(row.get(column)?).map_err(|error| wrong(column, error))
}

fn optional<T: TryFrom<String>>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| T::try_from(text).map_err(|error| wrong(column, error))).transpose()
}

fn wrong(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(FromSqlError::Other(Box::new(error))))
}

// ---------------------------------------------------------------------------------------------------------------
// Entries: a version, a kind, then a delta's offset (LEB128) and text, or JSON for what comes once or twice a log

const OWN: u8 = 0;
const TEXT: u8 = 1;
const REASONING: u8 = 2;
const FIN: u8 = 3;

pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    match entry {
        Entry::Delta(delta) => {
            let kind = if delta.channel == Channel::Text { TEXT } else { REASONING };
            let mut body = Vec::with_capacity(delta.text.len() + 8);
            body.extend([ENTRY_VERSION, kind]);
            push_number(&mut body, delta.offset);
            body.extend(delta.text.as_bytes());
            body
        }
        Entry::Own(own) => as_json(OWN, own),
        Entry::Fin(outcome) => as_json(FIN, outcome),
    }
}

pub(super) fn decode(body: &[u8]) -> Result<Entry> {
    let [version, kind, rest @ ..] = body else { return Err(Error::Corrupt("an entry is cut short".into())) };
    if *version != ENTRY_VERSION {
        return Err(Error::Corrupt(format!("an entry has version {version}, this is version {ENTRY_VERSION}")));
    }
    match *kind {
        OWN => from_json(rest).map(Entry::Own),
        FIN => from_json(rest).map(Entry::Fin),
        TEXT => delta(Channel::Text, rest),
        REASONING => delta(Channel::Reasoning, rest),
        other => Err(Error::Corrupt(format!("an entry has the unknown kind {other}"))),
    }
}

fn delta(channel: Channel, rest: &[u8]) -> Result<Entry> {
    let damaged = || Error::Corrupt("a delta can't be read".into());
    let (offset, text) = take_number(rest).ok_or_else(damaged)?;
    let text = std::str::from_utf8(text).map_err(|_| damaged())?.to_owned();
    Ok(Entry::Delta(Delta { channel, offset, text }))
}

fn as_json(kind: u8, value: &impl Serialize) -> Vec<u8> {
    let mut body = vec![ENTRY_VERSION, kind];
    serde_json::to_writer(&mut body, value).expect("plain data becomes JSON");
    body
}

fn from_json<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| Error::Corrupt(format!("an entry can't be read: {error}")))
}

fn push_number(body: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        body.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    body.push(number as u8);
}

fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (n, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[n + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Outcome, Own, Rung};
    use crate::model::Position;

    proptest::proptest! {
        #[test]
        fn deltas_come_back(offset: u64, text in "\\PC*", reasoning: bool) {
            let channel = if reasoning { Channel::Reasoning } else { Channel::Text };
            let entry = Entry::Delta(Delta { channel, offset, text });
            proptest::prop_assert_eq!(decode(&encode(&entry)), Ok(entry));
        }

        #[test]
        fn any_bytes_are_an_entry_or_an_error(bytes: Vec<u8>) {
            let _ = decode(&bytes);
            let _ = decode(&[&[ENTRY_VERSION, TEXT][..], &bytes].concat());
        }
    }

    #[test]
    fn rare_entries_come_back() {
        let base = Position { epoch: 7, seq: 8 };
        let own = Own {
            worker: "w".into(),
            rung: Rung::Restart,
            base,
            offset: 1,
            reasoning_offset: 2,
            attempt: 3,
            first_token_ms: Some(9),
        };
        let failure = Failure { code: "upstream_error".into(), message: "x".into() };
        let outcome = Outcome {
            status: Status::Failed,
            finish_reason: Some("stop".into()),
            usage: Some(Usage { input_tokens: 1, output_tokens: 2, estimated: true }),
            timing: Some(Timing { first_token_ms: 1, total_ms: 2 }),
            error: Some(failure),
            length: 10,
            crc32: 11,
        };
        for entry in [Entry::Own(own), Entry::Fin(outcome)] {
            assert_eq!(decode(&encode(&entry)), Ok(entry));
        }
    }

    #[test]
    fn a_token_is_stored_in_few_bytes() {
        let entry = Entry::Delta(Delta { channel: Channel::Text, offset: 4_000, text: " token".into() });
        assert_eq!(encode(&entry).len(), 6 + 4);
    }

    #[test]
    fn unknown_versions_and_kinds_stop_the_reader() {
        for bytes in
            [&[][..], &[ENTRY_VERSION], &[ENTRY_VERSION + 1, TEXT, 0], &[ENTRY_VERSION, 9, 0], &[ENTRY_VERSION, FIN, b'{']]
        {
            assert!(matches!(decode(bytes), Err(Error::Corrupt(_))), "{bytes:?}");
        }
        assert!(matches!(decode(&[ENTRY_VERSION, TEXT, 0, 0xff]), Err(Error::Corrupt(_))));
    }

    #[test]
    fn every_status_comes_back() {
        for status in [Status::Queued, Status::Running, Status::Completed, Status::Cancelled, Status::Interrupted, Status::Failed]
        {
            assert_eq!(status_of(status_code(status)), Ok(status));
        }
        assert!(status_of(99).is_err());
    }
}
