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
const WITHIN: Duration = Duration::from_secs(10);
/// The most characters of a team's name that are shown.
const NAME_CHARACTERS: usize = 80;

/// What Loops says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyCheck {
    /// It is the key of this team.
    Valid(String),
    /// It does not take it.
    Refused,
    /// It answered with this status.
    Unclear(u16),
    /// It did not answer.
    NoAnswer,
}

/// Asks Loops, whose API is at this address.
pub async fn check_key(client: &HttpClient, api: &str, key: &SecretString) -> KeyCheck {
    let url = format!("{}/v1/api-key", api.trim_end_matches('/'));
    let request = client.request(Method::GET, &url);
    let request = request.header(AUTHORIZATION, format!("Bearer {}", key.expose_secret()));
    let answer = client.send(request, WITHIN, Timestamp::now()).await;
    match answer.outcome {
        CallOutcome::Responded(200) => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            match body.get("teamName").and_then(Value::as_str) {
                Some(team) => KeyCheck::Valid(shown(team)),
                None => KeyCheck::Unclear(200),
            }
        }
        CallOutcome::Responded(401) => KeyCheck::Refused,
        CallOutcome::Responded(status) => KeyCheck::Unclear(status),
        _ => KeyCheck::NoAnswer,
    }
}

fn shown(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(NAME_CHARACTERS).collect()
}
