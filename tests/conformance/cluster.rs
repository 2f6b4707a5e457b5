//! The suite on Redis and NATS: one server each, and every case in a prefix of its own.

use chatnode::backend::Backends;
use futures_util::future::BoxFuture;

use super::{LEASE, every_case};
use crate::harness::servers::{World, nats_url, redis_url, shared};

async fn run(case: fn(Backends) -> BoxFuture<'static, ()>) {
    let Some(shared) = shared() else { return };
    let world = World::open(&redis_url(&shared.redis), &nats_url(&shared.nats), LEASE).await;
    case(world.backends.clone()).await;
    world.end().await;
}

macro_rules! on_shared_servers {
    ($($area:ident { $($case:ident)* })*) => {
        $(mod $area {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::run(|backends| Box::pin(crate::conformance::$area::$case(backends))).await;
            })*
        })*
    };
}

every_case!(on_shared_servers);
