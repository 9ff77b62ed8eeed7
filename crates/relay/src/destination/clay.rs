//! The port to Clay's webhooks.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use relay_core::delivery::DeliveryId;
use relay_core::secret::ExposeSecret as _;
use relay_core::webhook::route::ClayWebhook;

use crate::destination::http_client::{DestinationResponse, HttpClient};
use crate::ingress::response::DELIVERY_ID;

/// The header with a webhook's token (Clay, "Webhook integration guide": authentication).
const AUTH_HEADER: &str = "x-clay-webhook-auth";

/// The calls to Clay.
pub trait ClayClient: Send + Sync {
    /// Posts a row to a webhook once and returns the response. Every failure is an outcome of it.
    fn post(
        &self,
        webhook: &ClayWebhook,
        delivery_id: &DeliveryId,
        row: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = DestinationResponse> + Send;
}

/// Clay over HTTP.
impl ClayClient for HttpClient {
    async fn post(
        &self,
        webhook: &ClayWebhook,
        delivery_id: &DeliveryId,
        row: Bytes,
        timeout: Duration,
    ) -> DestinationResponse {
        let mut request = self
            .request(Method::POST, webhook.expose_url())
            // Exactly this: for any other type Clay responds with 400 and makes no row.
            .header(CONTENT_TYPE, "application/json")
            .header(DELIVERY_ID, delivery_id.as_str())
            .body(row);
        if let Some(token) = webhook.auth_token() {
            request = request.header(AUTH_HEADER, token.expose_secret());
        }
        self.send(request, timeout, Timestamp::now()).await
    }
}
