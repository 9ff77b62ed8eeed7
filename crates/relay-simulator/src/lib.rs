#![doc = include_str!("../README.md")]

mod behavior;
mod clay;
pub mod host;
mod loops;
mod rate_limit;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use behavior::Behavior;
pub use clay::server::Clay;
pub use clay::state::{ClayOptions, ClayRow};
pub use loops::error::LoopsError;
pub use loops::server::{Loops, LoopsOptions};
pub use loops::state::{Audience, ReceivedCall, ReceivedSend};
pub use loops::transactional::{CONFIRMATION_EMAIL_ID, RECEIPT_EMAIL_ID};
pub use loops::webhook::contact_created_body;

/// A server that runs until its handle is dropped. It then accepts no new connection, closes idle ones, and finishes
/// responses in progress. What hangs gets no answer.
#[derive(Debug)]
struct Simulator {
    address: SocketAddr,
    behavior: watch::Sender<Behavior>,
    task: JoinHandle<()>,
}

impl Simulator {
    /// Serves these routes, which follow `behavior`.
    fn start(listener: TcpListener, routes: Router, behavior: watch::Sender<Behavior>) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        // It shows what a newcomer tries with: no page in a browser may read that.
        let routes = routes.layer(from_fn_with_state(address.ip(), host::require_this_machine));
        // A small response must not wait for the acknowledgement of the previous one.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { address, behavior, task })
    }

    fn behavior(&self) -> Behavior {
        *self.behavior.borrow()
    }

    fn set_behavior(&self, behavior: Behavior) -> Behavior {
        self.behavior.send_replace(behavior)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The statuses of all rejected requests, in order.
#[derive(Debug, Clone, Default)]
struct Rejections(Arc<Mutex<Vec<u16>>>);

impl Rejections {
    fn statuses(&self) -> Vec<u16> {
        lock(&self.0).clone()
    }

    /// Middleware that records every status but a 2xx, those of the router itself included.
    async fn record(State(rejections): State<Self>, request: Request, next: Next) -> Response {
        let response = next.run(request).await;
        if !response.status().is_success() {
            lock(&rejections.0).push(response.status().as_u16());
        }
        response
    }
}

/// Locks a mutex, even after a panic elsewhere: the data is only ever appended to.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
