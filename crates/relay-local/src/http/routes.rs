//! The routes: Loops' webhooks, and the API.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use relay::ingress::host::host_of;
use relay::ingress::response::{self, Caller};
use relay::routes::WEBHOOK_PATH;
use relay_core::error::{ErrorCode, RequestError};
use tracing::error;

use crate::app::Relay;
use crate::http::incoming_body::IncomingBody;

pub(crate) fn app(relay: Arc<Relay>) -> Router {
    let route = |caller| any(move |State(relay), request| answer(relay, caller, request));
    Router::new()
        .route(WEBHOOK_PATH, route(Caller::Loops))
        .route("/api/v1/{*path}", route(Caller::Clay))
        .fallback(|State(relay): State<Arc<Relay>>, request: Request| async move {
            drop(IncomingBody::split(request));
            unhandled(&relay, Caller::Clay, ErrorCode::NotFound, response::not_found())
        })
        .with_state(relay)
}

async fn answer(relay: Arc<Relay>, caller: Caller, request: Request) -> Response {
    let has_one_host = host_of(&request).is_ok();
    let (parts, body) = IncomingBody::split(request);
    if caller == Caller::Loops && parts.method != "POST" {
        let response = response::method_not_allowed(caller, "POST");
        return unhandled(&relay, caller, ErrorCode::MethodNotAllowed, response);
    }
    let result = if has_one_host {
        handle(&relay, caller, http::Request::from_parts(parts, body)).await
    } else {
        let message = "The request must name its host in exactly one header Host: look at the proxy in between.";
        Err(RequestError::new(ErrorCode::MalformedHeader, message).with_field("host"))
    };
    match result {
        Ok(response) => response.map(Body::from),
        Err(error) => unhandled(&relay, caller, error.code(), response::error_response(caller, &error)),
    }
}

fn unhandled(relay: &Relay, caller: Caller, code: ErrorCode, response: http::Response<Bytes>) -> Response {
    response::unhandled_error(caller, code, response, &relay.api_handler.rows.clock.new_id()).map(Body::from)
}

async fn handle(
    relay: &Arc<Relay>,
    caller: Caller,
    request: http::Request<IncomingBody>,
) -> Result<http::Response<Bytes>, RequestError> {
    // In a task of its own: what the handler has begun is finished and recorded even if the caller hangs up.
    let relay = Arc::clone(relay);
    let handled = tokio::spawn(async move {
        match caller {
            Caller::Loops => relay.webhook_handler.handle(request).await,
            Caller::Clay => relay.api_handler.handle(request).await,
        }
    });
    handled.await.map_err(|_| {
        error!("a handler panicked");
        RequestError::new(ErrorCode::Internal, "The relay failed on this request: look into its log.")
    })
}
