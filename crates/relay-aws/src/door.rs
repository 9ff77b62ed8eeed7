//! A gateway's event as the request that a handler takes, and the handler's answer back.

use bytes::Bytes;
use http::{Request, Response};
use lambda_http::Body;

/// The request as the handlers of the relay take it: the body as the bytes that arrived, whatever their encoding in the
/// event was.
#[must_use]
pub fn request(request: lambda_http::Request) -> Request<Bytes> {
    request.map(|body| match body {
        Body::Text(text) => Bytes::from(text),
        Body::Binary(bytes) => Bytes::from(bytes),
        // No body, or a kind that is not known yet and could not be verified.
        _ => Bytes::new(),
    })
}

/// The answer as the gateway takes it.
#[must_use]
pub fn response(response: Response<Bytes>) -> Response<Body> {
    response.map(|body| match String::from_utf8(body.to_vec()) {
        Ok(text) => Body::Text(text),
        Err(bytes) => Body::Binary(bytes.into_bytes()),
    })
}
