//! An answer as server-sent events: the frames of the WebSocket, one answer at a time, ending after `finished`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::allowance::Asker;
use super::auth::Caller;
use super::auth::right::{Right, Standing};
use super::error::Refusal;
use super::frames;
use super::hub::{Have, Subscription};
use super::reader::Reader;
use super::seats::Seat;
use crate::model::{GenerationId, Position};
use crate::protocol::{ErrorCode, ServerFrame};

/// Comments on an idle stream, so that proxies keep it open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When whoever has too many connections may try again.
const SEAT_RETRY_MS: u64 = 5_000;

struct Feed {
    subscription: Subscription,
    reader: Arc<Reader>,
    first: VecDeque<Utf8Bytes>,
    stopped: CancellationToken,
    right: Right,
    _seat: Seat,
}

/// A place for a stream that is about to begin.
///
/// # Errors
/// `rate_limited` when too many connections are open.
pub async fn seat(gateway: &Gateway, asker: &Asker) -> Result<Seat, Refusal> {
    gateway.seats.take(asker).await.map_err(|too_many| {
        gateway.metrics.rate_limited(too_many.scope);
        Refusal::new(ErrorCode::RateLimited, "too many connections").retry_after(SEAT_RETRY_MS)
    })
}

/// The events of one answer behind `after`, with `first` before them. `asked` is when its question came, if it just did.
///
/// # Errors
/// `not_found` when it isn't this user's.
pub async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    seat: Seat,
    generation: GenerationId,
    after: Option<Position>,
    first: Option<ServerFrame>,
    asked: Option<Instant>,
) -> Result<Response, Refusal> {
    let reader = Reader::new(gateway.config.outbox_bytes_max, gateway.metrics.clone());
    let position = after.unwrap_or(Position::START);
    let have = Have { generation: generation.clone(), position, offset: None };
    let mut subscription = gateway.hub.attach(&caller.user, &generation.conversation(), &reader, &[have]).await?;
    if let Some(at) = asked {
        gateway.hub.asked(&generation, at);
    }
    subscription.only(generation);
    if subscription.is_over() {
        return Err(Refusal::not_found());
    }
    let first = first.iter().map(frames::encode).collect();
    let right = Right::of(&gateway.auth, caller);
    let feed = Feed { subscription, reader, first, stopped: gateway.drain.stopped().clone(), right, _seat: seat };
    let events = stream::unfold(feed, async move |mut feed| {
        let event = next(&mut feed).await?;
        Some((Ok::<_, Infallible>(event), feed))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // A proxy that buffers would turn a stream into a wait.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    Ok(response)
}

async fn next(feed: &mut Feed) -> Option<Event> {
    loop {
        // Whoever reads slowly is never waited for below.
        if feed.right.in_doubt().now_or_never().is_some() && feed.right.look().await != Standing::Same {
            return None;
        }
        if let Some(frame) = feed.first.pop_front() {
            return Some(event(&frame));
        }
        if let Some((generation, step)) = feed.subscription.next(true) {
            return Some(event(&frames::of_step(generation, step)));
        }
        if feed.subscription.is_over() {
            return None;
        }
        feed.subscription.caught_up();
        // Events of the conversation are none of this stream's.
        while let Ok(Some(_)) = feed.reader.event(true) {}
        tokio::select! {
            () = feed.reader.woken() => {}
            () = feed.stopped.cancelled() => return None,
            () = feed.right.in_doubt() => if feed.right.look().await != Standing::Same {
                return None;
            },
        }
    }
}

/// The frame's `type` as the event's name, its `position` as the id that `Last-Event-ID` gives back.
fn event(frame: &Utf8Bytes) -> Event {
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        position: Option<&'a str>,
    }
    let event = Event::default().data(frame.as_str());
    match serde_json::from_str::<Head<'_>>(frame.as_str()) {
        Ok(Head { kind, position: Some(position) }) => event.event(kind).id(position),
        Ok(Head { kind, position: None }) => event.event(kind),
        Err(_) => event,
    }
}
