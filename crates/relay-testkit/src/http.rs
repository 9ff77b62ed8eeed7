//! A plain HTTP client for tests.

use std::collections::BTreeMap;

use serde_json::Value;

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Checks that it is an error response: JSON with exactly the fields of one, and a message that a Clay cell can
    /// show.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn assert_error_response(&self, status: u16, code: &str, field: Option<&str>) {
        let body = self.json();
        let message = body["message"].as_str().unwrap_or_default();
        let char_count = message.chars().count();
        assert!((1..=crate::MAX_MESSAGE_CHARS).contains(&char_count), "{char_count} characters: {message}");
        let mut expected = serde_json::json!({"success": false, "message": message, "code": code});
        if let Some(field) = field {
            expected["field"] = field.into();
        }
        assert_eq!((self.status, &body), (status, &expected));
        assert_eq!(self.headers.get("content-type").map(String::as_str), Some("application/json"));
    }

    /// Status and `code`.
    #[must_use]
    pub fn status_and_code(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// Sends one request on a new connection.
///
/// # Panics
/// When there is no response.
pub async fn send(method: &str, url: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Response {
    try_send(method, url, headers, body.into()).await.unwrap_or_else(|| panic!("{method} {url} was not answered"))
}

/// Sends one request on a new connection; `None` without a response.
pub async fn try_send(method: &str, url: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Option<Response> {
    let client = relay::destination::http_client::build().ok()?;
    try_send_with(&client, method, url, headers, body).await
}

/// Sends one request with a client that pools connections.
pub async fn try_send_with(
    client: &relay::destination::http_client::HttpClient,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Option<Response> {
    let mut request = client.request(method.parse().ok()?, url).body(body);
    for (name, value) in headers {
        request = request.header(*name, value.as_bytes());
    }
    let response = request.timeout(std::time::Duration::from_secs(30)).send().await.ok()?;
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    Some(Response { status: response.status().as_u16(), headers, body: response.bytes().await.ok()?.to_vec() })
}
