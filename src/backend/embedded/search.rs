//! Lists of conversations: all of a user's, or those where every word of a search occurs.
//!
//! `texts` keeps a folded copy of each title (numbered from -1 down, by conversation) and message (by its own number).
//! Words of three letters and more are looked up by their trigrams; shorter ones are looked for in the user's
//! conversations, newest first, which ends early because short words are common.
//!
//! To index a long answer takes the writer milliseconds, in which nobody's token is stored. So what is written is only noted in
//! `unindexed`, and indexed behind the writes, in steps. Until then a search reads it as it is.

use std::collections::HashSet;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::record::{self, CONVERSATION, signed};
use crate::backend::fold::{fold, words};
use crate::backend::{ListQuery, Listing, Result};
use crate::model::{Conversation, UserId};

/// Most conversations of one page, whatever was asked.
const PAGE_MAX: usize = 100;

/// Bytes of text that are indexed in one transaction, unless a single text has more: some milliseconds.
const STEP_BYTES: usize = 16 * 1024;

/// What is not indexed yet, with its text.
const UNINDEXED: &str = "SELECT u.n, u.conversation, coalesce(m.content, c.title) FROM unindexed u
    JOIN conversations c ON c.n = u.conversation LEFT JOIN messages m ON m.n = u.n";

/// Makes the text of a message findable, or of a title by the negative number of its conversation.
pub(super) fn index(db: &Connection, n: i64, conversation: i64, text: &str) -> Result<()> {
    if !text.is_empty() {
        let sql = "INSERT OR IGNORE INTO unindexed (n, conversation) VALUES (?1, ?2)";
        db.prepare_cached(sql)?.execute([n, conversation])?;
    }
    Ok(())
}

/// Whether something waits to be indexed.
pub(super) fn is_behind(db: &Connection) -> Result<bool> {
    Ok(db.prepare_cached("SELECT EXISTS (SELECT 1 FROM unindexed)")?.query_row([], |row| row.get(0))?)
}

/// Indexes some of what waits; true when more is left.
pub(super) fn catch_up(db: &Connection) -> Result<bool> {
    step(db, STEP_BYTES)
}

fn step(db: &Connection, mut room: usize) -> Result<bool> {
    while room > 0 {
        let next = format!("{UNINDEXED} ORDER BY u.n LIMIT 1");
        let next = db.prepare_cached(&next)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
        let Some((n, conversation, text)) = next else { return Ok(false) };
        let (n, conversation, text): (i64, i64, String) = (n, conversation, text);
        let folded = fold(&text);
        let insert = "INSERT INTO texts (n, conversation, folded) VALUES (?1, ?2, ?3)";
        db.prepare_cached(insert)?.execute(params![n, conversation, folded])?;
        db.prepare_cached("INSERT INTO trigrams (rowid, folded) VALUES (?1, ?2)")?.execute(params![n, folded])?;
        db.prepare_cached("DELETE FROM unindexed WHERE n = ?1")?.execute([n])?;
        room = room.saturating_sub(text.len());
    }
    is_behind(db)
}

/// As [`index`], in place of what was there.
pub(super) fn reindex(db: &Connection, n: i64, conversation: i64, text: &str) -> Result<()> {
    if db.prepare_cached("DELETE FROM texts WHERE n = ?1")?.execute([n])? > 0 {
        db.prepare_cached("DELETE FROM trigrams WHERE rowid = ?1")?.execute([n])?;
    }
    index(db, n, conversation, text)
}

/// Forgets all texts of a conversation.
pub(super) fn forget(db: &Connection, conversation: i64) -> Result<()> {
    let trigrams = "DELETE FROM trigrams WHERE rowid IN (SELECT n FROM texts WHERE conversation = ?1)";
    db.prepare_cached(trigrams)?.execute([conversation])?;
    for table in ["texts", "unindexed"] {
        db.prepare_cached(&format!("DELETE FROM {table} WHERE conversation = ?1"))?.execute([conversation])?;
    }
    Ok(())
}

pub(super) fn list(db: &Connection, user: &UserId, query: &ListQuery) -> Result<Listing<Conversation>> {
    let words = query.search.as_deref().map(words).unwrap_or_default();
    let limit = query.limit.clamp(1, PAGE_MAX);
    let mut after = query.cursor.as_deref().and_then(Cursor::parse).unwrap_or(Cursor::START);
    let (candidates, unindexed) = (candidates(db, user, &words)?, unindexed(db, user, &words)?);
    let mut items: Vec<Conversation> = Vec::new();
    let mut next = None;
    let sql = format!(
        "SELECT {CONVERSATION} FROM conversations c
        WHERE c.user = ?1 AND (c.pinned, c.updated_at, c.n) < (?2, ?3, ?4)
        ORDER BY c.pinned DESC, c.updated_at DESC, c.n DESC"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![user.as_str(), after.pinned, after.updated_at, after.n])?;
    while let Some(row) = rows.next()? {
        let n: i64 = row.get(0)?;
        let matches = unindexed.contains(&n)
            || match &candidates {
                Some(candidates) => candidates.contains(&n),
                None => words.is_empty() || occur(db, n, &words)?,
            };
        if !matches {
            continue;
        }
        if items.len() == limit {
            next = Some(after.to_string());
            break;
        }
        let (n, conversation) = record::conversation(row)?;
        after = Cursor { pinned: i64::from(conversation.pinned), updated_at: signed(conversation.updated_at.0), n };
        items.push(conversation);
    }
    Ok(Listing { items, next })
}

/// The place of a conversation in its user's list: opaque to whoever carries it.
struct Cursor {
    pinned: i64,
    updated_at: i64,
    n: i64,
}

impl Cursor {
    /// Before everything.
    const START: Self = Self { pinned: i64::MAX, updated_at: i64::MAX, n: i64::MAX };

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|part| part.parse::<i64>().ok());
        let cursor = Self { pinned: numbers.next()??, updated_at: numbers.next()??, n: numbers.next()?? };
        let sound = (0..=1).contains(&cursor.pinned) && cursor.updated_at >= 0 && cursor.n > 0 && numbers.next().is_none();
        sound.then_some(cursor)
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.pinned, self.updated_at, self.n)
    }
}

/// The conversations where the words occur, when one of the words is long enough for the index.
fn candidates(db: &Connection, user: &UserId, words: &[String]) -> Result<Option<HashSet<i64>>> {
    let trigrams: Vec<String> = words.iter().flat_map(|word| trigrams(word)).collect();
    if trigrams.is_empty() {
        return Ok(None);
    }
    let all = trigrams.join(" AND ");
    // The index knows which trigrams occur, not in which order, and short words not at all: the text decides.
    let mut sql = "SELECT t.conversation FROM trigrams JOIN texts t ON t.n = trigrams.rowid
        JOIN conversations c ON c.n = t.conversation WHERE trigrams MATCH ?1 AND c.user = ?2"
        .to_owned();
    sql.push_str(&" AND instr(t.folded, ?) > 0".repeat(words.len()));
    let parameters = [all, user.as_str().to_owned()].into_iter().chain(words.iter().cloned()).map(Value::Text);
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(parameters), |row| row.get(0))?;
    Ok(Some(rows.collect::<rusqlite::Result<_>>()?))
}

/// The conversations where the words occur in a text that is not indexed yet.
fn unindexed(db: &Connection, user: &UserId, words: &[String]) -> Result<HashSet<i64>> {
    let mut found = HashSet::new();
    if !words.is_empty() {
        let mut statement = db.prepare_cached(&format!("{UNINDEXED} WHERE c.user = ?1"))?;
        let mut rows = statement.query([user.as_str()])?;
        while let Some(row) = rows.next()? {
            let folded = fold(&row.get::<_, String>(2)?);
            if words.iter().all(|word| folded.contains(word.as_str())) {
                found.insert(row.get(1)?);
            }
        }
    }
    Ok(found)
}

/// Each three letters in a row, quoted for a query of the index.
fn trigrams(word: &str) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.windows(3).map(|three| format!("\"{}\"", String::from_iter(three).replace('"', "\"\""))).collect()
}

/// True when all words occur in the title or in one message of the conversation.
fn occur(db: &Connection, conversation: i64, words: &[String]) -> Result<bool> {
    let mut sql = "SELECT EXISTS (SELECT 1 FROM texts WHERE conversation = ?".to_owned();
    sql.push_str(&" AND instr(folded, ?) > 0".repeat(words.len()));
    sql.push(')');
    let parameters = std::iter::once(Value::Integer(conversation)).chain(words.iter().cloned().map(Value::Text));
    Ok(db.prepare_cached(&sql)?.query_row(params_from_iter(parameters), |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{schema, store, tree};
    use super::*;
    use crate::model::{ConversationId, Message, MessageId, Role, Status, Time};

    /// Texts that share words, with letters that are folded and words too short for the index.
    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["Đường", "về", "nhà", "duong", "AN", "ăn", "\"%_\"", "x"]), 0..4)
            .prop_map(|words| words.join(" "))
    }

    #[derive(Clone, Debug)]
    enum Act {
        Begin(String),
        Say(usize, String),
        /// The newest message of a conversation gets its text.
        End(usize, String),
        Rename(usize, String),
        Forget(usize),
        /// Indexes one text.
        Step,
        CatchUp,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            2 => text().prop_map(Act::Begin),
            4 => (0..4_usize, text()).prop_map(|(at, text)| Act::Say(at, text)),
            2 => (0..4_usize, text()).prop_map(|(at, text)| Act::End(at, text)),
            1 => (0..4_usize, text()).prop_map(|(at, text)| Act::Rename(at, text)),
            1 => (0..4_usize).prop_map(Act::Forget),
            3 => Just(Act::Step),
            1 => Just(Act::CatchUp),
        ]
    }

    /// What a search should find: by reading everything.
    #[derive(Debug)]
    struct Known {
        n: i64,
        id: ConversationId,
        title: String,
        messages: Vec<(i64, String)>,
    }

    struct Archive {
        db: Connection,
        user: UserId,
        known: Vec<Known>,
    }

    impl Archive {
        fn act(&mut self, act: Act) {
            match act {
                Act::Begin(title) => {
                    let id = ConversationId::generate();
                    let at = Time(1);
                    let conversation = Conversation {
                        id: id.clone(),
                        title: title.clone(),
                        pinned: false,
                        version: 1,
                        created_at: at,
                        updated_at: at,
                        generating: false,
                    };
                    let n = store::insert(&self.db, &self.user, &conversation).expect("insert");
                    self.known.push(Known { n, id, title, messages: Vec::new() });
                }
                Act::Say(at, text) => {
                    let Some(known) = self.known.get_mut(at) else { return };
                    let n = tree::plant(&self.db, known.n, None, &message(&known.id, &text)).expect("plant");
                    known.messages.push((n, text));
                }
                Act::End(at, text) => {
                    let Some(known) = self.known.get_mut(at) else { return };
                    let Some((n, said)) = known.messages.last_mut() else { return };
                    self.db.execute("UPDATE messages SET content = ?2 WHERE n = ?1", params![*n, text]).expect("update");
                    reindex(&self.db, *n, known.n, &text).expect("reindex");
                    *said = text;
                }
                Act::Rename(at, title) => {
                    let Some(known) = self.known.get_mut(at) else { return };
                    self.db.execute("UPDATE conversations SET title = ?2 WHERE n = ?1", params![known.n, title]).expect("update");
                    reindex(&self.db, -known.n, known.n, &title).expect("reindex");
                    known.title = title;
                }
                Act::Forget(at) => {
                    if at < self.known.len() {
                        let known = self.known.remove(at);
                        forget(&self.db, known.n).expect("forget");
                        for table in ["messages", "leaves"] {
                            let sql = format!("DELETE FROM {table} WHERE conversation = ?1");
                            self.db.execute(&sql, [known.n]).expect("delete");
                        }
                        self.db.execute("DELETE FROM conversations WHERE n = ?1", [known.n]).expect("delete");
                    }
                }
                Act::Step => drop(step(&self.db, 1).expect("step")),
                Act::CatchUp => {
                    while catch_up(&self.db).expect("catch up") {}
                    assert!(!is_behind(&self.db).expect("look"));
                }
            }
        }

        fn check(&self) {
            for search in ["duong", "đường về", "an", "\"%_\"", "nhà x", "nothing"] {
                let query = ListQuery { limit: 100, cursor: None, search: Some(search.to_owned()) };
                let listing = list(&self.db, &self.user, &query).expect("list");
                let found: HashSet<ConversationId> = listing.items.into_iter().map(|found| found.id).collect();
                let holds = |text: &str| words(search).iter().all(|word| fold(text).contains(word.as_str()));
                let has = |known: &&Known| holds(&known.title) || known.messages.iter().any(|(_, text)| holds(text));
                let expected: HashSet<ConversationId> = self.known.iter().filter(has).map(|known| known.id.clone()).collect();
                assert_eq!(found, expected, "{search}: {:?}", self.known);
            }
        }
    }

    fn message(conversation: &ConversationId, content: &str) -> Message {
        Message {
            id: MessageId::generate(conversation),
            conversation: conversation.clone(),
            parent: None,
            role: Role::User,
            content: content.to_owned(),
            reasoning: None,
            status: Status::Completed,
            generation: None,
            model: None,
            options: None,
            finish_reason: None,
            usage: None,
            timing: None,
            error: None,
            created_at: Time(1),
        }
    }

    proptest! {
        #[test]
        fn finds_the_same_whatever_is_indexed(acts in prop::collection::vec(act(), 0..40)) {
            let db = schema::open_writer(None, None).expect("a database");
            let mut archive = Archive { db, user: UserId::generate(), known: Vec::new() };
            for act in acts {
                archive.act(act);
                archive.check();
            }
            archive.act(Act::CatchUp);
            archive.check();
        }
    }
}
