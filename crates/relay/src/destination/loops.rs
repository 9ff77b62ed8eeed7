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

use crate::destination::http_client::{DestinationResponse, HttpClient};
use crate::ingress::response::DELIVERY_ID;

/// The calls to Loops (Loops API reference, "Update contact", "Send event", "List contact properties" and "Test your API
/// key").
pub trait LoopsClient: Send + Sync {
    /// Sends a delivery once and returns the response. Every failure is an outcome of it.
    fn send(
        &self,
        delivery: &Delivery,
        api_key: &SecretString,
        timeout: Duration,
    ) -> impl Future<Output = DestinationResponse> + Send;

    /// Requests the properties of contacts once.
    fn list_contact_properties(
        &self,
        api_key: &SecretString,
        timeout: Duration,
    ) -> impl Future<Output = DestinationResponse> + Send;

    /// Requests the team that the key belongs to once.
    fn get_team(&self, api_key: &SecretString, timeout: Duration) -> impl Future<Output = DestinationResponse> + Send;
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
        let request = match &delivery.kind {
            DeliveryKind::LoopsEvent { key } => {
                self.request(Method::POST, "/v1/events/send", api_key).header(idempotency::HEADER, key.as_str())
            }
            DeliveryKind::LoopsContact | DeliveryKind::ClayRow { .. } => {
                self.request(Method::PUT, "/v1/contacts/update", api_key)
            }
        };
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header(DELIVERY_ID, delivery.id.as_str())
            .body(delivery.body.clone());
        self.client.send(request, timeout, Timestamp::now()).await
    }

    async fn list_contact_properties(&self, api_key: &SecretString, timeout: Duration) -> DestinationResponse {
        let request = self.request(Method::GET, "/v1/contacts/properties", api_key);
        self.client.send(request, timeout, Timestamp::now()).await
    }
    async fn get_team(&self, api_key: &SecretString, timeout: Duration) -> DestinationResponse {
        self.client.send(self.request(Method::GET, "/v1/api-key", api_key), timeout, Timestamp::now()).await
    }
}
