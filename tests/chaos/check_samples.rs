//! A good story, in which the judge finds nothing, and bad ones with one thing wrong each, which it does find: a judge
//! that never blames anybody proves nothing.

use std::collections::BTreeMap;

use chatnode::ai::provider::demo;
use chatnode::log::{Channel, Delta, Entry, Outcome, Own, Rung};
use chatnode::model::{ConversationId, GenerationId, Message, MessageId, Position, Status};
use chatnode::protocol::{ErrorCode, ErrorFrame, Finished, ServerFrame};
use serde_json::json;

use super::check::check;
use super::faults::{Fault, Span, Touched};
use super::history::{History, Millis, Question, Seen, Story, What};
use super::table;
use crate::conformance::stage;

const TOKENS: usize = 12;
/// Tokens that the first owner wrote.
const FIRST: usize = 6;
const EPOCHS: [u64; 2] = [1_000, 2_000];

/// What a sample is made of.
struct Sample {
    story: Story,
    generation: GenerationId,
    text: String,
    tokens: Vec<&'static str>,
}

impl Sample {
    /// Two owners, an author who stays, and a reader who loses its socket in the middle.
    fn good() -> Self {
        let conversation = ConversationId::generate();
        let prompt = format!("/demo tokens={TOKENS} rate=25");
        let question = stage::message(&conversation, None, &prompt);
        let mut answer = stage::message(&conversation, Some(&question), "");
        let generation = GenerationId::of(&answer.id);
        answer.generation = Some(generation.clone());
        let (text, tokens) = (demo::text(&generation, &prompt), demo::tokens(&generation, &prompt));
        let mut sample = Self { story: Story::default(), generation, text, tokens };
        sample.story.plan = vec![Question { request: "r".to_owned(), prompt }];
        sample.story.stored.insert(question.id.clone(), question.clone());
        let accepted = ServerFrame::Accepted {
            request_id: "r".to_owned(),
            conversation,
            user_message: question,
            assistant_message: answer.clone(),
        };
        let ended = Message { content: sample.text.clone(), status: Status::Completed, ..answer };
        sample.story.stored.insert(ended.id.clone(), ended.clone());
        sample.story.logs.insert(sample.generation.clone(), sample.log());
        let end = sample.end(&ended);
        let mut author = vec![What::Opened(0), What::Sent("r".to_owned()), heard(accepted)];
        author.extend((0..TOKENS).map(|token| heard(sample.delta(token))));
        author.push(heard(end.clone()));
        let known = BTreeMap::from([(sample.generation.clone(), (sample.position(FIRST - 1), sample.offset(FIRST)))]);
        let mut reader = vec![What::Opened(1), What::Subscribed(BTreeMap::new())];
        reader.extend((0..FIRST).map(|token| heard(sample.delta(token))));
        reader.extend([What::Lost, What::Opened(0), What::Subscribed(known)]);
        reader.extend((FIRST..TOKENS).map(|token| heard(sample.delta(token))));
        reader.push(heard(end));
        sample.story.histories = [("author", author), ("reader", reader)].map(|(name, what)| history(name, what)).into();
        sample
    }

    fn offset(&self, token: usize) -> u64 {
        self.tokens[..token].iter().map(|token| token.len() as u64).sum()
    }

    fn position(&self, token: usize) -> Position {
        let (epoch, seq) = if token < FIRST { (EPOCHS[0], token + 1) } else { (EPOCHS[1], token - FIRST + 1) };
        Position { epoch, seq: seq as u64 }
    }

    fn delta(&self, token: usize) -> ServerFrame {
        ServerFrame::Delta {
            generation: self.generation.clone(),
            position: self.position(token),
            offset: self.offset(token),
            text: self.tokens[token].to_owned(),
            channel: Channel::Text,
            replay: false,
        }
    }

    fn end(&self, message: &Message) -> ServerFrame {
        ServerFrame::Finished(Box::new(Finished {
            generation: self.generation.clone(),
            message: message.clone(),
            status: message.status,
            finish_reason: None,
            length: self.text.len() as u64,
            crc32: crc32fast::hash(self.text.as_bytes()),
            usage: None,
            error: None,
        }))
    }

    fn log(&self) -> Vec<(Position, Entry)> {
        let mut log: Vec<(Position, Entry)> = Vec::new();
        for token in 0..TOKENS {
            if token % FIRST == 0 {
                let attempt = token / FIRST;
                let rung = if token == 0 { Rung::Start } else { Rung::Prefill };
                let base = log.last().map_or(Position::START, |(position, _)| *position);
                let worker = format!("ai-{attempt}");
                let attempt = u32::try_from(attempt).expect("small") + 1;
                let own =
                    Own { worker, rung, base, offset: self.offset(token), reasoning_offset: 0, attempt, first_token_ms: None };
                log.push((Position { epoch: EPOCHS[token / FIRST], seq: 0 }, Entry::Own(own)));
            }
            let delta = Delta { channel: Channel::Text, offset: self.offset(token), text: self.tokens[token].to_owned() };
            log.push((self.position(token), Entry::Delta(delta)));
        }
        log.push((self.position(TOKENS), Entry::Fin(stage::outcome(Status::Completed, &self.text))));
        log
    }

    fn entries(&mut self) -> &mut Vec<(Position, Entry)> {
        self.story.logs.get_mut(&self.generation).expect("its log")
    }

    fn reader(&mut self) -> &mut Vec<Seen> {
        &mut self.story.histories[1].seen
    }

    /// Changes the reader's frames; what becomes nothing was never heard.
    fn frames(&mut self, change: impl Fn(&mut ServerFrame) -> bool) {
        self.reader().retain_mut(|seen| if let What::Heard(frame) = &mut seen.what { change(frame) } else { true });
    }

    fn hears(&mut self, frame: ServerFrame) {
        let at = self.reader().len() - 1;
        self.reader().insert(at, Seen { at: 1, what: heard(frame) });
    }

    fn answer(&mut self) -> &mut Message {
        let id = self.generation.message();
        self.story.stored.get_mut(&id).expect("the answer")
    }

    /// It is blamed for this, whatever else follows from it.
    #[track_caller]
    fn blamed(&self, invariant: &str) {
        let found = check(&self.story);
        assert!(found.iter().any(|violation| violation.invariant == invariant), "{invariant} is not in {found:#?}");
    }
}

fn heard(frame: ServerFrame) -> What {
    What::Heard(Box::new(frame))
}

fn history(name: &str, what: Vec<What>) -> History {
    let seen = what.into_iter().enumerate().map(|(at, what)| Seen { at: at as Millis, what });
    History { reader: name.to_owned(), seen: seen.collect() }
}

fn bad(invariant: &str, spoil: impl FnOnce(&mut Sample)) {
    let mut sample = Sample::good();
    spoil(&mut sample);
    sample.blamed(invariant);
}

#[test]
fn a_good_story_has_nothing_wrong() {
    assert_eq!(check(&Sample::good().story), []);
}

#[test]
fn readers_who_saw_the_wrong_thing_are_found() {
    bad("I1", |sample| {
        sample.frames(|frame| {
            if let ServerFrame::Delta { text, .. } = frame {
                *text = "#".repeat(text.len());
            }
            true
        });
    });
    let seventh = EPOCHS[1];
    bad("I3", |sample| {
        sample.frames(
            |frame| !matches!(frame, ServerFrame::Delta { position, .. } if position.epoch == seventh && position.seq == 2),
        );
    });
    bad("I3", |sample| {
        let again = sample.delta(TOKENS - 1);
        sample.hears(again);
    });
    bad("I4", |sample| {
        let zombie = sample.delta(FIRST - 1);
        sample.hears(zombie);
    });
    bad("I5", |sample| {
        let (generation, position) = (sample.generation.clone(), sample.position(TOKENS - 1));
        sample.hears(ServerFrame::Snapshot { generation, position, text: sample.tokens[0].to_owned(), reasoning: None });
    });
    bad("I6", |sample| {
        let (generation, position) = (sample.generation.clone(), sample.position(TOKENS - 1));
        sample.hears(ServerFrame::Rewind { generation, position, offset: 1, channel: Channel::Text });
    });
    bad("I10", |sample| {
        let (generation, position) = (sample.generation.clone(), sample.position(TOKENS - 1));
        sample.hears(ServerFrame::Snapshot { generation, position, text: sample.text.clone(), reasoning: None });
    });
    bad("I20", |sample| {
        let generation = GenerationId::generate(&ConversationId::generate());
        let position = sample.position(0);
        sample.hears(ServerFrame::Delta {
            generation,
            position,
            offset: 0,
            text: "x".into(),
            channel: Channel::Text,
            replay: false,
        });
    });
    bad("I20", |sample| sample.hears(ServerFrame::CaughtUp { conversation: ConversationId::generate() }));
    bad("I14", |sample| {
        let error: ErrorFrame = serde_json::from_value(json!({"code": "not_found", "message": "x"})).expect("a frame");
        assert_eq!(error.code, ErrorCode::NotFound);
        sample.hears(ServerFrame::Error(error));
    });
}

#[test]
fn ends_that_are_missing_double_or_different_are_found() {
    bad("I8", |sample| drop(sample.reader().pop()));
    bad("I7", |sample| sample.frames(|frame| !matches!(frame, ServerFrame::Delta { .. } | ServerFrame::Finished(_))));
    bad("I7", |sample| {
        let end = sample.reader().last().expect("an end").clone();
        sample.reader().push(end);
    });
    bad("I7", |sample| drop(sample.entries().pop()));
    bad("I7", |sample| {
        let (position, end) = sample.entries().last().expect("an end").clone();
        sample.entries().push((position.next(position.epoch), end));
    });
    bad("I2", |sample| sample.answer().content.push('!'));
    bad("I2", |sample| sample.answer().status = Status::Cancelled);
    bad("I2", |sample| {
        sample.frames(|frame| {
            if let ServerFrame::Finished(end) = frame {
                end.crc32 += 1;
            }
            true
        });
    });
    // Cut, and shown as whole.
    bad("I2", |sample| {
        sample.frames(|frame| {
            if let ServerFrame::Finished(end) = frame {
                end.message.content.truncate(1);
            }
            true
        });
    });
    bad("I8", |sample| sample.answer().status = Status::Failed);
    bad("I8", |sample| sample.answer().status = Status::Running);
    bad("I11", |sample| {
        let (generation, asked) = (sample.generation.clone(), What::Cancelled(sample.generation.clone()));
        let accepted = heard(ServerFrame::CancelAccepted { generation });
        sample.reader().splice(3..3, [asked, accepted].map(|what| Seen { at: 1, what }));
    });
}

#[test]
fn who_comes_late_reads_the_same_end() {
    let mut sample = Sample::good();
    let message = sample.answer().clone();
    *sample.reader() = history("", vec![What::Opened(0), What::Read(Box::new(message.clone()))]).seen;
    assert_eq!(check(&sample.story), []);
    let cut = Message { content: sample.text.chars().take(3).collect(), ..message };
    sample.reader()[1].what = What::Read(Box::new(cut));
    sample.blamed("I2");
}

#[test]
fn requests_that_are_lost_doubled_or_taken_for_others_are_found() {
    bad("I8", |sample| sample.story.plan.push(Question { request: "other".into(), prompt: "?".into() }));
    bad("I14", |sample| sample.story.plan[0].prompt.push('?'));
    bad("I14", |sample| sample.story.stored.clear());
    bad("I13", |sample| {
        let mut again = sample.story.histories[0].seen[2].clone();
        if let What::Heard(frame) = &mut again.what
            && let ServerFrame::Accepted { user_message, assistant_message, .. } = &mut **frame
        {
            let id = MessageId::generate(&user_message.conversation);
            assistant_message.generation = Some(GenerationId::of(&id));
            assistant_message.id = id;
        }
        sample.story.histories[0].seen.insert(3, again);
    });
    bad("I13", |sample| drop(sample.story.histories[0].seen.remove(1)));
}

#[test]
fn logs_with_holes_zombies_or_false_owners_are_found() {
    bad("I3", |sample| drop(sample.entries().remove(3)));
    bad("I3", |sample| {
        sample.entries()[FIRST].0.seq += 1;
    });
    bad("I4", |sample| drop(sample.entries().remove(FIRST + 1)));
    bad("I6", |sample| {
        if let Entry::Own(own) = &mut sample.entries()[FIRST + 1].1 {
            own.offset += 100;
        }
    });
    bad("I15", |sample| {
        if let Entry::Own(own) = &mut sample.entries()[FIRST + 1].1 {
            own.attempt = 0;
        }
    });
    bad("I1", |sample| {
        if let Entry::Delta(delta) = &mut sample.entries()[2].1 {
            delta.text = "#".repeat(delta.text.len());
        }
    });
    bad("I2", |sample| {
        let outcome = Outcome { length: 1, ..stage::outcome(Status::Completed, "") };
        let last = sample.entries().last_mut().expect("an end");
        last.1 = Entry::Fin(outcome);
    });
}

#[test]
fn a_removed_log_excuses_what_follows_from_it_and_nothing_else() {
    let mut sample = Sample::good();
    sample.story.removed.insert(sample.generation.clone());
    sample.story.logs.clear();
    sample.answer().status = Status::Interrupted;
    for history in &mut sample.story.histories {
        if let Some(Seen { what: What::Heard(frame), .. }) = history.seen.last_mut()
            && let ServerFrame::Finished(end) = &mut **frame
        {
            (end.status, end.message.status) = (Status::Interrupted, Status::Interrupted);
        }
    }
    assert_eq!(check(&sample.story), []);
    sample.reader().pop();
    sample.blamed("I8");
}

#[test]
fn times_tell_what_took_too_long() {
    let sample = Sample::good();
    let lease = std::time::Duration::from_secs(6);
    let span = |fault, touched| Span { fault, from: 12, healed: 13, until: 14, touched };
    // The second owner began at 2000 - 990.
    let measures = table::measure(&sample.story, EPOCHS[0] - 5);
    assert_eq!(measures.len(), 2);
    assert_eq!(measures[0].owners, [(5, "ai-0".to_owned()), (1_005, "ai-1".to_owned())]);
    let killed = [span(Fault::WorkerKilled, Touched::Worker("ai-0".into()))];
    assert_eq!(table::check(&measures, &killed, lease), []);
    let mut slow = measures.clone();
    for (at, _) in slow[0].arrivals.iter_mut().filter(|(at, _)| *at > 12) {
        *at += 11_000;
    }
    assert_eq!(table::check(&slow, &killed, lease)[0].invariant, "I9");
    assert_eq!(table::check(&slow, &[span(Fault::WorkerKilled, Touched::Worker("ai-1".into()))], lease), []);
    let rows = table::rows(&slow, &killed);
    let row = &rows[&Fault::WorkerKilled];
    assert_eq!((row.count, row.gaps.last().copied()), (1, Some(11_001)));
    assert!(!table::are_met(&rows), "{}", table::show(&rows));
    let mut seen = measures;
    seen[1].blemishes.push((13, "error"));
    let rolling = [span(Fault::RollingRestart, Touched::All)];
    assert_eq!(table::check(&seen, &rolling, lease)[0].invariant, "I18");
}
