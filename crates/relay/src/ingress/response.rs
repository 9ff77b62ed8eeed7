//! Builds the HTTP responses of all handlers.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, Response, StatusCode};
use relay_core::delivery::{DeliveryId, Direction};
use relay_core::error::{ErrorCode, RequestError};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::telemetry::event::{DeliveryEvent, EventOutcome, Stage};

/// Header with the id of the delivery that a request became, or of its rejection: in every response, in every call to a
/// destination, and in the log. A webhook for several routes has several, separated by `, `.
pub(crate) const DELIVERY_ID: HeaderName = HeaderName::from_static("x-relay-delivery-id");
/// Header with the fields of a row that were left out or cut, for a response whose body is not the relay's own.
pub(crate) const ADJUSTED: HeaderName = HeaderName::from_static("x-relay-adjusted");
/// Header of a response to a row that was stored because the caller preferred that (RFC 7240 §3).
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Maximum length of [`ADJUSTED`]: gateways and clients take 8 to 10 KiB of headers altogether.
const MAX_ADJUSTED_HEADER_BYTES: usize = 2000;

/// The caller that gets a response. The two read statuses differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Loops sends a webhook again on anything but 2xx.
    Loops,
    /// Clay sends a row again on 408, 413 and 429 only, once and at once (Clay, "HTTP API": retries).
    Clay,
}

/// Gives an error response that no handler has built an id like any other, and emits its event.
pub fn unhandled_error(caller: Caller, code: ErrorCode, response: Response<Bytes>, random_id: &str) -> Response<Bytes> {
    let id = DeliveryId::for_refused_request(random_id);
    let direction = match caller {
        Caller::Loops => Direction::LoopsToClay,
        Caller::Clay => Direction::ClayToLoops,
    };
    let event = DeliveryEvent::new(direction, Stage::Request, EventOutcome::Refused, id.as_str());
    DeliveryEvent { code: Some(code), ..event }.emit();
    with_delivery_id(response, id.as_str())
}

pub(crate) fn json(status: StatusCode, body: &Value) -> Response<Bytes> {
    json_bytes(status, Bytes::from(body.to_string()))
}

pub(crate) fn json_bytes(status: StatusCode, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The response to an error.
pub fn error_response(caller: Caller, error: &RequestError) -> Response<Bytes> {
    error_response_with(caller, error, Map::new())
}

/// The response to an error, with other fields behind the relay's own.
pub(crate) fn error_response_with(caller: Caller, error: &RequestError, others: Map<String, Value>) -> Response<Bytes> {
    let mut body = Map::new();
    body.insert("success".to_owned(), false.into());
    body.insert("message".to_owned(), error.message().into());
    body.insert("code".to_owned(), error.code().as_str().into());
    body.extend(error.field().map(|field| ("field".to_owned(), Value::from(field))));
    for (name, value) in others {
        body.entry(name).or_insert(value);
    }
    let mut response = json(status(caller, error.code()), &body.into());
    if let Some(seconds) = retry_after(caller, error.code()) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}

/// Whether a body of Loops can be passed on as JSON.
pub(crate) fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

pub(crate) fn with_delivery_id(mut response: Response<Bytes>, id: &str) -> Response<Bytes> {
    // An id is letters, digits and `_`.
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(DELIVERY_ID, id);
    }
    response
}

/// Returns the names of fields as a header, if there are any: separated by `, `, and percent-encoded but for visible ASCII
/// characters other than `%`, `,` and `+`. Names that do not fit are counted at the end, as in `+12`.
pub(crate) fn adjusted_header(names: &[String]) -> Option<HeaderValue> {
    let (listed, omitted) = fit_header(names);
    let mut parts: Vec<String> = listed.iter().map(|name| percent_encoded(name)).collect();
    parts.extend(omitted);
    let header = parts.join(", ");
    if header.is_empty() { None } else { HeaderValue::from_str(&header).ok() }
}

/// Returns the same names as a list for a body.
pub(crate) fn adjusted_list(names: &[String]) -> Option<Value> {
    let (listed, omitted) = fit_header(names);
    let list: Vec<&str> = listed.iter().map(String::as_str).chain(omitted.as_deref()).collect();
    if list.is_empty() { None } else { Some(list.into()) }
}

/// Returns the names that fit into a header, and the number of the others, as in `+12`.
fn fit_header(names: &[String]) -> (&[String], Option<String>) {
    let mut length = 0;
    let fits = |name: &&String| {
        let separator = if length == 0 { 0 } else { ", ".len() };
        length += separator + percent_encoded(name).len();
        length <= MAX_ADJUSTED_HEADER_BYTES
    };
    let count = names.iter().take_while(fits).count();
    let (listed, omitted) = names.split_at_checked(count).unwrap_or((names, &[]));
    (listed, (!omitted.is_empty()).then(|| format!("+{}", omitted.len())))
}

fn percent_encoded(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"%,+".contains(&byte);
    let encode = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(encode).collect()
}

/// The response to a method that a known path does not take.
pub fn method_not_allowed(caller: Caller, allowed: &'static str) -> Response<Bytes> {
    let message = format!("This path takes {allowed} only: change the method.");
    let mut response = error_response(caller, &RequestError::new(ErrorCode::MethodNotAllowed, message));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The response to a path that is not one of the relay's.
pub fn not_found() -> Response<Bytes> {
    let message = "There is nothing at this path: below /api/v1 the relay takes Loops' calls for contacts, events, lists, \
                   contact properties and transactional e-mails, and deliveries/{id}; what else Loops has is closed here, so \
                   call Loops itself for it.";
    error_response(Caller::Clay, &RequestError::new(ErrorCode::NotFound, message))
}

const fn status(caller: Caller, code: ErrorCode) -> StatusCode {
    match (code, caller) {
        (ErrorCode::TooLarge, Caller::Loops) => StatusCode::PAYLOAD_TOO_LARGE,
        (ErrorCode::NotConfigured | ErrorCode::Unavailable, Caller::Loops) => StatusCode::SERVICE_UNAVAILABLE,
        (ErrorCode::Unavailable, Caller::Clay) => StatusCode::TOO_MANY_REQUESTS,
        (ErrorCode::NotConfigured | ErrorCode::LoopsKeyRejected, _) => StatusCode::BAD_GATEWAY,
        (ErrorCode::InvalidSignature | ErrorCode::TimestampOutOfRange | ErrorCode::InvalidToken, _) => {
            StatusCode::UNAUTHORIZED
        }
        (ErrorCode::MissingScope, _) => StatusCode::FORBIDDEN,
        (ErrorCode::NotFound, _) => StatusCode::NOT_FOUND,
        (ErrorCode::MethodNotAllowed, _) => StatusCode::METHOD_NOT_ALLOWED,
        (ErrorCode::OutcomeUnknown, _) => StatusCode::CONFLICT,
        (ErrorCode::Internal, _) => StatusCode::INTERNAL_SERVER_ERROR,
        (
            ErrorCode::TooLarge
            | ErrorCode::MissingHeader
            | ErrorCode::MalformedHeader
            | ErrorCode::InvalidBody
            | ErrorCode::InvalidJson
            | ErrorCode::InvalidField
            | ErrorCode::MissingField
            | ErrorCode::ColumnNotInserted
            | ErrorCode::ValueTooLong
            | ErrorCode::InvalidOption
            | ErrorCode::LoopsRejected,
            _,
        ) => StatusCode::BAD_REQUEST,
    }
}

const fn retry_after(caller: Caller, code: ErrorCode) -> Option<&'static str> {
    match (caller, code) {
        (Caller::Loops, ErrorCode::NotConfigured) => Some("60"),
        (Caller::Loops, ErrorCode::Unavailable) => Some("5"),
        (Caller::Clay, ErrorCode::Unavailable) => Some("1"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clay_never_receives_408_413_or_503() {
        for code in ErrorCode::ALL {
            assert!(![408, 413, 503].contains(&status(Caller::Clay, *code).as_u16()), "{code}");
        }
    }

    #[test]
    fn every_error_code_is_in_contract_and_openapi() {
        let contract = include_str!("../../../../docs/contract.md");
        let schema = include_str!("../../../../openapi.yaml");
        for code in ErrorCode::ALL {
            assert!(contract.contains(&format!("| `{code}` |")), "{code}");
            assert!(schema.contains(&format!("            - {code}\n")), "{code}");
        }
    }

    #[test]
    fn error_response_is_json_with_the_invalid_field() {
        let response =
            error_response(Caller::Clay, &RequestError::new(ErrorCode::InvalidField, "No.").with_field("email"));
        assert_eq!(response.status(), 400);
        assert_eq!(
            response.body().as_ref(),
            br#"{"success":false,"message":"No.","code":"invalid_field","field":"email"}"#
        );
    }

    #[test]
    fn unavailable_response_has_retry_after() {
        assert_eq!(
            error_response(Caller::Loops, &RequestError::new(ErrorCode::Unavailable, "")).headers()[RETRY_AFTER],
            "5"
        );
        assert_eq!(
            error_response(Caller::Clay, &RequestError::new(ErrorCode::Unavailable, "")).headers()[RETRY_AFTER],
            "1"
        );
    }

    #[test]
    fn adjusted_header_percent_encodes_field_names() {
        let header = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            adjusted_header(&names).map(|header| header.to_str().unwrap().to_owned())
        };
        assert_eq!(header(&[]), None);
        assert_eq!(header(&["bio", "eventProperties.plan"]).as_deref(), Some("bio, eventProperties.plan"));
        assert_eq!(
            header(&["First Name", "a,b", "né", "+1", ""]).as_deref(),
            Some("First%20Name, a%2Cb, n%C3%A9, %2B1, ")
        );
    }

    #[test]
    fn adjusted_list_has_the_same_limit_as_the_header() {
        assert_eq!(adjusted_list(&[]), None);
        let names: Vec<String> = (0..500).map(|number| format!("né {number:07}")).collect();
        for count in [1, 50, 500] {
            let names = &names[..count];
            let list = adjusted_list(names).unwrap();
            let list: Vec<&str> = list.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            let header = adjusted_header(names).unwrap();
            assert_eq!(list.len(), header.to_str().unwrap().split(", ").count());
            assert_eq!(
                (list[0], list.last() == header.to_str().unwrap().split(", ").last().as_ref()),
                ("né 0000000", count == 500)
            );
        }
    }

    #[test]
    fn adjusted_header_counts_omitted_names() {
        let names: Vec<String> = (0..500).map(|number| format!("mailingLists.{number:07}")).collect();
        let header = adjusted_header(&names).unwrap();
        let listed: Vec<&str> = header.to_str().unwrap().split(", ").collect();
        assert_eq!(listed[0], "mailingLists.0000000");
        assert_eq!(listed.last().copied(), Some(format!("+{}", 500 - (listed.len() - 1)).as_str()));
        assert!((MAX_ADJUSTED_HEADER_BYTES - 50..MAX_ADJUSTED_HEADER_BYTES + 10).contains(&header.len()));
    }

    #[test]
    fn method_not_allowed_names_the_allowed_method() {
        let response = method_not_allowed(Caller::Clay, "PUT");
        assert_eq!((response.status().as_u16(), &response.headers()[ALLOW]), (405, &HeaderValue::from_static("PUT")));
    }
}
