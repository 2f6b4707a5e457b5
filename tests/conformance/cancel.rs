//! `Generations::cancel`, in every phase of an answer.

use chatnode::backend::{Backends, Cancel, Phase};
use chatnode::log::Entry;
use chatnode::model::{ConversationId, GenerationId, Status, Time, UserId};

use super::stage::{Writer, ask, assert_not_found, eventually, generation_of, lose, read_all, try_claim};

pub(crate) async fn queued_ends_at_once(backends: Backends) {
    let user = UserId::generate();
    let asked = ask(&backends, &user, "never mind").await;
    let generation = generation_of(&asked);
    assert_eq!(backends.generations.cancel(&generation).await, Ok(Cancel::Ended));
    assert!(try_claim(&backends).await.is_none(), "nobody may begin it now");

    let (entries, phase) = read_all(&backends, &generation).await;
    assert_eq!((entries.len(), phase), (1, Phase::Ended));
    let Entry::Fin(outcome) = &entries[0].1 else { panic!("not an end: {entries:?}") };
    assert_eq!((outcome.status, outcome.length, outcome.crc32), (Status::Cancelled, 0, 0));
    assert_eq!(backends.store.message(&asked.assistant_message.id).await.expect("message").status, Status::Cancelled);
    let state = backends.store.conversation(&user, &asked.conversation.id).await.expect("conversation");
    assert!(state.open.is_empty());
    assert!(!state.conversation.generating);
    assert!(state.conversation.version > asked.conversation.version);
    assert_eq!(backends.generations.cancel(&generation).await, Ok(Cancel::AlreadyEnded(Status::Cancelled)));
    assert_eq!(read_all(&backends, &generation).await.0.len(), 1);
}

pub(crate) async fn running_is_told_by_renewal(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "stop soon").await;
    let writer = Writer::begin(&backends).await;
    assert_eq!(backends.generations.renew(writer.lease()).await.expect("renew").cancel, None);
    let before = Time::now();
    assert_eq!(backends.generations.cancel(&generation_of(&asked)).await, Ok(Cancel::Requested));
    let told = backends.generations.renew(writer.lease()).await.expect("renew").cancel.expect("asked");
    assert!(told.since_ms(before) < 60_000 && before.since_ms(told) < 60_000, "{told}: the time when it was asked");
    assert_eq!(backends.generations.cancel(&generation_of(&asked)).await, Ok(Cancel::Requested));
    assert_eq!(backends.generations.renew(writer.lease()).await.expect("renew").cancel, Some(told), "the first one counts");
    writer.finish(Status::Cancelled).await.expect("finish");
    assert_eq!(backends.store.message(&asked.assistant_message.id).await.expect("message").status, Status::Cancelled);
}

pub(crate) async fn running_is_told_by_append(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "stop soon").await;
    let mut writer = Writer::claim(&backends).await;
    // Claimed, but nothing written: its owner is told all the same.
    assert_eq!(backends.generations.cancel(&generation_of(&asked)).await, Ok(Cancel::Requested));
    let own = super::stage::own(&writer.claim);
    assert!(writer.append(std::slice::from_ref(&own)).await.expect("append"));
    // A repeat tells it as well.
    writer.tail = writer.claim.tail;
    assert!(writer.append(&[own]).await.expect("repeat"));
    assert!(writer.append(&[]).await.expect("append"));
}

pub(crate) async fn survives_takeover(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "stop soon").await;
    let generation = generation_of(&asked);
    let mut writer = Writer::begin(&backends).await;
    writer.say("half").await;
    assert_eq!(backends.generations.cancel(&generation).await, Ok(Cancel::Requested));
    let (_, mut second) = lose(writer).await;
    assert!(second.claim.cancel.is_some(), "the next owner is told with the claim");
    assert!(second.append(&[super::stage::own(&second.claim)]).await.expect("append"));
    backends.generations.release(second.lease()).await.expect("release");
    // Orphaned it was begun once, so its next owner ends it.
    assert_eq!(backends.generations.cancel(&generation).await, Ok(Cancel::Requested));
    let third = eventually("a claim", || async { try_claim(&backends).await }).await;
    assert!(third.cancel.is_some());
}

pub(crate) async fn after_the_end(backends: Backends) {
    for status in [Status::Completed, Status::Failed, Status::Interrupted, Status::Cancelled] {
        let asked = ask(&backends, &UserId::generate(), "done").await;
        Writer::begin(&backends).await.finish(status).await.expect("finish");
        assert_eq!(backends.generations.cancel(&generation_of(&asked)).await, Ok(Cancel::AlreadyEnded(status)));
        assert_eq!(backends.store.message(&asked.assistant_message.id).await.expect("message").status, status);
    }
}

pub(crate) async fn not_found(backends: Backends) {
    let nobody = GenerationId::generate(&ConversationId::generate());
    assert_not_found(backends.generations.cancel(&nobody).await);
    let user = UserId::generate();
    let asked = ask(&backends, &user, "hi").await;
    backends.store.delete(&user, &asked.conversation.id).await.expect("delete");
    assert_not_found(backends.generations.cancel(&generation_of(&asked)).await);
}
