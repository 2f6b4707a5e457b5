//! A question and its empty answer: stored and queued in one transaction, once for each request.

use rusqlite::{Connection, OptionalExtension, params};

use super::record::{self, Stored, signed, status_code};
use super::{store, tree};
use crate::backend::{Error, Parent, Question, Result, Submission, Submitted};
use crate::model::{Conversation, Message, MessageId, Options, Role, Status, Time};

pub(super) fn submit(db: &Connection, submission: &Submission) -> Result<Submitted> {
    if let Some((question, answer)) = known(db, submission)? {
        return repeated(db, submission, &question, &answer);
    }
    if submission.only_repeat {
        return Err(Error::NotFound);
    }
    let conversation = conversation(db, submission)?;
    let question = question(db, submission, conversation)?;
    let answer = answer(submission, &question);
    let n = tree::plant(db, conversation, Some(question.n), &answer)?;
    enqueue(db, submission, conversation, n)?;
    let sql = "INSERT INTO requests (user, request, question, answer) VALUES (?1, ?2, ?3, ?4)";
    let (user, request) = (submission.user.as_str(), &submission.request);
    db.prepare_cached(sql)?.execute(params![user, request, question.id.as_str(), answer.id.as_str()])?;
    let conversation = store::owned(db, &submission.user, &submission.conversation)?.1;
    Ok(Submitted { conversation, user_message: question.message, assistant_message: answer, repeated: false })
}

/// What the first submission of this request made.
fn known(db: &Connection, submission: &Submission) -> Result<Option<(MessageId, MessageId)>> {
    let sql = "SELECT question, answer FROM requests WHERE user = ?1 AND request = ?2";
    let parameters = [submission.user.as_str(), &submission.request];
    let read = |row: &rusqlite::Row<'_>| Ok((record::parsed(row, 0)?, record::parsed(row, 1)?));
    Ok(db.prepare_cached(sql)?.query_row(parameters, read).optional()?)
}

/// `NotFound` when the turn was removed since: a late retry must not bring it back.
fn repeated(db: &Connection, submission: &Submission, question: &MessageId, answer: &MessageId) -> Result<Submitted> {
    let conversation = store::owned(db, &submission.user, &answer.conversation())?.1;
    let (user_message, assistant_message) = (tree::find(db, question)?.message, tree::find(db, answer)?.message);
    Ok(Submitted { conversation, user_message, assistant_message, repeated: true })
}

/// The number of the conversation, which is made where the submission says so.
fn conversation(db: &Connection, submission: &Submission) -> Result<i64> {
    let (user, id) = (&submission.user, &submission.conversation);
    match (store::owned(db, user, id), &submission.create) {
        (Ok((n, _)), _) => {
            store::touch(db, n, submission.at)?;
            Ok(n)
        }
        (Err(Error::NotFound), Some(title)) if !store::exists(db, id)? => {
            let conversation = Conversation {
                id: id.clone(),
                title: title.clone(),
                pinned: false,
                version: 1,
                created_at: submission.at,
                updated_at: submission.at,
                generating: true,
            };
            store::insert(db, user, &conversation)
        }
        (Err(error), _) => Err(error),
    }
}

/// The message to answer: a new one below the parent, or the parent itself.
fn question(db: &Connection, submission: &Submission, conversation: i64) -> Result<Stored> {
    let parent = match &submission.parent {
        Parent::NewestLeaf => tree::newest(db, conversation)?,
        Parent::Root => None,
        Parent::Of(id) => Some(tree::number(db, conversation, id)?),
    };
    let Some(Question { id, content }) = &submission.question else {
        return tree::get(db, parent.ok_or(Error::NotFound)?);
    };
    let parent = parent.map(|n| tree::get(db, n)).transpose()?;
    let message = Message {
        parent: parent.as_ref().map(|parent| parent.id.clone()),
        role: Role::User,
        content: content.clone(),
        status: Status::Completed,
        ..blank(submission, id)
    };
    let parent = parent.map(|parent| parent.n);
    Ok(Stored { n: tree::plant(db, conversation, parent, &message)?, parent, message })
}

fn answer(submission: &Submission, question: &Message) -> Message {
    Message {
        parent: Some(question.id.clone()),
        generation: Some(submission.generation.clone()),
        model: Some(submission.model.clone()),
        options: (submission.options != Options::default()).then(|| submission.options.clone()),
        ..blank(submission, &submission.answer)
    }
}

fn blank(submission: &Submission, id: &MessageId) -> Message {
    Message {
        id: id.clone(),
        conversation: submission.conversation.clone(),
        parent: None,
        role: Role::Assistant,
        content: String::new(),
        reasoning: None,
        status: Status::Queued,
        generation: None,
        model: None,
        options: None,
        finish_reason: None,
        usage: None,
        timing: None,
        error: None,
        created_at: submission.at,
    }
}

fn enqueue(db: &Connection, submission: &Submission, conversation: i64, message: i64) -> Result<()> {
    let sql = "INSERT INTO generations (id, conversation, message, model, status, progress_at, written_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)";
    let (id, model) = (submission.generation.as_str(), &submission.model);
    let (status, now) = (status_code(Status::Queued), signed(Time::now().0));
    db.prepare_cached(sql)?.execute(params![id, conversation, message, model, status, now])?;
    Ok(())
}
