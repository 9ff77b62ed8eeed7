//! The relay's HTTP client as the client of the AWS SDK.
//!
//! Destinations and AWS share one TLS stack, one set of roots and one pool. The SDK would build its own at every start.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient as SdkHttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use relay::destination::deadline;
use relay::destination::http_client::HttpClient;
use tokio::time::Instant;

/// Connector of the SDK on the relay's client.
#[derive(Debug, Clone)]
pub struct SdkHttpConnector {
    client: HttpClient,
    /// Timeout of an attempt, if there is one.
    timeout: Option<Duration>,
}

impl SdkHttpConnector {
    /// Creates the connector.
    pub const fn new(client: HttpClient) -> Self {
        Self { client, timeout: None }
    }
}

impl SdkHttpClient for SdkHttpConnector {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Self { timeout: settings.read_timeout(), ..self.clone() })
    }
}

impl HttpConnector for SdkHttpConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { client, timeout } = self.clone();
        HttpConnectorFuture::new(async move {
            let Some(timeout) = timeout else { return send_request(&client, request).await };
            // A response that is there when a frozen sandbox is thawed is not too late: the call has succeeded.
            let result =
                deadline::timeout_at_with_grace(Instant::now() + timeout, send_request(&client, request)).await;
            result.unwrap_or_else(|| Err(ConnectorError::timeout("there was no answer in time".into())))
        })
    }
}

async fn send_request(client: &HttpClient, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let method = request
        .method()
        .parse()
        .map_err(|_| ConnectorError::user("the request has a method that HTTP does not know".into()))?;
    let body =
        request.body().bytes().ok_or_else(|| ConnectorError::user("the request has a streaming body".into()))?.to_vec();
    let mut outgoing = client.request(method, request.uri()).body(body);
    for (name, value) in request.headers() {
        outgoing = outgoing.header(name, value);
    }
    // The SDK retries by its own rules.
    let response = client.execute(outgoing).await.map_err(to_connector_error)?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.map_err(to_connector_error)?;
    let status = status.try_into().map_err(|_| ConnectorError::other("the answer is not HTTP".into(), None))?;
    let mut sdk_response = HttpResponse::new(status, SdkBody::from(body));
    for (name, value) in &headers {
        if let Ok(value) = value.to_str() {
            sdk_response.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(sdk_response)
}

fn to_connector_error(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}
