//! The suite on Redis and NATS: one server each, and every case in a prefix of its own.

use super::{LEASE, Run, as_tests, every_case};
use crate::harness::servers::{World, nats_url, redis_url, shared};

every_case!(as_tests servers crate::conformance::cluster::on_shared_servers);

pub(crate) async fn on_shared_servers(case: Run) {
    let Some(shared) = shared() else { return };
    let world = World::open(&redis_url(&shared.redis), &nats_url(&shared.nats), LEASE).await;
    case(world.backends.clone()).await;
    world.end().await;
}
