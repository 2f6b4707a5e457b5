//! How the links to Redis and NATS stand, as one value that probes and readers watch.
//! It must not know what the links are used for.

use std::time::Duration;

use fred::interfaces::EventInterface;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::link;
use crate::backend::{Error, Health, Link};

/// Between two looks at a link that says nothing by itself.
const LOOK: Duration = Duration::from_millis(500);
/// The same while Redis is away, when a look costs nothing.
const LOOK_WHILE_DOWN: Duration = Duration::from_millis(20);

/// Both links as they are before anything was heard of them.
pub(super) fn unknown() -> Health {
    Health {
        store: Link::Down("redis was not reached yet".to_owned()),
        backplane: Link::Down("nats was not reached yet".to_owned()),
        history: None,
    }
}

/// The task: until `stopped`, tells `health` what becomes of the two links.
pub(super) async fn watch_until(
    stopped: CancellationToken,
    redis: link::Link,
    mut nats: watch::Receiver<Link>,
    health: watch::Sender<Health>,
) {
    let mut errors = redis.events().error_rx();
    let mut reconnects = redis.events().reconnect_rx();
    // Why it can't connect is told by an event; a command that is refused meanwhile only knows that there is no connection.
    let mut last = None;
    loop {
        let backplane = nats.borrow_and_update().clone();
        let store = match redis.ping().await {
            Ok(()) => {
                last = None;
                Link::Up
            }
            Err(error) => Link::Down(why(last.clone().unwrap_or(error))),
        };
        redis.leave_replica().await;
        let look = if store.is_up() { LOOK } else { LOOK_WHILE_DOWN };
        tell(&health, Health { store, backplane, history: None });
        tokio::select! {
            () = stopped.cancelled() => return,
            () = tokio::time::sleep(look) => {}
            Ok(()) = nats.changed() => {}
            Ok(_) = reconnects.recv() => {}
            Ok((error, _)) = errors.recv() => last = Some(redis.fail(&error)),
        }
    }
}

fn why(error: Error) -> String {
    match error {
        Error::Full(why) | Error::Unavailable(why) | Error::Corrupt(why) => why,
        other => other.to_string(),
    }
}

fn tell(health: &watch::Sender<Health>, now: Health) {
    health.send_if_modified(|held| {
        log("redis", &held.store, &now.store);
        log("nats", &held.backplane, &now.backplane);
        let changed = *held != now;
        *held = now;
        changed
    });
}

fn log(what: &str, before: &Link, now: &Link) {
    match (before, now) {
        (before, now) if before == now => {}
        (_, Link::Up) => tracing::info!(link = what, "a link is up"),
        (_, Link::Down(reason)) => tracing::warn!(link = what, reason, "a link is down"),
    }
}
