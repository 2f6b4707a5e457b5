//! Several of the calls at the same moment: whoever wins, there is one history.

use chatnode::backend::{Backends, Cancel, Error, Phase};
use chatnode::log::Entry;
use chatnode::model::{Status, UserId};

use super::stage::{MODEL, Writer, ask, fold, generation_of, lose, read_all, try_claim};

/// An old owner, a new one and a user all want to end the same answer.
pub(crate) async fn one_end_for_all(backends: Backends) {
    for round in 0..6 {
        let asked = ask(&backends, &UserId::generate(), "race").await;
        let generation = generation_of(&asked);
        let mut first = Writer::begin(&backends).await;
        first.say("text").await;
        let (first, second) = lose(first).await;
        let repeat = second.finish(Status::Completed);
        let (zombie, winner, again, cancel) = tokio::join!(
            first.finish(Status::Failed),
            second.finish(Status::Completed),
            repeat,
            backends.generations.cancel(&generation),
        );
        assert_eq!(zombie, Err(Error::Fenced), "round {round}");
        assert_eq!((winner, again), (Ok(()), Ok(())), "round {round}");
        assert!(matches!(cancel, Ok(Cancel::Requested | Cancel::AlreadyEnded(Status::Completed))), "round {round}: {cancel:?}");
        let (entries, phase) = read_all(&backends, &generation).await;
        let ends = entries.iter().filter(|(_, entry)| matches!(entry, Entry::Fin(_))).count();
        assert_eq!((ends, phase), (1, Phase::Ended), "round {round}");
        let message = backends.store.message(&asked.assistant_message.id).await.expect("message");
        assert_eq!((message.status, message.content.as_str()), (Status::Completed, "text"));
    }
}

/// A cancel and the first claim at once: either it never begins, or its owner is told.
pub(crate) async fn claim_or_cancel(backends: Backends) {
    for round in 0..30 {
        let asked = ask(&backends, &UserId::generate(), "race").await;
        let generation = generation_of(&asked);
        let models = [MODEL.to_owned()];
        let claim = backends.generations.claim("worker", &models);
        let cancel = backends.generations.cancel(&generation);
        let (claim, cancel) = match round % 2 {
            0 => tokio::join!(claim, cancel),
            _ => {
                let (cancel, claim) = tokio::join!(cancel, claim);
                (claim, cancel)
            }
        };
        match (claim.expect("claim"), cancel.expect("cancel")) {
            (None, Cancel::Ended) => {}
            (Some(claim), Cancel::Requested) => {
                let told =
                    claim.cancel.is_some() || backends.generations.renew(&claim.lease).await.expect("renew").cancel.is_some();
                assert!(told, "round {round}");
                let outcome = super::stage::outcome(Status::Cancelled, "");
                let message = chatnode::model::Message { status: Status::Cancelled, ..claim.message };
                backends.generations.finish(&claim.lease, claim.tail, &outcome, &message).await.expect("finish");
            }
            // The world looked for work before it was there, and the cancel was durable before the next look.
            (claim, cancel) => panic!("round {round}: {claim:?} and {cancel:?}"),
        }
        let (entries, phase) = read_all(&backends, &generation).await;
        assert_eq!((entries.len(), phase), (1, Phase::Ended), "round {round}");
        assert!(try_claim(&backends).await.is_none(), "round {round}");
    }
}

/// Many answers are written at once, in one conversation and in many; every log is its own.
pub(crate) async fn many_logs_at_once(backends: Backends) {
    let user = UserId::generate();
    let first = ask(&backends, &user, "shared").await.conversation.id;
    for n in 0..15 {
        if n % 2 == 0 {
            ask(&backends, &user, "own").await;
        } else {
            backends.generations.submit(&super::stage::following(&user, &first, "more")).await.expect("submit");
        }
    }
    let workers: Vec<_> = (0..16)
        .map(|_| {
            let backends = backends.clone();
            tokio::spawn(async move {
                let mut writer = Writer::claim(&backends).await;
                writer.own().await;
                let mut entries = Vec::new();
                let mut said = writer.said.clone();
                for n in 0..40 {
                    let word = format!("{}:{n} ", writer.claim.message.id);
                    entries.push(super::stage::text(said.len() as u64, &word));
                    said.push_str(&word);
                    if entries.len() > n % 4 {
                        writer.append(&entries).await.expect("append");
                        entries.clear();
                    }
                }
                writer.append(&entries).await.expect("append");
                writer.said = said;
                writer.finish(Status::Completed).await.expect("finish");
                (writer.claim.lease.generation().clone(), writer.claim.message.id.clone(), writer.said)
            })
        })
        .collect();
    let mut seen = std::collections::HashSet::new();
    for worker in workers {
        let (generation, message, said) = worker.await.expect("join");
        assert!(seen.insert(generation.clone()), "two owners finished one answer");
        let (entries, _) = read_all(&backends, &generation).await;
        assert_eq!(fold(&entries).text, said);
        assert_eq!(backends.store.message(&message).await.expect("message").content, said);
    }
}

/// The conversation is removed while its answer is written: all of it goes, and stays away.
pub(crate) async fn delete_while_writing(backends: Backends) {
    let user = UserId::generate();
    for round in 0..10 {
        let asked = ask(&backends, &user, "race").await;
        let generation = generation_of(&asked);
        let mut writer = Writer::begin(&backends).await;
        let write = async {
            loop {
                let offset = writer.said.len() as u64;
                match writer.append(&[super::stage::text(offset, "more ")]).await {
                    Ok(_) => writer.said.push_str("more "),
                    Err(error) => return error,
                }
            }
        };
        let (error, deleted) = tokio::join!(write, backends.store.delete(&user, &asked.conversation.id));
        assert_eq!((error, deleted), (Error::Gone, Ok(())), "round {round}");
        super::stage::assert_gone(backends.generations.read(&generation, Default::default(), 1000).await);
        assert!(try_claim(&backends).await.is_none());
    }
}
