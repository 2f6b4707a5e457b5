//! What answers cost: reserved when they begin, counted as it was when they end, once, in the period in which they began.

use std::time::Duration;

use chatnode::backend::limits::{Budget, Cost, Opening, Refused, Room, Spent, Used};
use chatnode::backend::{Backends, Submission};
use chatnode::log::Outcome;
use chatnode::model::{ConversationId, GenerationId, Status, Usage, UserId};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::stage::{Writer, eventually, opening, outcome};

const TODAY: u64 = 20_000;

fn budget(name: &str, period: u64) -> Budget {
    Budget { name: name.to_owned(), period }
}

fn costs(generation: &GenerationId, amount: u64, most: u64) -> Opening {
    let cost = Cost { budget: budget("tokens-of-a", TODAY), amount, most };
    Opening { generation: generation.clone(), buckets: Vec::new(), rooms: Vec::new(), cost: Some(cost) }
}

async fn begin(backends: &Backends, opening: &Opening) -> Option<Refused> {
    backends.limits.begin(opening).await.expect("begin")
}

async fn spent(backends: &Backends, period: u64) -> (u64, u64) {
    let Spent { used, reserved } = backends.limits.spent(&budget("tokens-of-a", period)).await.expect("spent");
    (used, reserved)
}

fn usage(input_tokens: u64, output_tokens: u64) -> Option<Usage> {
    Some(Usage { input_tokens, output_tokens, estimated: false })
}

/// Reserves 1,000 for a question, and asks it.
async fn asked(backends: &Backends, user: &UserId) -> Submission {
    let submission = opening(user, "a question");
    assert_eq!(begin(backends, &costs(&submission.generation, 1_000, 1_000_000)).await, None);
    backends.generations.submit(&submission).await.expect("submit");
    submission
}

/// Ends what somebody has claimed.
async fn ends(backends: &Backends, status: Status, usage: Option<Usage>) {
    let writer = Writer::begin(backends).await;
    let outcome = Outcome { usage, ..outcome(status, "") };
    let message = writer.final_message(&outcome);
    for _ in 0..2 {
        let finish = backends.generations.finish(&writer.claim.lease, writer.tail, &outcome, &message);
        finish.await.expect("finish, also again");
    }
}

pub(crate) async fn what_is_reserved_becomes_what_was_used(backends: Backends) {
    let user = UserId::generate();
    assert_eq!(spent(&backends, TODAY).await, (0, 0));
    let mut used = 0;
    let all = [
        (Status::Completed, usage(30, 12), 42),
        (Status::Cancelled, usage(30, 1), 31),
        (Status::Failed, usage(5, 0), 5),
        (Status::Failed, None, 0),
        (Status::Interrupted, usage(7, 2), 9),
        (Status::Interrupted, None, 1_000),
        (Status::Completed, usage(4_000, 5_000), 9_000),
    ];
    for (status, told, cost) in all {
        asked(&backends, &user).await;
        assert_eq!(spent(&backends, TODAY).await, (used, 1_000), "{status:?}");
        ends(&backends, status, told).await;
        used += cost;
        assert_eq!(spent(&backends, TODAY).await, (used, 0), "{status:?} {told:?}");
    }
    let never_begun = asked(&backends, &user).await;
    backends.generations.cancel(&never_begun.generation).await.expect("cancel");
    assert_eq!(spent(&backends, TODAY).await, (used, 0), "nobody had begun");
    let deleted = asked(&backends, &user).await;
    let writer = Writer::begin(&backends).await;
    backends.store.delete(&user, &deleted.conversation).await.expect("delete");
    used += 1_000;
    assert_eq!(spent(&backends, TODAY).await, (used, 0), "who deletes has had an answer all the same");
    let _ = writer.finish(Status::Completed).await;
    assert_eq!(spent(&backends, TODAY).await, (used, 0));
}

/// Figures of an upstream that is out of its mind.
pub(crate) async fn no_figure_keeps_an_answer_from_ending(backends: Backends) {
    let user = UserId::generate();
    for _ in 0..3 {
        asked(&backends, &user).await;
    }
    for _ in 0..3 {
        ends(&backends, Status::Completed, usage(u64::MAX >> 1, 1)).await;
    }
    let (used, reserved) = spent(&backends, TODAY).await;
    assert!(used >= 1_000_000 && reserved == 0, "{used}, {reserved}");
}

pub(crate) async fn an_end_counts_once(backends: Backends) {
    let generation = GenerationId::generate(&ConversationId::generate());
    let end = async |used| backends.limits.end(&generation, used).await.expect("end");
    end(Used::So(500)).await;
    assert_eq!(spent(&backends, TODAY).await, (0, 0), "it never began");
    for _ in 0..3 {
        assert_eq!(begin(&backends, &costs(&generation, 100, 150)).await, None, "it begins once");
    }
    assert_eq!(spent(&backends, TODAY).await, (0, 100));
    join_all((1..=10).map(|_| end(Used::So(60)))).await;
    end(Used::Reserved).await;
    assert_eq!(spent(&backends, TODAY).await, (60, 0));
    let never = GenerationId::generate(&ConversationId::generate());
    assert_eq!(begin(&backends, &costs(&never, 91, 150)).await, Some(Refused::Spent { left: 90 }));
    assert_eq!(begin(&backends, &costs(&never, 90, 150)).await, None);
    backends.limits.end(&never, Used::NOTHING).await.expect("end");
    assert_eq!(spent(&backends, TODAY).await, (60, 0), "what was refused, or never began, costs nothing");
}

pub(crate) async fn one_budget_for_all_at_once(backends: Backends) {
    let c = ConversationId::generate();
    let begins = (0..50).map(|_| {
        let backends = backends.clone();
        let opening = costs(&GenerationId::generate(&c), 100, 1_050);
        async move { begin(&backends, &opening).await }
    });
    let outcomes = join_all(begins).await;
    assert_eq!(outcomes.iter().filter(|refused| refused.is_none()).count(), 10);
    assert!(outcomes.iter().flatten().all(|refused| *refused == Refused::Spent { left: 50 }), "{outcomes:?}");
    assert_eq!(spent(&backends, TODAY).await, (0, 1_000));
}

pub(crate) async fn each_period_has_its_own(backends: Backends) {
    let c = ConversationId::generate();
    let (first, second) = (costs(&GenerationId::generate(&c), 100, 100), costs(&GenerationId::generate(&c), 100, 100));
    assert_eq!(begin(&backends, &first).await, None);
    assert_eq!(begin(&backends, &second).await, Some(Refused::Spent { left: 0 }));
    let other = |name: &str, period| {
        let cost = Cost { budget: budget(name, period), amount: 100, most: 100 };
        Opening { cost: Some(cost), ..second.clone() }
    };
    assert_eq!(begin(&backends, &other("tokens-of-b", TODAY)).await, None, "somebody else's");
    backends.limits.end(&second.generation, Used::NOTHING).await.expect("end");
    let tomorrow = other("tokens-of-a", TODAY + 1);
    assert_eq!(begin(&backends, &tomorrow).await, None, "the next day opens it again");
    backends.limits.end(&first.generation, Used::So(70)).await.expect("end");
    assert_eq!(spent(&backends, TODAY).await, (70, 0), "whenever it ends, it was of the day on which it began");
    assert_eq!(spent(&backends, TODAY + 1).await, (0, 100));
}

pub(crate) async fn rooms_and_budget_or_neither(backends: Backends) {
    let c = ConversationId::generate();
    let rooms = |most| vec![Room { name: "running".to_owned(), most }];
    let next = |amount, most| Opening { rooms: rooms(most), ..costs(&GenerationId::generate(&c), amount, 100) };
    assert_eq!(begin(&backends, &next(60, 1)).await, None);
    assert_eq!(begin(&backends, &next(40, 1)).await, Some(Refused::Full { room: 0 }));
    assert_eq!(spent(&backends, TODAY).await, (0, 60), "who found no room reserved nothing");
    for _ in 0..3 {
        assert_eq!(begin(&backends, &next(41, 2)).await, Some(Refused::Spent { left: 40 }));
    }
    assert_eq!(begin(&backends, &next(40, 2)).await, None, "who found nothing left is in no room");
}

/// What nobody told of: an answer that was never asked, one that ended before it was counted, and one that runs.
pub(crate) async fn reservations_that_are_over_lapse(backends: Backends) {
    let user = UserId::generate();
    let ended = opening(&user, "ended");
    let ended = Submission { generation: GenerationId::of(&ended.answer), ..ended };
    backends.generations.submit(&ended).await.expect("submit");
    ends(&backends, Status::Completed, usage(30, 12)).await;
    assert_eq!(begin(&backends, &costs(&ended.generation, 1_000, 3_000)).await, None, "late, after its end");
    asked(&backends, &user).await;
    let never = opening(&user, "never asked");
    assert_eq!(begin(&backends, &costs(&never.generation, 1_000, 3_000)).await, None);
    assert_eq!(spent(&backends, TODAY).await, (0, 3_000));
    let next = costs(&opening(&user, "next").generation, 1_500, 3_000);
    assert_eq!(begin(&backends, &next).await, Some(Refused::Spent { left: 0 }));
    let begun = Instant::now();
    eventually("there is something left", async || begin(&backends, &next).await.is_none().then_some(())).await;
    assert!(begun.elapsed() > Duration::from_secs(3), "they had their time: {:?}", begun.elapsed());
    assert_eq!(spent(&backends, TODAY).await, (42, 2_500), "what ended cost what it used, what runs stays");
}
