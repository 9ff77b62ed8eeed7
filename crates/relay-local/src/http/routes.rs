//! The three routes, and how a request's body is read.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use relay::ingress::response::{self, Caller};
use relay::routes::{CONTACT_PATH, EVENT_PATH, MAX_REQUEST_BYTES, WEBHOOK_PATH};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::row::RowKind;
use tracing::error;

use crate::app::Relay;

/// Maximum time for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read and discarded, so that the caller is still there for the response.
const MAX_DISCARDED_BODY: usize = 10 * 1024 * 1024;

pub(crate) fn app(relay: Arc<Relay>) -> Router {
    Router::new()
        .route(WEBHOOK_PATH, route("POST", None))
        .route(CONTACT_PATH, route("PUT", Some(RowKind::Contact)))
        .route(EVENT_PATH, route("POST", Some(RowKind::Event)))
        .fallback(|State(relay): State<Arc<Relay>>| async move {
            unhandled(&relay, Caller::Clay, ErrorCode::NotFound, response::not_found())
        })
        .with_state(relay)
}

/// A route for one method: for rows of this kind, or for webhooks.
fn route(method: &'static str, row_kind: Option<RowKind>) -> MethodRouter<Arc<Relay>> {
    let caller = if row_kind.is_some() { Caller::Clay } else { Caller::Loops };
    any(move |State(relay): State<Arc<Relay>>, request: Request| async move {
        if request.method() != method {
            let response = response::method_not_allowed(caller, method);
            return unhandled(&relay, caller, ErrorCode::MethodNotAllowed, response);
        }
        match handle(&relay, row_kind, request).await {
            Ok(response) => response.map(Body::from),
            Err(error) => unhandled(&relay, caller, error.code(), response::error_response(caller, &error)),
        }
    })
}

fn unhandled(relay: &Relay, caller: Caller, code: ErrorCode, response: http::Response<Bytes>) -> Response {
    response::unhandled_error(caller, code, response, &relay.row_handler.clock.new_id()).map(Body::from)
}

async fn handle(
    relay: &Arc<Relay>,
    row_kind: Option<RowKind>,
    request: Request,
) -> Result<http::Response<Bytes>, RequestError> {
    let (parts, body) = request.into_parts();
    let incomplete = "The request broke off before its body was complete: send it again.";
    let body = read_body(body).await.ok_or_else(|| RequestError::new(ErrorCode::InvalidBody, incomplete))?;
    let request = Request::from_parts(parts, body);
    // In a task of its own: what the handler has begun is finished and recorded even if the caller hangs up.
    let relay = Arc::clone(relay);
    let handled = tokio::spawn(async move {
        match row_kind {
            None => relay.webhook_handler.handle(request).await,
            Some(kind) => relay.row_handler.handle(kind, request).await,
        }
    });
    handled.await.map_err(|_| {
        error!("a handler panicked");
        RequestError::new(ErrorCode::Internal, "The relay failed on this request: look into its log.")
    })
}

/// Reads a body, of a body that is too large only enough to see that. Returns `None` if it was not complete in time.
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
