//! `Backplane`: hints that may get lost, so every case says it again until it is heard.

use std::sync::Arc;
use std::time::Duration;

use chatnode::backend::{Backends, Hint, Hints, Progress, Subject};
use chatnode::log::{Channel, Delta, Entry};
use chatnode::model::{ConversationId, GenerationId, Position, Time, UserId};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::stage::{self, PATIENCE, message};

pub(crate) async fn delivers(backends: Backends) {
    let subject = Subject::Conversation(ConversationId::generate());
    let mut hints = backends.backplane.subscribe(&subject).await;
    let hint = tail(1);
    assert_eq!(*hear(&backends, &subject, &hint, &mut hints).await, hint);
}

pub(crate) async fn keeps_subjects_apart(backends: Backends) {
    let conversation = ConversationId::generate();
    let generation = GenerationId::generate(&conversation);
    let subjects = [
        Subject::Conversation(conversation),
        Subject::Conversation(ConversationId::generate()),
        Subject::Work("model-a".into()),
        Subject::Work("model-b".into()),
        // A model's name may hold anything; it must neither break a subject nor reach into others.
        Subject::Work("model-a.*".into()),
        Subject::Work("org/model:7b > x".into()),
        Subject::Work("mô hình".into()),
        Subject::Cancel(generation),
        Subject::User(UserId::generate()),
    ];
    let mut all = Vec::new();
    for subject in &subjects {
        all.push(backends.backplane.subscribe(subject).await);
    }
    // Everybody hears the own number, and only that.
    for (n, subject) in subjects.iter().enumerate() {
        let own = tail(n as u64);
        assert_eq!(*hear(&backends, subject, &own, &mut all[n]).await, own, "on {subject:?}");
    }
    for (n, hints) in all.iter_mut().enumerate() {
        while let Ok(Some(hint)) = tokio::time::timeout(Duration::from_millis(20), hints.next()).await {
            assert_eq!(*hint, tail(n as u64), "on {:?}", subjects[n]);
        }
    }
}

pub(crate) async fn nobody_listens(backends: Backends) {
    let subject = Subject::User(UserId::generate());
    for n in 0..1_000 {
        backends.backplane.publish(&subject, tail(n)).await;
    }
    // Who came and left again leaves nothing behind.
    drop(backends.backplane.subscribe(&subject).await);
    backends.backplane.publish(&subject, tail(0)).await;
    let mut hints = backends.backplane.subscribe(&subject).await;
    assert_eq!(*hear(&backends, &subject, &tail(7), &mut hints).await, tail(7), "what is said from now on");
}

pub(crate) async fn every_subscriber_hears(backends: Backends) {
    let subject = Subject::Conversation(ConversationId::generate());
    let mut first = backends.backplane.subscribe(&subject).await;
    let mut second = backends.backplane.subscribe(&subject).await;
    let mut third = backends.backplane.subscribe(&subject).await;
    for hints in [&mut first, &mut second, &mut third] {
        hear(&backends, &subject, &tail(1), hints).await;
    }
    drop(second);
    // One never reads: the others must not wait for it.
    for n in 0..5_000 {
        backends.backplane.publish(&subject, tail(n)).await;
    }
    hear(&backends, &subject, &tail(9_999), &mut first).await;
    hear(&backends, &subject, &tail(9_998), &mut third).await;
}

pub(crate) async fn all_hints_travel(backends: Backends) {
    let conversation = stage::conversation("Tiêu đề", 1_700_000_000_000);
    let generation = GenerationId::generate(&conversation.id);
    let delta = Entry::Delta(Delta { channel: Channel::Reasoning, offset: 7, text: "ngẫm \0 nghĩ".into() });
    let position = Position { epoch: 1_700_000_000_001, seq: 3 };
    let hints = [
        Hint::Entry {
            generation: generation.clone(),
            previous: Position::START,
            position,
            entry: delta,
            stored_us: Some(Time::now_us()),
        },
        Hint::Tail { generation: generation.clone(), position },
        Hint::Progress { generation: generation.clone(), progress: Progress::Recovering },
        Hint::Message { message: Box::new(message(&conversation.id, None, "hello")) },
        Hint::ConversationDeleted { conversation: conversation.clone() },
        Hint::Conversation { conversation },
        Hint::Work { generation: Some(generation) },
        Hint::Work { generation: None },
        Hint::Cancel { at: Time::now() },
        Hint::Access,
    ];
    for hint in hints {
        let subject = Subject::Conversation(ConversationId::generate());
        let mut listening = backends.backplane.subscribe(&subject).await;
        assert_eq!(*hear(&backends, &subject, &hint, &mut listening).await, hint);
    }
}

/// Says it until it is heard, as at most once delivery demands.
async fn hear(backends: &Backends, subject: &Subject, hint: &Hint, hints: &mut Hints) -> Arc<Hint> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        backends.backplane.publish(subject, hint.clone()).await;
        while let Ok(heard) = tokio::time::timeout(Duration::from_millis(50), hints.next()).await {
            let heard = heard.expect("the subscription lasts");
            if *heard == *hint {
                return heard;
            }
        }
        assert!(Instant::now() < deadline, "never heard {hint:?} on {subject:?}");
    }
}

fn tail(n: u64) -> Hint {
    let conversation = ConversationId::for_request(&fixed_user(), "backplane");
    let generation = GenerationId::parse(&format!("gen_{}{}", &conversation.as_str()[4..], "0".repeat(16))).expect("an id");
    Hint::Tail { generation, position: Position { epoch: 1, seq: n } }
}

fn fixed_user() -> UserId {
    UserId::parse(&format!("usr_{}", "0".repeat(26))).expect("an id")
}
