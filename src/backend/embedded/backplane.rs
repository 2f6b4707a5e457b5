//! `Backplane` within one process: a bounded ring for each subject that somebody listens to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::backend::{Backplane, Hint, Hints, Subject};

/// Hints of a conversation that are kept for its slowest listener; beyond it the oldest are lost, and the listener reads the log.
const HINTS_KEPT: usize = 256;
/// Of any other subject: they are rare, and each connection listens to one, whose room is taken from the first moment.
const RARE_HINTS_KEPT: usize = 16;

type Subjects = Mutex<HashMap<Subject, broadcast::Sender<Arc<Hint>>>>;

#[derive(Debug, Default)]
pub(super) struct Local {
    subjects: Arc<Subjects>,
}

#[async_trait]
impl Backplane for Local {
    async fn publish(&self, subject: &Subject, hint: Hint) {
        let subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = subjects.get(subject) {
            // Whoever listened may just be leaving.
            let _ = sender.send(Arc::new(hint));
        }
    }

    async fn subscribe(&self, subject: &Subject) -> Hints {
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = subjects.entry(subject.clone()).or_insert_with(|| broadcast::channel(kept(subject)).0);
        let receiver = sender.subscribe();
        let left = Left { subjects: Arc::downgrade(&self.subjects), subject: subject.clone() };
        stream::unfold(Listener { receiver, _left: left }, next).boxed()
    }
}

fn kept(subject: &Subject) -> usize {
    if matches!(subject, Subject::Conversation(_)) { HINTS_KEPT } else { RARE_HINTS_KEPT }
}

/// The receiver stands before the guard, so that it is gone when the guard looks whether anybody is left.
struct Listener {
    receiver: broadcast::Receiver<Arc<Hint>>,
    _left: Left,
}

async fn next(mut listener: Listener) -> Option<(Arc<Hint>, Listener)> {
    loop {
        match listener.receiver.recv().await {
            Ok(hint) => return Some((hint, listener)),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}

/// Forgets a subject when its last listener has left.
struct Left {
    subjects: Weak<Subjects>,
    subject: Subject,
}

impl Drop for Left {
    fn drop(&mut self) {
        let Some(subjects) = self.subjects.upgrade() else { return };
        let mut subjects = subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if subjects.get(&self.subject).is_some_and(|sender| sender.receiver_count() == 0) {
            subjects.remove(&self.subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConversationId, Time, UserId};

    fn known(local: &Local) -> usize {
        local.subjects.lock().expect("lock").len()
    }

    #[tokio::test]
    async fn a_subject_lasts_as_long_as_its_listeners() {
        let local = Local::default();
        let subject = Subject::User(UserId::generate());
        local.publish(&subject, Hint::Work { generation: None }).await;
        assert_eq!(known(&local), 0, "publishing alone keeps nothing");
        let first = local.subscribe(&subject).await;
        let second = local.subscribe(&subject).await;
        assert_eq!(known(&local), 1);
        drop(first);
        assert_eq!(known(&local), 1);
        drop(second);
        assert_eq!(known(&local), 0);
    }

    #[tokio::test]
    async fn a_laggard_loses_the_oldest_and_goes_on() {
        let local = Local::default();
        let subject = Subject::Conversation(ConversationId::generate());
        let mut hints = local.subscribe(&subject).await;
        for _ in 0..2 * HINTS_KEPT {
            local.publish(&subject, Hint::Cancel { at: Time::now() }).await;
        }
        local.publish(&subject, Hint::Work { generation: None }).await;
        let mut heard = 0;
        while *hints.next().await.expect("it lasts") != (Hint::Work { generation: None }) {
            heard += 1;
        }
        assert_eq!(heard, HINTS_KEPT - 1);
    }

    #[tokio::test]
    async fn a_subscription_ends_with_the_node() {
        let local = Local::default();
        let mut hints = local.subscribe(&Subject::User(UserId::generate())).await;
        drop(local);
        assert_eq!(hints.next().await, None);
    }
}
