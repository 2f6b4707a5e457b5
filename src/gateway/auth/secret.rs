//! A key that all gateways share and browsers don't have: the first of them proposes it, and the store keeps it.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::backend::{Error, Store};

const SECRET_BYTES: usize = 32;

/// Asked for once it is needed, and then remembered. Cheap to clone.
#[derive(Clone)]
pub(super) struct SharedKey {
    name: &'static str,
    store: Arc<dyn Store>,
    held: Arc<OnceCell<Vec<u8>>>,
}

impl std::fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedKey({}, ***)", self.name)
    }
}

impl SharedKey {
    pub(super) fn new(name: &'static str, store: Arc<dyn Store>) -> Self {
        Self { name, store, held: Arc::default() }
    }

    pub(super) async fn get(&self) -> Result<&[u8], Error> {
        let key = self.held.get_or_try_init(|| async {
            let proposal: [u8; SECRET_BYTES] = rand::random();
            self.store.secret(self.name, &proposal).await
        });
        Ok(key.await?)
    }
}
