//! Rows as a Clay column sends them.

use crate::http::{self, Response};
use crate::relay_process::RELAY_TOKEN;

/// The route of contacts to update, or that of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `PUT /api/v1/contacts/update`
    Contact,
    /// `POST /api/v1/events/send`
    Event,
}

impl Route {
    /// Its method.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Contact => "PUT",
            Self::Event => "POST",
        }
    }

    /// Its path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Contact => "/api/v1/contacts/update",
            Self::Event => "/api/v1/events/send",
        }
    }
}

/// Sends a contact's row with the token of the tests.
pub async fn contact(base: &str, body: impl Into<Vec<u8>>) -> Response {
    send(base, Route::Contact, "", &[], body).await
}

/// Sends an event's row with the token of the tests.
pub async fn event(base: &str, body: impl Into<Vec<u8>>) -> Response {
    send(base, Route::Event, "", &[], body).await
}

/// Sends a row with the token of the tests, a query (without its `?`) and headers besides.
pub async fn send(
    base: &str,
    route: Route,
    query: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Response {
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let mut all = vec![("authorization", authorization.as_str()), ("content-type", "application/json")];
    all.extend(headers);
    send_without_token(base, route, query, &all, body).await
}

/// Sends a row with these headers and no others.
pub async fn send_without_token(
    base: &str,
    route: Route,
    query: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Response {
    let separator = if query.is_empty() { "" } else { "?" };
    http::send(route.method(), &format!("{base}{}{separator}{query}", route.path()), headers, body).await
}
