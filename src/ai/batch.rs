//! Tokens on their way into the log: what arrives while a write is in flight travels in the next one. Pure.

use crate::log::{Channel, Delta, Entry};

/// Bytes of text in one append: a write that takes long must not make the next one longer without end.
pub const APPEND_BYTES_MAX: usize = 64 * 1024;

/// Tokens that are not written yet, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pieces: Vec<(Channel, String)>,
    bytes: usize,
    /// Bytes of each channel that went before.
    text: u64,
    reasoning: u64,
}

impl Batch {
    /// A batch behind so many bytes of text and reasoning.
    #[must_use]
    pub fn behind(text: u64, reasoning: u64) -> Self {
        Self { text, reasoning, ..Self::default() }
    }

    pub fn push(&mut self, channel: Channel, token: &str) {
        self.bytes += token.len();
        match self.pieces.last_mut() {
            Some((last, text)) if *last == channel => text.push_str(token),
            _ if token.is_empty() => {}
            _ => self.pieces.push((channel, token.to_owned())),
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The next entries, about [`APPEND_BYTES_MAX`] at most; the rest stays.
    pub fn take(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut room = APPEND_BYTES_MAX;
        while room > 0 && !self.pieces.is_empty() {
            let (channel, held) = &mut self.pieces[0];
            let channel = *channel;
            let cut = held.floor_char_boundary(room).max(held.chars().next().map_or(0, char::len_utf8));
            let text: String = held.drain(..cut).collect();
            if held.is_empty() {
                self.pieces.remove(0);
            }
            room = room.saturating_sub(text.len());
            self.bytes -= text.len();
            let offset = match channel {
                Channel::Text => &mut self.text,
                Channel::Reasoning => &mut self.reasoning,
            };
            let at = std::mem::replace(offset, *offset + text.len() as u64);
            entries.push(Entry::Delta(Delta { channel, offset: at, text }));
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::Transcript;
    use crate::model::Position;

    fn channel() -> impl Strategy<Value = Channel> {
        prop_oneof![3 => Just(Channel::Text), 1 => Just(Channel::Reasoning)]
    }

    proptest! {
        /// However tokens arrive and whenever writes happen, the log folds to the same text without a hole.
        #[test]
        fn what_goes_in_comes_out(steps in prop::collection::vec((channel(), "\\PC{0,12}", any::<bool>()), 0..60)) {
            let mut batch = Batch::default();
            let mut transcript = Transcript::default();
            let mut expected = Transcript::default();
            let mut position = Position::START;
            let mut write = |batch: &mut Batch, transcript: &mut Transcript| {
                for entry in batch.take() {
                    position = position.next(1);
                    transcript.apply(position.next(1), &entry).expect("no hole");
                }
            };
            for (channel, token, flush) in steps {
                match channel {
                    Channel::Text => expected.text.push_str(&token),
                    Channel::Reasoning => expected.reasoning.push_str(&token),
                }
                batch.push(channel, &token);
                if flush {
                    write(&mut batch, &mut transcript);
                }
            }
            while !batch.is_empty() {
                write(&mut batch, &mut transcript);
            }
            prop_assert_eq!((transcript.text, transcript.reasoning), (expected.text, expected.reasoning));
            prop_assert_eq!(batch.bytes(), 0);
        }
    }

    #[test]
    fn a_large_batch_is_cut_between_characters() {
        let mut batch = Batch::behind(7, 0);
        batch.push(Channel::Text, &"đ".repeat(APPEND_BYTES_MAX));
        let first = batch.take();
        let [Entry::Delta(delta)] = first.as_slice() else { panic!("one entry: {first:?}") };
        assert_eq!((delta.offset, delta.text.len()), (7, APPEND_BYTES_MAX));
        let second = batch.take();
        assert!(matches!(&second[..], [Entry::Delta(delta)] if delta.offset == 7 + APPEND_BYTES_MAX as u64));
        assert!(batch.is_empty());
    }
}
