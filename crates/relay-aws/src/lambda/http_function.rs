//! An HTTP function: it turns a gateway's event into the request that a handler takes, and the response back.
//!
//! Events are parsed here and not by the runtime, which would answer a malformed one with a bare 500, and might quote it in
//! the log.

use std::future::Future;
use std::panic::catch_unwind;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use lambda_http::Body;
use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use relay::ingress::response::{self, Caller};
use relay::ports::clock::{Clock as _, SystemClock};
use relay_core::error::{ErrorCode, RequestError};
use serde_json::value::RawValue;

use crate::lambda::time_budget::time_left;

/// Timeout of an HTTP function (the template's `Timeout`).
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(20);
const RESPONSE_RESERVE: Duration = Duration::from_secs(2);

pub(crate) async fn serve<H, F>(caller: Caller, handle: H) -> Result<(), Error>
where
    H: Fn(Request<Bytes>) -> F + Sync,
    F: Future<Output = Response<Bytes>> + Send,
{
    let handle = &handle;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Box<RawValue>>| async move {
        let time_budget =
            time_left(event.context.deadline, SystemClock.now(), FUNCTION_TIMEOUT).saturating_sub(RESPONSE_RESERVE);
        let response = match parse_request(event.payload.get()) {
            Some(request) => {
                tokio::time::timeout(time_budget, handle(request)).await.unwrap_or_else(|_| timed_out(caller))
            }
            None => malformed(caller),
        };
        Ok::<_, Error>(to_gateway_response(response))
    }))
    .await
}

/// Parses the request in an event. Its body is the bytes that arrived, whatever their encoding in the event.
fn parse_request(event: &str) -> Option<Request<Bytes>> {
    // The function panics on a malformed path, query or base64.
    let request = catch_unwind(|| lambda_http::request::from_str(event).ok()).ok()??;
    Some(request.map(|body| match body {
        Body::Text(text) => Bytes::from(text),
        Body::Binary(bytes) => Bytes::from(bytes),
        // No body, or an unknown kind, which could not be verified.
        _ => Bytes::new(),
    }))
}

fn malformed(caller: Caller) -> Response<Bytes> {
    let message = "The request could not be read: look at its URL, above all at what stands after the question mark.";
    reject(caller, &RequestError::new(ErrorCode::InvalidBody, message))
}

/// Rejects a request that took too long. Its retry is recognised by its id.
fn timed_out(caller: Caller) -> Response<Bytes> {
    reject(
        caller,
        &RequestError::new(ErrorCode::Unavailable, "The relay's store is too slow now: send it again later."),
    )
}

fn reject(caller: Caller, error: &RequestError) -> Response<Bytes> {
    response::unhandled_error(caller, error.code(), response::error_response(caller, error), &SystemClock.new_id())
}

fn to_gateway_response(response: Response<Bytes>) -> ApiGatewayV2httpResponse {
    let (parts, body) = response.into_parts();
    let mut gateway_response = ApiGatewayV2httpResponse::default();
    gateway_response.status_code = i64::from(parts.status.as_u16());
    gateway_response.headers = parts.headers;
    gateway_response.body = Some(match String::from_utf8(body.into()) {
        Ok(text) => Body::Text(text),
        Err(bytes) => {
            gateway_response.is_base64_encoded = true;
            Body::Binary(bytes.into_bytes())
        }
    });
    gateway_response
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = include_str!("../../../../events/api-gateway/loops-webhook-base64.json");

    #[test]
    fn parsed_request_keeps_body_bytes() {
        let request = parse_request(EVENT).unwrap();
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/webhooks/loops"));
        assert!(serde_json::from_slice::<serde_json::Value>(request.body()).unwrap()["eventName"].is_string());
    }

    #[test]
    fn malformed_event_is_rejected_without_panic() {
        let query = EVENT.replace("\"rawQueryString\": \"\"", "\"rawQueryString\": \"a=<b> c\"");
        assert_ne!(query, EVENT);
        let base64 = EVENT.replace("\"body\": \"", "\"body\": \"*");
        assert_ne!(base64, EVENT);
        for event in ["null", "{}", "[]", "\"text\"", r#"{"version":"2.0"}"#, &query, &base64] {
            assert!(parse_request(event).is_none(), "{event}");
        }
        assert_eq!(malformed(Caller::Loops).status(), 400);
    }

    #[test]
    fn gateway_response_keeps_status_headers_and_bytes() {
        let response = Response::builder().status(202).header("x-a", "b").body(Bytes::from_static(b"\xff{")).unwrap();
        let gateway_response = serde_json::to_value(to_gateway_response(response)).unwrap();
        assert_eq!(
            (gateway_response["statusCode"].as_i64(), gateway_response["headers"]["x-a"].as_str()),
            (Some(202), Some("b"))
        );
        assert_eq!(
            (gateway_response["body"].as_str(), gateway_response["isBase64Encoded"].as_bool()),
            (Some("/3s="), Some(true))
        );
    }
}
