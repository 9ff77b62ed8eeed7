//! Clay and Loops in miniature, with their limits.
//!
//! The relay exists because of how its two ends behave under pressure: Clay *drops* a row above its rate and ends
//! a webhook's life at 50,000 submissions, Loops takes ten calls a second from a whole team and remembers an
//! idempotency key for a day. A far end that answers 200 to everything would prove nothing about such a program.
//! So these two refuse what the real ones refuse, with the same statuses, headers and words, and keep what they
//! accepted for everybody to look at: newcomers try the relay without an account at either end, and tests ask what
//! *arrived* instead of what was sent.
//!
//! Both listen on a socket of the caller's choice and live as long as their handle:
//!
//! ```
//! # use relay_simulator::{Clay, ClayOptions};
//! # async fn start() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let clay = Clay::start(listener, ClayOptions::default()).await?;
//! let url = clay.webhook_url("contacts"); // POST rows here, then look at clay.rows()
//! # Ok(())
//! # }
//! ```
//!
//! Each rule names the page that states it. Where no page says what happens, the simulators take the plainer course
//! and say so ("not stated"); nothing may be built on those answers.

mod clay;
mod loops;
mod rate_limit;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use clay::server::Clay;
pub use clay::state::{ClayOptions, ClayRow};
pub use loops::server::{Loops, LoopsOptions};
pub use loops::state::{ReceivedCall, ReceivedEvent};

/// A server that runs until its handle is dropped.
///
/// It takes no new connections from then on, closes those that are idle, and lets an answer under way finish.
#[derive(Debug)]
struct Simulator {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Simulator {
    fn start(listener: TcpListener, routes: Router) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        // Small answers must not wait for the acknowledgement of the one before.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { address, task })
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The statuses of everything that was refused, in order.
#[derive(Debug, Clone, Default)]
struct Rejections(Arc<Mutex<Vec<u16>>>);

impl Rejections {
    fn statuses(&self) -> Vec<u16> {
        lock(&self.0).clone()
    }

    /// Middleware: notes whatever was not answered with a 2xx, the answers of the router itself included.
    async fn record(State(rejections): State<Self>, request: Request, next: Next) -> Response {
        let response = next.run(request).await;
        if !response.status().is_success() {
            lock(&rejections.0).push(response.status().as_u16());
        }
        response
    }
}

/// A simulator goes on after a panic elsewhere: what it holds is only ever appended to.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
