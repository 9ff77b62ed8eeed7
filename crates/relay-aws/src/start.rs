//! How a function starts: what is wrong with its settings is told at once, and what its first event would wait for is
//! done before.

use std::time::Duration;

use http::Method;
use relay::http_client::HttpClient;
use relay::secrets::SecretSource;
use relay::settings::SettingFault;
use tracing::warn;

/// The longest that opening a connection may take at the start.
const OPEN_WITHIN: Duration = Duration::from_secs(3);

/// The settings are wrong: the function cannot start, whatever comes.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct StartFault(Vec<SettingFault>);

impl From<Vec<SettingFault>> for StartFault {
    fn from(faults: Vec<SettingFault>) -> Self {
        Self(faults)
    }
}

/// Reads the secret and opens a connection to where the first event will be sent. A start has a whole processor, an
/// event a fraction of one; but neither is a reason to fail the start, because the first event tries again.
pub async fn warm_up<T, S: SecretSource<T>>(secrets: &S, client: &HttpClient, far_end: &str) {
    let open = async {
        // Whatever it answers, the connection is in the pool.
        if client.request(Method::HEAD, far_end).timeout(OPEN_WITHIN).send().await.is_err() {
            warn!("no connection could be opened at the start; the first event tries again");
        }
    };
    let (secret, ()) = tokio::join!(secrets.current(), open);
    if secret.is_err() {
        warn!("the secret could not be read at the start; the first event tries again");
    }
}
