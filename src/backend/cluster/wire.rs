//! How a hint travels: a token's in a few raw fields, since there are thousands of them and each is read by every gateway that
//! watches; any other as JSON. It must not know where a hint comes from or goes to.
//!
//! `!<generation> <previous> <position> <channel> <offset> [<microsecond when it was stored>]\n<text>`: no JSON begins with `!`.

use std::io::Write;

use crate::backend::Hint;
use crate::log::{Channel, Delta, Entry};
use crate::model::GenerationId;

const MARK: u8 = b'!';
const TEXT: &str = "t";
const REASONING: &str = "r";

/// `None` when it can't be written down.
pub(super) fn encode(hint: &Hint) -> Option<Vec<u8>> {
    let Hint::Entry { generation, previous, position, entry: Entry::Delta(delta), stored_us } = hint else {
        return serde_json::to_vec(hint).ok();
    };
    let channel = if delta.channel == Channel::Text { TEXT } else { REASONING };
    let mut payload = Vec::with_capacity(HEAD_BYTES + delta.text.len());
    write!(payload, "!{generation} {previous} {position} {channel} {}", delta.offset).ok()?;
    if let Some(stored) = stored_us {
        write!(payload, " {stored}").ok()?;
    }
    payload.push(b'\n');
    payload.extend_from_slice(delta.text.as_bytes());
    Some(payload)
}

/// Bytes before the text, about: an id, two positions, two numbers.
const HEAD_BYTES: usize = 128;

/// `None` for what is none of ours.
pub(super) fn decode(payload: &[u8]) -> Option<Hint> {
    if payload.first() != Some(&MARK) {
        return serde_json::from_slice(payload).ok();
    }
    let (head, text) = std::str::from_utf8(&payload[1..]).ok()?.split_once('\n')?;
    let mut fields = head.split(' ');
    let generation = GenerationId::parse(fields.next()?).ok()?;
    let previous = fields.next()?.parse().ok()?;
    let position = fields.next()?.parse().ok()?;
    let channel = match fields.next()? {
        TEXT => Channel::Text,
        REASONING => Channel::Reasoning,
        _ => return None,
    };
    let offset = fields.next()?.parse().ok()?;
    let stored_us = fields.next().and_then(|stored| stored.parse().ok());
    // What a later version may say more is not for us.
    let entry = Entry::Delta(Delta { channel, offset, text: text.to_owned() });
    Some(Hint::Entry { generation, previous, position, entry, stored_us })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{ConversationId, Position};

    proptest! {
        #[test]
        fn a_token_reads_back_whatever_it_says(text in ".*", offset: u64, reasoning: bool, epoch: u64, seq: u64, stored_us: Option<u64>) {
            let generation = GenerationId::generate(&ConversationId::generate());
            let channel = if reasoning { Channel::Reasoning } else { Channel::Text };
            let (previous, position) = (Position::START, Position { epoch, seq });
            let entry = Entry::Delta(Delta { channel, offset, text });
            let hint = Hint::Entry { generation, previous, position, entry, stored_us };
            let payload = encode(&hint).unwrap();
            prop_assert_eq!(payload[0], MARK);
            prop_assert_eq!(decode(&payload), Some(hint));
        }

        #[test]
        fn garbage_is_no_hint_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let marked: Vec<u8> = std::iter::once(MARK).chain(bytes).collect();
            let _ = decode(&marked);
        }
    }

    #[test]
    fn what_another_version_says_more_is_passed_over() {
        let generation = GenerationId::generate(&ConversationId::generate());
        let read = |line: &str| decode(format!("!{generation} {line}").as_bytes());
        assert!(read("0-0 7-0 t 5 news\nchào").is_some());
        for bad in ["0-0 7-0 t 5", "0-0 7-0 x 5\na", "0-0 7-0 t\na", "0-0 t 5\na", "\n"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(decode(br#"{"hint":"work"}"#), Some(Hint::Work { generation: None }));
        assert_eq!(decode(b"! "), None);
    }
}
