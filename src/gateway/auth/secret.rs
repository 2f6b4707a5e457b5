//! A key that all gateways share and browsers don't have: the first of them proposes it, and the store keeps it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::{Backends, Error, Store};
use crate::drain::Drain;

const SECRET_BYTES: usize = 32;

/// Asked for once it is needed, and then remembered. Cheap to clone.
#[derive(Clone)]
pub(super) struct SharedKey {
    name: &'static str,
    store: Arc<dyn Store>,
    held: Arc<Mutex<Option<Arc<[u8]>>>>,
}

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedKey({}, ***)", self.name)
    }
}

impl SharedKey {
    pub(super) fn new(name: &'static str, backends: &Backends, drain: &Drain) -> Self {
        let key = Self { name, store: Arc::clone(&backends.store), held: Arc::default() };
        let (kept, mut health, stopped) = (key.clone(), backends.health.clone(), drain.stopped().clone());
        drain.spawn("shared key", async move {
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    Ok(()) = health.changed() => {}
                    else => return,
                }
                let is_up = health.borrow_and_update().store.is_up();
                if is_up {
                    kept.put_back().await;
                }
            }
        });
        key
    }

    pub(super) async fn get(&self) -> Result<Arc<[u8]>, Error> {
        let held = self.held().clone();
        match held {
            Some(key) => Ok(key),
            None => {
                let proposal: [u8; SECRET_BYTES] = rand::random();
                let key: Arc<[u8]> = self.store.secret(self.name, &proposal).await?.into();
                Ok(Arc::clone(self.held().get_or_insert(key)))
            }
        }
    }

    /// A store that comes back may have lost everything, and what this key signed is still good.
    async fn put_back(&self) {
        let Some(key) = self.held().clone() else { return };
        match self.store.secret(self.name, &key).await {
            Ok(found) if *found == *key => {}
            Ok(found) => {
                tracing::warn!(
                    name = self.name,
                    "the store has another shared key than before; what was signed with the old one is void"
                );
                *self.held() = Some(found.into());
            }
            Err(error) => tracing::debug!(name = self.name, %error, "a shared key could not be compared"),
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Arc<[u8]>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
