//! A request that only reads: its log line, and its response.

use bytes::Bytes;
use http::Response;
use relay_core::delivery::{DeliveryId, Direction, Reason};
use relay_core::error::RequestError;
use tokio::time::Instant;

use crate::ingress::response::{self, Caller};
use crate::ports::clock::SharedClock;
use crate::telemetry::event::{CallStats, DeliveryEvent, EventOutcome, Stage};

/// What the log says of a request besides its outcome.
#[derive(Debug)]
pub(crate) struct ReadRequest {
    kind: &'static str,
    id: DeliveryId,
    started_at: Instant,
    /// The name of the caller's token, once it is known.
    pub(crate) token_name: Option<String>,
    /// The calls to Loops.
    pub(crate) stats: CallStats,
    /// Why Loops gave no answer that can be passed on.
    pub(crate) failure: Option<Reason>,
}

impl ReadRequest {
    /// A request of that kind, which begins now.
    pub(crate) fn begin(kind: &'static str, clock: &SharedClock) -> Self {
        let (id, started_at) = (DeliveryId::for_read(&clock.new_id()), Instant::now());
        Self { kind, id, started_at, token_name: None, stats: CallStats::default(), failure: None }
    }

    /// Emits the event of the request, and returns its response.
    pub(crate) fn finish(self, result: Result<Response<Bytes>, RequestError>) -> Response<Bytes> {
        let error = result.as_ref().err();
        let outcome = if error.is_some() { EventOutcome::Refused } else { EventOutcome::Answered };
        DeliveryEvent {
            kind: Some(self.kind),
            code: error.map(RequestError::code),
            error: error.and_then(RequestError::log_detail),
            reason: self.failure.filter(|_| error.is_some()),
            token: self.token_name.as_deref(),
            attempts: self.stats.calls,
            duration: self.started_at.elapsed(),
            stats: self.stats,
            ..DeliveryEvent::new(Direction::ClayToLoops, Stage::Request, outcome, self.id.as_str())
        }
        .emit();
        let response = result.unwrap_or_else(|error| response::error_response(Caller::Clay, &error));
        response::with_delivery_id(response, self.id.as_str())
    }
}
