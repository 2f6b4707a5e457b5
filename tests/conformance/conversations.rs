//! `Store`: conversations of one user: create, list, change, remove, export; and the shared secret.

use chatnode::backend::{Backends, ListQuery, Patch, PathEnd, PathQuery};
use chatnode::log::Entry;
use chatnode::model::{Conversation, Failure, Message, Options, Position, Status, Time, Timing, Usage, UserId};

use super::stage::{self, Writer, ask, assert_gone, assert_not_found, chain, following, generation_of, message, try_claim};

pub(crate) async fn create_reads_back(backends: Backends) {
    let user = UserId::generate();
    let conversation = stage::conversation("Tiếng Việt", 1_700_000_000_000);
    let mut messages = chain(&conversation.id, 4);
    messages[1] = full(&messages[1]);
    backends.store.create(&user, &conversation, &messages).await.expect("create");

    let state = backends.store.conversation(&user, &conversation.id).await.expect("conversation");
    assert_eq!(state.conversation.title, conversation.title);
    assert_eq!(state.conversation.created_at, conversation.created_at);
    assert_eq!(state.conversation.updated_at, conversation.updated_at);
    assert!(!state.conversation.generating);
    assert!(state.open.is_empty());
    let query = PathQuery { conversation: conversation.id.clone(), end: PathEnd::NewestLeaf, limit: 10 };
    let page = backends.store.path(&query).await.expect("path");
    assert_eq!(page.items.into_iter().map(|item| item.message).collect::<Vec<_>>(), messages);
    for message in &messages {
        assert_eq!(backends.store.message(&message.id).await.as_ref(), Ok(message));
    }
}

pub(crate) async fn create_twice_changes_nothing(backends: Backends) {
    let user = UserId::generate();
    let conversation = stage::conversation("first", 1_700_000_000_000);
    let messages = chain(&conversation.id, 2);
    backends.store.create(&user, &conversation, &messages).await.expect("create");
    backends.store.create(&user, &conversation, &messages).await.expect("repeat");
    let other = Conversation { title: "second".into(), ..conversation.clone() };
    backends.store.create(&user, &other, &chain(&conversation.id, 3)).await.expect("another with that id");
    let state = backends.store.conversation(&user, &conversation.id).await.expect("conversation");
    assert_eq!(state.conversation.title, "first");
    assert_eq!(backends.store.messages(&conversation.id, None, 10).await.expect("messages"), messages);
}

pub(crate) async fn create_refuses_other_users(backends: Backends) {
    let (owner, stranger) = (UserId::generate(), UserId::generate());
    let conversation = stage::conversation("mine", 1_700_000_000_000);
    backends.store.create(&owner, &conversation, &[]).await.expect("create");
    let messages = chain(&conversation.id, 2);
    assert_not_found(backends.store.create(&stranger, &conversation, &messages).await);
    assert!(backends.store.messages(&conversation.id, None, 10).await.expect("messages").is_empty());
}

pub(crate) async fn other_users_find_nothing(backends: Backends) {
    let (owner, stranger) = (UserId::generate(), UserId::generate());
    let id = ask(&backends, &owner, "a secret plan").await.conversation.id;
    assert_not_found(backends.store.conversation(&stranger, &id).await);
    let patch = Patch { title: Some("taken".into()), pinned: Some(true) };
    assert_not_found(backends.store.patch(&stranger, &id, &patch).await);
    assert_not_found(backends.store.delete(&stranger, &id).await);
    for search in [None, Some("secret".to_owned()), Some("title".to_owned())] {
        let query = ListQuery { limit: 100, cursor: None, search };
        assert!(backends.store.conversations(&stranger, &query).await.expect("list").items.is_empty());
    }
    let state = backends.store.conversation(&owner, &id).await.expect("still there");
    assert_eq!(state.conversation.title, "a title");
    assert!(!state.conversation.pinned);
}

pub(crate) async fn patch_changes_what_is_given(backends: Backends) {
    let user = UserId::generate();
    let before = ask(&backends, &user, "hi").await.conversation;
    let renamed = Patch { title: Some("Phở bò".into()), pinned: None };
    let after = backends.store.patch(&user, &before.id, &renamed).await.expect("patch");
    assert_eq!((after.title.as_str(), after.pinned), ("Phở bò", false));
    assert!(after.version > before.version);
    let pinned = Patch { title: None, pinned: Some(true) };
    let last = backends.store.patch(&user, &before.id, &pinned).await.expect("patch");
    assert_eq!((last.title.as_str(), last.pinned), ("Phở bò", true));
    assert!(last.version > after.version);
    assert!(last.generating, "a change of the title says nothing about its answers");
    assert_eq!(backends.store.conversation(&user, &before.id).await.expect("conversation").conversation, last);
    let unknown = stage::conversation("x", 1).id;
    assert_not_found(backends.store.patch(&user, &unknown, &pinned).await);
}

pub(crate) async fn list_order(backends: Backends) {
    let user = UserId::generate();
    let base = Time::now().0 - 100_000;
    let mut ids = Vec::new();
    for n in [3_u64, 1, 4, 0, 2] {
        let conversation = stage::conversation(&format!("c{n}"), base + n * 1000);
        backends.store.create(&user, &conversation, &[]).await.expect("create");
        ids.push(conversation.id);
    }
    assert_eq!(titles(&backends, &user).await, ["c4", "c3", "c2", "c1", "c0"]);
    // A pin goes before everything, however old.
    backends.store.patch(&user, &ids[3], &Patch { title: None, pinned: Some(true) }).await.expect("pin");
    assert_eq!(titles(&backends, &user).await, ["c0", "c4", "c3", "c2", "c1"]);
    // A turn makes a conversation the newest, of those that aren't pinned.
    backends.generations.submit(&following(&user, &ids[1], "new turn")).await.expect("submit");
    assert_eq!(titles(&backends, &user).await, ["c0", "c1", "c4", "c3", "c2"]);
    backends.store.patch(&user, &ids[3], &Patch { title: None, pinned: Some(false) }).await.expect("unpin");
    let last = titles(&backends, &user).await;
    assert_eq!(last[0], "c1");
}

pub(crate) async fn list_pages(backends: Backends) {
    let (user, other) = (UserId::generate(), UserId::generate());
    let base = Time::now().0 - 100_000;
    for n in 0..25_u64 {
        // Some share a time, so a page may end within them.
        let conversation = stage::conversation(&format!("c{n}"), base + n / 4);
        backends.store.create(&user, &conversation, &[]).await.expect("create");
        if n % 9 == 0 {
            let pin = Patch { title: None, pinned: Some(true) };
            backends.store.patch(&user, &conversation.id, &pin).await.expect("pin");
        }
        backends.store.create(&other, &stage::conversation("not yours", base + n), &[]).await.expect("create");
    }
    let whole = page(&backends, &user, 100, None).await;
    assert_eq!((whole.0.len(), whole.1.clone()), (25, None));
    let sorted = whole.0.is_sorted_by_key(|c| (std::cmp::Reverse(c.pinned), std::cmp::Reverse(c.updated_at)));
    assert!(sorted, "pinned first, then newest");
    for limit in [1, 7, 25] {
        let (mut paged, mut cursor) = (Vec::new(), None);
        loop {
            let (items, next) = page(&backends, &user, limit, cursor).await;
            assert!(items.len() <= limit);
            paged.extend(items);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(paged, whole.0, "in pages of {limit}");
    }
}

pub(crate) async fn bad_cursor_starts_over(backends: Backends) {
    let user = UserId::generate();
    let conversation = stage::conversation("only", 1_700_000_000_000);
    backends.store.create(&user, &conversation, &[]).await.expect("create");
    for cursor in ["", "nonsense", "1.2", "-1.-1.-1", "99999999999999999999.0.x", "\0", "ở"] {
        let (items, _) = page(&backends, &user, 10, Some(cursor.to_owned())).await;
        assert_eq!(items.len(), 1, "cursor {cursor:?}");
    }
}

pub(crate) async fn delete_removes_everything(backends: Backends) {
    let user = UserId::generate();
    let kept = ask(&backends, &user, "kept needle").await;
    let mut writer = Writer::begin(&backends).await;
    writer.say("kept answer").await;
    writer.finish(Status::Completed).await.expect("finish");
    let gone = ask(&backends, &user, "needle in a haystack").await;
    let mut writer = Writer::begin(&backends).await;
    writer.say("the answer").await;
    writer.finish(Status::Completed).await.expect("finish");

    let id = &gone.conversation.id;
    backends.store.delete(&user, id).await.expect("delete");
    assert_not_found(backends.store.conversation(&user, id).await);
    assert_not_found(backends.store.message(&gone.user_message.id).await);
    assert_not_found(backends.store.message(&gone.assistant_message.id).await);
    let query = PathQuery { conversation: id.clone(), end: PathEnd::NewestLeaf, limit: 10 };
    assert_not_found(backends.store.path(&query).await);
    assert_not_found(backends.generations.submit(&following(&user, id, "more")).await);
    assert_gone(backends.generations.read(&generation_of(&gone), Position::START, 1000).await);
    assert_eq!(titles(&backends, &user).await.len(), 1);
    let query = ListQuery { limit: 10, cursor: None, search: Some("needle".into()) };
    let found = backends.store.conversations(&user, &query).await.expect("search").items;
    assert!(found.len() == 1 && found[0].id == kept.conversation.id, "{found:?}");

    // The neighbour has lost nothing.
    let page = backends.generations.read(&generation_of(&kept), Position::START, 1000).await.expect("read");
    assert!(matches!(page.entries.last(), Some((_, Entry::Fin(_)))));
    let again = backends.store.delete(&user, id).await;
    assert!(matches!(again, Ok(()) | Err(chatnode::backend::Error::NotFound)), "{again:?}");
    // What waited for a worker waits no longer.
    let waiting = ask(&backends, &user, "never answered").await;
    backends.store.delete(&user, &waiting.conversation.id).await.expect("delete");
    assert!(try_claim(&backends).await.is_none());
}

pub(crate) async fn export_is_in_order(backends: Backends) {
    let user = UserId::generate();
    let conversation = stage::conversation("tree", 1_700_000_000_000);
    let mut messages = chain(&conversation.id, 6);
    for n in 0..6 {
        let branch = message(&conversation.id, Some(&messages[n]), &format!("branch {n}"));
        messages.push(branch);
    }
    backends.store.create(&user, &conversation, &messages).await.expect("create");
    let turn = backends.generations.submit(&following(&user, &conversation.id, "and then")).await.expect("submit");
    messages.extend([turn.user_message, turn.assistant_message]);
    for limit in [1, 5, 14, 100] {
        let (mut all, mut after) = (Vec::<Message>::new(), None);
        loop {
            let page = backends.store.messages(&conversation.id, after.as_ref(), limit).await.expect("messages");
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            all.extend(page);
        }
        assert_eq!(all, messages, "in pages of {limit}");
    }
}

pub(crate) async fn secret_is_shared(backends: Backends) {
    let proposals = (0..20_u8).map(|n| {
        let backends = backends.clone();
        tokio::spawn(async move { backends.store.secret("cookies", &[n; 32]).await.expect("secret") })
    });
    let mut secrets = Vec::new();
    for one in proposals.collect::<Vec<_>>() {
        secrets.push(one.await.expect("join"));
    }
    assert_eq!(secrets[0].len(), 32);
    assert!(secrets.iter().all(|secret| secret == &secrets[0]), "all nodes get the same");
    assert_eq!(backends.store.secret("cookies", b"late").await, Ok(secrets[0].clone()));
    let binary = [0, 255, 13, 10, 0];
    assert_eq!(backends.store.secret("another", &binary).await, Ok(binary.to_vec()));
}

/// A message with every field.
fn full(message: &Message) -> Message {
    Message {
        reasoning: Some("let me think".into()),
        status: Status::Failed,
        model: Some("some-model".into()),
        options: Some(Options { system: None, temperature: Some(0.5), max_tokens: Some(3) }),
        finish_reason: Some("length".into()),
        usage: Some(Usage { input_tokens: 5, output_tokens: 7, estimated: true }),
        timing: Some(Timing { first_token_ms: 11, total_ms: 13 }),
        error: Some(Failure { code: "upstream_error".into(), message: "it broke".into() }),
        ..message.clone()
    }
}

async fn page(backends: &Backends, user: &UserId, limit: usize, cursor: Option<String>) -> (Vec<Conversation>, Option<String>) {
    let query = ListQuery { limit, cursor, search: None };
    let listing = backends.store.conversations(user, &query).await.expect("list");
    (listing.items, listing.next)
}

async fn titles(backends: &Backends, user: &UserId) -> Vec<String> {
    page(backends, user, 100, None).await.0.into_iter().map(|conversation| conversation.title).collect()
}
