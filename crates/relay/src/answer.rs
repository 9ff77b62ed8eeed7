//! The one place where what a handler found becomes an HTTP answer.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use relay_core::refusal::{Code, Refusal};
use serde_json::{Value, json};

/// Whom an answer goes to: the two callers read statuses differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Loops sends a webhook again on anything but 2xx.
    Loops,
    /// Clay sends a row again on 408, 413 and 429 only, once and at once (Clay, "HTTP API": retries).
    Clay,
}

/// A JSON answer.
#[must_use]
pub fn json(status: StatusCode, body: &Value) -> Response<Bytes> {
    raw(status, Bytes::from(body.to_string()))
}

/// An answer with a JSON body that stands as it is.
#[must_use]
pub fn raw(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A refusal as the caller gets it.
#[must_use]
pub fn refuse(caller: Caller, refusal: &Refusal) -> Response<Bytes> {
    refuse_with(status(caller, refusal.code()), caller, refusal)
}

/// A refusal under a status that came from the far end.
#[must_use]
pub fn refuse_with(status: StatusCode, caller: Caller, refusal: &Refusal) -> Response<Bytes> {
    let mut body = json!({"success": false, "message": refusal.message(), "code": refusal.code().as_str()});
    if let (Some(field), Some(object)) = (refusal.field(), body.as_object_mut()) {
        object.insert("field".to_owned(), Value::from(field));
    }
    let mut response = json(status, &body);
    if let Some(seconds) = retry_after(caller, refusal.code()) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}

/// The answer to a method that a known path does not take.
#[must_use]
pub fn method_not_allowed(caller: Caller, allowed: &'static str) -> Response<Bytes> {
    let message = format!("This path takes {allowed} only: change the method.");
    let mut response = refuse(caller, &Refusal::new(Code::MethodNotAllowed, message));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The answer to a path that is not one of the relay's.
#[must_use]
pub fn not_found() -> Response<Bytes> {
    let message = "There is nothing at this path: the relay takes POST /webhooks/loops, PUT /api/v1/contacts/update \
                   and POST /api/v1/events/send.";
    refuse(Caller::Clay, &Refusal::new(Code::NotFound, message))
}

const fn status(caller: Caller, code: Code) -> StatusCode {
    match (code, caller) {
        (Code::TooLarge, Caller::Loops) => StatusCode::PAYLOAD_TOO_LARGE,
        (Code::NotConfigured | Code::Unavailable, Caller::Loops) => StatusCode::SERVICE_UNAVAILABLE,
        (Code::Unavailable, Caller::Clay) => StatusCode::TOO_MANY_REQUESTS,
        (Code::NotConfigured | Code::LoopsKeyRejected, _) => StatusCode::BAD_GATEWAY,
        (Code::InvalidSignature | Code::TimestampOutOfRange | Code::InvalidToken, _) => StatusCode::UNAUTHORIZED,
        (Code::NotFound, _) => StatusCode::NOT_FOUND,
        (Code::MethodNotAllowed, _) => StatusCode::METHOD_NOT_ALLOWED,
        (Code::Internal, _) => StatusCode::INTERNAL_SERVER_ERROR,
        (
            Code::TooLarge
            | Code::MissingHeader
            | Code::MalformedHeader
            | Code::InvalidBody
            | Code::InvalidJson
            | Code::InvalidField
            | Code::MissingField
            | Code::ColumnNotInserted
            | Code::ValueTooLong
            | Code::InvalidOption
            | Code::LoopsRejected,
            _,
        ) => StatusCode::BAD_REQUEST,
    }
}

const fn retry_after(caller: Caller, code: Code) -> Option<&'static str> {
    match (caller, code) {
        (Caller::Loops, Code::NotConfigured) => Some("60"),
        (Caller::Loops, Code::Unavailable) => Some("5"),
        (Caller::Clay, Code::Unavailable) => Some("1"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_CODE: [Code; 20] = [
        Code::TooLarge,
        Code::MissingHeader,
        Code::MalformedHeader,
        Code::InvalidSignature,
        Code::TimestampOutOfRange,
        Code::InvalidBody,
        Code::InvalidToken,
        Code::InvalidJson,
        Code::InvalidField,
        Code::MissingField,
        Code::ColumnNotInserted,
        Code::ValueTooLong,
        Code::InvalidOption,
        Code::LoopsRejected,
        Code::LoopsKeyRejected,
        Code::NotConfigured,
        Code::Unavailable,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::Internal,
    ];

    #[test]
    fn clay_is_never_answered_with_a_status_that_it_mistakes() {
        for code in EVERY_CODE {
            assert!(![408, 413, 503].contains(&status(Caller::Clay, code).as_u16()), "{code}");
        }
    }

    #[test]
    fn a_refusal_is_told_as_json_with_the_field_at_fault() {
        let response = refuse(Caller::Clay, &Refusal::new(Code::InvalidField, "No.").with_field("email"));
        assert_eq!(response.status(), 400);
        assert_eq!(
            response.body().as_ref(),
            br#"{"success":false,"message":"No.","code":"invalid_field","field":"email"}"#
        );
    }

    #[test]
    fn what_may_be_tried_again_says_when() {
        assert_eq!(refuse(Caller::Loops, &Refusal::new(Code::Unavailable, "")).headers()[RETRY_AFTER], "5");
        assert_eq!(refuse(Caller::Clay, &Refusal::new(Code::Unavailable, "")).headers()[RETRY_AFTER], "1");
    }

    #[test]
    fn a_wrong_method_is_told_the_right_one() {
        let response = method_not_allowed(Caller::Clay, "PUT");
        assert_eq!((response.status().as_u16(), &response.headers()[ALLOW]), (405, &HeaderValue::from_static("PUT")));
    }
}
