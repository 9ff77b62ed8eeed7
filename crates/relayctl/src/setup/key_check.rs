//! Whether Loops takes a key, by the call that it has for that (Loops API reference, "API key"): it changes nothing.

use std::time::Duration;

use http::Method;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use relay::destination::http_client::HttpClient;
use relay_core::policy::response::CallOutcome;
use relay_core::secret::{ExposeSecret as _, SecretString};
use serde_json::Value;

/// How long Loops may take.
const KEY_CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// The most characters of a team's name that are shown.
const MAX_TEAM_NAME_CHARS: usize = 80;

/// What Loops says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyCheck {
    /// It is the key of this team.
    Valid(String),
    /// It does not take it.
    Rejected,
    /// It answered with this status.
    UnexpectedStatus(u16),
    /// It did not answer.
    NoResponse,
}

/// Asks Loops, whose API is at this address.
pub(crate) async fn check_key(client: &HttpClient, api_url: &str, key: &SecretString) -> KeyCheck {
    let url = format!("{}/v1/api-key", api_url.trim_end_matches('/'));
    let request = client.request(Method::GET, &url);
    let request = request.header(AUTHORIZATION, format!("Bearer {}", key.expose_secret()));
    let response = client.send(request, KEY_CHECK_TIMEOUT, Timestamp::now()).await;
    match response.outcome {
        CallOutcome::Responded(200) => {
            let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
            match body.get("teamName").and_then(Value::as_str) {
                Some(team) => KeyCheck::Valid(sanitize_team_name(team)),
                None => KeyCheck::UnexpectedStatus(200),
            }
        }
        CallOutcome::Responded(401) => KeyCheck::Rejected,
        CallOutcome::Responded(status) => KeyCheck::UnexpectedStatus(status),
        _ => KeyCheck::NoResponse,
    }
}

fn sanitize_team_name(name: &str) -> String {
    name.chars().filter(|ch| !ch.is_control()).take(MAX_TEAM_NAME_CHARS).collect()
}
