//! The calls of Loops that only read: they are passed on at Loops' pace, and Loops' answer as it came.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};
use relay_core::error::{ErrorCode, RequestError};
use relay_core::policy::response::{CallOutcome, SendPath};
use tokio::time::Duration;

use crate::delivery::{reason_for, record_call};
use crate::destination::loops::LoopsClient;
use crate::ingress::authentication::{Authenticated, authenticate};
use crate::ingress::read_request::ReadRequest;
use crate::ingress::response::{self, is_json};
use crate::ingress::sync_send::loops_key_rejected;
use crate::ports::clock::SharedClock;
use crate::ports::rate_limiter::RateLimiter;
use crate::ports::secrets::{ClayToLoopsSecret, SecretField, SecretSource};
use crate::routes::{ApiRoute, LoopsRead};

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
    /// Answers one call, whose path and query are Loops' own.
    pub async fn handle(&self, call: LoopsRead, head: &Parts) -> Response<Bytes> {
        let mut request = ReadRequest::begin(call.as_str(), &self.clock);
        let result = self.pass_on(call, head, &mut request).await;
        request.finish(result)
    }

    async fn pass_on(
        &self,
        call: LoopsRead,
        head: &Parts,
        request: &mut ReadRequest,
    ) -> Result<Response<Bytes>, RequestError> {
        let scope = ApiRoute::Read(call).scope();
        let Authenticated { secret, token_name } = authenticate(&self.secrets, &head.headers, scope).await?;
        request.token_name = token_name;
        let query = known_query(call, head.uri.query().unwrap_or_default())?;
        let path = head.uri.path().strip_prefix("/api").unwrap_or(head.uri.path());
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
        let response = record_call(called, &*self.limiter, &mut request.stats).await;
        request.failure = Some(reason_for(SendPath::LoopsFastPath, &response));
        if let Some(throttle) = response.throttle() {
            self.limiter.throttle_for(throttle).await;
        }
        match response.outcome {
            CallOutcome::Responded(401) => Err(loops_key_rejected(&name())),
            CallOutcome::Responded(status @ (200..=299 | 400..=428 | 430..=499)) if is_json(&response.body) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
                Ok(response::json_bytes(status, response.body))
            }
            _ => {
                let message = "Loops did not answer this call as it should: run the column again in a moment.";
                Err(RequestError::new(ErrorCode::Unavailable, message))
            }
        }
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
        if found.iter().any(|earlier| *earlier == name) {
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
