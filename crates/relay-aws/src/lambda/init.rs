//! The INIT phase of a function: it reports wrong settings, and reads and connects what the first event needs.
//!
//! See docs/adr/0013-size-and-init.md.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use relay::config::env::SettingError;
use relay::destination::http_client::HttpClient;
use relay::ports::secrets::{LoopsToClaySecret, SecretSource};
use tracing::{error, warn};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub(crate) struct ConfigError(pub(crate) Vec<SettingError>);

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

/// Reads the secret and opens a connection to each URL that the first event needs. The INIT phase has a whole processor, an event
/// a fraction of one. A failure does not fail the start, because the first event tries again.
pub(crate) async fn warm_up<T, S: SecretSource<T>>(secrets: &S, client: &HttpClient, urls: &[&str]) {
    tokio::join!(read_secret(secrets), join_all(urls.iter().map(|url| open_connection(client, url))));
}

/// Does the same, and then opens a connection to Clay, whose URL is in the secret.
pub(crate) async fn warm_up_to_clay<S: SecretSource<LoopsToClaySecret>>(
    secrets: &S,
    client: &HttpClient,
    urls: &[&str],
) {
    let (secret, _) = tokio::join!(read_secret(secrets), join_all(urls.iter().map(|url| open_connection(client, url))));
    let webhook = secret.iter().flat_map(|secret| &secret.routes).flat_map(|route| &route.webhooks).next();
    if let Some(webhook) = webhook {
        // The origin alone: Clay might make a row of a request to the webhook.
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
    // Whatever the response, the connection is in the pool.
    if client.request(Method::HEAD, url).timeout(CONNECT_TIMEOUT).send().await.is_err() {
        warn!("no connection could be opened at the start; the first event tries again");
    }
}
