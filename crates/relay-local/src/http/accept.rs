//! Accepts connections, and limits how long a caller may take to send a request's head.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tracing::warn;

/// Maximum time for the head of a request, and for a connection to be idle: a caller that stops in the middle of a head must
/// not hold a connection for ever.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after the system has refused a connection.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

/// Serves until `shutdown` resolves. Requests in progress are then answered, and no new connection is accepted.
pub(crate) async fn serve(listener: TcpListener, app: Router, shutdown: impl Future<Output = ()>) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    let graceful = GracefulShutdown::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let service = TowerToHyperService::new(app.clone());
                let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
                // A broken connection is the caller's problem; the handler logs the request.
                tokio::spawn(async move { drop(connection.await) });
            }
            Err(error) => {
                warn!(%error, "a connection could not be taken: raise the limit of open files if this stays");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    graceful.shutdown().await;
}
