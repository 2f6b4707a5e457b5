//! `Store::conversations` with `search`: titles and messages, blind to case and Vietnamese diacritics.

use chatnode::backend::{Backends, ListQuery, Patch};
use chatnode::model::{Status, UserId};

use super::stage::{self, Writer, ask, message};

pub(crate) async fn folds_case_and_diacritics(backends: Backends) {
    let user = UserId::generate();
    shelve(&backends, &user, "Đường về nhà", "Tôi thích PHỞ bò ở Hà Nội").await;
    for search in ["duong", "ĐƯỜNG", "đường", "Duong ve", "pho", "phở", "Phơ", "ha noi", "HÀ NỘI", "thich", "nha"] {
        assert_eq!(find(&backends, &user, search).await, ["Đường về nhà"], "search {search:?}");
    }
    // The same letters, composed otherwise.
    assert_eq!(find(&backends, &user, "\u{111}u\u{31b}o\u{31b}\u{300}ng").await.len(), 1);
    for search in ["dường xa", "bun bo", "xyz", "duongg"] {
        assert!(find(&backends, &user, search).await.is_empty(), "search {search:?}");
    }
}

pub(crate) async fn all_words_in_one_place(backends: Backends) {
    let user = UserId::generate();
    shelve(&backends, &user, "alpha beta", "gamma delta").await;
    for search in ["alpha beta", "beta alpha", "  gamma \t delta  ", "delta"] {
        assert_eq!(find(&backends, &user, search).await.len(), 1, "search {search:?}");
    }
    for search in ["alpha gamma", "alpha beta gamma", "delta epsilon"] {
        assert!(find(&backends, &user, search).await.is_empty(), "search {search:?}");
    }
    // No word asks for nothing, and finds everything.
    assert_eq!(find(&backends, &user, "   ").await.len(), 1);
}

pub(crate) async fn short_words(backends: Backends) {
    let user = UserId::generate();
    shelve(&backends, &user, "Ăn gì", "Quán ở kia").await;
    shelve(&backends, &user, "zzz", "zzz zz").await;
    for search in ["an", "gi", "ở", "o", "kia ở", "Ă"] {
        assert_eq!(find(&backends, &user, search).await, ["Ăn gì"], "search {search:?}");
    }
}

pub(crate) async fn wildcards_are_literal(backends: Backends) {
    let user = UserId::generate();
    shelve(&backends, &user, "plain", "nothing special").await;
    shelve(&backends, &user, "special", r#"100% of a_b "quoted" [x]* \d (y) it's NEAR(z) a:b -c ^d {e} ?"#).await;
    for search in [
        "%",
        "_",
        "100%",
        "a_b",
        "\"",
        "\"quoted\"",
        "*",
        "[x]*",
        "\\d",
        "(y)",
        "it's",
        "near(z)",
        "a:b",
        "-c",
        "^d",
        "{e}",
        "?",
        "'s",
    ] {
        assert_eq!(find(&backends, &user, search).await, ["special"], "search {search:?}");
    }
    for search in ["n%g", "pl_in", "pla*", "\"plain\"", "nothing OR", "AND", "title:plain", "\0", "%%", "__"] {
        assert!(find(&backends, &user, search).await.is_empty(), "search {search:?}");
    }
}

pub(crate) async fn finds_answers_and_new_titles(backends: Backends) {
    let user = UserId::generate();
    let turn = ask(&backends, &user, "where to?").await;
    let mut writer = Writer::begin(&backends).await;
    writer.say("Đi Sài Gòn").await;
    writer.finish(Status::Completed).await.expect("finish");
    assert_eq!(find(&backends, &user, "sai gon").await.len(), 1, "an answer that ended");
    assert_eq!(find(&backends, &user, "where").await.len(), 1, "a question");

    let patch = Patch { title: Some("Chuyến đi".into()), pinned: None };
    backends.store.patch(&user, &turn.conversation.id, &patch).await.expect("patch");
    assert_eq!(find(&backends, &user, "chuyen").await.len(), 1, "the new title");
    assert!(find(&backends, &user, "title").await.is_empty(), "the old title");
}

pub(crate) async fn pages(backends: Backends) {
    let user = UserId::generate();
    for n in 0..12 {
        shelve(&backends, &user, &format!("needle {n}"), "a needle, too; needle").await;
        shelve(&backends, &user, &format!("hay {n}"), "straw").await;
    }
    for (search, limit) in [("needle", 5), ("ne", 5), ("needle", 12), ("n", 1)] {
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let query = ListQuery { limit, cursor, search: Some(search.into()) };
            let listing = backends.store.conversations(&user, &query).await.expect("search");
            assert!(listing.items.len() <= limit);
            found.extend(listing.items);
            cursor = listing.next;
            if cursor.is_none() {
                break;
            }
        }
        let mut titles: Vec<&str> = found.iter().map(|conversation| conversation.title.as_str()).collect();
        titles.sort_unstable();
        titles.dedup();
        assert_eq!((titles.len(), found.len()), (12, 12), "{search} in pages of {limit}: {titles:?}");
    }
}

/// A conversation with a title and one message.
async fn shelve(backends: &Backends, user: &UserId, title: &str, content: &str) {
    let conversation = stage::conversation(title, 1_700_000_000_000);
    let message = message(&conversation.id, None, content);
    backends.store.create(user, &conversation, &[message]).await.expect("create");
}

async fn find(backends: &Backends, user: &UserId, search: &str) -> Vec<String> {
    let query = ListQuery { limit: 100, cursor: None, search: Some(search.into()) };
    let listing = backends.store.conversations(user, &query).await.expect("search");
    listing.items.into_iter().map(|conversation| conversation.title).collect()
}
