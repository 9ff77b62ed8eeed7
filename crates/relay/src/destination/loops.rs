//! The port to the Loops API.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use relay_core::delivery::{DeliveryId, DeliveryKind};
use relay_core::idempotency;
use relay_core::secret::{ExposeSecret as _, SecretString};

use crate::destination::http_client::{DestinationResponse, HttpClient};
use crate::ingress::response::DELIVERY_ID;
use crate::ports::clock::SharedClock;

/// One call to Loops.
#[derive(Debug)]
pub struct LoopsRequest<'a> {
    /// The id of the delivery.
    pub delivery_id: &'a DeliveryId,
    /// What is sent: a contact, or an event with its key.
    pub kind: &'a DeliveryKind,
    /// The JSON to send, as it is.
    pub body: &'a Bytes,
    /// The account's key.
    pub api_key: &'a SecretString,
    /// The longest time that the call may take.
    pub timeout: Duration,
}

/// Loops' calls (Loops API reference, "Update contact", "Send event" and "List contact properties").
pub trait LoopsClient: Send + Sync {
    /// Makes the call once and returns the response; every failure is an outcome of it.
    fn send(&self, call: LoopsRequest<'_>) -> impl Future<Output = DestinationResponse> + Send;

    /// Asks once for the properties of contacts (Loops API reference, "List contact properties").
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
    /// The API under this base (`https://app.loops.so/api`).
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
    async fn send(&self, call: LoopsRequest<'_>) -> DestinationResponse {
        let request = match call.kind {
            DeliveryKind::LoopsEvent { key } => {
                self.client.request(Method::POST, &self.send_event_url).header(idempotency::HEADER, key.as_str())
            }
            DeliveryKind::LoopsContact | DeliveryKind::ClayRow { .. } => {
                self.client.request(Method::PUT, &self.update_contact_url)
            }
        };
        let request = request
            .header(AUTHORIZATION, format!("Bearer {}", call.api_key.expose_secret()))
            .header(CONTENT_TYPE, "application/json")
            .header(DELIVERY_ID, call.delivery_id.as_str())
            .body(call.body.clone());
        self.client.send(request, call.timeout, self.clock.now()).await
    }

    async fn list_contact_properties(&self, api_key: &SecretString, timeout: Duration) -> DestinationResponse {
        let request = self.client.request(Method::GET, &self.list_properties_url);
        let request = request.header(AUTHORIZATION, format!("Bearer {}", api_key.expose_secret()));
        self.client.send(request, timeout, self.clock.now()).await
    }
}
