//! The suite on Redis and NATS with PostgreSQL behind them. Whatever ends is archived and leaves Redis within milliseconds, so that nearly
//! every call finds its conversation away.

use super::{LEASE, Run, as_tests, every_case};
use crate::harness::postgres::{AT_ONCE, shared_with_history, world};

every_case!(as_tests with_history crate::conformance::history::on_shared_servers);

pub(crate) async fn on_shared_servers(case: Run) {
    let Some((servers, postgres)) = shared_with_history() else { return };
    let world = world(servers, &postgres.url(), LEASE, AT_ONCE).await;
    case(world.backends.clone()).await;
    world.end().await;
}
