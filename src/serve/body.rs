//! The body of a request, which has to come in time: a form that never ends holds a connection and what waits for it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// The slowest that a large body may come: a second more for each so many bytes that it says it has.
const BYTES_PER_SECOND_MIN: u64 = 64 * 1024;

pub(super) struct InTime {
    body: Incoming,
    deadline: Instant,
    /// Made when something has to be waited for.
    late: Option<Pin<Box<Sleep>>>,
}

impl InTime {
    pub(super) fn new(body: Incoming, time: Duration) -> Self {
        let said = body.size_hint().exact().unwrap_or_default();
        // A length that no limit lets in must not be one that no clock holds.
        let more = Duration::from_secs((said / BYTES_PER_SECOND_MIN).min(u64::from(u32::MAX)));
        Self { body, deadline: Instant::now() + time + more, late: None }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the body did not come in time")]
    Late,
    #[error(transparent)]
    Lost(#[from] hyper::Error),
}

impl Body for InTime {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::Lost)));
        }
        let deadline = self.deadline;
        let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        late.as_mut().poll(context).map(|()| Some(Err(Error::Late)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
