//! One connection's bytes, encrypted or not. Whoever takes nothing of what waits for him is cut off: what waits is memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::server::TlsStream;

use crate::drain::Drain;
use crate::telemetry::Metrics;
use crate::unwanted::{self, Unwanted};

/// Read at once of what somebody still says when the connection has ended. It lies on the stack, never across a wait.
const GOODBYE_PIECE: usize = 16 << 10;

pub(super) enum Wire {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
    Ended,
}

pub(super) struct Socket {
    wire: Wire,
    write_timeout: Duration,
    /// Runs while the other side takes nothing.
    late: Option<Pin<Box<Sleep>>>,
    metrics: Metrics,
    goodbye: Option<Goodbye>,
}

/// What a connection needs for its end.
pub(super) struct Goodbye {
    pub(super) drain: Drain,
    pub(super) unwanted: Unwanted,
    /// Its place among the connections of the listener, also after it became a WebSocket.
    pub(super) _place: OwnedSemaphorePermit,
}

impl Socket {
    pub(super) fn new(wire: Wire, write_timeout: Duration, metrics: Metrics, goodbye: Goodbye) -> Self {
        Self { wire, write_timeout, late: None, metrics, goodbye: Some(goodbye) }
    }

    fn in_time<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.late = None;
            return outcome;
        }
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(self.write_timeout)));
        ready!(late.as_mut().poll(context));
        self.metrics.connection_cut("unread");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Does the same with either kind of wire.
macro_rules! wire {
    ($socket:expr, $stream:ident => $act:expr) => {
        match &mut $socket.wire {
            Wire::Plain($stream) => {
                let $stream = Pin::new($stream);
                $act
            }
            Wire::Encrypted($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $act
            }
            Wire::Ended => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        wire!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = wire!(self, stream => stream.poll_write(context, bytes));
        self.in_time(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = wire!(self, stream => stream.poll_flush(context));
        self.in_time(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = wire!(self, stream => stream.poll_shutdown(context));
        self.in_time(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = wire!(self, stream => stream.poll_write_vectored(context, pieces));
        self.in_time(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Encrypted(stream) => stream.is_write_vectored(),
            Wire::Ended => false,
        }
    }
}

/// Closed with bytes that nobody read, a connection is cut by the system, and what was said last is lost on its way: so who still
/// speaks is listened to for a moment (RFC 9112, section 9.6).
impl Drop for Socket {
    fn drop(&mut self) {
        let stream = match std::mem::replace(&mut self.wire, Wire::Ended) {
            Wire::Plain(stream) => stream,
            Wire::Encrypted(stream) => stream.into_inner().0,
            Wire::Ended => return,
        };
        let (Ok(Some(stream)), Some(goodbye)) = (with_unread(stream), self.goodbye.take()) else { return };
        goodbye.drain.clone().spawn("goodbye", async move {
            let _ = timeout(unwanted::TIME_MAX, goodbye.listen(stream)).await;
        });
    }
}

/// The connection, if there is something unread. Asks the system: the runtime may not have heard yet of what came.
fn with_unread(stream: TcpStream) -> io::Result<Option<TcpStream>> {
    let stream = stream.into_std()?;
    match stream.peek(&mut [0]) {
        Ok(1..) => TcpStream::from_std(stream).map(Some),
        _ => Ok(None),
    }
}

impl Goodbye {
    async fn listen(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.shutdown().await?;
        let mut heard = 0;
        while heard < unwanted::BYTES_MAX {
            stream.readable().await?;
            let read = stream.try_read(&mut [0; GOODBYE_PIECE]);
            match read {
                Ok(0) => break,
                Ok(bytes) => {
                    heard += bytes;
                    if !self.unwanted.were_read(bytes).await {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
