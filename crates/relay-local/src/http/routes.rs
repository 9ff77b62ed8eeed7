//! HTTP: which path is which handler, and how a body is read.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::Method;
use http_body_util::BodyExt as _;
use relay::ingress::response::{self, Caller};
use relay::routes::{CONTACT_PATH, EVENT_PATH, MAX_REQUEST_BYTES, WEBHOOK_PATH};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::row::RowKind;
use tracing::error;

use crate::app::Relay;

/// How long a caller may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is too large is still read, so that the caller is there for the answer.
const MAX_DISCARDED_BODY: usize = 10 * 1024 * 1024;

/// What answers a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Webhook,
    Row(RowKind),
}

impl Endpoint {
    const fn method(self) -> Method {
        match self {
            Self::Row(RowKind::Contact) => Method::PUT,
            Self::Webhook | Self::Row(RowKind::Event) => Method::POST,
        }
    }

    const fn allow_header(self) -> &'static str {
        match self {
            Self::Row(RowKind::Contact) => "PUT",
            Self::Webhook | Self::Row(RowKind::Event) => "POST",
        }
    }

    const fn caller(self) -> Caller {
        match self {
            Self::Webhook => Caller::Loops,
            Self::Row(_) => Caller::Clay,
        }
    }
}

/// The relay as a service.
pub fn app(relay: Arc<Relay>) -> Router {
    let handler_for = |endpoint: Endpoint| {
        axum::routing::any(move |State(relay): State<Arc<Relay>>, request: Request| handle(relay, endpoint, request))
    };
    Router::new()
        .route(WEBHOOK_PATH, handler_for(Endpoint::Webhook))
        .route(CONTACT_PATH, handler_for(Endpoint::Row(RowKind::Contact)))
        .route(EVENT_PATH, handler_for(Endpoint::Row(RowKind::Event)))
        .fallback(|State(relay): State<Arc<Relay>>| async move {
            relay.unhandled_error(Caller::Clay, ErrorCode::NotFound, response::not_found()).map(Body::from)
        })
        .with_state(relay)
}

async fn handle(relay: Arc<Relay>, endpoint: Endpoint, request: Request) -> Response {
    let caller = endpoint.caller();
    let reject = |error: &RequestError| {
        relay.unhandled_error(caller, error.code(), response::error_response(caller, error)).map(Body::from)
    };
    if request.method() != endpoint.method() {
        let response = response::method_not_allowed(caller, endpoint.allow_header());
        return relay.unhandled_error(caller, ErrorCode::MethodNotAllowed, response).map(Body::from);
    }
    let (parts, body) = request.into_parts();
    let Some(body) = read_body(body).await else {
        let error = RequestError::new(
            ErrorCode::InvalidBody,
            "The request broke off before its body was complete: send it again.",
        );
        return reject(&error);
    };
    let request = Request::from_parts(parts, body);
    // In a task of its own: what was begun is ended and recorded, also when the caller has hung up.
    let handler = Arc::clone(&relay);
    let handled = tokio::spawn(async move {
        match endpoint {
            Endpoint::Webhook => handler.handle_webhook(request).await,
            Endpoint::Row(kind) => handler.handle_row(kind, request).await,
        }
    });
    match handled.await {
        Ok(response) => response.map(Body::from),
        Err(_) => {
            error!("a handler panicked");
            let error = RequestError::new(ErrorCode::Internal, "The relay failed on this request: look into its log.");
            reject(&error)
        }
    }
}

/// Reads a body; of one that is too large only so much that it shows. `None` where the caller broke off.
async fn read_body(mut body: Body) -> Option<Bytes> {
    let collect = async {
        let (mut bytes, mut received_bytes) = (BytesMut::new(), 0_usize);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.ok()?.into_data() else { continue };
            received_bytes = received_bytes.saturating_add(data.len());
            if bytes.len() <= MAX_REQUEST_BYTES {
                bytes.extend_from_slice(&data);
            }
            if received_bytes > MAX_DISCARDED_BODY {
                break;
            }
        }
        Some(bytes.freeze())
    };
    tokio::time::timeout(BODY_TIMEOUT, collect).await.ok().flatten()
}
