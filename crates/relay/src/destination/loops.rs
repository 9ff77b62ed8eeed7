//! The port to the Loops API.

use std::future::Future;
use std::time::Duration;

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use relay_core::delivery::{Delivery, DeliveryKind};
use relay_core::idempotency;
use relay_core::secret::{ExposeSecret as _, SecretString};

use crate::destination::http_client::{DestinationResponse, HttpClient};
use crate::ingress::response::DELIVERY_ID;
use crate::ports::clock::SharedClock;

/// The calls to Loops (Loops API reference, "Update contact", "Send event" and "List contact properties").
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
}

/// Loops over HTTP.
#[derive(Debug, Clone)]
pub struct HttpLoopsClient {
    client: HttpClient,
    update_contact_url: String,
    send_event_url: String,
    list_properties_url: String,
    clock: SharedClock,
}

impl HttpLoopsClient {
    /// Creates a client of the API at this base URL (`https://app.loops.so/api`).
    pub fn new(client: HttpClient, base_url: &str, clock: SharedClock) -> Self {
        let base_url = base_url.trim_end_matches('/');
        Self {
            client,
            update_contact_url: format!("{base_url}/v1/contacts/update"),
            send_event_url: format!("{base_url}/v1/events/send"),
            list_properties_url: format!("{base_url}/v1/contacts/properties"),
            clock,
        }
    }
}

impl LoopsClient for HttpLoopsClient {
    async fn send(&self, delivery: &Delivery, api_key: &SecretString, timeout: Duration) -> DestinationResponse {
        let request = match &delivery.kind {
            DeliveryKind::LoopsEvent { key } => {
                self.client.request(Method::POST, &self.send_event_url).header(idempotency::HEADER, key.as_str())
            }
            DeliveryKind::LoopsContact | DeliveryKind::ClayRow { .. } => {
                self.client.request(Method::PUT, &self.update_contact_url)
            }
        };
        let request = request
            .header(AUTHORIZATION, format!("Bearer {}", api_key.expose_secret()))
            .header(CONTENT_TYPE, "application/json")
            .header(DELIVERY_ID, delivery.id.as_str())
            .body(delivery.body.clone());
        self.client.send(request, timeout, self.clock.now()).await
    }

    async fn list_contact_properties(&self, api_key: &SecretString, timeout: Duration) -> DestinationResponse {
        let request = self.client.request(Method::GET, &self.list_properties_url);
        let request = request.header(AUTHORIZATION, format!("Bearer {}", api_key.expose_secret()));
        self.client.send(request, timeout, self.clock.now()).await
    }
}
