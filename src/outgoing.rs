//! Requests of our own to servers that operators named: an issuer of tokens, a collector of traces, a gateway. They are short,
//! their answers bounded, and they follow nobody elsewhere. Must not know who asks, nor for what.

use std::sync::Arc;

use reqwest::{Client, ClientBuilder, Response};
use tokio::sync::OnceCell;

/// A client that is built when it is first needed. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Line(Arc<OnceCell<Client>>);

/// Why there is no client: nothing that another try could change.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no TLS")]
pub struct NoTls;

/// Why there is no whole answer.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("the answer broke off")]
    BrokeOff(#[source] reqwest::Error),
    #[error("the answer is too long")]
    TooLong,
}

impl Line {
    /// # Errors
    /// [`NoTls`] when this machine has nothing to check certificates with.
    pub async fn client(&self) -> Result<&Client, NoTls> {
        let built = async || {
            // The system's certificates are hundreds of files: that is no work for a thread that streams tokens.
            let built = tokio::task::spawn_blocking(|| builder().build()).await;
            built.ok().and_then(Result::ok).ok_or(NoTls)
        };
        self.0.get_or_try_init(built).await
    }
}

/// A client that stays where it was sent.
pub fn builder() -> ClientBuilder {
    // Whoever came first has decided; here nobody may have.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().redirect(reqwest::redirect::Policy::none())
}

/// The body, of at most so many bytes. It waits as long as the other side does: the caller sets the deadline.
///
/// # Errors
/// [`Unread`]; nothing of the body is kept then.
pub async fn body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Unread> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(Unread::BrokeOff)? {
        if body.len() + piece.len() > bytes_max {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
