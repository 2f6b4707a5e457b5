//! `Generations::claim`, `renew` and `release`: one owner at a time, the oldest first.

use std::collections::HashMap;

use chatnode::backend::{Backends, Phase, Submission};
use chatnode::model::{GenerationId, Position, Status, UserId};
use tokio::time::Instant;

use super::stage::{LEASE, MODEL, Writer, ask, assert_fenced, claim_of, eventually, generation_of, opening, try_claim};

pub(crate) async fn first_in_first_out(backends: Backends) {
    let user = UserId::generate();
    let mut asked = Vec::new();
    for n in 0..5 {
        let model = ["model-a", "model-b"][n % 2];
        let submission = Submission { model: model.into(), ..opening(&user, "next") };
        backends.generations.submit(&submission).await.expect("submit");
        asked.push(submission.generation);
        // Two worlds order by milliseconds, so each gets one of its own.
        let now = chatnode::model::Time::now();
        eventually("the next millisecond", || async { (chatnode::model::Time::now() > now).then_some(()) }).await;
    }
    let mut claimed = Vec::new();
    for _ in 0..5 {
        let claim = claim_of(&backends, &["model-b", "model-a"]).await;
        claimed.push(claim.lease.generation().clone());
    }
    // A machine that stalls for a whole lease gets an old one again: then the order says nothing.
    let mut distinct = claimed.clone();
    distinct.sort();
    distinct.dedup();
    if distinct.len() == 5 {
        assert_eq!(claimed, asked);
    }
}

pub(crate) async fn only_models_asked_for(backends: Backends) {
    let user = UserId::generate();
    let submission = Submission { model: "model-b".into(), ..opening(&user, "hi") };
    backends.generations.submit(&submission).await.expect("submit");
    assert!(try_claim(&backends).await.is_none());
    assert!(backends.generations.claim("worker", &[]).await.expect("claim").is_none());
    let claim = claim_of(&backends, &[MODEL, "model-b"]).await;
    assert_eq!(claim.lease.generation(), &submission.generation);
}

pub(crate) async fn nothing_to_do(backends: Backends) {
    assert!(try_claim(&backends).await.is_none());
    ask(&backends, &UserId::generate(), "hi").await;
    Writer::begin(&backends).await.finish(Status::Completed).await.expect("finish");
    assert!(try_claim(&backends).await.is_none(), "what ended is no work");
}

pub(crate) async fn this_one(backends: Backends) {
    let user = UserId::generate();
    let [first, second] = [ask(&backends, &user, "first").await, ask(&backends, &user, "second").await];
    let (first, second) = (generation_of(&first), generation_of(&second));
    let this = async |generation| backends.generations.claim_this("worker", MODEL, generation).await.expect("claim");
    let began = Instant::now();
    let claim = this(&second).await.expect("nobody has it");
    assert_eq!((claim.lease.generation(), claim.attempt), (&second, 1));
    let again = this(&second).await;
    let oldest = try_claim(&backends).await.expect("the one before it");
    let none = try_claim(&backends).await;
    // A machine that stalls for a whole lease says nothing.
    if began.elapsed() < LEASE {
        assert!(again.is_none(), "it is another's");
        assert_eq!(oldest.lease.generation(), &first);
        assert!(none.is_none(), "it is handed out in the queue too");
    }
    let later = eventually("its lease to run out", async || this(&second).await).await;
    assert!(later.attempt >= 2);
    assert_fenced(backends.generations.renew(&claim.lease).await);
    let submission = opening(&user, "third");
    backends.generations.submit(&submission).await.expect("submit");
    let given = eventually("a claim", async || this(&submission.generation).await).await;
    backends.generations.release(&given.lease).await.expect("release");
    let given = eventually("what was given back", async || this(&submission.generation).await).await;
    assert_eq!(given.attempts_without_progress, 1);
    backends.store.delete(&user, &submission.conversation).await.expect("delete");
    assert!(this(&submission.generation).await.is_none());
    assert!(this(&GenerationId::generate(&submission.conversation)).await.is_none());
}

/// 50 workers at once and 20 jobs: never two owners within one lease.
pub(crate) async fn is_exclusive(backends: Backends) {
    let user = UserId::generate();
    for _ in 0..20 {
        ask(&backends, &user, "work").await;
    }
    let workers = (0..50).map(|n| {
        let backends = backends.clone();
        tokio::spawn(async move {
            let mut claims = Vec::new();
            loop {
                let before = Instant::now();
                let claim = backends.generations.claim(&format!("worker-{n}"), &[MODEL.to_owned()]).await.expect("claim");
                let Some(claim) = claim else { return claims };
                claims.push((claim.lease.generation().clone(), claim.lease.epoch(), before, Instant::now()));
            }
        })
    });
    let mut owners = HashMap::new();
    for worker in workers.collect::<Vec<_>>() {
        for (generation, epoch, before, after) in worker.await.expect("join") {
            owners.entry(generation).or_insert_with(Vec::new).push((epoch, before, after));
        }
    }
    assert_eq!(owners.len(), 20, "all jobs are taken");
    for claims in owners.values_mut() {
        claims.sort_unstable_by_key(|(epoch, ..)| *epoch);
        for pair in claims.windows(2) {
            let ((first, begun, _), (second, _, done)) = (pair[0], pair[1]);
            assert!(second > first, "two owners with one epoch");
            assert!(done - begun >= LEASE, "two owners within one lease");
        }
    }
}

pub(crate) async fn tells_what_to_do(backends: Backends) {
    let user = UserId::generate();
    let asked = ask(&backends, &user, "tell me").await;
    let claim = try_claim(&backends).await.expect("a job");
    assert_eq!(claim.user, user);
    assert_eq!(claim.lease.generation(), &generation_of(&asked));
    assert_eq!(claim.message.id, asked.assistant_message.id);
    assert_eq!(claim.message.parent, Some(asked.user_message.id));
    assert_eq!(claim.message.model.as_deref(), Some(MODEL));
    assert_eq!((claim.tail, claim.attempt, claim.attempts_without_progress), (Position::START, 1, 1));
    assert_eq!(claim.cancel, None);
    assert!(claim.lease.epoch() > 0);
    assert!(claim.stalled_ms < 60_000, "{}", claim.stalled_ms);
    // Readers see that it began.
    assert_eq!(backends.store.message(&claim.message.id).await.expect("message").status, Status::Running);
    let state = backends.store.conversation(&user, &asked.conversation.id).await.expect("conversation");
    assert_eq!(state.open[0].status, Status::Running);
    assert!(state.conversation.generating);
}

pub(crate) async fn renewal_keeps_it(backends: Backends) {
    ask(&backends, &UserId::generate(), "long").await;
    let mut writer = Writer::begin(&backends).await;
    let started = Instant::now();
    let (mut renewed, mut by_append) = (Instant::now(), false);
    while started.elapsed() < LEASE * 4 {
        let before = Instant::now();
        // Both ways of showing life, in turns of more than a lease.
        let result = match by_append {
            true => writer.append(&[]).await.map(|_| ()),
            false => backends.generations.renew(writer.lease()).await.map(|_| ()),
        };
        if result.is_ok() {
            renewed = before;
        }
        by_append = started.elapsed() > LEASE * 2;
        let stolen = try_claim(&backends).await;
        if renewed.elapsed() >= LEASE {
            // The machine stood still for a whole lease: this round shows nothing, the next one may.
            if stolen.is_some() {
                return;
            }
            continue;
        }
        result.expect("the lease holds");
        assert!(stolen.is_none(), "taken away {:?} after a renewal", renewed.elapsed());
        tokio::time::sleep(LEASE / 20).await;
    }
    writer.say("still here").await;
}

pub(crate) async fn release_frees_it_at_once(backends: Backends) {
    ask(&backends, &UserId::generate(), "long").await;
    let mut writer = Writer::begin(&backends).await;
    writer.say("half a sen").await;
    backends.generations.renew(writer.lease()).await.expect("renew");
    let released = Instant::now();
    backends.generations.release(writer.lease()).await.expect("release");
    let next = Writer::claim(&backends).await;
    // No assertion on time where the machine stalls; a whole lease is far more than one call takes.
    assert!(released.elapsed() < LEASE || next.claim.attempt == 1);
    assert_eq!((next.claim.tail, next.said.as_str()), (writer.tail, "half a sen"));
    assert!(next.claim.lease.epoch() > writer.claim.lease.epoch());
    // What was given back is given back, also while nobody or somebody else has it.
    assert_fenced(writer.append(&[]).await);
    assert_fenced(backends.generations.renew(writer.lease()).await);
    assert_fenced(writer.finish(Status::Completed).await);
}

pub(crate) async fn release_is_no_attempt(backends: Backends) {
    ask(&backends, &UserId::generate(), "long").await;
    for round in 0..3 {
        let writer = Writer::claim(&backends).await;
        assert_eq!((writer.claim.attempt, writer.claim.attempts_without_progress), (1, 1), "round {round}");
        if round == 1 {
            let mut writer = writer;
            writer.own().await;
            writer.say("progress").await;
            backends.generations.release(writer.lease()).await.expect("release");
        } else {
            backends.generations.release(writer.lease()).await.expect("release");
        }
    }
}

pub(crate) async fn phases(backends: Backends) {
    let user = UserId::generate();
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.push(generation_of(&ask(&backends, &user, "queue").await));
        let now = chatnode::model::Time::now();
        eventually("the next millisecond", || async { (chatnode::model::Time::now() > now).then_some(()) }).await;
    }
    let other = Submission { model: "model-b".into(), ..opening(&user, "another queue") };
    backends.generations.submit(&other).await.expect("submit");
    for (n, generation) in asked.iter().enumerate() {
        let ahead = u32::try_from(n).expect("small");
        assert_eq!(phase(&backends, generation).await, Phase::Queued { ahead });
    }
    assert_eq!(phase(&backends, &other.generation).await, Phase::Queued { ahead: 0 });

    let mut writer = Writer::begin(&backends).await;
    writer.say("x").await;
    let running = phase(&backends, &asked[0]).await;
    assert!(matches!(running, Phase::Running | Phase::Orphaned), "{running:?}");
    backends.generations.renew(writer.lease()).await.expect("renew");
    eventually("running", || async {
        backends.generations.renew(writer.lease()).await.expect("renew");
        (phase(&backends, &asked[0]).await == Phase::Running).then_some(())
    })
    .await;
    eventually("orphaned", || async { (phase(&backends, &asked[0]).await == Phase::Orphaned).then_some(()) }).await;
    backends.generations.renew(writer.lease()).await.expect("nobody else has it");
    writer.finish(Status::Completed).await.expect("finish");
    assert_eq!(phase(&backends, &asked[0]).await, Phase::Ended);
    assert_eq!(phase(&backends, &asked[1]).await, Phase::Queued { ahead: 0 });
}

async fn phase(backends: &Backends, generation: &chatnode::model::GenerationId) -> Phase {
    backends.generations.read(generation, Position::START, 1000).await.expect("read").phase
}
