//! `append`, `finish` and `read`: one gapless log with one end.

use chatnode::backend::{Backends, Error, Phase};
use chatnode::log::{Channel, Delta, Entry, Outcome, Own};
use chatnode::model::{ConversationId, Failure, GenerationId, Message, Position, Status, Timing, Usage, UserId};

use super::stage::{
    Writer, ask, assert_fenced, assert_gone, fold, following, generation_of, outcome, own, read_all, text, try_claim,
};

pub(crate) async fn reads_back_what_was_written(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "hi").await;
    let mut writer = Writer::claim(&backends).await;
    let thought = Entry::Delta(Delta { channel: Channel::Reasoning, offset: 0, text: "hmm".into() });
    let written = [own(&writer.claim), thought, text(0, "Xin "), text(4, "chào")];
    // The first entry alone, then one, then several at once.
    writer.append(&written[..1]).await.expect("append");
    writer.append(&written[1..2]).await.expect("append");
    writer.append(&written[2..]).await.expect("append");
    let (entries, _) = read_all(&backends, &generation_of(&asked)).await;
    let epoch = writer.claim.lease.epoch();
    let expected: Vec<_> = (0..).map(|seq| Position { epoch, seq }).zip(written).collect();
    assert_eq!(entries, expected);
    assert_eq!(fold(&entries).text, "Xin chào");
    // A text that grows is not yet in the message, or is a prefix of what was said.
    let message = backends.store.message(&asked.assistant_message.id).await.expect("message");
    assert!("Xin chào".starts_with(&message.content));
}

pub(crate) async fn pages_are_gapless(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "hi").await;
    let generation = generation_of(&asked);
    let mut writer = Writer::begin(&backends).await;
    for n in 0..30 {
        writer.say(&"many words ".repeat(n % 5 + 1)).await;
    }
    let (whole, _) = read_all(&backends, &generation).await;
    assert_eq!(whole.len(), 31);
    for weight in [0, 1, 100, 1_000, usize::MAX] {
        let (mut paged, mut after) = (Vec::new(), Position::START);
        loop {
            let page = backends.generations.read(&generation, after, weight).await.expect("read");
            assert_eq!(page.tail, writer.tail);
            let Some((last, _)) = page.entries.last() else { break };
            let heavy: usize = page.entries.iter().map(|(_, entry)| entry.weight()).sum();
            let allowed = weight.saturating_add(600);
            assert!(page.entries.len() == 1 || heavy <= allowed, "{heavy} bytes in a page of {weight}");
            after = *last;
            paged.extend(page.entries);
        }
        assert_eq!(paged, whole, "in pages of {weight}");
    }
    for (n, (after, _)) in whole.iter().enumerate() {
        let page = backends.generations.read(&generation, *after, usize::MAX).await.expect("read");
        assert_eq!(page.entries, whole[n + 1..], "after {after}");
    }
    // A position that no entry has (of an older owner, say) is a place in the order all the same.
    let older = Position { epoch: writer.claim.lease.epoch() - 1, seq: 99 };
    assert_eq!(backends.generations.read(&generation, older, usize::MAX).await.expect("read").entries, whole);
    let beyond = Position { epoch: u64::from(u32::MAX) << 16, seq: 0 };
    let page = backends.generations.read(&generation, beyond, 100).await.expect("read");
    assert_eq!((page.entries.len(), page.tail), (0, writer.tail));
}

/// However a backend keeps tokens that came one by one: what is read is what was written, from every position, by every page, while
/// it grows, and across owners.
pub(crate) async fn many_small_entries(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "hi").await;
    let generation = generation_of(&asked);
    let lengths = [1, 3, 5, 0, 2, 31, 4, 32, 6, 33, 2, 127, 1, 128, 3, 400];
    let words = "chữ này ".repeat(50);
    let (mut written, mut reasoning) = (Vec::new(), 0);
    for owner in 0..3_usize {
        let mut writer = Writer::claim(&backends).await;
        let mut text = writer.said.len();
        let Entry::Own(first) = own(&writer.claim) else { unreachable!("own() makes an Own") };
        let mut next = vec![Entry::Own(Own { offset: text as u64, reasoning_offset: reasoning as u64, ..first })];
        for n in 0..200_usize {
            // Long runs of short ones, some longer ones in between, and a few thoughts.
            let length = if n % 100 < 70 { n % 7 } else { lengths[(n * 7 + owner) % lengths.len()] };
            let thinks = owner == 0 && n % 41 < 5;
            let (channel, offset) = if thinks { (Channel::Reasoning, &mut reasoning) } else { (Channel::Text, &mut text) };
            let (from, _) = words.char_indices().nth(n % 8).expect("it is longer");
            let piece = &words[from..words.floor_char_boundary(from + length)];
            next.push(Entry::Delta(Delta { channel, offset: *offset as u64, text: piece.to_owned() }));
            *offset += piece.len();
            if !thinks {
                writer.said.push_str(piece);
            }
            if n % 50 < 40 || n % 9 == 0 || n == 199 {
                let mut place = writer.tail;
                writer.append(&next).await.expect("append");
                for entry in next.drain(..) {
                    place = place.next(writer.claim.lease.epoch());
                    written.push((place, entry));
                }
            }
            if n % 23 == 0 {
                assert_eq!(read_all(&backends, &generation).await.0, written, "owner {owner}, after {n}");
            }
        }
        backends.generations.release(writer.lease()).await.expect("release");
    }
    let last = written.last().expect("entries").0;
    for (n, (after, _)) in written.iter().enumerate() {
        for weight in [1, 100, usize::MAX] {
            let page = backends.generations.read(&generation, *after, weight).await.expect("read");
            assert_eq!(page.entries, written[n + 1..][..page.entries.len()], "after {after} by {weight}");
            assert!(!page.entries.is_empty() || *after == last, "nothing after {after}");
            assert!(weight < usize::MAX || page.entries.len() == written.len() - n - 1, "not all after {after}");
            let heavy: usize = page.entries.iter().map(|(_, entry)| entry.weight()).sum();
            assert!(page.entries.len() <= 1 || heavy <= weight, "{heavy} bytes in a page of {weight}");
        }
    }
    let (transcript, writer) = (fold(&written), Writer::claim(&backends).await);
    assert_eq!(writer.said, transcript.text);
    writer.finish(Status::Completed).await.expect("finish");
}

pub(crate) async fn repeat_writes_nothing(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "hi").await;
    let generation = generation_of(&asked);
    let mut writer = Writer::claim(&backends).await;
    let entries = [own(&writer.claim), text(0, "one "), text(4, "two")];
    let start = writer.tail;
    writer.append(&entries).await.expect("append");
    let tail = writer.tail;
    for _ in 0..3 {
        // As when the answer to the first call was lost on the way.
        writer.tail = start;
        writer.append(&entries).await.expect("repeat");
        assert_eq!(writer.tail, tail);
    }
    writer.append(&[text(7, " three")]).await.expect("goes on");
    let last = writer.tail;
    writer.tail = tail;
    writer.append(&[text(7, " three")]).await.expect("repeat");
    assert_eq!(writer.tail, last);
    assert_eq!(fold(&read_all(&backends, &generation).await.0).text, "one two three");
}

pub(crate) async fn out_of_order_names_the_tail(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "hi").await;
    let generation = generation_of(&asked);
    let mut writer = Writer::begin(&backends).await;
    writer.say("word").await;
    let (tail, epoch) = (writer.tail, writer.claim.lease.epoch());
    let wrong = [
        Position { epoch, seq: tail.seq + 1 },
        Position { epoch, seq: tail.seq + 1_000_000 },
        Position { epoch: epoch + 1, seq: 0 },
    ];
    for previous in wrong {
        let result = backends.generations.append(writer.lease(), previous, &[text(4, "!")]).await;
        assert_eq!(result, Err(Error::OutOfOrder { tail }), "behind {previous}");
        let outcome = outcome(Status::Completed, "word");
        let message = writer.final_message(&outcome);
        let result = backends.generations.finish(writer.lease(), previous, &outcome, &message).await;
        assert_eq!(result, Err(Error::OutOfOrder { tail }), "behind {previous}");
    }
    assert_eq!(read_all(&backends, &generation).await.0.len(), 2);
    writer.say("s").await;
    assert_eq!(fold(&read_all(&backends, &generation).await.0).text, "words");
}

pub(crate) async fn finish_ends_everything(backends: Backends) {
    let user = UserId::generate();
    let asked = ask(&backends, &user, "hi").await;
    let generation = generation_of(&asked);
    let mut writer = Writer::begin(&backends).await;
    writer.say("stored").await;
    let outcome = Outcome {
        usage: Some(Usage { input_tokens: 3, output_tokens: 4, estimated: true }),
        timing: Some(Timing { first_token_ms: 5, total_ms: 6 }),
        error: Some(Failure { code: "upstream_error".into(), message: "it broke".into() }),
        ..outcome(Status::Failed, "stored")
    };
    let message = Message { reasoning: Some("thoughts".into()), ..writer.final_message(&outcome) };
    backends.generations.finish(writer.lease(), writer.tail, &outcome, &message).await.expect("finish");

    let stored = backends.store.message(&asked.assistant_message.id).await.expect("message");
    assert_eq!(stored, Message { status: Status::Failed, ..message });
    let state = backends.store.conversation(&user, &asked.conversation.id).await.expect("conversation");
    assert!(state.open.is_empty());
    assert!(!state.conversation.generating);
    let (entries, phase) = read_all(&backends, &generation).await;
    assert_eq!(entries.last(), Some(&(writer.tail.next(writer.claim.lease.epoch()), Entry::Fin(outcome))));
    assert_eq!(phase, Phase::Ended);
    assert!(try_claim(&backends).await.is_none());
}

pub(crate) async fn repeat_of_finish(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "hi").await;
    let generation = generation_of(&asked);
    let mut writer = Writer::begin(&backends).await;
    writer.say("stored").await;
    for _ in 0..3 {
        writer.finish(Status::Completed).await.expect("finish");
    }
    let (entries, _) = read_all(&backends, &generation).await;
    assert_eq!(entries.len(), 3);
    assert_eq!(fold(&entries).text, "stored");
    // An owner that never wrote may end it as well: a cancel before the start, or attempts used up.
    ask(&backends, &UserId::generate(), "second").await;
    let silent = Writer::claim(&backends).await;
    silent.finish(Status::Cancelled).await.expect("finish");
    silent.finish(Status::Cancelled).await.expect("repeat");
    let (entries, phase) = read_all(&backends, silent.claim.lease.generation()).await;
    assert_eq!((entries.len(), phase), (1, Phase::Ended));
}

pub(crate) async fn after_the_end_nothing(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "hi").await;
    let generation = generation_of(&asked);
    let mut writer = Writer::begin(&backends).await;
    writer.say("stored").await;
    writer.finish(Status::Completed).await.expect("finish");
    let before = read_all(&backends, &generation).await;
    assert_fenced(writer.append(&[text(6, " more")]).await);
    assert_fenced(backends.generations.renew(writer.lease()).await);
    writer.tail = writer.tail.next(writer.claim.lease.epoch());
    assert_fenced(writer.append(&[text(6, " more")]).await);
    assert_fenced(writer.finish(Status::Failed).await);
    let _ = backends.generations.release(writer.lease()).await;
    assert_eq!(read_all(&backends, &generation).await, before);
    assert!(try_claim(&backends).await.is_none(), "a release after the end makes no work");
    let message = backends.store.message(&asked.assistant_message.id).await.expect("message");
    assert_eq!((message.content.as_str(), message.status), ("stored", Status::Completed));
}

pub(crate) async fn gone_with_its_conversation(backends: Backends) {
    let user = UserId::generate();
    let asked = ask(&backends, &user, "hi").await;
    let generation = generation_of(&asked);
    let mut writer = Writer::begin(&backends).await;
    writer.say("to be removed").await;
    backends.store.delete(&user, &asked.conversation.id).await.expect("delete");
    for _ in 0..2 {
        assert_gone(writer.append(&[text(13, "!")]).await);
        assert_gone(writer.append(&[]).await);
        assert_gone(backends.generations.renew(writer.lease()).await);
        assert_gone(writer.finish(Status::Completed).await);
        let _ = backends.generations.release(writer.lease()).await;
        assert_gone(backends.generations.read(&generation, Position::START, 1000).await);
    }
    assert!(try_claim(&backends).await.is_none());
    assert!(backends.store.message(&asked.assistant_message.id).await.is_err());
    let again = backends.generations.submit(&following(&user, &asked.conversation.id, "more")).await;
    assert!(again.is_err(), "the zombie brought the conversation back");
}

pub(crate) async fn awkward_text(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "hi").await;
    let mut writer = Writer::begin(&backends).await;
    let awkward = ["\0", "\u{feff}", "", "e\u{301}", "👩‍👩‍👧", "\r\n\t", "0-1", "\"quoted\" \\ {json}", "ﷺ", "\u{10ffff}"];
    for piece in awkward {
        writer.say(piece).await;
    }
    writer.say(&"đ".repeat(100_000)).await;
    writer.finish(Status::Completed).await.expect("finish");
    let (entries, _) = read_all(&backends, &generation_of(&asked)).await;
    let transcript = fold(&entries);
    assert!(transcript.text == writer.said, "the text came back changed");
    let stored = backends.store.message(&asked.assistant_message.id).await.expect("message").content;
    assert!(stored == writer.said, "the message came back changed");
    assert_eq!(crc32fast::hash(stored.as_bytes()), transcript.outcome.expect("an end").crc32);
}

pub(crate) async fn unknown_is_gone(backends: Backends) {
    let nobody = GenerationId::generate(&ConversationId::generate());
    assert_gone(backends.generations.read(&nobody, Position::START, 1000).await);
}
