//! How a simulated destination answers: as it should, or in one of the ways in which a real one fails.

use std::io;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How a simulated destination answers the calls of its API. What it shows of itself it always answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behavior {
    /// As the real one does.
    #[default]
    Normal,
    /// 429 to every call.
    RateLimited,
    /// 500 to every call.
    Failing,
    /// Nothing. What still waits when the behavior changes is then answered by the new one.
    Hanging,
    /// The connection is closed without an answer.
    Gone,
}

/// The most that is read of a call that is not answered as it should be, in bytes: no body of Loops or Clay is larger.
const MAX_BODY_BYTES: usize = 4_000_000;

/// The behavior of one destination, and what it answers where it fails.
#[derive(Clone)]
pub(crate) struct BehaviorLayer {
    behavior: watch::Receiver<Behavior>,
    error_response: Arc<dyn Fn(StatusCode) -> Response + Send + Sync>,
}

impl BehaviorLayer {
    /// Follows `behavior`. `error_response` makes the destination's own answer with a status.
    pub(crate) fn new(
        behavior: &watch::Sender<Behavior>,
        error_response: impl Fn(StatusCode) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self { behavior: behavior.subscribe(), error_response: Arc::new(error_response) }
    }

    /// Middleware that answers as the behavior says.
    pub(crate) async fn apply(State(mut layer): State<Self>, request: Request, next: Next) -> Response {
        if *layer.behavior.borrow() == Behavior::Normal {
            return next.run(request).await;
        }
        let (parts, body) = request.into_parts();
        // Only of a request that is read to its end does the server see that its client hangs up. It then drops this future.
        let Ok(body) = to_bytes(body, MAX_BODY_BYTES).await else { return close_connection() };
        loop {
            let behavior = *layer.behavior.borrow_and_update();
            return match behavior {
                Behavior::Normal => next.run(Request::from_parts(parts, Body::from(body))).await,
                Behavior::RateLimited => (layer.error_response)(StatusCode::TOO_MANY_REQUESTS),
                Behavior::Failing => (layer.error_response)(StatusCode::INTERNAL_SERVER_ERROR),
                Behavior::Hanging if layer.behavior.changed().await.is_ok() => continue,
                // What hangs ends with the simulator.
                Behavior::Gone | Behavior::Hanging => close_connection(),
            };
        }
    }
}

/// A response of which nothing is sent: its body fails before the server has written the head, and the server closes the
/// connection.
fn close_connection() -> Response {
    let failure = Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionAborted));
    Response::new(Body::from_stream(stream::iter([failure])))
}
