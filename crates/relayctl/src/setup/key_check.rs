//! Check of a Loops key, by the call that Loops has for that (Loops API reference, "API key"). It changes nothing.

use std::time::Duration;

use http::Method;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use relay::destination::http_client::HttpClient;
use relay_core::policy::response::CallOutcome;
use relay_core::secret::{ExposeSecret as _, SecretString};
use serde_json::Value;

const KEY_CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum length of a team's name in the output.
const MAX_TEAM_NAME_CHARS: usize = 80;

/// Result of a key check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyCheck {
    /// The key belongs to this team.
    Valid(String),
    Rejected,
    UnexpectedStatus(u16),
    CertificateUntrusted,
    NoResponse,
}

pub(crate) async fn check_key(client: &HttpClient, api_url: &str, key: &SecretString) -> KeyCheck {
    let url = format!("{}/v1/api-key", api_url.trim_end_matches('/'));
    let request = client.request(Method::GET, &url);
    let request = request.header(AUTHORIZATION, format!("Bearer {}", key.expose_secret()));
    let response = client.send(request, KEY_CHECK_TIMEOUT, Timestamp::now()).await;
    match response.outcome {
        CallOutcome::Responded(200) => {
            let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
            body.get("teamName").and_then(Value::as_str).map_or(KeyCheck::UnexpectedStatus(200), |team| {
                KeyCheck::Valid(team.chars().filter(|ch| !ch.is_control()).take(MAX_TEAM_NAME_CHARS).collect())
            })
        }
        CallOutcome::Responded(401) => KeyCheck::Rejected,
        CallOutcome::Responded(status) => KeyCheck::UnexpectedStatus(status),
        CallOutcome::CertificateUntrusted => KeyCheck::CertificateUntrusted,
        _ => KeyCheck::NoResponse,
    }
}
