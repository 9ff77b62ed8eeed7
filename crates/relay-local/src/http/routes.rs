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
enum Route {
    Webhook,
    Row(RowKind),
}

impl Route {
    const fn method(self) -> Method {
        match self {
            Self::Row(RowKind::Contact) => Method::PUT,
            Self::Webhook | Self::Row(RowKind::Event) => Method::POST,
        }
    }

    const fn allowed(self) -> &'static str {
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
    let at = |route: Route| {
        axum::routing::any(move |State(relay): State<Arc<Relay>>, request: Request| handle(relay, route, request))
    };
    Router::new()
        .route(WEBHOOK_PATH, at(Route::Webhook))
        .route(CONTACT_PATH, at(Route::Row(RowKind::Contact)))
        .route(EVENT_PATH, at(Route::Row(RowKind::Event)))
        .fallback(|State(relay): State<Arc<Relay>>| async move {
            relay.unhandled_error(Caller::Clay, ErrorCode::NotFound, response::not_found()).map(Body::from)
        })
        .with_state(relay)
}

async fn handle(relay: Arc<Relay>, route: Route, request: Request) -> Response {
    let caller = route.caller();
    let refuse = |refusal: &RequestError| {
        relay.unhandled_error(caller, refusal.code(), response::error_response(caller, refusal)).map(Body::from)
    };
    if request.method() != route.method() {
        let response = response::method_not_allowed(caller, route.allowed());
        return relay.unhandled_error(caller, ErrorCode::MethodNotAllowed, response).map(Body::from);
    }
    let (parts, body) = request.into_parts();
    let Some(body) = read(body).await else {
        let refusal = RequestError::new(
            ErrorCode::InvalidBody,
            "The request broke off before its body was complete: send it again.",
        );
        return refuse(&refusal);
    };
    let request = Request::from_parts(parts, body);
    // In a task of its own: what was begun is ended and recorded, also when the caller has hung up.
    let handler = Arc::clone(&relay);
    let answered = tokio::spawn(async move {
        match route {
            Route::Webhook => handler.handle_webhook(request).await,
            Route::Row(kind) => handler.handle_row(kind, request).await,
        }
    });
    match answered.await {
        Ok(response) => response.map(Body::from),
        Err(_) => {
            error!("a handler panicked");
            let refusal =
                RequestError::new(ErrorCode::Internal, "The relay failed on this request: look into its log.");
            refuse(&refusal)
        }
    }
}

/// Reads a body; of one that is too large only so much that it shows. `None` where the caller broke off.
async fn read(mut body: Body) -> Option<Bytes> {
    let collect = async {
        let (mut bytes, mut seen) = (BytesMut::new(), 0_usize);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.ok()?.into_data() else { continue };
            seen = seen.saturating_add(data.len());
            if bytes.len() <= MAX_REQUEST_BYTES {
                bytes.extend_from_slice(&data);
            }
            if seen > MAX_DISCARDED_BODY {
                break;
            }
        }
        Some(bytes.freeze())
    };
    tokio::time::timeout(BODY_TIMEOUT, collect).await.ok().flatten()
}
