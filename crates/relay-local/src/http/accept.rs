//! Accepts connections, and closes those that ask for nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::header::CONNECTION;
use http::{HeaderValue, Request};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;
use tracing::warn;

use crate::http::connections::{Connection, Connections, Stage};

/// Maximum time for the head of a request, and for a connection to be idle: a caller that stops in the middle of a head must
/// not hold a connection for ever.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The most that a connection buffers, and thereby the largest head, in bytes.
const MAX_BUFFER_BYTES: usize = 32 * 1024;
/// Pause after the system has refused a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

/// Serves until the relay is stopping. Requests that are complete are then answered, those whose body is not are refused,
/// and no other connection is waited for.
pub(crate) async fn serve(listener: TcpListener, app: Router, connections: Arc<Connections>) {
    let stopping = connections.stopping();
    tokio::pin!(stopping);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopping => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let slot = tokio::select! {
                    slot = connections.acquire_slot() => slot,
                    () = &mut stopping => break,
                };
                let Some(slot) = slot else { break };
                let (app, connection) = (app.clone(), connections.open());
                tokio::spawn(async move {
                    serve_connection(stream, app, &connection).await;
                    connection.closed();
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "a connection could not be taken: raise the limit of open files if this stays");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    drop(listener);
    connections.close_idle();
    connections.wait_until_closed().await;
}

/// Serves one connection. A broken one is the caller's problem; the handler logs the request.
async fn serve_connection(stream: TcpStream, app: Router, connection: &Connection) {
    let service = service_fn(|request| respond(app.clone(), connection.clone(), request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT).max_buf_size(MAX_BUFFER_BYTES);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    // In this order: a response that is ready is written before the connection gives way.
    tokio::select! {
        biased;
        _ = served.as_mut() => return,
        () = connection.told_to_close() => return,
        () = connection.stopping() => served.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        biased;
        _ = served => {}
        () = connection.told_to_close() => {}
    }
}

async fn respond(app: Router, connection: Connection, request: Request<Incoming>) -> Result<Response, Infallible> {
    connection.set_stage(if request.body().is_end_stream() { Stage::Handling } else { Stage::Reading });
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(connection.clone());
    let mut response = app.oneshot(request).await?;
    if connection.is_full() {
        // A caller that goes on asking must not hold a place for ever (RFC 9112 §9.6).
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    connection.set_stage(Stage::Idle);
    Ok(response)
}
