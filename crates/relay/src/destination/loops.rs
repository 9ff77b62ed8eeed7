//! The port to the Loops API.

use std::future::Future;
use std::time::Duration;

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use jiff::Timestamp;
use relay_core::delivery::{Delivery, DeliveryKind};
use relay_core::idempotency;
use relay_core::secret::{ExposeSecret as _, SecretString};
use reqwest::RequestBuilder;
use serde_json::Value;

use crate::destination::http_client::{DestinationResponse, HttpClient};
use crate::ingress::response::DELIVERY_ID;

/// Path of the contact properties (Loops API reference, "List contact properties").
pub const PROPERTIES_PATH: &str = "/v1/contacts/properties";
/// Path of the team that a key belongs to (Loops API reference, "Test your API key").
pub const API_KEY_PATH: &str = "/v1/api-key";

/// The calls to Loops. Those that write: Loops API reference, "Update a contact", "Create a contact", "Delete a contact", "Send
/// event" and "Send a transactional email".
pub trait LoopsClient: Send + Sync {
    /// Sends a delivery once and returns the response. Every failure is an outcome of it.
    fn send(
        &self,
        delivery: &Delivery,
        api_key: &SecretString,
        timeout: Duration,
    ) -> impl Future<Output = DestinationResponse> + Send;

    /// Requests what is at a path of the API, with its query, once: `/v1/lists`.
    fn read(
        &self,
        path_and_query: &str,
        api_key: &SecretString,
        timeout: Duration,
    ) -> impl Future<Output = DestinationResponse> + Send;
}

/// Returns what Loops says in an error: `message`, or the older `error` (Loops API reference, errors).
pub(crate) fn error_message(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    body.get("message").and_then(text).or_else(|| {
        let error = body.get("error")?;
        text(error).or_else(|| error.get("message").or_else(|| error.get("reason")).and_then(text))
    })
}

/// Loops over HTTP.
#[derive(Debug, Clone)]
pub struct HttpLoopsClient {
    client: HttpClient,
    base_url: String,
}

impl HttpLoopsClient {
    /// Creates a client of the API at this base URL (`https://app.loops.so/api`).
    pub fn new(client: HttpClient, base_url: &str) -> Self {
        Self { client, base_url: base_url.trim_end_matches('/').to_owned() }
    }

    fn request(&self, method: Method, path: &str, api_key: &SecretString) -> RequestBuilder {
        let url = format!("{}{path}", self.base_url);
        self.client.request(method, &url).header(AUTHORIZATION, format!("Bearer {}", api_key.expose_secret()))
    }
}

impl LoopsClient for HttpLoopsClient {
    async fn send(&self, delivery: &Delivery, api_key: &SecretString, timeout: Duration) -> DestinationResponse {
        let (method, path) = match &delivery.kind {
            DeliveryKind::LoopsEvent { .. } => (Method::POST, "/v1/events/send"),
            DeliveryKind::LoopsCreate => (Method::POST, "/v1/contacts/create"),
            DeliveryKind::LoopsDelete => (Method::POST, "/v1/contacts/delete"),
            DeliveryKind::LoopsEmail { .. } => (Method::POST, "/v1/transactional"),
            DeliveryKind::LoopsContact | DeliveryKind::ClayRow { .. } => (Method::PUT, "/v1/contacts/update"),
        };
        let mut request = self.request(method, path, api_key);
        if let Some(key) = delivery.kind.idempotency_key() {
            request = request.header(idempotency::HEADER, key.as_str());
        }
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header(DELIVERY_ID, delivery.id.as_str())
            .body(delivery.body.clone());
        self.client.send(request, timeout, Timestamp::now()).await
    }

    async fn read(&self, path_and_query: &str, api_key: &SecretString, timeout: Duration) -> DestinationResponse {
        self.client.send(self.request(Method::GET, path_and_query, api_key), timeout, Timestamp::now()).await
    }
}
