//! What a caller is told when something can't be done: a code, a sentence, and never a secret or a stack.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::backend;
use crate::model::Status;
use crate::protocol::{ErrorBody, ErrorCode, ErrorFrame, ServerFrame};

/// How long a client waits when the store is away: long enough not to press, short enough not to be noticed.
const UNAVAILABLE_RETRY_MS: u64 = 1_000;

/// A request that is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
    pub retry_after_ms: Option<u64>,
    /// How an answer ended that can't be cancelled any more.
    pub status: Option<Status>,
    /// Logging in as the same again would not help.
    pub forbidden: bool,
}

impl Refusal {
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, status: None, forbidden: false }
    }

    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(ErrorCode::Unauthorized, "log in first")
    }

    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self { forbidden: true, ..Self::new(ErrorCode::Unauthorized, message) }
    }

    #[must_use]
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadFrame, message)
    }

    #[must_use]
    pub fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "no such thing here")
    }

    #[must_use]
    pub fn retry_after(self, ms: u64) -> Self {
        Self { retry_after_ms: Some(ms), ..self }
    }

    #[must_use]
    pub fn body(self) -> ErrorFrame {
        ErrorFrame {
            code: self.code,
            message: self.message,
            request_id: None,
            conversation: None,
            generation: None,
            retry_after_ms: self.retry_after_ms,
            status: self.status,
        }
    }

    /// As a frame that answers a request, a conversation or a generation.
    #[must_use]
    pub fn frame(self, about: About) -> ServerFrame {
        let About { request_id, conversation, generation } = about;
        ServerFrame::Error(ErrorFrame { request_id, conversation, generation, ..self.body() })
    }

    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.code {
            ErrorCode::BadFrame => StatusCode::BAD_REQUEST,
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::Unauthorized if self.forbidden => StatusCode::FORBIDDEN,
            ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorCode::RateLimited | ErrorCode::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::ModelNotFound => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::Overloaded | ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Conflict => StatusCode::CONFLICT,
        }
    }
}

/// What an `error` frame answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub request_id: Option<String>,
    pub conversation: Option<String>,
    pub generation: Option<String>,
}

impl From<backend::Error> for Refusal {
    fn from(error: backend::Error) -> Self {
        use backend::Error as E;
        match error {
            E::NotFound | E::Gone => Self::not_found(),
            E::Unavailable(reason) => {
                tracing::warn!(%reason, "store unavailable");
                Self::new(ErrorCode::Unavailable, "the store can't be reached; try again").retry_after(UNAVAILABLE_RETRY_MS)
            }
            E::Full(reason) => {
                tracing::error!(%reason, "store full");
                Self::new(ErrorCode::Unavailable, "the store is full; nothing was saved").retry_after(10 * UNAVAILABLE_RETRY_MS)
            }
            E::Fenced | E::OutOfOrder { .. } => Self::new(ErrorCode::Conflict, "somebody else changed it"),
            E::Corrupt(reason) => {
                tracing::error!(%reason, "stored data can't be read");
                Self::new(ErrorCode::Unavailable, "what is stored can't be read")
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let seconds = self.retry_after_ms.map(|ms| ms.div_ceil(1_000));
        let mut response = (status, Json(ErrorBody { error: self.body() })).into_response();
        if let Some(seconds) = seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
