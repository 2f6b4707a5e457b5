//! `Accounts` on the database. A record is JSON in one column: it is read whole or not at all.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::database::Database;
use crate::backend::accounts::{Account, AccountChange, Accounts, CHANGES_KEPT, CHANGES_MAX, Changes, Pass, surplus};
use crate::backend::{Error, Result};
use crate::model::{Time, UserId};

#[derive(Debug)]
pub(super) struct SqliteAccounts {
    database: Arc<Database>,
}

impl SqliteAccounts {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl Accounts for SqliteAccounts {
    async fn add(&self, account: &Account) -> Result<bool> {
        let account = account.clone();
        self.database.write(move |db| add(db, &account)).await
    }

    async fn account(&self, id: &UserId) -> Result<Account> {
        let id = id.clone();
        self.database.read(move |db| account(db, &id)).await
    }

    async fn named(&self, name: &str) -> Result<Account> {
        let name = name.to_owned();
        self.database.read(move |db| one(db, "SELECT body FROM accounts WHERE name = ?1", &[&name])).await
    }

    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Account>> {
        let after = after.unwrap_or_default().to_owned();
        let sql = "SELECT body FROM accounts WHERE name > ?1 ORDER BY name LIMIT ?2";
        let limit = i64::try_from(limit.clamp(1, 1_000)).unwrap_or(1_000);
        self.database.read(move |db| all(db, sql, params![after, limit])).await
    }

    async fn change(&self, id: &UserId, change: &AccountChange) -> Result<Account> {
        let (id, change) = (id.clone(), change.clone());
        self.database.write(move |db| apply(db, &id, &change)).await
    }

    async fn issue(&self, pass: &Pass) -> Result<()> {
        let pass = pass.clone();
        self.database.write(move |db| issue(db, &pass)).await
    }

    async fn admit(&self, user: &UserId, digest: &str, at: Time) -> Result<(Account, Pass)> {
        let (user, digest) = (user.clone(), digest.to_owned());
        self.database.read(move |db| admit(db, &user, &digest, at)).await
    }

    async fn passes(&self, user: &UserId, at: Time) -> Result<Vec<Pass>> {
        let user = user.clone();
        let mut held = self.database.read(move |db| held(db, &user)).await?;
        held.retain(|pass| !pass.has_expired(at));
        held.sort_by_key(|pass| pass.created_at);
        Ok(held)
    }

    async fn revoke(&self, user: &UserId, digest: &str) -> Result<()> {
        let (user, digest) = (user.clone(), digest.to_owned());
        self.database.write(move |db| revoke(db, &user, &digest)).await
    }

    async fn changes(&self, after: Option<&str>) -> Result<Changes> {
        let after = after.map(str::to_owned);
        self.database.read(move |db| changes(db, after.as_deref())).await
    }
}

fn add(db: &Connection, account: &Account) -> Result<bool> {
    let sql = "INSERT INTO accounts (id, name, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    let added = db.prepare_cached(sql)?.execute(params![account.id.as_str(), account.name, json(account)])?;
    if added == 1 {
        return Ok(true);
    }
    let known = "SELECT EXISTS (SELECT 1 FROM accounts WHERE id = ?1)";
    Ok(db.prepare_cached(known)?.query_row([account.id.as_str()], |row| row.get(0))?)
}

fn account(db: &Connection, id: &UserId) -> Result<Account> {
    one(db, "SELECT body FROM accounts WHERE id = ?1", &[&id.as_str()])
}

fn apply(db: &Connection, id: &UserId, change: &AccountChange) -> Result<Account> {
    let (after, taken) = change.of(&account(db, id)?);
    let sql = "UPDATE accounts SET body = ?2 WHERE id = ?1";
    db.prepare_cached(sql)?.execute(params![id.as_str(), json(&after)])?;
    if taken {
        tell(db, id)?;
    }
    Ok(after)
}

fn issue(db: &Connection, pass: &Pass) -> Result<()> {
    account(db, &pass.user)?;
    for digest in surplus(held(db, &pass.user)?, pass) {
        db.prepare_cached("DELETE FROM passes WHERE user = ?1 AND digest = ?2")?.execute([pass.user.as_str(), &digest])?;
    }
    let sql = "INSERT INTO passes (user, digest, body) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    db.prepare_cached(sql)?.execute(params![pass.user.as_str(), pass.digest, json(pass)])?;
    Ok(())
}

fn admit(db: &Connection, user: &UserId, digest: &str, at: Time) -> Result<(Account, Pass)> {
    let pass: Pass = one(db, "SELECT body FROM passes WHERE user = ?1 AND digest = ?2", &[&user.as_str(), &digest])?;
    let account = account(db, user)?;
    if pass.admits(&account, at) { Ok((account, pass)) } else { Err(Error::NotFound) }
}

fn held(db: &Connection, user: &UserId) -> Result<Vec<Pass>> {
    all(db, "SELECT body FROM passes WHERE user = ?1", [user.as_str()])
}

fn revoke(db: &Connection, user: &UserId, digest: &str) -> Result<()> {
    let sql = "DELETE FROM passes WHERE user = ?1 AND digest = ?2";
    if db.prepare_cached(sql)?.execute([user.as_str(), digest])? > 0 {
        tell(db, user)?;
    }
    Ok(())
}

fn tell(db: &Connection, user: &UserId) -> Result<()> {
    db.prepare_cached("INSERT INTO access_changes (user) VALUES (?1)")?.execute([user.as_str()])?;
    let kept = i64::try_from(CHANGES_KEPT).unwrap_or(i64::MAX);
    let sql = "DELETE FROM access_changes WHERE n <= (SELECT max(n) FROM access_changes) - ?1";
    db.prepare_cached(sql)?.execute([kept])?;
    Ok(())
}

/// A number that isn't one of ours is as good as one that is not told any more.
fn changes(db: &Connection, after: Option<&str>) -> Result<Changes> {
    let last = "SELECT coalesce(max(n), 0) FROM access_changes";
    let last: i64 = db.prepare_cached(last)?.query_row([], |row| row.get(0))?;
    let Some(after) = after.and_then(|after| after.parse::<i64>().ok()) else {
        return Ok(Changes { users: Vec::new(), next: last.to_string(), anybody: after.is_some() });
    };
    let sql = "SELECT n, user FROM access_changes WHERE n >= ?1 ORDER BY n LIMIT ?2";
    let limit = i64::try_from(CHANGES_MAX + 1).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([after, limit])?;
    let mut found = Changes { users: Vec::new(), next: after.to_string(), anybody: after != 0 };
    while let Some(row) = rows.next()? {
        let n: i64 = row.get(0)?;
        if n == after {
            found.anybody = false;
            continue;
        }
        if found.users.len() == CHANGES_MAX {
            break;
        }
        found.users.push(super::record::parsed(row, 1)?);
        found.next = n.to_string();
    }
    if found.anybody && found.users.is_empty() {
        found.next = last.to_string();
    }
    Ok(found)
}

fn one<T: DeserializeOwned>(db: &Connection, sql: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<T> {
    let body: Option<String> = db.prepare_cached(sql)?.query_row(parameters, |row| row.get(0)).optional()?;
    read(&body.ok_or(Error::NotFound)?)
}

fn all<T: DeserializeOwned>(db: &Connection, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<T>> {
    let mut statement = db.prepare_cached(sql)?;
    let bodies = statement.query_map(parameters, |row| row.get::<_, String>(0))?;
    bodies.map(|body| read(&body?)).collect()
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T> {
    // Without the text of the error, which may quote the record.
    serde_json::from_str(body).map_err(|_| Error::Corrupt("the record of an account can't be understood".into()))
}

fn json<T: Serialize>(record: &T) -> String {
    serde_json::to_string(record).expect("plain fields become JSON")
}
