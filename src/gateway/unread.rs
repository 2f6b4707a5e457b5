//! What becomes of a request's body that nobody read: a refusal that is written while its client still sends would be lost to a
//! reset connection, and a client that does not know that the connection ends would put its next request on it. Knows no route.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{Stream, StreamExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::unwanted::{self, Unwanted};

/// Reads what the handler left of the body, within bounds. Where that wasn't all, the response says that the connection ends.
pub(super) async fn discard(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Who asks first whether to send the body gets the refusal instead of leave.
    let asks_first = request.headers().contains_key(header::EXPECT);
    let unwanted = request.extensions().get::<Unwanted>().cloned().unwrap_or_default();
    let (back, mut left) = oneshot::channel();
    let lent = |body: Body| Body::from_stream(Lent { body: Some(body.into_data_stream()), back: Some(back) });
    let mut response = next.run(request.map(lent)).await;
    let finished = match left.try_recv() {
        Ok(rest) => !asks_first && timeout(unwanted::TIME_MAX, read_to_end(rest, &unwanted)).await.unwrap_or(false),
        // It was read to its end, or somebody still reads it.
        Err(_) => true,
    };
    if !finished {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether the end came before the bound.
async fn read_to_end(mut rest: BodyDataStream, unwanted: &Unwanted) -> bool {
    let mut discarded = 0;
    while let Some(chunk) = rest.next().await {
        let Ok(bytes) = chunk.map(|chunk| chunk.len()) else { return false };
        discarded += bytes;
        // Nobody waits behind the last of it.
        if discarded > unwanted::BYTES_MAX || !rest.is_end_stream() && !unwanted.were_read(bytes).await {
            return false;
        }
    }
    true
}

/// A body that goes back to its lender unless it was read to its end.
struct Lent {
    body: Option<BodyDataStream>,
    back: Option<oneshot::Sender<BodyDataStream>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let next = body.poll_next_unpin(context);
        // One that failed is asked again by its lender, who finds that it has no end.
        if matches!(next, Poll::Ready(None)) {
            self.body = None;
        }
        next
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // A lender that has gone wants nothing back.
            let _ = back.send(body);
        }
    }
}
