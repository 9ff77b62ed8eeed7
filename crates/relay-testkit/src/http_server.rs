//! Servers of the tests, on a free port of this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Serves on a free port until the task is aborted; returns the address.
///
/// # Panics
/// When no port is free.
pub async fn serve(app: Router) -> (SocketAddr, JoinHandle<()>) {
    serve_counting(app, Arc::default()).await
}

/// Does the same, and counts the connections that it accepts.
///
/// # Panics
/// When no port is free.
pub async fn serve_counting(app: Router, connections: Arc<AtomicU64>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("{error}"));
    let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
    let listener = listener.tap_io(move |_| {
        connections.fetch_add(1, Ordering::Relaxed);
    });
    let server = tokio::spawn(async move {
        let _ = axum::serve(listener, app).await;
    });
    (address, server)
}
