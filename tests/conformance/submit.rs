//! `Generations::submit`: the question and the empty answer, once for each request.

use chatnode::backend::{Backends, Claim, OpenGeneration, Parent, PathEnd, PathQuery, Phase, Question, Submission};
use chatnode::model::{ConversationId, GenerationId, Message, MessageId, Options, Position, Role, Status, Time, UserId};

use super::stage::{MODEL, Writer, ask, assert_not_found, following, generation_of, opening, try_claim};

pub(crate) async fn stores_question_and_answer(backends: Backends) {
    let user = UserId::generate();
    let submission = opening(&user, "why is the sky blue?");
    let submitted = backends.generations.submit(&submission).await.expect("submit");

    assert!(!submitted.repeated);
    let question = &submitted.user_message;
    assert_eq!(question.id, submission.question.as_ref().expect("a question").id);
    assert_eq!(
        (question.role, question.status, question.content.as_str()),
        (Role::User, Status::Completed, "why is the sky blue?")
    );
    assert_eq!((question.parent.clone(), question.generation.clone()), (None, None));
    let answer = &submitted.assistant_message;
    assert_eq!(answer.id, submission.answer);
    assert_eq!((answer.role, answer.status, answer.content.as_str()), (Role::Assistant, Status::Queued, ""));
    assert_eq!(answer.parent.as_ref(), Some(&question.id));
    assert_eq!(answer.generation.as_ref(), Some(&submission.generation));
    assert_eq!(answer.model.as_deref(), Some(MODEL));
    assert_eq!(answer.created_at, submission.at);

    assert_eq!(submitted.conversation.id, submission.conversation);
    assert_eq!(submitted.conversation.title, "a title");
    assert!(submitted.conversation.generating);
    let state = backends.store.conversation(&user, &submission.conversation).await.expect("conversation");
    assert_eq!(state.conversation, submitted.conversation);
    let open = OpenGeneration { generation: submission.generation.clone(), message: answer.id.clone(), status: Status::Queued };
    assert_eq!(state.open, vec![open]);
    assert_eq!(backends.store.message(&question.id).await.as_ref(), Ok(question));
    assert_eq!(backends.store.message(&answer.id).await.as_ref(), Ok(answer));
    assert_eq!(path_of(&backends, &submission.conversation).await, vec![question.clone(), answer.clone()]);

    let page = backends.generations.read(&submission.generation, Position::START, 1000).await.expect("read");
    assert_eq!((page.entries.len(), page.tail, page.phase), (0, Position::START, Phase::Queued { ahead: 0 }));
}

pub(crate) async fn same_request_is_one_turn(backends: Backends) {
    let user = UserId::generate();
    let first = opening(&user, "first");
    let submitted = backends.generations.submit(&first).await.expect("submit");

    // As differently as a retry can come: another node made new ids, and the client names another conversation.
    let retry = Submission { request: first.request.clone(), model: "another".into(), ..opening(&user, "second") };
    for again in [&first, &retry] {
        let repeated = backends.generations.submit(again).await.expect("repeat");
        assert!(repeated.repeated);
        assert_eq!(repeated.conversation.id, submitted.conversation.id);
        assert_eq!(repeated.user_message, submitted.user_message);
        assert_eq!(repeated.assistant_message, submitted.assistant_message);
    }
    assert_not_found(backends.store.conversation(&user, &retry.conversation).await);
    assert_eq!(path_of(&backends, &first.conversation).await.len(), 2);
    let job = try_claim(&backends).await.expect("a job");
    // On a machine that stood still for a lease, the same job once more.
    let is_same = |claim: &Claim| claim.attempt > 1 && claim.lease.generation() == job.lease.generation();
    assert!(try_claim(&backends).await.as_ref().is_none_or(is_same), "one request made two jobs");
    let other = backends.generations.claim("worker", &["another".to_owned()]).await.expect("claim");
    assert!(other.is_none(), "the retry made a job");
}

pub(crate) async fn same_request_at_once(backends: Backends) {
    let user = UserId::generate();
    let request = opening(&user, "x").request;
    let conversation = ConversationId::for_request(&user, &request);
    let tries = (0..20).map(|n| {
        let submission = Submission {
            request: request.clone(),
            create: Some("title".into()),
            ..following(&user, &conversation, &format!("try {n}"))
        };
        let backends = backends.clone();
        tokio::spawn(async move { backends.generations.submit(&submission).await.expect("submit") })
    });
    let mut answers = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        answers.push(one.await.expect("join"));
    }
    assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1, "exactly one is the first");
    assert!(answers.iter().all(|answer| answer.user_message == answers[0].user_message));
    assert!(answers.iter().all(|answer| answer.assistant_message.id == answers[0].assistant_message.id));
    assert_eq!(path_of(&backends, &conversation).await.len(), 2);
    let job = try_claim(&backends).await.expect("a job");
    // On a machine that stood still for a lease, the same job once more.
    let is_same = |claim: &Claim| claim.attempt > 1 && claim.lease.generation() == job.lease.generation();
    assert!(try_claim(&backends).await.as_ref().is_none_or(is_same), "one request made two jobs");
}

pub(crate) async fn same_request_of_two_users(backends: Backends) {
    let (one, two) = (UserId::generate(), UserId::generate());
    let first = opening(&one, "hello");
    let second = Submission { request: first.request.clone(), ..opening(&two, "hello") };
    assert!(!backends.generations.submit(&first).await.expect("submit").repeated);
    assert!(!backends.generations.submit(&second).await.expect("submit").repeated);
}

pub(crate) async fn without_title_needs_the_conversation(backends: Backends) {
    let user = UserId::generate();
    let submission = following(&user, &ConversationId::generate(), "anyone there?");
    assert_not_found(backends.generations.submit(&submission).await);
    assert_not_found(backends.store.conversation(&user, &submission.conversation).await);
}

pub(crate) async fn other_users_things_are_not_found(backends: Backends) {
    let (owner, stranger) = (UserId::generate(), UserId::generate());
    let theirs = ask(&backends, &owner, "mine").await;
    let conversation = &theirs.conversation.id;
    let write = following(&stranger, conversation, "let me in");
    assert_not_found(backends.generations.submit(&write).await);
    assert_not_found(backends.generations.submit(&Submission { create: Some("x".into()), ..write }).await);

    let own = ask(&backends, &stranger, "my own").await;
    let across = Submission {
        parent: Parent::Of(theirs.user_message.id.clone()),
        ..following(&stranger, &own.conversation.id, "branch from another conversation")
    };
    assert_not_found(backends.generations.submit(&across).await);
    assert_not_found(backends.generations.submit(&Submission { question: None, ..across }).await);
    assert_eq!(path_of(&backends, conversation).await.len(), 2);
    assert_eq!(path_of(&backends, &own.conversation.id).await.len(), 2);
}

pub(crate) async fn failure_leaves_nothing(backends: Backends) {
    let user = UserId::generate();
    let wrong = Submission {
        parent: Parent::Of(MessageId::generate(&ConversationId::generate())),
        ..opening(&user, "to a parent that is not there")
    };
    assert_not_found(backends.generations.submit(&wrong).await);
    assert_not_found(backends.store.conversation(&user, &wrong.conversation).await);
    assert!(try_claim(&backends).await.is_none());
    // The request was never accepted, so the same id can still be.
    let mended = backends.generations.submit(&Submission { parent: Parent::NewestLeaf, ..wrong }).await.expect("submit");
    assert!(!mended.repeated);
}

pub(crate) async fn follows_the_newest_leaf(backends: Backends) {
    let user = UserId::generate();
    let first = ask(&backends, &user, "one").await;
    let second = backends.generations.submit(&following(&user, &first.conversation.id, "two")).await.expect("submit");
    assert_eq!(second.user_message.parent.as_ref(), Some(&first.assistant_message.id));
    let texts: Vec<String> = path_of(&backends, &first.conversation.id).await.into_iter().map(|m| m.content).collect();
    assert_eq!(texts, ["one", "", "two", ""]);
}

pub(crate) async fn branches(backends: Backends) {
    let user = UserId::generate();
    let first = ask(&backends, &user, "one").await;
    let conversation = &first.conversation.id;
    let submit = async |parent, text: &str| {
        let submission = Submission { parent, ..following(&user, conversation, text) };
        backends.generations.submit(&submission).await.expect("submit")
    };
    let root = submit(Parent::Root, "another beginning").await;
    assert_eq!(root.user_message.parent, None);
    let below = submit(Parent::Of(first.assistant_message.id.clone()), "below the first").await;
    assert_eq!(below.user_message.parent.as_ref(), Some(&first.assistant_message.id));
    let newest = submit(Parent::NewestLeaf, "goes on where the last one ended").await;
    assert_eq!(newest.user_message.parent.as_ref(), Some(&below.assistant_message.id));
}

pub(crate) async fn one_more_answer(backends: Backends) {
    let user = UserId::generate();
    let first = ask(&backends, &user, "one").await;
    let again = Submission {
        parent: Parent::Of(first.user_message.id.clone()),
        question: None,
        ..following(&user, &first.conversation.id, "")
    };
    let second = backends.generations.submit(&again).await.expect("submit");
    assert_eq!(second.user_message, first.user_message, "the old question");
    assert_eq!(second.assistant_message.id, again.answer);
    assert_eq!(second.assistant_message.parent.as_ref(), Some(&first.user_message.id));
    assert_ne!(generation_of(&second), generation_of(&first));
    let repeated = backends.generations.submit(&again).await.expect("repeat");
    assert!(repeated.repeated);
    assert_eq!(repeated.user_message, first.user_message);
    assert_eq!(repeated.assistant_message, second.assistant_message);

    // Nothing is there to be answered.
    let conversation = ConversationId::generate();
    let nothing = Submission {
        create: Some("empty".into()),
        parent: Parent::Of(MessageId::generate(&conversation)),
        question: None,
        ..following(&user, &conversation, "")
    };
    assert_not_found(backends.generations.submit(&nothing).await);
}

pub(crate) async fn raises_version_and_time(backends: Backends) {
    let user = UserId::generate();
    let early = Submission { at: Time(Time::now().0 - 60_000), ..opening(&user, "one") };
    let first = backends.generations.submit(&early).await.expect("submit").conversation;
    assert_eq!((first.created_at, first.updated_at), (early.at, early.at));
    let second = backends.generations.submit(&following(&user, &first.id, "two")).await.expect("submit").conversation;
    assert!(second.version > first.version);
    assert!(second.updated_at > first.updated_at);
    assert_eq!((second.created_at, &second.title), (first.created_at, &first.title));

    let writer = Writer::begin(&backends).await;
    writer.finish(Status::Completed).await.expect("finish");
    let third = backends.store.conversation(&user, &first.id).await.expect("conversation").conversation;
    assert!(third.version > second.version, "an answer that ended is a change");
    assert!(third.updated_at >= second.updated_at);
}

pub(crate) async fn retry_after_delete(backends: Backends) {
    let user = UserId::generate();
    let submission = opening(&user, "soon gone");
    backends.generations.submit(&submission).await.expect("submit");
    backends.store.delete(&user, &submission.conversation).await.expect("delete");
    // One request is one turn, and that turn was removed: a late retry must not bring it back.
    assert_not_found(backends.generations.submit(&submission).await);
    assert_not_found(backends.store.conversation(&user, &submission.conversation).await);
    assert!(try_claim(&backends).await.is_none());
}

pub(crate) async fn options_come_back(backends: Backends) {
    let user = UserId::generate();
    let options = Options { system: Some("be brief ☂".into()), temperature: Some(0.25), max_tokens: Some(77) };
    let conversation = ConversationId::generate();
    let submission = Submission {
        create: Some("Tiêu đề".into()),
        options: options.clone(),
        question: Some(Question { id: MessageId::generate(&conversation), content: "nul \0, 😀, \u{feff}".into() }),
        generation: GenerationId::generate(&conversation),
        ..following(&user, &conversation, "")
    };
    let submitted = backends.generations.submit(&submission).await.expect("submit");
    assert_eq!(submitted.assistant_message.options, Some(options.clone()));
    let claim = try_claim(&backends).await.expect("a job");
    assert_eq!(claim.message.options, Some(options));
    let question = backends.store.message(&submitted.user_message.id).await.expect("message");
    assert_eq!(question.content, "nul \0, 😀, \u{feff}");
}

async fn path_of(backends: &Backends, conversation: &ConversationId) -> Vec<Message> {
    let query = PathQuery { conversation: conversation.clone(), end: PathEnd::NewestLeaf, limit: 200 };
    let page = backends.store.path(&query).await.expect("path");
    page.items.into_iter().map(|item| item.message).collect()
}
