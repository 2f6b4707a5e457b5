//! The joining of replay and live, as pure functions.
//!
//! A node keeps one [`Replica`] of every log that somebody on it watches. Hints extend it when they fit and are dropped
//! when they don't; pages read from the store fill what is missing. A reader is a [`Cursor`] into the replica that asks for its next
//! [`Step`]: one path for live, replay, gaps, rewinds and slow sockets alike, and O(1) memory for a reader that never reads.

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;

use crate::backend::Progress;
use crate::log::{Applied, Broken, Channel, Entry, Transcript};
use crate::model::{GenerationId, Message, Position, Status};

/// Most bytes of text that one coalesced `delta` carries, unless a single entry is larger.
pub const REPLAY_BYTES_MAX: u64 = 64 * 1024;

/// Marks of one log after which the older half of them is thinned: half a megabyte.
const MARKS_MAX: usize = 16_384;

/// Bytes that thinning leaves between two marks, at most. Who comes back from a place between them gets the whole.
const SPAN_BYTES_MAX: u64 = 1_024;

/// One log as far as this node knows it.
#[derive(Clone, Debug)]
pub struct Replica {
    generation: GenerationId,
    transcript: Transcript,
    /// Where the entries that stand end, in order; positions and lengths never fall. Of a very long log not all.
    marks: Vec<Mark>,
    /// When they are to be thinned.
    marks_max: usize,
    /// The owners that came after the first one, with what they kept.
    cuts: Vec<Mark>,
    /// Grows when the log gave way to a text that it did not say: older cursors mean nothing then.
    lineage: u32,
    progress: Option<(Progress, Option<u32>)>,
    /// The newest entry as a frame that is the same for every reader.
    newest: Option<Newest>,
    /// The final message, once it is known.
    finished: Option<Arc<Message>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    position: Position,
    text: u64,
    reasoning: u64,
}

#[derive(Clone, Debug)]
struct Newest {
    previous: Position,
    frame: Utf8Bytes,
    stored_us: Option<u64>,
}

/// What became of a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It was new and fitted.
    Applied,
    /// It said nothing new.
    Known,
    /// Something before it is missing: read the store from [`Replica::position`].
    Gap,
}

/// How far one reader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    position: Position,
    text: u64,
    reasoning: u64,
    lineage: u32,
    /// Owners up to here are dealt with.
    owned: Position,
    snapshot: bool,
    replay: bool,
    progress: Option<(Progress, Option<u32>)>,
    finished: bool,
}

/// What a reader is to be sent next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A frame that is the same for every reader who is up to date, serialized once.
    Shared {
        frame: Utf8Bytes,
        /// When its entry was stored, as the hint said: microseconds since 1970.
        stored_us: Option<u64>,
    },
    Delta {
        position: Position,
        channel: Channel,
        offset: u64,
        text: String,
        replay: bool,
    },
    Snapshot {
        position: Position,
        text: String,
        reasoning: Option<String>,
    },
    Rewind {
        position: Position,
        channel: Channel,
        offset: u64,
    },
    Status {
        progress: Progress,
        ahead: Option<u32>,
    },
    Finished {
        message: Arc<Message>,
    },
}

impl Cursor {
    /// A reader that has nothing.
    #[must_use]
    pub fn start() -> Self {
        Self {
            position: Position::START,
            text: 0,
            reasoning: 0,
            lineage: 0,
            owned: Position::START,
            snapshot: false,
            replay: true,
            progress: None,
            finished: false,
        }
    }

    /// A reader that has something else than this log says: it gets the whole.
    fn replaced() -> Self {
        Self { snapshot: true, ..Self::start() }
    }

    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// From now on what it gets is news, not a repetition.
    pub fn caught_up(&mut self) {
        self.replay = false;
    }

    /// True when the end was sent: nothing follows.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }
}

impl Replica {
    #[must_use]
    pub fn new(generation: GenerationId) -> Self {
        Self {
            generation,
            transcript: Transcript::default(),
            marks: Vec::new(),
            marks_max: MARKS_MAX,
            cuts: Vec::new(),
            lineage: 0,
            progress: None,
            newest: None,
            finished: None,
        }
    }

    #[must_use]
    pub fn position(&self) -> Position {
        self.transcript.position
    }

    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// True when the terminal entry was folded in; the final message may still be missing.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.transcript.outcome.is_some()
    }

    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished.is_some()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        let told = self.finished.as_ref().map(|message| message.status);
        told.or_else(|| self.transcript.outcome.as_ref().map(|outcome| outcome.status))
    }

    /// What readers are told of it beside its text.
    #[must_use]
    pub fn progress(&self) -> Option<(Progress, Option<u32>)> {
        self.progress
    }

    pub fn set_progress(&mut self, progress: Progress, ahead: Option<u32>) {
        // A late "queued" must not hide tokens that are there.
        if progress != Progress::Queued || self.position() == Position::START {
            self.progress = Some((progress, ahead));
        }
    }

    /// Ends the replica with the message as it is stored. Where the log is gone, the message is all there is.
    pub fn finish(&mut self, message: Message) {
        let same = self.transcript.text == message.content
            && self.transcript.reasoning == message.reasoning.as_deref().unwrap_or_default();
        if !same {
            self.transcript.text.clone_from(&message.content);
            self.transcript.reasoning = message.reasoning.clone().unwrap_or_default();
            let position = self.position().next(self.position().epoch);
            self.transcript.position = position;
            self.lineage += 1;
            self.cuts.clear();
            self.marks = vec![self.end()];
        }
        self.newest = None;
        self.finished = Some(Arc::new(message));
    }

    /// Forgets everything: the log turned out to be another one. Every reader gets the whole of it.
    pub fn rebuild(&mut self) {
        *self = Self { lineage: self.lineage + 1, ..Self::new(self.generation.clone()) };
    }

    /// Takes a hint. `frame` makes the shared frame of a delta.
    ///
    /// # Errors
    /// [`Broken`] when it is the next entry and yet can't follow.
    pub fn offer(
        &mut self,
        previous: Position,
        position: Position,
        entry: &Entry,
        stored_us: Option<u64>,
        frame: impl FnOnce(&GenerationId) -> Option<Utf8Bytes>,
    ) -> Result<Offered, Broken> {
        if position <= self.position() {
            return Ok(Offered::Known);
        }
        if previous != self.position() {
            return Ok(Offered::Gap);
        }
        self.absorb(position, entry)?;
        self.newest = match entry {
            Entry::Delta(_) => frame(&self.generation).map(|frame| Newest { previous, frame, stored_us }),
            Entry::Own(_) | Entry::Fin(_) => None,
        };
        Ok(Offered::Applied)
    }

    /// Folds in the next entry as the store gave it.
    ///
    /// # Errors
    /// [`Broken`] when it can't follow: the log is not the one that was read before.
    pub fn absorb(&mut self, position: Position, entry: &Entry) -> Result<(), Broken> {
        let applied = self.transcript.apply(position, entry)?;
        let mark = self.end();
        match applied {
            Applied::Known => return Ok(()),
            Applied::Owned { cut } => {
                self.marks.retain(|old| old.text <= mark.text && old.reasoning <= mark.reasoning);
                self.cuts.push(mark);
                if cut {
                    self.progress = Some((Progress::Recovering, None));
                }
            }
            Applied::Extended => self.progress = Some((Progress::Running, None)),
            Applied::Ended => {}
        }
        self.newest = None;
        self.marks.push(mark);
        if self.marks.len() >= self.marks_max {
            self.thin(SPAN_BYTES_MAX);
            self.marks_max = self.marks.len() + MARKS_MAX / 2;
        }
        Ok(())
    }

    /// Drops marks of the older half, but for one in so many bytes, and where one channel stops growing and the other begins: replays
    /// go from mark to mark.
    fn thin(&mut self, span: u64) {
        let older = self.marks.len() / 2;
        let mut kept: Vec<Mark> = Vec::with_capacity(self.marks.len());
        for (index, mark) in self.marks.iter().enumerate() {
            let next = self.marks.get(index + 1).filter(|_| index < older);
            let apart = kept.last().zip(next).is_none_or(|(before, next)| {
                let (text, reasoning) = (next.text - before.text, next.reasoning - before.reasoning);
                text > 0 && reasoning > 0 || text + reasoning > span
            });
            if apart {
                kept.push(*mark);
            }
        }
        kept.shrink_to_fit();
        self.marks = kept;
    }

    fn end(&self) -> Mark {
        Mark {
            position: self.position(),
            text: self.transcript.length(Channel::Text),
            reasoning: self.transcript.length(Channel::Reasoning),
        }
    }

    /// The cursor of a reader who says it has `offset` bytes of text at `position`. What can't be true costs a snapshot.
    #[must_use]
    pub fn resume(&self, position: Position, offset: Option<u64>) -> Cursor {
        if position == Position::START && offset.unwrap_or(0) == 0 {
            return Cursor::start();
        }
        match self.marks.binary_search_by_key(&position, |mark| mark.position) {
            Ok(found) if offset.is_none_or(|offset| offset == self.marks[found].text) => {
                let mark = self.marks[found];
                Cursor { position, text: mark.text, reasoning: mark.reasoning, lineage: self.lineage, ..Cursor::start() }
            }
            _ => Cursor::replaced(),
        }
    }

    /// What this reader lacks next; `None` when it is up to date.
    pub fn next(&self, cursor: &mut Cursor) -> Option<Step> {
        if cursor.finished {
            return None;
        }
        if cursor.position == Position::START {
            cursor.lineage = self.lineage;
        }
        if cursor.snapshot || cursor.lineage != self.lineage || cursor.position > self.position() {
            return Some(self.snapshot(cursor));
        }
        if let Some(step) = self.rewind(cursor) {
            return Some(step);
        }
        if let Some(step) = self.shared(cursor).or_else(|| self.delta(cursor)) {
            return Some(step);
        }
        if let Some(message) = &self.finished {
            cursor.finished = true;
            return Some(Step::Finished { message: Arc::clone(message) });
        }
        match self.progress {
            Some((progress, ahead)) if self.progress != cursor.progress => {
                let before = std::mem::replace(&mut cursor.progress, self.progress);
                // That it runs is what its tokens say already, unless something else was said before.
                let told = progress == Progress::Running && cursor.position > Position::START && before.is_none();
                if told { None } else { Some(Step::Status { progress, ahead }) }
            }
            _ => None,
        }
    }

    fn snapshot(&self, cursor: &mut Cursor) -> Step {
        cursor.snapshot = false;
        cursor.lineage = self.lineage;
        cursor.position = self.position();
        cursor.text = self.transcript.length(Channel::Text);
        cursor.reasoning = self.transcript.length(Channel::Reasoning);
        let reasoning = Some(self.transcript.reasoning.clone()).filter(|text| !text.is_empty());
        Step::Snapshot { position: self.position(), text: self.transcript.text.clone(), reasoning }
    }

    /// Owners after the reader's position may have kept less than the reader has.
    fn rewind(&self, cursor: &mut Cursor) -> Option<Step> {
        let seen = cursor.position.max(cursor.owned);
        let later = || self.cuts.iter().filter(|cut| cut.position > seen);
        let reasoning = later().min_by_key(|cut| (cut.reasoning, std::cmp::Reverse(cut.position)));
        let text = later().min_by_key(|cut| (cut.text, std::cmp::Reverse(cut.position)));
        let text = text.filter(|cut| cut.text < cursor.text);
        if let Some(cut) = reasoning.filter(|cut| cut.reasoning < cursor.reasoning) {
            cursor.reasoning = cut.reasoning;
            // Text that is yet to be dropped may be as long as what stands there by chance.
            return Some(Self::rewound(cursor, *cut, Channel::Reasoning, cut.reasoning, text.is_none()));
        }
        if let Some(cut) = text {
            cursor.text = cut.text;
            return Some(Self::rewound(cursor, *cut, Channel::Text, cut.text, true));
        }
        // What the reader has now stands under every owner so far, even while its position is still an older one.
        cursor.owned = self.cuts.last().map_or(cursor.owned, |cut| cut.position);
        None
    }

    /// The owner's position is the reader's only once it has all that stands there: else a reader that leaves right now would come
    /// back with a position that promises more than it has.
    fn rewound(cursor: &mut Cursor, cut: Mark, channel: Channel, offset: u64, last: bool) -> Step {
        if last && (cursor.text, cursor.reasoning) == (cut.text, cut.reasoning) {
            cursor.position = cut.position;
        }
        Step::Rewind { position: cursor.position, channel, offset }
    }

    /// The common case: the reader lacks just the newest entry.
    fn shared(&self, cursor: &mut Cursor) -> Option<Step> {
        let newest = self.newest.as_ref().filter(|newest| newest.previous == cursor.position && !cursor.replay)?;
        let mark = self.marks.last()?;
        cursor.position = mark.position;
        cursor.text = mark.text;
        cursor.reasoning = mark.reasoning;
        Some(Step::Shared { frame: newest.frame.clone(), stored_us: newest.stored_us })
    }

    /// The entries that the reader lacks, as one delta, up to [`REPLAY_BYTES_MAX`] and only as far as one channel grows: at the
    /// position of a delta stands no text that comes with another one, so a reader may leave and come back between any two.
    fn delta(&self, cursor: &mut Cursor) -> Option<Step> {
        let first = self.marks.partition_point(|mark| mark.position <= cursor.position);
        let ahead = self.marks.get(first..).filter(|ahead| !ahead.is_empty())?;
        let thoughts = ahead.partition_point(|mark| mark.text <= cursor.text);
        let words = ahead.partition_point(|mark| mark.reasoning <= cursor.reasoning);
        let run = ahead.get(..thoughts.max(words))?;
        if run.is_empty() {
            // Of what lay between the two only an owner's position stands: no delta leads there.
            return Some(self.snapshot(cursor));
        }
        let room = |mark: &Mark| {
            mark.text.max(cursor.text) + mark.reasoning.max(cursor.reasoning) <= cursor.text + cursor.reasoning + REPLAY_BYTES_MAX
        };
        let mark = *run.get(run.partition_point(room).max(1) - 1)?;
        cursor.position = mark.position;
        if mark.reasoning > cursor.reasoning {
            let offset = std::mem::replace(&mut cursor.reasoning, mark.reasoning);
            return Some(self.piece(cursor, mark, Channel::Reasoning, offset));
        }
        if mark.text > cursor.text {
            let offset = std::mem::replace(&mut cursor.text, mark.text);
            return Some(self.piece(cursor, mark, Channel::Text, offset));
        }
        // Entries without text (a new owner, the end): go on behind them.
        self.delta(cursor)
    }

    fn piece(&self, cursor: &Cursor, mark: Mark, channel: Channel, offset: u64) -> Step {
        let end = match channel {
            Channel::Text => mark.text,
            Channel::Reasoning => mark.reasoning,
        };
        let range = usize::try_from(offset).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
        // Marks lie between whole entries, so both ends are character boundaries.
        let text = self.transcript.channel(channel).get(range).unwrap_or_default().to_owned();
        Step::Delta { position: mark.position, channel, offset, text, replay: cursor.replay }
    }
}

#[cfg(test)]
mod tests;
