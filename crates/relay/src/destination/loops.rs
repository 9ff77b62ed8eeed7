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
use crate::ports::clock::Clock;

/// One call to Loops.
#[derive(Debug)]
pub struct LoopsCall<'a> {
    /// The id of the delivery.
    pub delivery: &'a DeliveryId,
    /// What is sent: a contact, or an event with its key.
    pub cargo: &'a DeliveryKind,
    /// The JSON to send, as it is.
    pub body: &'a Bytes,
    /// The account's key.
    pub api_key: &'a SecretString,
    /// The longest time that the call may take.
    pub timeout: Duration,
}

/// Loops' calls (Loops API reference, "Update contact", "Send event" and "List contact properties").
pub trait LoopsApi: Send + Sync {
    /// Makes the call once and tells what came back; it never fails otherwise.
    fn call(&self, call: LoopsCall<'_>) -> impl Future<Output = DestinationResponse> + Send;

    /// Asks once for the properties of contacts (Loops API reference, "List contact properties").
    fn properties(&self, api_key: &SecretString, timeout: Duration)
    -> impl Future<Output = DestinationResponse> + Send;
}

/// Loops over HTTP.
#[derive(Debug, Clone)]
pub struct HttpLoops<A> {
    client: HttpClient,
    update_contact: String,
    send_event: String,
    list_properties: String,
    ambient: A,
}

impl<A: Clock> HttpLoops<A> {
    /// The API under this base (`https://app.loops.so/api`).
    pub fn new(client: HttpClient, base: &str, ambient: A) -> Self {
        let base = base.trim_end_matches('/');
        Self {
            client,
            update_contact: format!("{base}/v1/contacts/update"),
            send_event: format!("{base}/v1/events/send"),
            list_properties: format!("{base}/v1/contacts/properties"),
            ambient,
        }
    }
}

impl<A: Clock> LoopsApi for HttpLoops<A> {
    async fn call(&self, call: LoopsCall<'_>) -> DestinationResponse {
        let request = match call.cargo {
            DeliveryKind::LoopsEvent { key } => {
                self.client.request(Method::POST, &self.send_event).header(idempotency::HEADER, key.as_str())
            }
            DeliveryKind::LoopsContact | DeliveryKind::ClayRow { .. } => {
                self.client.request(Method::PUT, &self.update_contact)
            }
        };
        let request = request
            .header(AUTHORIZATION, format!("Bearer {}", call.api_key.expose_secret()))
            .header(CONTENT_TYPE, "application/json")
            .header(DELIVERY_ID, call.delivery.as_str())
            .body(call.body.clone());
        self.client.send(request, call.timeout, self.ambient.now()).await
    }

    async fn properties(&self, api_key: &SecretString, timeout: Duration) -> DestinationResponse {
        let request = self.client.request(Method::GET, &self.list_properties);
        let request = request.header(AUTHORIZATION, format!("Bearer {}", api_key.expose_secret()));
        self.client.send(request, timeout, self.ambient.now()).await
    }
}
