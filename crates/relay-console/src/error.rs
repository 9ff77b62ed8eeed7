//! Why a console cannot show or do something.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

/// Why a console cannot show or do something. The page shows its sentence.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// What the page asked for makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// There is no such delivery, or its body is not stored any more.
    #[error("{0}")]
    NotFound(String),
    /// A stranger, or a page of somebody else.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// The store, AWS or a destination cannot be read or changed now.
    #[error("{message}")]
    Unavailable {
        /// What happened, why, and what to do.
        message: String,
        /// The error behind it.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// Why a request is refused before anything is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It names no host, several, or something that is none.
    #[error("The request must name its host in exactly one header Host.")]
    MalformedHost,
    /// It names another host, as a page whose name leads to this machine does.
    #[error("The console is for this machine: open it as localhost or 127.0.0.1.")]
    OtherHost,
    /// A proxy has passed it on.
    #[error(
        "The console is for this machine, and a proxy has passed this on: let it pass /webhooks/loops and /api/v1/ only."
    )]
    Forwarded,
    /// A page of another origin has sent it.
    #[error("Another page has sent this request: use the console's own.")]
    OtherOrigin,
    /// It lacks the token of the page.
    #[error("The page is older than the relay: load it again.")]
    NoPageToken,
    /// It lacks a relay token, or the token may not do this.
    #[error("The console asks for a relay token that may write contacts, send events and read deliveries.")]
    NoRelayToken,
}

impl Refused {
    const fn status(self) -> StatusCode {
        match self {
            Self::MalformedHost => StatusCode::BAD_REQUEST,
            Self::OtherHost | Self::Forwarded => StatusCode::MISDIRECTED_REQUEST,
            Self::OtherOrigin | Self::NoPageToken => StatusCode::FORBIDDEN,
            Self::NoRelayToken => StatusCode::UNAUTHORIZED,
        }
    }
}

impl ConsoleError {
    /// An error of a store or a service, whose sentence says what to do.
    pub fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unavailable { message: error.to_string(), source: Some(Box::new(error)) }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Refused(refused) => refused.status(),
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for ConsoleError {
    fn into_response(self) -> Response {
        (self.status(), Json(json!({"success": false, "message": self.to_string()}))).into_response()
    }
}
