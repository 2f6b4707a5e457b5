//! People who log in: accounts, and the passes (login sessions, API keys) by which they are known again.
//! It must not know how a password is checked, what a cookie is, or where a token came from.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Result;
use crate::model::{Time, UserId};

/// Accounts, sessions and API keys. Durable when a call returns; every node reads what any node wrote.
///
/// Every call may be repeated after [`super::Error::Unavailable`]: repeating changes nothing more, but may tell
/// [`Accounts::changes`] twice.
#[async_trait]
pub trait Accounts: Send + Sync + std::fmt::Debug {
    /// Stores a new account. `false`, and nothing stored, when another account has its name. An account that is there
    /// already stays as it is.
    async fn add(&self, account: &Account) -> Result<bool>;

    /// `NotFound` when there is none.
    async fn account(&self, id: &UserId) -> Result<Account>;

    /// By its name, which is a [`login_name`]. `NotFound` when there is none.
    async fn named(&self, name: &str) -> Result<Account>;

    /// All accounts in the order of their names, behind `after`, at most `limit` (1 to 1,000).
    async fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Account>>;

    /// Changes the fields given. A new password, and being disabled, raise `era`, so that every session from before has
    /// ended. Whatever takes a right away is told by [`Accounts::changes`]. `NotFound` when there is none.
    async fn change(&self, id: &UserId, change: &AccountChange) -> Result<Account>;

    /// Lets whoever holds its token in, until it expires or is revoked. Expired ones of the account go; beyond
    /// [`PASSES_MAX`] of a kind, so does the oldest. `NotFound` when there is no such account.
    async fn issue(&self, pass: &Pass) -> Result<()>;

    /// The account and the pass of this digest, if it lets in at this time: not expired, not revoked, its account not
    /// disabled, and, for a session, of the account's `era`. Else `NotFound`, whichever of these it is.
    async fn admit(&self, user: &UserId, digest: &str, at: Time) -> Result<(Account, Pass)>;

    /// All passes of a user that have not expired at this time, oldest first.
    async fn passes(&self, user: &UserId, at: Time) -> Result<Vec<Pass>>;

    /// Takes a pass back, which [`Accounts::changes`] tells. One that isn't there is taken back already.
    async fn revoke(&self, user: &UserId, digest: &str) -> Result<()>;

    /// Whose right was taken away since `after`, a `next` from before: whoever serves them looks again. Without `after`,
    /// nobody, and where to go on from. At most [`CHANGES_MAX`] at once; the last [`CHANGES_KEPT`] are kept.
    async fn changes(&self, after: Option<&str>) -> Result<Changes>;
}

/// Passes of a kind that one account may have.
pub const PASSES_MAX: usize = 100;

/// Longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 100;

/// Users that one answer of [`Accounts::changes`] names at most.
pub const CHANGES_MAX: usize = 1_000;

/// Changes that are kept at least.
pub const CHANGES_KEPT: usize = 10_000;

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub id: UserId,
    /// What people log in with; a [`login_name`].
    pub name: String,
    /// The hash of a password, as a PHC string. Absent: nobody logs in with one.
    pub password: Option<String>,
    pub admin: bool,
    pub disabled: bool,
    /// Sessions of another era have ended.
    pub era: u32,
    pub created_at: Time,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, name: _, password: _, admin, disabled, era, created_at } = self;
        let mut shown = f.debug_struct("Account");
        shown.field("id", id).field("admin", admin).field("disabled", disabled).field("era", era);
        shown.field("created_at", created_at).finish_non_exhaustive()
    }
}

#[derive(Clone, Default, PartialEq, Eq)]
pub struct AccountChange {
    pub password: Option<String>,
    pub admin: Option<bool>,
    pub disabled: Option<bool>,
}

impl AccountChange {
    /// The account as it is then, and whether a right was taken away by it. The same change twice is one.
    #[must_use]
    pub fn of(&self, account: &Account) -> (Account, bool) {
        let mut after = account.clone();
        after.admin = self.admin.unwrap_or(account.admin);
        after.disabled = self.disabled.unwrap_or(account.disabled);
        after.password = self.password.clone().or(after.password);
        let ends_sessions = after.password != account.password || (after.disabled && !account.disabled);
        after.era += u32::from(ends_sessions);
        let taken = ends_sessions || (account.admin && !after.admin);
        (after, taken)
    }
}

impl std::fmt::Debug for AccountChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("AccountChange");
        shown.field("admin", &self.admin).field("disabled", &self.disabled).finish_non_exhaustive()
    }
}

/// What a token stands for. The token itself is nowhere: only its digest is, which opens nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    pub user: UserId,
    /// SHA-256 of the token in hexadecimal.
    pub digest: String,
    pub kind: PassKind,
    /// What its owner calls it; empty for sessions.
    pub label: String,
    pub created_at: Time,
    /// Absent: until it is revoked.
    pub expires_at: Option<Time>,
    /// The account's when it was issued.
    pub era: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PassKind {
    Session,
    Key,
}

impl Pass {
    #[must_use]
    pub fn has_expired(&self, at: Time) -> bool {
        self.expires_at.is_some_and(|end| end <= at)
    }

    /// Whether this pass of this account lets in.
    #[must_use]
    pub fn admits(&self, account: &Account, at: Time) -> bool {
        let current = self.kind == PassKind::Key || self.era == account.era;
        current && !account.disabled && !self.has_expired(at) && self.user == account.id
    }
}

/// The digests that have to go when this one comes, of those that are there.
#[must_use]
pub fn surplus(mut held: Vec<Pass>, coming: &Pass) -> Vec<String> {
    held.sort_by_key(|pass| pass.created_at);
    held.retain(|pass| pass.digest != coming.digest);
    let (expired, living): (Vec<Pass>, Vec<Pass>) = held.into_iter().partition(|pass| pass.has_expired(coming.created_at));
    let same: Vec<Pass> = living.into_iter().filter(|pass| pass.kind == coming.kind).collect();
    let too_many = (same.len() + 1).saturating_sub(PASSES_MAX);
    expired.into_iter().chain(same.into_iter().take(too_many)).map(|pass| pass.digest).collect()
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Pass");
        shown.field("user", &self.user).field("kind", &self.kind).field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    pub users: Vec<UserId>,
    /// To be given as `after` next time.
    pub next: String,
    /// Some are not told any more: anybody may be meant.
    pub anybody: bool,
}

/// A name as it is stored and looked up: lower case, without spaces around it, of a-z 0-9 . _ @ + - alone.
/// `None` when it can't be one.
#[must_use]
pub fn login_name(text: &str) -> Option<String> {
    let name = text.trim().to_lowercase();
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._@+-".contains(&b));
    (fits && plain).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        let id = UserId::generate();
        Account {
            id,
            name: "mai".into(),
            password: Some("$argon2id$x".into()),
            admin: true,
            disabled: false,
            era: 3,
            created_at: Time(1),
        }
    }

    #[test]
    fn names_are_told_apart_by_what_people_mean() {
        assert_eq!(login_name("  Mai.Anh@Example.ORG ").as_deref(), Some("mai.anh@example.org"));
        for bad in ["", " ", "a b", "mai\u{0}", "Ánh", "a/b", "a:b", &"a".repeat(101)] {
            assert_eq!(login_name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_takes_a_right_away_ends_sessions_once() {
        let before = account();
        let disable = AccountChange { disabled: Some(true), ..AccountChange::default() };
        let (disabled, taken) = disable.of(&before);
        assert!(taken && disabled.era == 4);
        assert_eq!(disable.of(&disabled), (disabled.clone(), false));
        let (enabled, taken) = AccountChange { disabled: Some(false), ..AccountChange::default() }.of(&disabled);
        assert!(!taken && enabled.era == 4, "sessions from before stay ended");
        let (demoted, taken) = AccountChange { admin: Some(false), ..AccountChange::default() }.of(&before);
        assert!(taken && demoted.era == 3, "they go on with less");
        let (changed, taken) = AccountChange { password: Some("new".into()), ..AccountChange::default() }.of(&before);
        assert!(taken && changed.era == 4 && changed.password.as_deref() == Some("new"));
    }

    #[test]
    fn no_debug_text_holds_a_hash_or_a_name() {
        let pass = Pass {
            user: UserId::generate(),
            digest: "d1ge57".into(),
            kind: PassKind::Key,
            label: "mai's laptop".into(),
            created_at: Time(1),
            expires_at: None,
            era: 0,
        };
        let change = AccountChange { password: Some("$argon2id$y".into()), ..AccountChange::default() };
        let text = format!("{:?} {pass:?} {change:?}", account());
        assert!(!text.contains("argon2id") && !text.contains("d1ge57") && !text.contains("mai"), "{text}");
    }
}
