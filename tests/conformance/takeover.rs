//! What a second owner finds, and what a first one that comes back can no longer do.

use chatnode::backend::Backends;
use chatnode::log::Entry;
use chatnode::model::{Position, Status, UserId};

use super::stage::{LEASE, Writer, ask, assert_fenced, eventually, fold, generation_of, lose, read_all, text, try_claim};

pub(crate) async fn after_the_lease(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "long").await;
    let mut first = Writer::begin(&backends).await;
    first.say("Once upon ").await;
    let (first, mut second) = lose(first).await;
    assert!(second.claim.lease.epoch() > first.claim.lease.epoch());
    assert_eq!((second.claim.tail, second.said.as_str()), (first.tail, "Once upon "));
    assert_eq!(second.claim.message.id, asked.assistant_message.id);
    second.own().await;
    second.say("a time").await;
    second.finish(Status::Completed).await.expect("finish");
    let (entries, _) = read_all(&backends, &generation_of(&asked)).await;
    let transcript = fold(&entries);
    assert_eq!(transcript.text, "Once upon a time");
    assert_eq!(entries.iter().filter(|(_, entry)| matches!(entry, Entry::Own(_))).count(), 2);
    let message = backends.store.message(&asked.assistant_message.id).await.expect("message");
    assert_eq!((message.content.as_str(), message.status), ("Once upon a time", Status::Completed));
}

pub(crate) async fn counts_attempts(backends: Backends) {
    ask(&backends, &UserId::generate(), "poison").await;
    let mut epoch = 0;
    for attempt in 1..=4 {
        let mut writer = Writer::claim(&backends).await;
        assert_eq!((writer.claim.attempt, writer.claim.attempts_without_progress), (attempt, attempt));
        assert!(writer.claim.lease.epoch() > epoch);
        epoch = writer.claim.lease.epoch();
        // To say that one owns it is no progress.
        writer.own().await;
    }
}

pub(crate) async fn progress_resets_the_count(backends: Backends) {
    ask(&backends, &UserId::generate(), "slow").await;
    let first = Writer::begin(&backends).await;
    let (_, mut second) = lose(first).await;
    assert_eq!((second.claim.attempt, second.claim.attempts_without_progress), (2, 2));
    second.own().await;
    second.say("a word").await;
    let (_, third) = lose(second).await;
    assert_eq!((third.claim.attempt, third.claim.attempts_without_progress), (3, 1));
    let (_, fourth) = lose(third).await;
    assert_eq!((fourth.claim.attempt, fourth.claim.attempts_without_progress), (4, 2));
}

pub(crate) async fn stalled_time(backends: Backends) {
    ask(&backends, &UserId::generate(), "slow").await;
    let first = Writer::begin(&backends).await;
    let (_, mut second) = lose(first).await;
    let lease = u64::try_from(LEASE.as_millis()).expect("small");
    // A few milliseconds of difference between clocks are no contradiction.
    assert!(second.claim.stalled_ms + 20 >= lease, "{} ms since the submission", second.claim.stalled_ms);
    second.own().await;
    second.say("now").await;
    backends.generations.release(second.lease()).await.expect("release");
    let before = second.claim.stalled_ms;
    let third = Writer::claim(&backends).await;
    assert!(third.claim.stalled_ms <= before.max(lease), "{} ms since the last delta", third.claim.stalled_ms);
}

/// The old owner comes back from the dead and tries everything.
pub(crate) async fn zombie_changes_nothing(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "long").await;
    let generation = generation_of(&asked);
    let mut first = Writer::begin(&backends).await;
    first.say("before ").await;
    let (mut zombie, mut second) = lose(first).await;
    let before = read_all(&backends, &generation).await.0;

    let everything = async |zombie: &mut Writer| {
        assert_fenced(zombie.append(&[text(7, "the dead write")]).await);
        assert_fenced(zombie.append(&[]).await);
        assert_fenced(zombie.finish(Status::Failed).await);
        assert_fenced(backends.generations.renew(zombie.lease()).await);
        // Given back was nothing: that it is refused or ignored is the same.
        let _ = backends.generations.release(zombie.lease()).await;
    };
    // While the new owner has not written a word.
    everything(&mut zombie).await;
    assert_eq!(read_all(&backends, &generation).await.0, before);
    second.own().await;
    backends.generations.renew(second.lease()).await.expect("the zombie's release frees nothing");
    everything(&mut zombie).await;
    // At the true end of the log, with the old lease.
    zombie.tail = second.tail;
    everything(&mut zombie).await;
    // Its last call before it died, once more: also that is no longer its business.
    second.say("after").await;
    second.finish(Status::Completed).await.expect("finish");
    everything(&mut zombie).await;
    let (entries, _) = read_all(&backends, &generation).await;
    assert_eq!(fold(&entries).text, "before after");
    let message = backends.store.message(&asked.assistant_message.id).await.expect("message");
    assert_eq!((message.content.as_str(), message.status), ("before after", Status::Completed));
    assert!(try_claim(&backends).await.is_none());
}

/// A lease that ran out is still the newest until somebody claims: its owner may go on.
pub(crate) async fn expired_owner_may_go_on(backends: Backends) {
    let asked = ask(&backends, &UserId::generate(), "pause").await;
    let generation = generation_of(&asked);
    let mut writer = Writer::begin(&backends).await;
    eventually("the lease ran out", || async {
        let page = backends.generations.read(&generation, Position::START, 1000).await.expect("read");
        (page.phase == chatnode::backend::Phase::Orphaned).then_some(())
    })
    .await;
    writer.say("I am back").await;
    let page = backends.generations.read(&generation, Position::START, 1000).await.expect("read");
    assert_eq!(page.tail, writer.tail);
    writer.finish(Status::Completed).await.expect("finish");
}
