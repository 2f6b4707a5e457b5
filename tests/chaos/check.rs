//! Judges a recorded story. Pure; it must not know how the story came about, nor what broke while it did.
//!
//! | | what is looked for here, or where else it is proved |
//! |---|---|
//! | I1 | every text that a reader ever had is a beginning of the answer's text, and thoughts of its thoughts |
//! | I2 | readers, log and stored message end with the same bytes; `finished` has their length and checksum |
//! | I3 | each `delta` begins where the reader's text ends, and the log has no hole in its positions or offsets |
//! | I4 | a reader never hears of an older epoch again; in the log every epoch begins anew at 0, with its `own` |
//! | I5 | a text never gets shorter but by `rewind` (or where a fault removed the log) |
//! | I6 | each `rewind` names an `own` of the log, and goes to what it keeps |
//! | I7 | one terminal entry, at the log's end; `finished` once for each connection that was there, the same for all |
//! | I8 | every accepted question gets its end, and none ends as failed or interrupted (but where the log was removed) |
//! | I10 | who comes back with what it knows hears the next byte, and no `snapshot` |
//! | I11 | after `cancel_accepted` an answer that had a good part of itself to come ends as cancelled |
//! | I13 | a repeated request gets the same `accepted` |
//! | I14 | question and answer of every `accepted` are stored; no own conversation is `not_found` |
//! | I20 | no frame of another conversation |
//! | I9, I17, I18 | need the times of the faults: see `table` |
//! | I12 | scenarios `socket::an_answer_is_cancelled_in_every_phase_and_from_every_node`, conformance `cancel::queued_ends_at_once` |
//! | I15 | here: attempts never fall in the log; `providers::leaving_closes_the_upstream_at_once_in_every_phase` |
//! | I16 | here: the nodes' memory at the end (see `mod`); `resume::a_reader_that_never_reads_hurts_nobody` |
//! | I19 | `storm` |
//! | I21 | scenarios `version_one` |

use std::collections::BTreeMap;

use chatnode::log::{Channel, Entry, Transcript};
use chatnode::model::{GenerationId, Message, Position, Status};
use chatnode::protocol::{ErrorCode, Finished, ServerFrame};

use super::history::{Accepted, History, Millis, Story, What};

/// A cancel that was accepted while so much was to come can't be too late.
const MUCH_TO_COME: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) reader: String,
    pub(crate) at: Millis,
    pub(crate) what: String,
}

/// Everything that is wrong with a story.
pub(crate) fn check(story: &Story) -> Vec<Violation> {
    let mut judge = Judge { story, answers: story.answers(), found: Vec::new() };
    judge.requests();
    for history in &story.histories {
        judge.history(history);
    }
    for accepted in judge.answers.clone().values() {
        judge.stored(accepted);
        if let Some(log) = story.logs.get(&accepted.generation) {
            judge.log(accepted, log);
        }
    }
    judge.found
}

struct Judge<'a> {
    story: &'a Story,
    answers: BTreeMap<GenerationId, Accepted>,
    found: Vec<Violation>,
}

/// What a reader has of one answer.
#[derive(Clone, Debug, Default)]
struct Copy {
    text: String,
    reasoning: String,
    position: Position,
    ended: Option<Status>,
    /// `finished` came on this connection.
    told: bool,
    cancel_accepted: Option<usize>,
}

struct Replay<'a> {
    reader: &'a str,
    at: Millis,
    copies: BTreeMap<GenerationId, Copy>,
    /// What the last `subscribe` said it has.
    known: BTreeMap<GenerationId, (Position, u64)>,
    cancelled: Vec<GenerationId>,
    sent: Vec<&'a str>,
}

impl Judge<'_> {
    fn blame(&mut self, invariant: &'static str, reader: &str, at: Millis, what: String) {
        self.found.push(Violation { invariant, reader: reader.to_owned(), at, what });
    }

    fn requests(&mut self) {
        let mut first: BTreeMap<&str, Accepted> = BTreeMap::new();
        for (request, accepted) in self.story.accepted() {
            let before = first.entry(request).or_insert_with(|| accepted.clone());
            if (&before.generation, &before.answer, &before.question.id)
                != (&accepted.generation, &accepted.answer, &accepted.question.id)
            {
                self.blame("I13", request, 0, format!("{} and {}", before.generation, accepted.generation));
            }
            let asked = self.story.plan.iter().find(|question| question.request == request);
            if asked.is_none_or(|question| question.prompt != accepted.question.content) {
                self.blame("I14", request, 0, "another question was accepted than was asked".to_owned());
            }
        }
        for question in &self.story.plan {
            if !first.contains_key(question.request.as_str()) {
                self.blame("I8", "author", 0, format!("{} was never accepted", question.request));
            }
        }
    }

    fn history(&mut self, history: &History) {
        let mut replay = Replay {
            reader: &history.reader,
            at: 0,
            copies: BTreeMap::new(),
            known: BTreeMap::new(),
            cancelled: Vec::new(),
            sent: Vec::new(),
        };
        for seen in &history.seen {
            replay.at = seen.at;
            match &seen.what {
                What::Opened(_) => {
                    replay.known.clear();
                    replay.copies.values_mut().for_each(|copy| copy.told = false);
                }
                What::Subscribed(known) => replay.known.clone_from(known),
                What::Cancelled(generation) => replay.cancelled.push(generation.clone()),
                What::Heard(frame) => self.frame(&mut replay, frame),
                What::Read(message) => self.read(&mut replay, message),
                What::Sent(request) => replay.sent.push(request),
                What::Lost | What::GaveUp => {}
            }
        }
        for generation in self.answers.keys().cloned().collect::<Vec<_>>() {
            self.ended(&mut replay, &generation);
        }
    }

    /// What a reader has of an answer in the end.
    fn ended(&mut self, replay: &mut Replay<'_>, generation: &GenerationId) {
        let Some(copy) = replay.copies.get(generation).cloned() else {
            return self.blame("I7", replay.reader, replay.at, format!("never heard of {generation}"));
        };
        let Some(status) = copy.ended else {
            let had = copy.text.len();
            return self.blame("I8", replay.reader, replay.at, format!("no end of {generation}, {had} bytes were there"));
        };
        if let Some(left) = copy.cancel_accepted {
            let much = left * MUCH_TO_COME > self.answers[generation].text.len();
            if much && status != Status::Cancelled && !self.story.removed.contains(generation) {
                let status = status.as_str();
                self.blame("I11", replay.reader, replay.at, format!("{generation} was cancelled and ended as {status}"));
            }
        }
    }

    fn frame(&mut self, replay: &mut Replay<'_>, frame: &ServerFrame) {
        let (reader, at) = (replay.reader, replay.at);
        if let Some(stranger) = self.stranger(frame) {
            return self.blame("I20", reader, at, stranger);
        }
        match frame {
            ServerFrame::Delta { generation, position, offset, text, channel, .. } => {
                self.delta(replay, generation, *position, (*channel, *offset, text));
            }
            ServerFrame::Snapshot { generation, position, text, reasoning } => {
                let reasoning = reasoning.as_deref().unwrap_or_default();
                self.snapshot(replay, generation, *position, (text, reasoning));
            }
            ServerFrame::Rewind { generation, position, offset, channel } => {
                self.rewind(replay, generation, *position, (*channel, *offset));
            }
            ServerFrame::Finished(finished) => self.finished(replay, finished),
            ServerFrame::Accepted { request_id, .. } if !replay.sent.contains(&request_id.as_str()) => {
                self.blame("I13", reader, at, format!("{request_id} is not what was asked"));
            }
            ServerFrame::CancelAccepted { generation } => {
                let whole = self.answers[generation].text.len();
                let copy = replay.copies.entry(generation.clone()).or_default();
                copy.cancel_accepted.get_or_insert(whole.saturating_sub(copy.text.len()));
            }
            ServerFrame::Error(error) => {
                let late = error.code == ErrorCode::Conflict && !replay.cancelled.is_empty();
                let passing = matches!(error.code, ErrorCode::Unavailable | ErrorCode::Overloaded | ErrorCode::RateLimited);
                if !late && !passing {
                    self.blame("I14", reader, at, format!("{:?}: {}", error.code, error.message));
                }
            }
            _ => {}
        }
    }

    /// What a frame names that is none of this conversation's.
    fn stranger(&self, frame: &ServerFrame) -> Option<String> {
        let conversation = self.answers.values().next().map(|accepted| &accepted.conversation);
        let generation = match frame {
            ServerFrame::Delta { generation, .. }
            | ServerFrame::Snapshot { generation, .. }
            | ServerFrame::Rewind { generation, .. }
            | ServerFrame::CancelAccepted { generation }
            | ServerFrame::Status { generation, .. } => Some(generation),
            ServerFrame::Finished(finished) => Some(&finished.generation),
            _ => None,
        };
        let named = match frame {
            ServerFrame::Subscribed { conversation, .. }
            | ServerFrame::Message { conversation, .. }
            | ServerFrame::CaughtUp { conversation } => Some(conversation),
            ServerFrame::Conversation { conversation } => Some(&conversation.conversation.id),
            _ => None,
        };
        let stranger = generation.filter(|generation| !self.answers.contains_key(*generation)).map(ToString::to_string);
        stranger.or_else(|| named.filter(|named| Some(*named) != conversation).map(ToString::to_string))
    }

    fn delta(&mut self, replay: &mut Replay<'_>, generation: &GenerationId, position: Position, said: (Channel, u64, &str)) {
        let (channel, offset, text) = said;
        let (reader, at) = (replay.reader, replay.at);
        let copy = replay.copies.entry(generation.clone()).or_default();
        let before = copy.position;
        let held = if channel == Channel::Text { &mut copy.text } else { &mut copy.reasoning };
        let length = held.len() as u64;
        if copy.told {
            self.blame("I7", reader, at, format!("a delta after the end of {generation}"));
        } else if offset > length {
            self.blame("I3", reader, at, format!("{generation}: a hole, {offset} after {length}"));
        } else if offset < length {
            self.blame("I3", reader, at, format!("{generation}: a repetition, {offset} after {length}"));
        } else {
            held.push_str(text);
            copy.position = before.max(position);
        }
        if position.epoch < before.epoch {
            self.blame("I4", reader, at, format!("{generation}: {position} after {before}"));
        }
        self.looks_right(replay, generation);
    }

    fn looks_right(&mut self, replay: &Replay<'_>, generation: &GenerationId) {
        let (copy, whole) = (&replay.copies[generation], &self.answers[generation]);
        if !whole.text.starts_with(&copy.text) || !whole.reasoning.starts_with(&copy.reasoning) {
            let what = format!("{generation}: {} bytes that are no beginning of the answer", copy.text.len());
            self.blame("I1", replay.reader, replay.at, what);
        }
    }

    fn snapshot(&mut self, replay: &mut Replay<'_>, generation: &GenerationId, position: Position, whole: (&str, &str)) {
        let (reader, at) = (replay.reader, replay.at);
        let known = replay.known.get(generation).is_some_and(|(_, offset)| *offset > 0);
        let copy = replay.copies.entry(generation.clone()).or_default();
        let had = copy.text.len();
        (copy.text, copy.reasoning, copy.position) = (whole.0.to_owned(), whole.1.to_owned(), position);
        if self.story.removed.contains(generation) {
            return;
        }
        if known || had > 0 {
            self.blame("I10", reader, at, format!("{generation}: a snapshot for a reader that had {had} bytes"));
        }
        if whole.0.len() < had {
            self.blame("I5", reader, at, format!("{generation}: {had} bytes became {}", whole.0.len()));
        }
        self.looks_right(replay, generation);
    }

    fn rewind(
        &mut self,
        replay: &mut Replay<'_>,
        generation: &GenerationId,
        position: Position,
        (channel, offset): (Channel, u64),
    ) {
        let copy = replay.copies.entry(generation.clone()).or_default();
        let held = if channel == Channel::Text { &mut copy.text } else { &mut copy.reasoning };
        held.truncate(usize::try_from(offset).expect("an offset"));
        copy.position = position;
        let kept = |entry: &Entry| match entry {
            Entry::Own(own) if channel == Channel::Text => own.offset == offset,
            Entry::Own(own) => own.reasoning_offset == offset,
            _ => false,
        };
        let log = self.story.logs.get(generation);
        let named = log.is_none_or(|log| log.iter().any(|(there, entry)| *there <= position && kept(entry)));
        if !named && !self.story.removed.contains(generation) {
            self.blame("I6", replay.reader, replay.at, format!("{generation}: a rewind to {offset} that no owner asked for"));
        }
    }

    fn finished(&mut self, replay: &mut Replay<'_>, finished: &Finished) {
        let (reader, at, generation) = (replay.reader, replay.at, &finished.generation);
        let copy = replay.copies.entry(generation.clone()).or_default();
        if copy.told {
            self.blame("I7", reader, at, format!("{generation} ended twice on one connection"));
        }
        if copy.ended.is_some_and(|before| before != finished.status) {
            self.blame("I7", reader, at, format!("{generation} ended in two ways"));
        }
        (copy.told, copy.ended) = (true, Some(finished.status));
        let same = copy.text == finished.message.content
            && copy.reasoning == finished.message.reasoning.clone().unwrap_or_default()
            && copy.text.len() as u64 == finished.length
            && crc32fast::hash(copy.text.as_bytes()) == finished.crc32;
        if !same {
            let (had, length) = (copy.text.len(), finished.length);
            self.blame("I2", reader, at, format!("{generation} ended with {length} bytes, the reader has {had}"));
        }
        self.outcome(reader, at, generation, finished.status, &finished.message.content);
    }

    /// An answer as the history shows it. `finished` may still come for it: who asks is told.
    fn read(&mut self, replay: &mut Replay<'_>, message: &Message) {
        let (reader, at) = (replay.reader, replay.at);
        let Some(generation) = message.generation.clone().filter(|generation| self.answers.contains_key(generation)) else {
            return self.blame("I20", reader, at, format!("{} is none of this conversation's", message.id));
        };
        let copy = replay.copies.entry(generation.clone()).or_default();
        copy.text.clone_from(&message.content);
        copy.reasoning = message.reasoning.clone().unwrap_or_default();
        copy.ended = Some(message.status);
        let stored = self.story.stored.get(&message.id);
        if stored.is_none_or(|stored| (&stored.content, stored.status) != (&message.content, message.status)) {
            self.blame("I2", reader, at, format!("the store has another end of {generation} than was read"));
        }
        self.outcome(reader, at, &generation, message.status, &message.content);
    }

    /// How an answer may end, and with which text.
    fn outcome(&mut self, reader: &str, at: Millis, generation: &GenerationId, status: Status, text: &str) {
        let whole = &self.answers[generation].text;
        if status == Status::Completed && text != whole {
            let (had, length) = (text.len(), whole.len());
            self.blame("I2", reader, at, format!("{generation} completed with {had} of {length} bytes"));
        }
        let well = matches!(status, Status::Completed | Status::Cancelled) || self.story.removed.contains(generation);
        if !well {
            self.blame("I8", reader, at, format!("{generation} ended as {}", status.as_str()));
        }
    }

    /// What the store says of an answer and its question, after all.
    fn stored(&mut self, accepted: &Accepted) {
        let question = self.story.stored.get(&accepted.question.id);
        if question.is_none_or(|question| question.content != accepted.question.content) {
            self.blame("I14", "store", 0, format!("the question of {} is not there", accepted.generation));
        }
        let Some(answer) = self.story.stored.get(&accepted.answer) else {
            return self.blame("I14", "store", 0, format!("the answer of {} is not there", accepted.generation));
        };
        if answer.status.is_open() {
            return self.blame("I8", "store", 0, format!("{} is still {}", accepted.generation, answer.status.as_str()));
        }
        self.outcome("store", 0, &accepted.generation, answer.status, &answer.content);
        for history in &self.story.histories {
            let ends = history.seen.iter().filter_map(|seen| match &seen.what {
                What::Heard(frame) => match &**frame {
                    ServerFrame::Finished(finished) if finished.generation == accepted.generation => Some((seen.at, finished)),
                    _ => None,
                },
                _ => None,
            });
            for (at, end) in ends {
                if end.message.content != answer.content || end.status != answer.status {
                    let what = format!("the store has another end of {} than was told", accepted.generation);
                    self.found.push(Violation { invariant: "I2", reader: history.reader.clone(), at, what });
                }
            }
        }
    }

    fn log(&mut self, accepted: &Accepted, log: &[(Position, Entry)]) {
        let generation = &accepted.generation;
        let mut transcript = Transcript::default();
        let (mut attempt, mut ends) = (0, 0);
        for (position, entry) in log {
            let before = transcript.position;
            let follows = if before.epoch == position.epoch { position.seq == before.seq + 1 } else { position.seq == 0 };
            if !follows || *position <= before {
                self.blame("I3", "log", 0, format!("{generation}: {position} after {before}"));
            }
            match entry {
                Entry::Own(own) => {
                    if own.base > before || own.offset > transcript.text.len() as u64 {
                        self.blame("I6", "log", 0, format!("{generation}: the owner at {position} keeps more than there is"));
                    }
                    if own.attempt < attempt {
                        self.blame("I15", "log", 0, format!("{generation}: attempt {} after {attempt}", own.attempt));
                    }
                    attempt = own.attempt;
                }
                Entry::Delta(_) if before.epoch != position.epoch => {
                    self.blame("I4", "log", 0, format!("{generation}: {position} writes without having begun"));
                }
                Entry::Delta(_) => {}
                Entry::Fin(_) => ends += 1,
            }
            if let Err(broken) = transcript.apply(*position, entry) {
                self.blame("I3", "log", 0, format!("{generation}: {broken}"));
            }
            if !accepted.text.starts_with(&transcript.text) {
                return self.blame("I1", "log", 0, format!("{generation}: at {position} it says something else"));
            }
        }
        let last = matches!(log.last(), Some((_, Entry::Fin(_))));
        if (ends, last) != (1, true) {
            self.blame("I7", "log", 0, format!("{generation}: {ends} ends, one of them last: {last}"));
        }
        if let Some(outcome) = &transcript.outcome {
            let stored = self.story.stored.get(&accepted.answer);
            let told = stored.is_none_or(|message| message.content == transcript.text && message.status == outcome.status);
            let sum = (outcome.length, outcome.crc32) == (transcript.text.len() as u64, transcript.crc32());
            if !told || !sum {
                self.blame("I2", "log", 0, format!("{generation}: log, its end and the message differ"));
            }
        }
    }
}
