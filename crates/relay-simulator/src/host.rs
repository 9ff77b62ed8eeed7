//! Middleware of servers that only this machine may read.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use relay::ingress::host::{MalformedHost, host_of, is_this_machine};

/// Middleware of a server that listens on an address: it answers 421 to what names another host.
pub async fn require_this_machine(State(listen): State<IpAddr>, request: Request, next: Next) -> Response {
    match host_of(&request) {
        Err(MalformedHost) => StatusCode::BAD_REQUEST.into_response(),
        Ok(Some(host)) if !is_this_machine(&host, listen) => {
            let message = "The request names another host: call localhost, or the address that is listened on.\n";
            (StatusCode::MISDIRECTED_REQUEST, message).into_response()
        }
        Ok(_) => next.run(request).await,
    }
}
