//! Whether those who are here may stay: a socket or a stream of events must not outlive the right that let it in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{Auth, Caller};
use crate::backend::accounts::{Accounts, CHANGES_MAX};
use crate::drain::Drain;
use crate::model::{Time, UserId};

/// How often a node asks whose right was taken away. Hints come sooner; this is what holds when they are lost.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long until somebody is asked for again when the store could not say.
const AGAIN: Duration = Duration::from_secs(1);

/// Who is here, and has to be looked at again when a right of theirs is taken away. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Watchlist(Arc<Mutex<HashMap<UserId, watch::Sender<()>>>>);

impl Watchlist {
    fn follow(&self, user: &UserId) -> watch::Receiver<()> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.entry(user.clone()).or_default().subscribe()
    }

    fn alarm(&self, user: &UserId) {
        let users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = users.get(user) {
            here.send_replace(());
        }
    }

    fn alarm_all(&self) {
        let users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.values().for_each(|here| here.send_replace(()));
    }

    /// Forgets those who left.
    fn tidy(&self) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, here| here.receiver_count() > 0);
    }

    /// Asks the store whose right was taken away, until the node stops. After trouble anybody may be meant.
    pub(super) fn run(self, accounts: Arc<dyn Accounts>, drain: &Drain) {
        let stopped = drain.stopped().clone();
        drain.spawn("access changes", async move {
            let mut beat = interval(ASK_EVERY);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut after: Option<String> = None;
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    _ = beat.tick() => {}
                }
                self.tidy();
                loop {
                    let Ok(changes) = accounts.changes(after.as_deref()).await else {
                        after = None;
                        break;
                    };
                    // The first answer after trouble says only where to go on from.
                    if changes.anybody || after.is_none() {
                        self.alarm_all();
                    }
                    changes.users.iter().for_each(|user| self.alarm(user));
                    after = Some(changes.next);
                    if changes.users.len() < CHANGES_MAX {
                        break;
                    }
                }
            }
        });
    }
}

/// What a caller who was let in would be now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Standing {
    Same,
    /// Let in, but not as an admin any more.
    Less,
    Gone,
}

/// One caller's right to stay.
#[derive(Debug)]
pub(in crate::gateway) struct Right {
    auth: Auth,
    caller: Caller,
    changed: Option<watch::Receiver<()>>,
    ends: Option<Instant>,
    again: Option<Instant>,
}

impl Right {
    pub(in crate::gateway) fn of(auth: &Auth, caller: &Caller) -> Self {
        let lasts = caller.expires_at.map(|end| Duration::from_millis(end.since_ms(Time::now())));
        // What was taken away between letting in and following is found by looking at once.
        let (changed, again) = match caller.is_anonymous() {
            true => (None, None),
            false => (Some(auth.watchlist.follow(&caller.user)), Some(Instant::now())),
        };
        Self { auth: auth.clone(), caller: caller.clone(), changed, ends: lasts.map(|lasts| Instant::now() + lasts), again }
    }

    /// Returns when it may have ended: [`Self::look`] tells. May be dropped and called again.
    pub(in crate::gateway) async fn in_doubt(&mut self) {
        let changed = async {
            match &mut self.changed {
                // Without a sender nobody would say so; that is a doubt as well.
                Some(changed) => drop(changed.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed => {}
            () = at(self.ends) => {}
            () = at(self.again) => {}
        }
    }

    /// Looks. While the store can't say, a right that has not expired holds.
    pub(in crate::gateway) async fn look(&mut self) -> Standing {
        if self.ends.is_some_and(|end| end <= Instant::now()) {
            return Standing::Gone;
        }
        match self.auth.still(&self.caller).await {
            Ok(standing) => {
                self.again = None;
                standing
            }
            Err(_) => {
                self.again = Some(Instant::now() + AGAIN);
                Standing::Same
            }
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
