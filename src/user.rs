//! `chatnode user …`: accounts from a terminal, on the storage that a node with the same configuration uses, whether or not
//! one runs. A password comes from a terminal without echo or as a line of standard input, never from an argument, which
//! everybody on the machine could read.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::accounts::{Account, AccountChange, Accounts, login_name};
use crate::backend::{self, Backends, Hint, Link, Subject, embedded};
use crate::config::{Config, DataDir, Deployment, UserCommand};
use crate::drain::Drain;
use crate::model::{Time, UserId};
use crate::telemetry::Metrics;
use crate::{node, password};

/// How long the servers of a cluster may take to be there.
const READY_MAX: Duration = Duration::from_secs(5);
/// How long a hint may wait for its link. Without it, nodes find out by themselves within a second.
const HINT_MAX: Duration = Duration::from_secs(1);
const PAGE: usize = 1_000;

/// Why it could not be done; one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a name is 1 to 100 of a-z 0-9 . _ @ + -")]
    Name,
    #[error("there is an account called {0} already")]
    Taken(String),
    #[error("there is no account called {0}")]
    Unknown(String),
    #[error("a node that keeps its data in memory keeps no accounts: give --data-dir")]
    Memory,
    #[error("the two passwords differ")]
    Differ,
    #[error(transparent)]
    Unfit(#[from] password::Unfit),
    #[error("no password could be read: {0}")]
    Input(#[from] std::io::Error),
    #[error(transparent)]
    Open(#[from] node::Error),
    #[error(transparent)]
    Store(#[from] backend::Error),
}

impl Error {
    /// As [`node::Error::is_of_configuration`].
    #[must_use]
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, Self::Open(error) if error.is_of_configuration())
    }
}

/// Does it on a runtime of its own, and answers what there is to say.
///
/// # Errors
/// What kept it from being done; then nothing was.
pub fn block_on(config: Config, command: UserCommand) -> Result<String, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Input)?;
    runtime.block_on(async {
        let desk = Desk::open(&config).await?;
        let outcome = desk.carry_out(command).await;
        desk.close().await;
        outcome
    })
}

/// The accounts, and in a cluster the way to tell nodes of a change at once.
struct Desk {
    accounts: Arc<dyn Accounts>,
    cluster: Option<Backends>,
    drain: Drain,
    /// The directory that had to be made: a node that has accounts already keeps them elsewhere.
    made: Option<PathBuf>,
}

impl Desk {
    async fn open(config: &Config) -> Result<Self, Error> {
        let drain = Drain::new();
        if let Deployment::Embedded(data) = &config.deployment {
            let DataDir::Path(dir) = data else { return Err(Error::Memory) };
            let made = (!dir.exists()).then(|| dir.clone());
            let accounts = embedded::open_accounts(dir).map_err(node::Error::from)?;
            return Ok(Self { accounts, cluster: None, drain, made });
        }
        let backends = node::open(config, &drain, &Metrics::new()).await?;
        let mut health = backends.health.clone();
        if tokio::time::timeout(READY_MAX, health.wait_for(|health| health.store.is_up())).await.is_err() {
            let why = match &backends.health.borrow().store {
                Link::Down(why) => why.clone(),
                Link::Up => String::new(),
            };
            return Err(backend::Error::Unavailable(why).into());
        }
        Ok(Self { accounts: Arc::clone(&backends.accounts), cluster: Some(backends), drain, made: None })
    }

    async fn close(self) {
        let _ = self.drain.stop(READY_MAX).await;
    }

    async fn carry_out(&self, command: UserCommand) -> Result<String, Error> {
        match command {
            UserCommand::Add { name, admin } => self.add(&name, admin).await,
            UserCommand::List => self.list().await,
            UserCommand::Disable { name } => {
                let change = AccountChange { disabled: Some(true), ..AccountChange::default() };
                self.change(&name, change, "may not come in any more").await
            }
            UserCommand::Enable { name } => {
                let change = AccountChange { disabled: Some(false), ..AccountChange::default() };
                self.change(&name, change, "may come in").await
            }
            UserCommand::Passwd { name } => {
                self.named(&name).await?;
                let change = AccountChange { password: Some(new_password()?), ..AccountChange::default() };
                self.change(&name, change, "has a new password; all sessions ended").await
            }
        }
    }

    async fn add(&self, name: &str, admin: bool) -> Result<String, Error> {
        let name = login_name(name).ok_or(Error::Name)?;
        if self.accounts.named(&name).await.is_ok() {
            return Err(Error::Taken(name));
        }
        let account = Account {
            id: UserId::generate(),
            name: name.clone(),
            password: Some(new_password()?),
            admin,
            disabled: false,
            era: 0,
            created_at: Time::now(),
        };
        if !self.accounts.add(&account).await? {
            return Err(Error::Taken(name));
        }
        tracing::info!(target: "audit", user = %account.id, admin, "account added");
        let role = if admin { ", as an admin" } else { "" };
        let made = self.made.as_ref().map(|dir| {
            format!("\nThe data directory {} was not there and was made. A node that keeps its data elsewhere needs the same --data-dir here.", dir.display())
        });
        Ok(format!("{name} may come in{role}{}\n", made.unwrap_or_default()))
    }

    async fn list(&self) -> Result<String, Error> {
        let mut text = String::new();
        let mut last: Option<String> = None;
        loop {
            let page = self.accounts.list(last.as_deref(), PAGE).await?;
            for account in &page {
                let role = if account.admin { "admin" } else { "user" };
                let state = if account.disabled { "disabled" } else { "active" };
                // Writing into a string doesn't fail.
                let _ = writeln!(text, "{:<30} {role:<6} {state:<9} {} {}", account.name, account.id, account.created_at);
            }
            match page.last().filter(|_| page.len() == PAGE) {
                Some(account) => last = Some(account.name.clone()),
                None => return Ok(if text.is_empty() { "there are no accounts yet\n".to_owned() } else { text }),
            }
        }
    }

    async fn named(&self, name: &str) -> Result<Account, Error> {
        let name = login_name(name).ok_or(Error::Name)?;
        self.accounts.named(&name).await.map_err(|error| match error {
            backend::Error::NotFound => Error::Unknown(name),
            other => Error::Store(other),
        })
    }

    async fn change(&self, name: &str, change: AccountChange, done: &str) -> Result<String, Error> {
        let account = self.named(name).await?;
        self.accounts.change(&account.id, &change).await?;
        tracing::info!(target: "audit", user = %account.id, "account changed: {done}");
        if let Some(backends) = &self.cluster {
            let mut health = backends.health.clone();
            let _ = tokio::time::timeout(HINT_MAX, health.wait_for(|health| health.backplane.is_up())).await;
            backends.backplane.publish(&Subject::User(account.id), Hint::Access).await;
        }
        Ok(format!("{} {done}\n", account.name))
    }
}

/// The hash of a password that somebody types twice, or that a program writes once.
fn new_password() -> Result<String, Error> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let most = u64::try_from(password::BYTES_MAX + 2).unwrap_or(u64::MAX);
        let mut line = String::new();
        stdin.lock().take(most).read_line(&mut line)?;
        return Ok(password::hash(line.trim_end_matches(['\r', '\n']))?);
    }
    let first = rpassword::prompt_password("New password: ")?;
    let hash = password::hash(&first)?;
    if rpassword::prompt_password("Once more: ")? != first {
        return Err(Error::Differ);
    }
    Ok(hash)
}
