//! `Store::path`: the way from the root to a leaf of the tree, in pages.

use chatnode::backend::{Backends, PathEnd, PathPage, PathQuery};
use chatnode::model::{Conversation, ConversationId, Message, MessageId, UserId};

use super::stage::{self, assert_not_found, chain, message};

pub(crate) async fn pages_of_a_thousand(backends: Backends) {
    let (conversation, messages) = planted(&backends, 1000, |_, _| {}).await;
    for limit in [1_usize, 50, 200] {
        let mut end = PathEnd::NewestLeaf;
        let mut seen: Vec<Message> = Vec::new();
        // Pages of one go only a part of the way: it is a thousand calls otherwise.
        while seen.len() < if limit == 1 { 20 } else { 1000 } {
            let page = path(&backends, &conversation, end, limit).await;
            assert_eq!(page.items.len(), limit.min(1000 - seen.len()));
            assert!(page.items.iter().all(|item| item.siblings.is_empty()));
            assert_eq!(page.more, seen.len() + page.items.len() < 1000);
            end = PathEnd::Before(page.items[0].message.id.clone());
            seen.splice(0..0, page.items.into_iter().map(|item| item.message));
        }
        assert_eq!(seen, messages[1000 - seen.len()..], "in pages of {limit}");
    }
    let page = path(&backends, &conversation, PathEnd::Before(messages[0].id.clone()), 10).await;
    assert_eq!((page.items.len(), page.more), (0, false), "before the root is nothing");
    let page = path(&backends, &conversation, PathEnd::Through(messages[3].id.clone()), 2).await;
    assert_eq!(ids(&page), [messages[998].id.clone(), messages[999].id.clone()]);
    let page = path(&backends, &conversation, PathEnd::At(messages[500].id.clone()), 3).await;
    assert_eq!(ids(&page), messages[498..=500].iter().map(|m| m.id.clone()).collect::<Vec<_>>());
}

/// ```text
/// 0 ─ 1 ─ 2 ─ 3 ─ 4 ─ 5
///     │   └─ 6 ─ 7          (below 2)
///     └─ 8                  (below 1)
/// 9 ─ 10                    (a second root)
/// ```
fn grow(conversation: &ConversationId, messages: &mut Vec<Message>) {
    let mut add = |parent: Option<usize>, text: &str| {
        let next = message(conversation, parent.map(|n| &messages[n]), text);
        messages.push(next);
    };
    add(Some(2), "6");
    add(Some(6), "7");
    add(Some(1), "8");
    add(None, "9");
    add(Some(9), "10");
}

pub(crate) async fn ends(backends: Backends) {
    let (conversation, m) = planted(&backends, 6, grow).await;
    let walk = async |end: PathEnd| {
        let page = path(&backends, &conversation, end, 100).await;
        assert!(!page.more);
        ids(&page).iter().map(|id| m.iter().position(|m| &m.id == id).expect("known")).collect::<Vec<_>>()
    };
    let id = |n: usize| m[n].id.clone();
    assert_eq!(walk(PathEnd::NewestLeaf).await, [9, 10]);
    assert_eq!(walk(PathEnd::At(id(3))).await, [0, 1, 2, 3]);
    assert_eq!(walk(PathEnd::At(id(7))).await, [0, 1, 2, 6, 7]);
    assert_eq!(walk(PathEnd::Through(id(0))).await, [0, 1, 8], "8 came last of all below 0");
    assert_eq!(walk(PathEnd::Through(id(2))).await, [0, 1, 2, 6, 7], "7 came after 5");
    assert_eq!(walk(PathEnd::Through(id(3))).await, [0, 1, 2, 3, 4, 5]);
    assert_eq!(walk(PathEnd::Through(id(5))).await, [0, 1, 2, 3, 4, 5], "a leaf is its own newest leaf");
    assert_eq!(walk(PathEnd::Through(id(9))).await, [9, 10]);
    assert_eq!(walk(PathEnd::Before(id(6))).await, [0, 1, 2]);
    assert_eq!(walk(PathEnd::Before(id(9))).await, Vec::<usize>::new());
}

pub(crate) async fn siblings(backends: Backends) {
    let (conversation, m) = planted(&backends, 6, grow).await;
    let page = path(&backends, &conversation, PathEnd::At(m[5].id.clone()), 100).await;
    let siblings: Vec<Vec<MessageId>> = page.items.into_iter().map(|item| item.siblings).collect();
    let of = |ns: &[usize]| ns.iter().map(|n| m[*n].id.clone()).collect::<Vec<_>>();
    // Roots are alternatives of each other as well.
    assert_eq!(siblings, [of(&[0, 9]), of(&[]), of(&[2, 8]), of(&[3, 6]), of(&[]), of(&[])]);
    let page = path(&backends, &conversation, PathEnd::At(m[7].id.clone()), 2).await;
    assert_eq!(page.items[0].siblings, of(&[3, 6]));
    assert!(page.more);
}

pub(crate) async fn not_found(backends: Backends) {
    let (conversation, _) = planted(&backends, 3, |_, _| {}).await;
    let (_, others) = planted(&backends, 3, |_, _| {}).await;
    let unknown = MessageId::generate(&conversation);
    for id in [&others[1].id, &unknown] {
        for end in [PathEnd::At(id.clone()), PathEnd::Through(id.clone()), PathEnd::Before(id.clone())] {
            let query = PathQuery { conversation: conversation.clone(), end, limit: 10 };
            assert_not_found(backends.store.path(&query).await);
        }
    }
    let query = PathQuery { conversation: ConversationId::generate(), end: PathEnd::NewestLeaf, limit: 10 };
    assert_not_found(backends.store.path(&query).await);
    assert_not_found(backends.store.message(&unknown).await);
}

pub(crate) async fn empty_conversation(backends: Backends) {
    let (conversation, _) = planted(&backends, 0, |_, _| {}).await;
    let page = path(&backends, &conversation, PathEnd::NewestLeaf, 10).await;
    assert_eq!(page, PathPage { items: Vec::new(), more: false });
}

/// Many branches at many depths: the newest leaf below a message, compared with the definition.
pub(crate) async fn through_a_branch_point(backends: Backends) {
    let (conversation, m) = planted(&backends, 40, |conversation, messages| {
        for n in 0..80_usize {
            // Any fixed rule that branches early and late.
            let parent = (n * 7919 + 13) % messages.len();
            let next = message(conversation, Some(&messages[parent]), &format!("branch {n}"));
            messages.push(next);
        }
    })
    .await;
    let index = |id: &MessageId| m.iter().position(|m| &m.id == id).expect("known");
    let below = |top: usize, mut n: usize| loop {
        if n == top {
            return true;
        }
        match &m[n].parent {
            Some(parent) => n = index(parent),
            None => return false,
        }
    };
    for top in (0..m.len()).step_by(7) {
        let newest = (0..m.len()).rev().find(|n| below(top, *n)).expect("itself");
        let page = path(&backends, &conversation, PathEnd::Through(m[top].id.clone()), 1).await;
        assert_eq!(index(&page.items[0].message.id), newest, "through {top}");
    }
}

async fn planted(
    backends: &Backends,
    length: usize,
    grow: impl FnOnce(&ConversationId, &mut Vec<Message>),
) -> (ConversationId, Vec<Message>) {
    let conversation: Conversation = stage::conversation("tree", 1_700_000_000_000);
    let mut messages = chain(&conversation.id, length);
    grow(&conversation.id, &mut messages);
    backends.store.create(&UserId::generate(), &conversation, &messages).await.expect("create");
    (conversation.id, messages)
}

async fn path(backends: &Backends, conversation: &ConversationId, end: PathEnd, limit: usize) -> PathPage {
    let query = PathQuery { conversation: conversation.clone(), end, limit };
    backends.store.path(&query).await.expect("path")
}

fn ids(page: &PathPage) -> Vec<MessageId> {
    page.items.iter().map(|item| item.message.id.clone()).collect()
}
