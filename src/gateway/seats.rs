//! How many connections one user, and one address, have over all gateways together. It must not know what a connection is for.
//!
//! One task talks to the store, one call at a time, and what comes meanwhile goes along with the next. When it can't tell what the
//! store has counted, it lets everybody in, and as soon as the store is there again it counts all who are here anew, under another
//! name; the old one lapses, as that of a dead node does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::allowance::{Asker, COUNTED_WITHIN};
use crate::backend::limits::{HOLDER_EXPIRY, Limits, Party, ROOM_EXPIRY, Room};
use crate::backend::{Error, Result};
use crate::config::LimitsConfig;
use crate::drain::Drain;

/// How often the store is told that this node lives: it may miss some.
const BEAT: Duration = Duration::from_secs(HOLDER_EXPIRY.as_secs() / 5);
/// Everybody is counted anew before rooms where nothing happens are forgotten.
const RECOUNT: Duration = Duration::from_secs(ROOM_EXPIRY.as_secs() / 4);
/// Connections that may wait to be counted; more wait to wait.
const WAITING_MAX: usize = 1_024;
/// Connections, or rooms, in one call.
const CALL_MAX: usize = 128;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    config: LimitsConfig,
    waiting: mpsc::Sender<Waiting>,
    here: Arc<Here>,
}

/// A place among the connections. Given back when it is dropped.
#[derive(Debug)]
pub struct Seat {
    rooms: Box<[Arc<str>]>,
    here: Arc<Here>,
}

/// Who has too many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany {
    pub(super) scope: &'static str,
}

#[derive(Debug)]
struct Waiting {
    rooms: Vec<Room>,
    /// The place of the room that is full.
    reply: oneshot::Sender<std::result::Result<Seat, usize>>,
}

#[derive(Debug, Default)]
struct Here {
    counts: Mutex<Counts>,
    somebody_left: Notify,
}

#[derive(Debug, Default)]
struct Counts {
    /// Who is here, whether or not the store knows.
    here: HashMap<Arc<str>, u32>,
    /// Who left, and is still counted.
    left: HashMap<Arc<str>, u32>,
}

impl Seats {
    pub(super) fn new(node_id: &str, limits: Arc<dyn Limits>, config: LimitsConfig, drain: &Drain) -> Self {
        let (waiting, asked) = mpsc::channel(WAITING_MAX);
        let seats = Self { config, waiting, here: Arc::default() };
        if config.user.connections.is_some() || config.address.connections.is_some() {
            let usher = Usher { node_id: node_id.into(), holder: String::new(), limits, here: seats.here.clone(), sure: false };
            let stopped = drain.stopped().clone();
            drain.spawn("connection limits", usher.run(asked, stopped));
        }
        seats
    }

    pub(super) async fn take(&self, asker: &Asker) -> std::result::Result<Seat, TooMany> {
        let limits = [
            (self.config.user.connections, format!("sockets-of-{}", asker.user), "user_connections"),
            (self.config.address.connections, format!("sockets-from-{}", asker.near), "address_connections"),
        ];
        let set = limits.into_iter().filter_map(|(most, name, scope)| Some((Room { name, most: most?.get() }, scope)));
        let (rooms, scopes): (Vec<Room>, Vec<&str>) = set.unzip();
        let nowhere = || Seat { rooms: Box::default(), here: self.here.clone() };
        if rooms.is_empty() {
            return Ok(nowhere());
        }
        let (reply, answer) = oneshot::channel();
        // Nobody there to count: the node stops.
        if self.waiting.send(Waiting { rooms, reply }).await.is_err() {
            return Ok(nowhere());
        }
        match answer.await {
            Ok(Err(full)) => Err(TooMany { scope: scopes[full] }),
            Ok(Ok(seat)) => Ok(seat),
            Err(_) => Ok(nowhere()),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.rooms.is_empty() {
            return;
        }
        let mut counts = self.here.counts();
        for room in &self.rooms {
            if let Some(here) = counts.here.get_mut(room) {
                *here -= 1;
                if *here == 0 {
                    counts.here.remove(room);
                }
            }
            *counts.left.entry(room.clone()).or_default() += 1;
        }
        drop(counts);
        self.here.somebody_left.notify_one();
    }
}

impl Here {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// As one party for each room, in which there is room for them: they are in already, and what others have is no reason to
    /// close their sockets. Whoever has left is not among them.
    fn everybody(&mut self) -> Vec<Party> {
        self.left.clear();
        let party = |(name, people): (&Arc<str>, &u32)| Party {
            people: *people,
            rooms: vec![Room { name: name.to_string(), most: u32::MAX }],
        };
        self.here.iter().map(party).collect()
    }

    /// One more; answers the name that all of them share.
    fn add(&mut self, room: String) -> Arc<str> {
        let name = self.here.get_key_value(room.as_str()).map_or_else(|| room.into(), |(name, _)| name.clone());
        *self.here.entry(name.clone()).or_default() += 1;
        name
    }
}

/// The task.
struct Usher {
    node_id: String,
    holder: String,
    limits: Arc<dyn Limits>,
    here: Arc<Here>,
    /// The store counts for `holder` who is here, but for those who left.
    sure: bool,
}

impl Usher {
    async fn run(mut self, mut asked: mpsc::Receiver<Waiting>, stopped: CancellationToken) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut recounted = Instant::now();
        let here = self.here.clone();
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                () = stopped.cancelled() => break,
                _ = beat.tick() => {
                    if recounted.elapsed() >= RECOUNT {
                        recounted = Instant::now();
                        self.sure = false;
                    }
                    self.beat().await;
                }
                // First, so that whoever comes back finds room.
                () = here.somebody_left.notified() => self.let_out().await,
                count = asked.recv_many(&mut waiting, CALL_MAX) => match count {
                    0 => break,
                    _ => self.let_in(waiting).await,
                },
            }
        }
        // Who can't say so is missed after a while.
        let _ = within(self.limits.alive(&self.holder, true)).await;
    }

    async fn let_in(&mut self, mut waiting: Vec<Waiting>) {
        // Who is too many here alone need not be asked about.
        let verdicts: Vec<Option<usize>> = {
            let counts = self.here.counts();
            let held = |room: &Room| counts.here.get(room.name.as_str()).copied().unwrap_or_default();
            let full = |waiting: &Waiting| waiting.rooms.iter().position(|room| held(room) >= room.most);
            waiting.iter().map(full).collect()
        };
        let mut verdicts = verdicts.into_iter();
        waiting = refuse(waiting, |_| verdicts.next().flatten());
        if self.sure && !waiting.is_empty() {
            let parties: Vec<Party> = waiting.iter().map(|one| Party { people: 1, rooms: one.rooms.clone() }).collect();
            match within(self.limits.enter(&self.holder, &parties)).await {
                Ok(answers) => {
                    let mut answers = answers.into_iter();
                    waiting = refuse(waiting, |_| answers.next().flatten());
                }
                Err(error) => self.lost(&error),
            }
        }
        for Waiting { rooms, reply } in waiting {
            let mut counts = self.here.counts();
            let rooms: Box<[Arc<str>]> = rooms.into_iter().map(|room| counts.add(room.name)).collect();
            drop(counts);
            // Whoever went meanwhile drops the seat, which gives it back.
            let _ = reply.send(Ok(Seat { rooms, here: self.here.clone() }));
        }
    }

    async fn let_out(&mut self) {
        let left: Vec<(String, u32)> = self.here.counts().left.drain().map(|(room, people)| (room.to_string(), people)).collect();
        for some in left.chunks(CALL_MAX) {
            if self.sure
                && let Err(error) = within(self.limits.leave(&self.holder, some)).await
            {
                self.lost(&error);
            }
        }
    }

    async fn beat(&mut self) {
        if self.sure {
            match within(self.limits.alive(&self.holder, false)).await {
                Ok(known) => self.sure = known,
                Err(error) => self.lost(&error),
            }
        }
        if !self.sure
            && let Err(error) = self.recount().await
        {
            self.lost(&error);
        }
    }

    /// Counts all who are here anew.
    async fn recount(&mut self) -> Result<()> {
        if !self.holder.is_empty() {
            within(self.limits.alive(&self.holder, true)).await?;
        }
        self.holder = format!("{}~{:016x}", self.node_id, rand::random::<u64>());
        within(self.limits.alive(&self.holder, false)).await?;
        let parties = self.here.counts().everybody();
        for some in parties.chunks(CALL_MAX) {
            within(self.limits.enter(&self.holder, some)).await?;
        }
        self.sure = true;
        Ok(())
    }

    fn lost(&mut self, error: &Error) {
        if self.sure {
            tracing::debug!(%error, "connections are not counted until the store is there again");
        }
        self.sure = false;
    }
}

/// Tells those whom the verdict names; answers the others.
fn refuse(waiting: Vec<Waiting>, mut full: impl FnMut(&Waiting) -> Option<usize>) -> Vec<Waiting> {
    let mut others = Vec::with_capacity(waiting.len());
    for one in waiting {
        match full(&one) {
            Some(room) => drop(one.reply.send(Err(room))),
            None => others.push(one),
        }
    }
    others
}

async fn within<T>(asked: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Err(Error::Unavailable("it did not answer in time".to_owned()));
    timeout(COUNTED_WITHIN, asked).await.unwrap_or_else(late)
}
