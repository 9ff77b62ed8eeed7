//! How a function starts: what is wrong with its settings is told at once, and what its first event would wait for is
//! done before.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use relay::config::env::SettingError;
use relay::destination::http_client::HttpClient;
use relay::ports::secrets::{LoopsToClaySecret, SecretSource};
use tracing::{error, warn};

/// The longest that opening a connection may take at the start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The settings are wrong: the function cannot start, whatever comes.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct ConfigError(Vec<SettingError>);

impl From<Vec<SettingError>> for ConfigError {
    fn from(errors: Vec<SettingError>) -> Self {
        Self(errors)
    }
}

/// Turns a function's result into its exit code. The error is logged as JSON, which the standard library would not do.
pub(crate) fn exit_code(result: Result<(), lambda_runtime::Error>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(%error, "the function cannot run");
            ExitCode::FAILURE
        }
    }
}

/// Reads the secret and opens a connection to each place that the first event will be sent to. A start has a whole processor, an
/// event a fraction of one; but neither is a reason to fail the start, because the first event tries again.
pub async fn warm_up<T, S: SecretSource<T>>(secrets: &S, client: &HttpClient, urls: &[&str]) {
    tokio::join!(read_secret(secrets), join_all(urls.iter().map(|url| open_connection(client, url))));
}

/// The same, and then for Clay: the secret says where it is.
pub async fn warm_up_to_clay<S: SecretSource<LoopsToClaySecret>>(secrets: &S, client: &HttpClient, urls: &[&str]) {
    let (secret, _) = tokio::join!(read_secret(secrets), join_all(urls.iter().map(|url| open_connection(client, url))));
    let webhook = secret.iter().flat_map(|secret| &secret.routes).flat_map(|route| &route.webhooks).next();
    if let Some(webhook) = webhook {
        // Its origin alone: nobody knows what else Clay would make of a request to a webhook.
        open_connection(client, &webhook.origin()).await;
    }
}

async fn read_secret<T, S: SecretSource<T>>(secrets: &S) -> Option<Arc<T>> {
    let secret = secrets.current().await;
    if secret.is_err() {
        warn!("the secret could not be read at the start; the first event tries again");
    }
    secret.ok()
}

async fn open_connection(client: &HttpClient, url: &str) {
    // Whatever it answers, the connection is in the pool.
    if client.request(Method::HEAD, url).timeout(CONNECT_TIMEOUT).send().await.is_err() {
        warn!("no connection could be opened at the start; the first event tries again");
    }
}
