//! Whatever is dropped, repeated or reordered, and wherever a reader leaves and comes back: it never holds anything but a
//! beginning of what the log said, and ends with exactly the final text.

use proptest::prelude::*;

use super::*;
use crate::log::{Delta, Outcome, Own, Rung};
use crate::model::{ConversationId, MessageId, Role, Time};

/// One thing that happens to a log.
#[derive(Clone, Debug)]
enum Event {
    Token(bool, String),
    /// A new owner that keeps about this share of the text, or nothing.
    Takeover(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (prop::bool::weighted(0.2), "[a-zđờ👍🏽]{1,6}").prop_map(|(reasoning, text)| Event::Token(reasoning, text)),
        1 => any::<u8>().prop_map(Event::Takeover),
    ]
}

struct TrueLog {
    entries: Vec<(Position, Entry)>,
    /// What the log said after each entry.
    said: Vec<(String, String)>,
    message: Message,
}

fn keep(text: &str, share: u8) -> usize {
    text.floor_char_boundary(text.len() * usize::from(share) / 255)
}

fn write(events: &[Event]) -> TrueLog {
    let conversation = ConversationId::generate();
    let id = MessageId::generate(&conversation);
    let mut transcript = Transcript::default();
    let mut entries = Vec::new();
    let mut said = vec![(String::new(), String::new())];
    let mut epoch = 1;
    let mut put = |transcript: &mut Transcript, epoch: u64, entry: Entry| {
        let position =
            if transcript.position.epoch == epoch { transcript.position.next(epoch) } else { Position { epoch, seq: 0 } };
        transcript.apply(position, &entry).expect("a true log has no holes");
        said.push((transcript.text.clone(), transcript.reasoning.clone()));
        entries.push((position, entry));
    };
    for event in events {
        let entry = match event {
            Event::Token(reasoning, text) => {
                let channel = if *reasoning { Channel::Reasoning } else { Channel::Text };
                Entry::Delta(Delta { channel, offset: transcript.length(channel), text: text.clone() })
            }
            Event::Takeover(share) => {
                epoch += 10;
                let restart = share % 3 == 0;
                let offset = if restart { 0 } else { keep(&transcript.text, *share) };
                let reasoning = if restart { 0 } else { transcript.reasoning.len() };
                let base = if restart { Position::START } else { transcript.position };
                let rung = if restart { Rung::Restart } else { Rung::Prefill };
                let (offset, reasoning_offset) = (offset as u64, reasoning as u64);
                Entry::Own(Own { worker: "w".to_owned(), rung, base, offset, reasoning_offset, attempt: 2, first_token_ms: None })
            }
        };
        put(&mut transcript, epoch, entry);
    }
    let outcome = Outcome {
        status: Status::Completed,
        finish_reason: None,
        usage: None,
        timing: None,
        error: None,
        length: transcript.text.len() as u64,
        crc32: transcript.crc32(),
    };
    put(&mut transcript, epoch, Entry::Fin(outcome));
    let message = Message {
        generation: Some(GenerationId::of(&id)),
        id,
        conversation,
        parent: None,
        role: Role::Assistant,
        content: transcript.text.clone(),
        reasoning: Some(transcript.reasoning.clone()).filter(|text| !text.is_empty()),
        status: Status::Completed,
        model: None,
        options: None,
        finish_reason: None,
        usage: None,
        timing: None,
        error: None,
        created_at: Time(0),
    };
    TrueLog { entries, said, message }
}

/// A client that follows the rules of the protocol to the letter.
#[derive(Debug, Default)]
struct Client {
    position: Position,
    text: String,
    reasoning: String,
    finished: usize,
}

impl Client {
    fn apply(&mut self, log: &TrueLog, step: Step) {
        let shared = |frame: &Utf8Bytes| -> (Position, Channel, u64, String) {
            let value: serde_json::Value = serde_json::from_str(frame.as_str()).expect("a frame");
            let channel = if value.get("channel").is_some() { Channel::Reasoning } else { Channel::Text };
            let text = value["text"].as_str().expect("text").to_owned();
            (
                value["position"].as_str().expect("position").parse().expect("position"),
                channel,
                value["offset"].as_u64().expect("offset"),
                text,
            )
        };
        match step {
            Step::Shared { frame, .. } => {
                let (position, channel, offset, text) = shared(&frame);
                self.delta(position, channel, offset, &text);
            }
            Step::Delta { position, channel, offset, text, .. } => self.delta(position, channel, offset, &text),
            Step::Snapshot { position, text, reasoning } => {
                (self.position, self.text, self.reasoning) = (position, text, reasoning.unwrap_or_default());
            }
            Step::Rewind { position, channel, offset } => {
                let held = self.held(channel);
                assert!(offset < held.len() as u64, "a rewind that drops nothing");
                held.truncate(usize::try_from(offset).expect("an offset"));
                let owned = position == self.position
                    || log.entries.iter().any(|(at, entry)| *at == position && matches!(entry, Entry::Own(_)));
                assert!(owned, "rewinds happen only at an owner");
                self.position = position;
            }
            Step::Status { .. } => {}
            Step::Finished { message } => {
                self.finished += 1;
                assert_eq!(message.content, self.text, "the end is told behind all of the text");
            }
        }
    }

    fn held(&mut self, channel: Channel) -> &mut String {
        match channel {
            Channel::Text => &mut self.text,
            Channel::Reasoning => &mut self.reasoning,
        }
    }

    fn delta(&mut self, position: Position, channel: Channel, offset: u64, text: &str) {
        assert!(position >= self.position, "positions never fall");
        let held = self.held(channel);
        assert_eq!(offset, held.len() as u64, "a hole or a repetition");
        held.push_str(text);
        self.position = position;
    }

    fn check(&self, log: &TrueLog) {
        let begins = |whole: &(String, String)| whole.0.starts_with(&self.text) && whole.1.starts_with(&self.reasoning);
        assert!(log.said.iter().any(begins), "the client holds what the log never said: {self:?}");
    }
}

struct World<'a> {
    log: &'a TrueLog,
    replica: Replica,
    /// Entries that are in the store so far.
    stored: usize,
}

impl World<'_> {
    /// What the topic's task does when it reads the store.
    fn read(&mut self) {
        let after = self.replica.position();
        for (position, entry) in self.log.entries[..self.stored].iter().filter(|(position, _)| *position > after) {
            self.replica.absorb(*position, entry).expect("the store has no holes");
        }
        if self.replica.has_ended() {
            self.replica.finish(self.log.message.clone());
        }
    }

    fn hint(&mut self, index: usize) {
        let Some((position, entry)) = self.log.entries.get(index) else { return };
        let previous = index.checked_sub(1).map_or(Position::START, |before| self.log.entries[before].0);
        let frame = |id: &GenerationId| super::super::frames::delta(id, *position, entry);
        let old = *position <= self.replica.position();
        let offered =
            self.replica.offer(previous, *position, entry, None, frame).expect("a hint of a true log fits or is dropped");
        assert_eq!(offered == Offered::Known, old, "what is known is no reason to read the store");
        if offered == Offered::Gap || self.replica.has_ended() {
            self.read();
        }
    }
}

/// More than any text here has: a misstatement that can be told from the truth.
const LIE: u64 = 1_000_000;

/// What happens next in the world: a write whose hint arrives or not, an old hint again, a slow reader that reads, a reader that comes back.
#[derive(Clone, Copy, Debug)]
enum Act {
    Write {
        hinted: bool,
    },
    OldHint(u8),
    Check,
    /// It has grown long.
    Thin {
        span: u8,
    },
    Read {
        reader: u8,
        steps: u8,
    },
    Return {
        reader: u8,
        told: Told,
    },
}

/// What a reader that comes back says it has beside its position.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// As much text as it has.
    Truth,
    Lie,
    /// Nothing, as who gives a `Last-Event-ID`.
    Nothing,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => any::<bool>().prop_map(|hinted| Act::Write { hinted }),
        2 => any::<u8>().prop_map(Act::OldHint),
        1 => Just(Act::Check),
        1 => any::<u8>().prop_map(|span| Act::Thin { span }),
        5 => (any::<u8>(), 0..4_u8).prop_map(|(reader, steps)| Act::Read { reader, steps }),
        2 => (any::<u8>(), prop_oneof![2 => Just(Told::Truth), 1 => Just(Told::Lie), 2 => Just(Told::Nothing)])
            .prop_map(|(reader, told)| Act::Return { reader, told }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_converges(events in prop::collection::vec(event(), 0..60), acts in prop::collection::vec(act(), 0..200)) {
        let log = write(&events);
        let generation = log.message.generation.clone().expect("set above");
        let mut world = World { log: &log, replica: Replica::new(generation), stored: 0 };
        let mut readers: Vec<(Client, Cursor)> = (0..3).map(|_| (Client::default(), Cursor::start())).collect();
        for act in acts {
            match act {
                Act::Write { hinted } => {
                    world.stored = (world.stored + 1).min(log.entries.len());
                    if hinted {
                        world.hint(world.stored - 1);
                    }
                }
                Act::OldHint(which) if world.stored > 0 => world.hint(usize::from(which) % world.stored),
                Act::OldHint(_) => {}
                Act::Check => world.read(),
                Act::Thin { span } => world.replica.thin(u64::from(span)),
                Act::Read { reader, steps } => {
                    let (client, cursor) = &mut readers[usize::from(reader) % 3];
                    for _ in 0..steps {
                        match world.replica.next(cursor) {
                            Some(step) => client.apply(&log, step),
                            None => cursor.caught_up(),
                        }
                        client.check(&log);
                    }
                }
                Act::Return { reader, told } => {
                    let (client, cursor) = &mut readers[usize::from(reader) % 3];
                    let held = client.text.len() as u64;
                    let offset = match told {
                        Told::Truth => Some(held),
                        Told::Lie => Some(held + LIE),
                        Told::Nothing => None,
                    };
                    client.finished = 0;
                    *cursor = world.replica.resume(client.position, offset);
                    // A client that misstates what it has is given the whole, or what follows from nothing.
                    if matches!(told, Told::Lie) && *cursor == Cursor::start() {
                        *client = Client::default();
                    }
                }
            }
        }
        world.stored = log.entries.len();
        world.read();
        for (client, cursor) in &mut readers {
            while let Some(step) = world.replica.next(cursor) {
                client.apply(&log, step);
                client.check(&log);
            }
            prop_assert_eq!(&client.text, &log.message.content);
            prop_assert_eq!(Some(&client.reasoning).filter(|text| !text.is_empty()), log.message.reasoning.as_ref());
            prop_assert_eq!(client.finished, 1);
        }
    }
}

#[test]
fn a_reader_that_is_behind_gets_one_delta_and_one_that_is_not_gets_the_shared_frame() {
    let log = write(&[Event::Token(false, "một ".to_owned()), Event::Token(false, "hai".to_owned())]);
    let generation = log.message.generation.clone().unwrap();
    let mut world = World { log: &log, replica: Replica::new(generation), stored: 3 };
    let (mut quick, mut slow) = (Cursor::start(), Cursor::start());
    quick.caught_up();
    slow.caught_up();
    world.hint(0);
    assert!(matches!(world.replica.next(&mut quick), Some(Step::Shared { .. })));
    world.hint(1);
    assert!(matches!(world.replica.next(&mut quick), Some(Step::Shared { .. })));
    let Some(Step::Delta { text, .. }) = world.replica.next(&mut slow) else { panic!("one delta") };
    assert_eq!(text, "một hai");
}

#[test]
fn a_very_long_log_is_kept_in_little_room_and_still_read_from_its_beginning() {
    let conversation = ConversationId::generate();
    let mut replica = Replica::new(GenerationId::of(&MessageId::generate(&conversation)));
    let mut early = None;
    for seq in 0..200_000 {
        let offset = replica.transcript().length(Channel::Text);
        let delta = Delta { channel: Channel::Text, offset, text: "chữ ".to_owned() };
        replica.absorb(Position { epoch: 1, seq }, &Entry::Delta(delta)).expect("no holes");
        early = early.or_else(|| replica.next(&mut Cursor::start()));
    }
    assert!(replica.marks.len() <= 2 * MARKS_MAX, "{} marks", replica.marks.len());
    let (mut read, mut cursor) = (String::new(), Cursor::start());
    while let Some(Step::Delta { offset, text, .. }) = replica.next(&mut cursor) {
        assert_eq!(offset, read.len() as u64);
        assert!(text.len() as u64 <= REPLAY_BYTES_MAX, "{} bytes", text.len());
        read.push_str(&text);
    }
    assert_eq!(read, replica.transcript().text);
    let latest = replica.resume(Position { epoch: 1, seq: 199_000 }, Some(199_001 * 6));
    assert!(!latest.snapshot, "who was just here goes on");
    assert!(
        matches!(early, Some(Step::Delta { position, .. }) if replica.resume(position, Some(6)).text == 6),
        "nor is the first gone"
    );
}

#[test]
fn a_log_that_is_gone_gives_way_to_the_message() {
    let log = write(&[Event::Token(false, "toàn bộ".to_owned())]);
    let mut replica = Replica::new(log.message.generation.clone().unwrap());
    replica.finish(log.message.clone());
    let mut fresh = Cursor::start();
    assert!(matches!(replica.next(&mut fresh), Some(Step::Delta { text, .. }) if text == "toàn bộ"));
    assert!(matches!(replica.next(&mut fresh), Some(Step::Finished { .. })));
    let mut old = replica.resume(Position { epoch: 7, seq: 3 }, Some(4));
    assert!(matches!(replica.next(&mut old), Some(Step::Snapshot { text, .. }) if text == "toàn bộ"));
    assert!(matches!(replica.next(&mut old), Some(Step::Finished { .. })));
    assert_eq!(replica.next(&mut old), None);
}

/// Two owners came since; what the second one kept is just as long as what the reader has of the first, and says something else.
#[test]
fn text_that_is_as_long_by_chance_is_dropped_all_the_same() {
    let token = |reasoning, text: &str| Event::Token(reasoning, text.to_owned());
    let said =
        [token(true, "hm"), token(false, "old text"), Event::Takeover(0), token(false, "new words, more"), Event::Takeover(140)];
    let log = write(&said);
    let kept = keep("new words, more", 140);
    assert_eq!(kept, "old text".len(), "as long by chance");
    let mut world = World { log: &log, replica: Replica::new(log.message.generation.clone().unwrap()), stored: 2 };
    world.read();
    let (mut client, mut cursor) = (Client::default(), Cursor::start());
    world.stored = log.entries.len();
    for _ in 0..2 {
        client.apply(&log, world.replica.next(&mut cursor).expect("thoughts, then text"));
    }
    world.read();
    while let Some(step) = world.replica.next(&mut cursor) {
        client.apply(&log, step);
        client.check(&log);
    }
    assert_eq!((client.text.as_str(), client.finished), ("new word", 1));
}
