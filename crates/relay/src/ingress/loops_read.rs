//! The calls of Loops that only read: they are passed on at Loops' pace, and Loops' answer as it came.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use relay_core::delivery::{DeliveryId, Direction, Reason};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::policy::response::{CallOutcome, SendPath};
use serde::de::IgnoredAny;
use tokio::time::{Duration, Instant};

use crate::delivery::{reason_for, record_call};
use crate::destination::http_client::DestinationResponse;
use crate::destination::loops::LoopsClient;
use crate::ingress::authentication::{Authenticated, authenticate};
use crate::ingress::response::{self, Caller};
use crate::ingress::sync_send::loops_key_rejected;
use crate::ports::clock::SharedClock;
use crate::ports::rate_limiter::RateLimiter;
use crate::ports::secrets::{ClayToLoopsSecret, SecretField, SecretSource};
use crate::routes::{ApiRoute, LoopsRead};
use crate::telemetry::event::{CallStats, DeliveryEvent, EventOutcome, Stage};

/// Longest wait for a permit of the rate limiter.
const MAX_PERMIT_WAIT: Duration = Duration::from_secs(5);
/// Timeout of the call: with the wait for a permit it ends before Clay's column gives up.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// The handler of these calls.
#[derive(Debug, Clone)]
pub struct LoopsReadHandler<S, L, P> {
    /// The relay tokens and the Loops key.
    pub secrets: S,
    /// The Loops API.
    pub loops: L,
    /// The rate limiter of Loops, shared with the rows.
    pub limiter: Arc<P>,
    /// Ids.
    pub clock: SharedClock,
}

impl<S: SecretSource<ClayToLoopsSecret>, L: LoopsClient, P: RateLimiter> LoopsReadHandler<S, L, P> {
    /// Answers one call. `path` is Loops' own.
    pub async fn handle(&self, call: LoopsRead, path: &str, query: &str, headers: &HeaderMap) -> Response<Bytes> {
        let (started_at, mut stats, mut failure) = (Instant::now(), CallStats::default(), None);
        let id = DeliveryId::for_read(&self.clock.new_id());
        let (token_name, result) = match authenticate(&self.secrets, headers, ApiRoute::Read(call).scope()).await {
            Ok(Authenticated { secret, token_name }) => {
                (token_name, self.pass_on(call, path, query, &secret, &mut stats, &mut failure).await)
            }
            Err(error) => (None, Err(error)),
        };
        let error = result.as_ref().err();
        let outcome = if error.is_some() { EventOutcome::Refused } else { EventOutcome::Answered };
        let reason = failure.filter(|_| error.is_some());
        DeliveryEvent {
            kind: Some(call.as_str()),
            code: error.map(RequestError::code),
            error: error.and_then(RequestError::log_detail),
            reason,
            token: token_name.as_deref(),
            attempts: stats.calls,
            duration: started_at.elapsed(),
            stats,
            ..DeliveryEvent::new(Direction::ClayToLoops, Stage::Request, outcome, id.as_str())
        }
        .emit();
        let response = result.unwrap_or_else(|error| response::error_response(Caller::Clay, &error));
        response::with_delivery_id(response, id.as_str())
    }

    async fn pass_on(
        &self,
        call: LoopsRead,
        path: &str,
        query: &str,
        secret: &ClayToLoopsSecret,
        stats: &mut CallStats,
        failure: &mut Option<Reason>,
    ) -> Result<Response<Bytes>, RequestError> {
        let query = known_query(call, query)?;
        let path = path.strip_prefix("/api").unwrap_or(path);
        let path_and_query = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let name = || self.secrets.describe_field(SecretField::LoopsApiKey);
        let Some(api_key) = &secret.api_key else {
            let message = format!("The relay has no Loops API key: put one into {}, then call again.", name());
            return Err(RequestError::new(ErrorCode::NotConfigured, message));
        };
        if !matches!(tokio::time::timeout(MAX_PERMIT_WAIT, self.limiter.acquire()).await, Ok(Ok(()))) {
            let message = "Loops has no room for this call within five seconds: run the column again in a moment.";
            return Err(RequestError::new(ErrorCode::Unavailable, message));
        }
        let called = self.loops.read(&path_and_query, api_key, CALL_TIMEOUT);
        let response = record_call(called, &*self.limiter, stats).await;
        *failure = Some(reason_for(SendPath::LoopsFastPath, &response));
        if let Some(throttle) = response.throttle() {
            self.limiter.throttle_for(throttle).await;
        }
        to_answer(response)
            .ok_or_else(|| {
                let message = "Loops did not answer this call as it should: run the column again in a moment.";
                RequestError::new(ErrorCode::Unavailable, message)
            })?
            .ok_or_else(|| loops_key_rejected(&name()))
    }
}

/// Returns Loops' answer as it came. None if that is none; nothing inside if Loops refuses the key.
fn to_answer(response: DestinationResponse) -> Option<Option<Response<Bytes>>> {
    match response.outcome {
        CallOutcome::Responded(401) => Some(None),
        CallOutcome::Responded(status @ (200..=299 | 400..=428 | 430..=499)) => {
            let status = StatusCode::from_u16(status).ok()?;
            serde_json::from_slice::<IgnoredAny>(&response.body).ok()?;
            Some(Some(response::json_bytes(status, response.body)))
        }
        _ => None,
    }
}

/// Returns the parameters that Loops knows, encoded anew.
///
/// # Errors
/// If a contact is asked for by both or neither of its identities, as Loops itself refuses (Loops API reference, "Find a
/// contact"), or a parameter comes twice.
fn known_query(call: LoopsRead, query: &str) -> Result<String, RequestError> {
    let mut known = form_urlencoded::Serializer::new(String::new());
    let mut found: Vec<String> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if !call.parameters().contains(&name.as_ref()) || value.is_empty() {
            continue;
        }
        if found.contains(&name.clone().into_owned()) {
            let message =
                format!("{name} comes more than once in the URL, and Loops takes it once: leave one of them.");
            return Err(RequestError::new(ErrorCode::InvalidOption, message).with_field(name));
        }
        known.append_pair(&name, &value);
        found.push(name.into_owned());
    }
    if matches!(call, LoopsRead::FindContact | LoopsRead::Suppression) && found.len() != 1 {
        let problem = if found.is_empty() { "neither email nor userId" } else { "both email and userId" };
        let message = format!(
            "The URL has {problem}, and Loops finds a contact by exactly one of them: in Clay, write the one that is \
             filled into the Query string of the column, as email or userId."
        );
        return Err(RequestError::new(ErrorCode::InvalidOption, message).with_field("email"));
    }
    Ok(known.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_parameters_that_loops_knows_are_passed_on() {
        let query = |call, query| known_query(call, query).map_err(|error| error.code());
        assert_eq!(
            query(LoopsRead::FindContact, "email=a%2Bb@example.com&x=1&userId="),
            Ok("email=a%2Bb%40example.com".into())
        );
        assert_eq!(query(LoopsRead::Lists, "email=a"), Ok(String::new()));
        assert_eq!(query(LoopsRead::Properties, "list=custom&list2=a"), Ok("list=custom".into()));
        for wrong in ["", "email=", "email=a@b.co&userId=7", "email=a@b.co&email=c@d.co"] {
            assert_eq!(query(LoopsRead::FindContact, wrong), Err(ErrorCode::InvalidOption), "{wrong}");
        }
    }
}
