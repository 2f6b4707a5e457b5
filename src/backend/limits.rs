//! How much may be asked for, counted once for all nodes. It must not know what is counted, nor for whom.

use std::time::Duration;

use async_trait::async_trait;

use super::Result;
use crate::model::{GenerationId, Status, Usage};

/// Counters that all nodes share. They protect, and are not the truth of anything: what a restart of the store loses of them
/// is lost, and whoever asks decides what [`super::Error::Unavailable`] means.
///
/// Names of buckets and rooms have at most [`NAME_BYTES_MAX`] bytes and no secret in them.
#[async_trait]
pub trait Limits: Send + Sync + std::fmt::Debug {
    /// Takes one from each of these buckets if there is one in all of them: then `None`. Else nothing is taken, and it says which
    /// is empty, and how long until there is one. Buckets that nobody knows are full. A bucket is forgotten once it is full
    /// again, and may be when its node or store restarts.
    async fn take(&self, buckets: &[Bucket]) -> Result<Option<Refused>>;

    /// Lets an answer begin: takes from the buckets as [`Limits::take`] does, and then brings the answer into all the rooms and
    /// reserves what it may cost, or neither, as [`Refused::Full`] or [`Refused::Spent`] says; what was taken stays taken. It stays
    /// there until [`Limits::end`], or until its generation has ended in whichever way, and for [`ANSWER_EXPIRY`] at most. The same
    /// generation comes in only once. One that is not submitted within seconds may count as ended.
    ///
    /// An end that is stored uses what [`Used::of`] says of its message, and no more is reserved; that of an answer which is removed
    /// with its conversation, all that was reserved.
    async fn begin(&self, opening: &Opening) -> Result<Option<Refused>>;

    /// The answer leaves its rooms, and so much of what was reserved was used (also more than was reserved): in the period in which it
    /// began, whenever it ends. Where it isn't in any, or was ended before, nothing happens.
    async fn end(&self, generation: &GenerationId, used: Used) -> Result<()>;

    /// What a period of a budget has cost so far. Answers whose end nobody told count as reserved until somebody needs the place.
    async fn spent(&self, budget: &Budget) -> Result<Spent>;

    /// This holder lives, for [`HOLDER_EXPIRY`] from now; with `gone` it doesn't, and nobody it let in counts any more. Answers
    /// whether it was known to live: if not, whoever it let in has to come in again.
    async fn alive(&self, holder: &str, gone: bool) -> Result<bool>;

    /// For a holder that lives: lets each party into all of its rooms, or, where one is full then, tells which (its place in the list), one party after
    /// the other. They are in until they leave, or their holder lives no more. A holder that can't tell whether they came in
    /// ([`super::Error::Unavailable`]) is `gone`, and begins again under another name. One that counts on who came in to still be in
    /// after [`ROOM_EXPIRY`] does so as well.
    async fn enter(&self, holder: &str, parties: &[Party]) -> Result<Vec<Option<usize>>>;

    /// So many of those whom this holder let into these rooms leave them.
    async fn leave(&self, holder: &str, rooms: &[(String, u32)]) -> Result<()>;
}

pub const NAME_BYTES_MAX: usize = 200;

/// The largest amount that is reserved or counted: every store adds many of them without losing a digit.
pub(in crate::backend) const COUNT_MAX: u64 = 1 << 52;

/// How long an answer may be in a room before it is stored, in milliseconds.
pub(in crate::backend) const UNSTORED_MS: u64 = 5_000;

/// An answer that nobody ended is not counted any longer than this.
pub const ANSWER_EXPIRY: Duration = Duration::from_secs(24 * 60 * 60);

/// What was spent is known for at least so long after the last answer of its period began.
pub const SPENT_EXPIRY: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// A holder that was silent for so long counts as dead, and its people as gone.
pub const HOLDER_EXPIRY: Duration = Duration::from_secs(5);

/// A room where nobody came or went for so long may be forgotten.
pub const ROOM_EXPIRY: Duration = Duration::from_secs(2 * 60 * 60);

/// Something that empties by use and fills by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub name: String,
    pub rate: Rate,
}

/// Something that holds so many at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    pub name: String,
    pub most: u32,
}

/// An answer that is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub generation: GenerationId,
    pub buckets: Vec<Bucket>,
    pub rooms: Vec<Room>,
    pub cost: Option<Cost>,
}

/// Something of which there is so much in each period. What one period leaves is not for the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub name: String,
    /// Which period: for a day, how many there were since 1970.
    pub period: u64,
}

/// What an answer may cost at most, as far as anybody knows, of a budget that has so much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    pub budget: Budget,
    pub amount: u64,
    pub most: u64,
}

/// Of what was reserved for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    So(u64),
    /// Nobody can tell any more, so all of it.
    Reserved,
}

impl Used {
    pub const NOTHING: Self = Self::So(0);

    /// What an answer that ended like this says of itself: its tokens; nothing, where no model was asked; and where it was given up by
    /// somebody who could not count, nobody knows.
    #[must_use]
    pub fn of(usage: Option<Usage>, status: Status) -> Self {
        match (usage, status) {
            (Some(usage), _) => Self::So(usage.input_tokens.saturating_add(usage.output_tokens)),
            (None, Status::Completed | Status::Cancelled | Status::Failed) => Self::NOTHING,
            (None, Status::Queued | Status::Running | Status::Interrupted) => Self::Reserved,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub used: u64,
    pub reserved: u64,
}

/// So many who come in together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    pub people: u32,
    pub rooms: Vec<Room>,
}

/// Why not. The numbers are places in the lists that were asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Empty {
        bucket: usize,
        wait: Duration,
    },
    Full {
        room: usize,
    },
    /// So much is left of the budget, which is not enough.
    Spent {
        left: u64,
    },
}

/// How a bucket fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What fits in: so many at once after a rest. At least 1.
    pub burst: u32,
    /// One more after each of these. At least a millisecond.
    pub every: Duration,
}

impl Rate {
    /// So many in a minute, at once or one after the other.
    #[must_use]
    pub fn per_minute(count: u32) -> Self {
        Self { burst: count.max(1), every: Duration::from_mins(1) / count.max(1) }
    }

    /// When the bucket is full again (milliseconds), if one is taken at `now` from one that is full at `full_at`; else how
    /// long until one can be taken.
    ///
    /// # Errors
    /// The milliseconds to wait.
    pub(in crate::backend) fn take(self, full_at: u64, now: u64) -> std::result::Result<u64, u64> {
        let every = self.every_ms();
        let missing = full_at.saturating_sub(now);
        let room = every * u64::from(self.burst.max(1) - 1);
        if missing > room { Err(missing - room) } else { Ok(now + missing + every) }
    }

    pub(in crate::backend) fn every_ms(self) -> u64 {
        u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX / 1_000_000).max(1)
    }
}
