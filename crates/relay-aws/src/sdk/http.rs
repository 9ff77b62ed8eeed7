//! The relay's HTTP client under the AWS SDK.
//!
//! One client for the far ends and for AWS: one TLS stack, one set of roots, one pool, and nothing that the SDK would
//! build beside it at every start.

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

/// A fault that the SDK is told of, as far as it has to know.
#[derive(Debug, thiserror::Error)]
enum TransportError {
    #[error("the request has a streaming body")]
    Streaming,
    #[error("the request has a method that HTTP does not know")]
    Method,
    #[error("the answer is not HTTP")]
    Answer,
    #[error("there was no answer in time")]
    Silent,
}

/// The client as the SDK takes it.
#[derive(Debug, Clone)]
pub struct SdkHttpConnector {
    client: HttpClient,
    /// The longest that an attempt may take, if there is a limit.
    limit: Option<Duration>,
}

impl SdkHttpConnector {
    /// The SDK's use of this client.
    #[must_use]
    pub const fn new(client: HttpClient) -> Self {
        Self { client, limit: None }
    }
}

impl SdkHttpClient for SdkHttpConnector {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Self { limit: settings.read_timeout(), ..self.clone() })
    }
}

impl HttpConnector for SdkHttpConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { client, limit } = self.clone();
        HttpConnectorFuture::new(async move {
            let Some(limit) = limit else { return call(&client, request).await };
            // An answer that is there when a frozen sandbox wakes up is not too late: what it tells was done.
            let called = deadline::timeout_at_with_grace(Instant::now() + limit, call(&client, request)).await;
            called.unwrap_or_else(|| Err(ConnectorError::timeout(TransportError::Silent.into())))
        })
    }
}

async fn call(client: &HttpClient, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let user = |error: TransportError| ConnectorError::user(error.into());
    let method = request.method().parse().map_err(|_| user(TransportError::Method))?;
    let body = request.body().bytes().ok_or_else(|| user(TransportError::Streaming))?.to_vec();
    let mut sent = client.request(method, request.uri()).body(body);
    for (name, value) in request.headers() {
        sent = sent.header(name, value);
    }
    // The SDK repeats what may be repeated by its own rules.
    let response = client.execute(sent).await.map_err(to_connector_error)?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.map_err(to_connector_error)?;
    let status = status.try_into().map_err(|_| ConnectorError::other(TransportError::Answer.into(), None))?;
    let mut answer = HttpResponse::new(status, SdkBody::from(body));
    for (name, value) in &headers {
        if let Ok(value) = value.to_str() {
            answer.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(answer)
}

fn to_connector_error(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}
