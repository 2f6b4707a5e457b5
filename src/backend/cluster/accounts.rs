//! `Accounts` on Redis. All of it lies in one slot, so that a name belongs to one account and a change is told with it.
//! It must not know how a password is checked, nor what a token looks like.

use async_trait::async_trait;
use fred::interfaces::HashesInterface;
use fred::types::Value;
use futures_util::future::try_join;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Redis;
use super::keys::{self, Key};
use crate::backend::accounts::{Account, AccountChange, Accounts, CHANGES_KEPT, CHANGES_MAX, Changes, Pass, surplus};
use crate::backend::{Error, Result};
use crate::model::{Time, UserId};

/// Tries of a change that others keep getting in the way of.
const TRIES_MAX: usize = 20;

#[async_trait]
impl Accounts for Redis {
    async fn add(&self, account: &Account) -> Result<bool> {
        let keys = vec![self.link.keys.key(&Key::Accounts), self.link.keys.key(&Key::AccountNames)];
        let args: Vec<Value> = vec![keys::short_user(&account.id).into(), account.name.as_str().into(), json(account).into()];
        let mut answer = self.link.run(&self.link.steps.account_add, keys, args).await?;
        Ok(answer.word() == "1")
    }

    async fn account(&self, id: &UserId) -> Result<Account> {
        read(&self.field(&Key::Accounts, keys::short_user(id)).await?)
    }

    async fn named(&self, name: &str) -> Result<Account> {
        let short = self.field(&Key::AccountNames, name).await?;
        read(&self.field(&Key::Accounts, &short).await?)
    }

    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Account>> {
        let records = self.fields(&Key::Accounts).await?;
        let mut accounts: Vec<Account> = records.iter().map(|record| read(record)).collect::<Result<_>>()?;
        accounts.retain(|account| after.is_none_or(|after| account.name.as_str() > after));
        accounts.sort_by(|a, b| a.name.cmp(&b.name));
        accounts.truncate(limit.clamp(1, 1_000));
        Ok(accounts)
    }

    async fn change(&self, id: &UserId, change: &AccountChange) -> Result<Account> {
        let short = keys::short_user(id);
        for _ in 0..TRIES_MAX {
            let before = self.field(&Key::Accounts, short).await?;
            let (after, taken) = change.of(&read(&before)?);
            let keys = vec![self.link.keys.key(&Key::Accounts), self.link.keys.key(&Key::AccessChanges)];
            let taken = if taken { "1" } else { "0" };
            let args: Vec<Value> = vec![short.into(), before.into(), json(&after).into(), taken.into(), kept()];
            let mut answer = self.link.run(&self.link.steps.account_change, keys, args).await?;
            if answer.word() == "1" {
                return Ok(after);
            }
        }
        Err(Error::Unavailable("others keep changing this account".to_owned()))
    }

    async fn issue(&self, pass: &Pass) -> Result<()> {
        let held = self.held(&pass.user).await?;
        let short = keys::short_user(&pass.user);
        let keys = vec![self.link.keys.key(&Key::Accounts), self.link.keys.key(&Key::Passes(&pass.user))];
        let mut args: Vec<Value> = vec![short.into(), pass.digest.as_str().into(), json(pass).into()];
        args.extend(surplus(held, pass).into_iter().map(Value::from));
        let mut answer = self.link.run(&self.link.steps.pass_issue, keys, args).await?;
        if answer.word() == "1" { Ok(()) } else { Err(Error::NotFound) }
    }

    async fn admit(&self, user: &UserId, digest: &str, at: Time) -> Result<(Account, Pass)> {
        let passes = Key::Passes(user);
        let records = try_join(self.field(&passes, digest), self.field(&Key::Accounts, keys::short_user(user))).await?;
        let (pass, account): (Pass, Account) = (read(&records.0)?, read(&records.1)?);
        if pass.admits(&account, at) { Ok((account, pass)) } else { Err(Error::NotFound) }
    }

    async fn passes(&self, user: &UserId, at: Time) -> Result<Vec<Pass>> {
        let mut held = self.held(user).await?;
        held.retain(|pass| !pass.has_expired(at));
        held.sort_by_key(|pass| pass.created_at);
        Ok(held)
    }

    async fn revoke(&self, user: &UserId, digest: &str) -> Result<()> {
        let keys = vec![self.link.keys.key(&Key::Passes(user)), self.link.keys.key(&Key::AccessChanges)];
        let args: Vec<Value> = vec![keys::short_user(user).into(), digest.into(), kept()];
        self.link.run(&self.link.steps.pass_revoke, keys, args).await.map(|_| ())
    }

    async fn changes(&self, after: Option<&str>) -> Result<Changes> {
        // To Redis anything else would be a syntax error.
        let known = after.filter(|after| after.parse::<crate::model::Position>().is_ok());
        let keys = vec![self.link.keys.key(&Key::AccessChanges)];
        let args: Vec<Value> = vec![known.unwrap_or_default().into(), CHANGES_MAX.to_string().into()];
        let mut answer = self.link.run(&self.link.steps.account_changes, keys, args).await?;
        let (next, anybody) = (answer.word(), answer.word() == "1");
        let users = answer.texts().into_iter().flatten().map(|short| keys::long_user(&short));
        let users: Option<Vec<UserId>> = users.collect();
        let users = users.ok_or_else(|| Error::Corrupt("the list of changed accounts".to_owned()))?;
        Ok(Changes { users, next, anybody: anybody || known.is_some() != after.is_some() })
    }
}

impl Redis {
    async fn field(&self, key: &Key<'_>, field: &str) -> Result<String> {
        let key = self.link.keys.key(key);
        let found: Option<String> = self.link.redis()?.hget(key, field).await.map_err(|error| self.link.fail(&error))?;
        found.ok_or(Error::NotFound)
    }

    async fn fields(&self, key: &Key<'_>) -> Result<Vec<String>> {
        let key = self.link.keys.key(key);
        self.link.redis()?.hvals(key).await.map_err(|error| self.link.fail(&error))
    }

    async fn held(&self, user: &UserId) -> Result<Vec<Pass>> {
        let records = self.fields(&Key::Passes(user)).await?;
        records.iter().map(|record| read(record)).collect()
    }
}

fn kept() -> Value {
    CHANGES_KEPT.to_string().into()
}

fn read<T: DeserializeOwned>(record: &str) -> Result<T> {
    // Without the text of the error, which may quote the record.
    serde_json::from_str(record).map_err(|_| Error::Corrupt("the record of an account can't be understood".to_owned()))
}

fn json<T: Serialize>(record: &T) -> String {
    serde_json::to_string(record).expect("plain fields become JSON")
}
