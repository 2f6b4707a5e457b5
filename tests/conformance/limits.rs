//! What is limited: buckets (a burst, then the rate), rooms of answers until they end, rooms of people while their holder lives, and
//! one count however many ask.

use std::time::Duration;

use chatnode::backend::limits::{Bucket, HOLDER_EXPIRY, Opening, Party, Rate, Refused, Room, Used};
use chatnode::backend::{Backends, Submission};
use chatnode::model::{ConversationId, GenerationId, Status, UserId};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::stage::{Writer, eventually, following, opening};

const SLOW: Rate = Rate { burst: 3, every: Duration::from_secs(3_600) };

fn bucket(name: &str, rate: Rate) -> Bucket {
    Bucket { name: name.to_owned(), rate }
}

fn room(name: &str, most: u32) -> Room {
    Room { name: name.to_owned(), most }
}

/// How long until there is one, if there is none.
async fn take(backends: &Backends, name: &str, rate: Rate) -> Option<Duration> {
    match backends.limits.take(&[bucket(name, rate)]).await.expect("take") {
        None => None,
        Some(Refused::Empty { bucket: 0, wait }) => Some(wait),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_burst_then_the_rate(backends: Backends) {
    let rate = Rate { burst: 3, every: Duration::from_millis(400) };
    let begun = Instant::now();
    for n in 0..3 {
        assert_eq!(take(&backends, "a", rate).await, None, "{n}");
    }
    let wait = take(&backends, "a", rate).await.expect("the burst is used up");
    assert!(wait > Duration::ZERO && wait <= rate.every, "{wait:?}");
    // Asking in vain costs nothing.
    while let Some(wait) = take(&backends, "a", rate).await {
        assert!(wait <= rate.every, "{wait:?}");
        sleep(wait).await;
    }
    let took = begun.elapsed();
    assert!(took >= rate.every - Duration::from_millis(20) && took < 3 * rate.every, "{took:?}");
}

pub(crate) async fn buckets_are_apart(backends: Backends) {
    for bucket in ["a", "b", "login-from-2001:db8::/64", "{a}", "a*"] {
        for _ in 0..3 {
            assert_eq!(take(&backends, bucket, SLOW).await, None, "{bucket}");
        }
        assert!(take(&backends, bucket, SLOW).await.is_some(), "{bucket}");
    }
}

pub(crate) async fn one_bucket_for_all_at_once(backends: Backends) {
    let takes = (0..50).map(|_| take(&backends, "a", Rate { burst: 10, ..SLOW }));
    let taken = join_all(takes).await.into_iter().filter(Option::is_none).count();
    assert_eq!(taken, 10);
}

pub(crate) async fn all_buckets_or_none(backends: Backends) {
    let both = [bucket("full", Rate { burst: 100, ..SLOW }), bucket("small", SLOW)];
    for _ in 0..3 {
        assert_eq!(backends.limits.take(&both).await.expect("take"), None);
    }
    for _ in 0..200 {
        let refused = backends.limits.take(&both).await.expect("take");
        assert!(matches!(refused, Some(Refused::Empty { bucket: 1, wait }) if wait > Duration::ZERO), "{refused:?}");
    }
    let left = Rate { burst: 100, ..SLOW };
    let taken = join_all((0..100).map(|_| take(&backends, "full", left))).await.into_iter().filter(Option::is_none).count();
    assert_eq!(taken, 97, "what was refused took nothing");
}

/// What begins an answer that is to be submitted.
fn begins(submission: &Submission, rooms: &[Room]) -> Opening {
    begins_in(submission.generation.clone(), rooms)
}

fn begins_in(generation: GenerationId, rooms: &[Room]) -> Opening {
    Opening { generation, buckets: Vec::new(), rooms: rooms.to_vec(), cost: None }
}

/// Counts a question, and asks it.
async fn counted(backends: &Backends, submission: &Submission, rooms: &[Room]) -> Option<Refused> {
    let refused = backends.limits.begin(&begins(submission, rooms)).await.expect("begin");
    if refused.is_none() {
        backends.generations.submit(submission).await.expect("submit");
    }
    refused
}

pub(crate) async fn answers_leave_their_rooms_when_they_end(backends: Backends) {
    let user = UserId::generate();
    let rooms = [room("user", 2), room("address", 100)];
    let full = Some(Refused::Full { room: 0 });
    let asked: Vec<Submission> = (0..8).map(|n| opening(&user, &format!("question {n}"))).collect();
    assert_eq!(counted(&backends, &asked[0], &rooms).await, None);
    assert_eq!(counted(&backends, &asked[1], &rooms).await, None);
    assert_eq!(counted(&backends, &asked[2], &rooms).await, full);
    assert_eq!(backends.limits.begin(&begins(&asked[0], &rooms)).await.expect("begin"), None, "it is in already");

    let writer = Writer::begin(&backends).await;
    assert_eq!(counted(&backends, &asked[2], &rooms).await, full, "one that runs counts as one that waits");
    writer.finish(Status::Completed).await.expect("finish");
    assert_eq!(counted(&backends, &asked[2], &rooms).await, None, "one has ended");
    assert_eq!(counted(&backends, &asked[3], &rooms).await, full, "it leaves once");

    backends.generations.cancel(&asked[1].generation).await.expect("cancel");
    assert_eq!(counted(&backends, &asked[3], &rooms).await, None, "one was cancelled before it began");
    assert_eq!(counted(&backends, &asked[4], &rooms).await, full);

    backends.store.delete(&user, &asked[2].conversation).await.expect("delete");
    assert_eq!(counted(&backends, &asked[4], &rooms).await, None, "one was deleted");
    assert_eq!(counted(&backends, &asked[5], &rooms).await, full);

    backends.limits.end(&asked[4].generation, Used::NOTHING).await.expect("end");
    backends.limits.end(&asked[4].generation, Used::NOTHING).await.expect("to end twice is harmless");
    assert_eq!(counted(&backends, &asked[5], &rooms).await, None);
    assert_eq!(counted(&backends, &asked[6], &rooms).await, full);
    // What was refused is in no room.
    let alone = backends.limits.begin(&begins(&asked[7], &[room("address", 3)])).await.expect("begin");
    assert_eq!(alone, None, "the address has two");
    let more = backends.limits.begin(&begins(&asked[6], &[room("elsewhere", 1), room("address", 3)])).await.expect("begin");
    assert_eq!(more, Some(Refused::Full { room: 1 }));
    assert_eq!(backends.limits.begin(&begins(&asked[6], &[room("elsewhere", 1)])).await.expect("begin"), None, "all or none");
}

pub(crate) async fn one_room_for_all_at_once(backends: Backends) {
    let c = ConversationId::generate();
    let begin = async |_| {
        let opening = begins_in(GenerationId::generate(&c), &[room("a", 10), room("b", 1_000)]);
        backends.limits.begin(&opening).await.expect("begin")
    };
    let inside = join_all((0..50).map(begin)).await.into_iter().filter(Option::is_none).count();
    assert_eq!(inside, 10);
}

pub(crate) async fn a_refused_answer_was_a_request(backends: Backends) {
    let c = ConversationId::generate();
    let begin = async || {
        let opening = Opening {
            generation: GenerationId::generate(&c),
            buckets: vec![bucket("requests", SLOW)],
            rooms: vec![room("running", 1)],
            cost: None,
        };
        backends.limits.begin(&opening).await.expect("begin")
    };
    assert_eq!(begin().await, None);
    assert_eq!(begin().await, Some(Refused::Full { room: 0 }));
    assert_eq!(begin().await, Some(Refused::Full { room: 0 }));
    assert!(matches!(begin().await, Some(Refused::Empty { bucket: 0, .. })));
}

pub(crate) async fn answers_that_never_were_lapse(backends: Backends) {
    let (user, rooms) = (UserId::generate(), [room("a", 2)]);
    let stored = opening(&user, "stored");
    assert_eq!(counted(&backends, &stored, &rooms).await, None);
    let never = opening(&user, "never stored");
    assert_eq!(backends.limits.begin(&begins(&never, &rooms)).await.expect("begin"), None);
    let next = opening(&user, "next");
    assert_eq!(counted(&backends, &next, &rooms).await, Some(Refused::Full { room: 0 }));
    let begun = Instant::now();
    eventually("one that never was counts no more", async || counted(&backends, &next, &rooms).await.is_none().then_some(()))
        .await;
    assert!(begun.elapsed() > Duration::from_secs(3), "it had its time: {:?}", begun.elapsed());
    let more = opening(&user, "one too many");
    assert_eq!(counted(&backends, &more, &rooms).await, Some(Refused::Full { room: 0 }), "those that are there stay counted");
}

pub(crate) async fn only_a_repeat_is_answered(backends: Backends) {
    let user = UserId::generate();
    let first = opening(&user, "a question");
    let submitted = backends.generations.submit(&first).await.expect("submit");
    let again = Submission { request: first.request.clone(), only_repeat: true, ..opening(&user, "a question") };
    let known = backends.generations.submit(&again).await.expect("a repeat");
    assert!(known.repeated && known.assistant_message.id == submitted.assistant_message.id);
    let new = Submission { only_repeat: true, ..opening(&user, "another") };
    assert_eq!(backends.generations.submit(&new).await.expect_err("it is new"), chatnode::backend::Error::NotFound);
    let after = Submission { only_repeat: true, ..following(&user, &first.conversation, "behind it") };
    assert_eq!(backends.generations.submit(&after).await.expect_err("it is new"), chatnode::backend::Error::NotFound);
    let after = Submission { only_repeat: false, ..after };
    let stored = backends.generations.submit(&after).await.expect("it may mean what it says now");
    assert!(!stored.repeated);
}

fn party(people: u32, rooms: &[Room]) -> Party {
    Party { people, rooms: rooms.to_vec() }
}

async fn enter(backends: &Backends, holder: &str, rooms: &[Room]) -> Option<usize> {
    let answers = backends.limits.enter(holder, &[party(1, rooms)]).await.expect("enter");
    assert_eq!(answers.len(), 1);
    answers[0]
}

pub(crate) async fn people_of_all_holders_count(backends: Backends) {
    for holder in ["a", "b"] {
        assert!(!backends.limits.alive(holder, false).await.expect("alive"), "nobody knew it");
        assert!(backends.limits.alive(holder, false).await.expect("alive"));
    }
    let rooms = [room("user", 3), room("address", 100)];
    assert_eq!(enter(&backends, "a", &rooms).await, None);
    assert_eq!(enter(&backends, "b", &rooms).await, None);
    // Each on its own, one after the other; the second of these is one too many.
    let three = vec![party(1, &rooms), party(1, &rooms), party(1, &[room("other", 3), room("address", 3)])];
    assert_eq!(backends.limits.enter("a", &three).await.expect("enter"), [None, Some(0), Some(1)]);
    backends.limits.leave("a", &[("user".to_owned(), 2), ("address".to_owned(), 2)]).await.expect("leave");
    let two = [party(3, &rooms), party(2, &rooms)];
    assert_eq!(backends.limits.enter("b", &two).await.expect("enter"), [Some(0), None]);
    assert_eq!(enter(&backends, "a", &rooms).await, Some(0));
    assert!(backends.limits.alive("b", true).await.expect("alive"), "it was known");
    assert_eq!(backends.limits.enter("a", &[party(3, &rooms)]).await.expect("enter"), [None], "its people have gone with it");
    assert_eq!(enter(&backends, "a", &[room("user", 3)]).await, Some(0));
    assert_eq!(enter(&backends, "a", &[room("other", 1)]).await, None, "who was not let in is not in there");
}

pub(crate) async fn people_of_the_dead_do_not_count(backends: Backends) {
    let rooms = [room("user", 1)];
    for holder in ["dead", "living"] {
        backends.limits.alive(holder, false).await.expect("alive");
    }
    assert_eq!(enter(&backends, "dead", &rooms).await, None);
    let died = Instant::now();
    assert_eq!(enter(&backends, "living", &rooms).await, Some(0));
    eventually("the room is free again", async || {
        assert!(backends.limits.alive("living", false).await.expect("alive"));
        enter(&backends, "living", &rooms).await.is_none().then_some(())
    })
    .await;
    let took = died.elapsed();
    assert!(took + Duration::from_secs(1) > HOLDER_EXPIRY && took < HOLDER_EXPIRY + Duration::from_secs(2), "{took:?}");
    assert!(!backends.limits.alive("dead", false).await.expect("alive"), "it learns that it was thought dead");
    assert_eq!(enter(&backends, "dead", &rooms).await, Some(0));
}

pub(crate) async fn people_at_once(backends: Backends) {
    for holder in ["a", "b", "c"] {
        backends.limits.alive(holder, false).await.expect("alive");
    }
    let rooms = [room("user", 10), room("address", 1_000)];
    let enters = (0..60).map(|n| enter(&backends, ["a", "b", "c"][n % 3], &rooms));
    assert_eq!(join_all(enters).await.into_iter().filter(Option::is_none).count(), 10);
}
