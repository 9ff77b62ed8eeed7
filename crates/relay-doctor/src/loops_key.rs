//! Check of a Loops key, by the call that Loops has for that (Loops API reference, "API key"). It changes nothing.

use std::time::Duration;

use http::Method;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use relay::destination::http_client::HttpClient;
use relay_core::policy::response::CallOutcome;
use relay_core::secret::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::check::Check;
use crate::finding::Finding;
use crate::invocation::suggest;

const KEY_CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum length of a team's name in the output.
const MAX_TEAM_NAME_CHARS: usize = 80;

/// Result of a key check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyCheck {
    /// The key belongs to this team.
    Valid(String),
    /// Loops does not accept it.
    Rejected,
    /// Loops answered with this status, which says nothing of the key.
    UnexpectedStatus(u16),
    /// The certificate is not trusted, so the key was not sent.
    CertificateUntrusted,
    /// Loops did not answer.
    NoResponse,
}

/// Asks Loops whose key it is.
pub async fn check_key(client: &HttpClient, api_url: &str, key: &SecretString) -> KeyCheck {
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

/// `loops-key`: Loops accepts the API key, and names its team.
pub async fn check_loops_key(client: &HttpClient, api_url: &str, key: Option<&SecretString>) -> Finding {
    let Some(key) = key else {
        return Check::LoopsKey
            .fail("there is no key to ask Loops with", format!("fill it in with {}", suggest("setup")));
    };
    match check_key(client, api_url, key).await {
        KeyCheck::Valid(team) => Check::LoopsKey.ok(format!("valid, of the team {team:?}")),
        KeyCheck::Rejected => Check::LoopsKey.fail(
            "Loops refuses the API key",
            format!("make a new one in Loops under Settings, API, and give it to {}", suggest("setup")),
        ),
        KeyCheck::UnexpectedStatus(status) => Check::LoopsKey.warn(
            format!("Loops answered {status} and did not say whether the key is valid"),
            "run doctor again in a minute, and look at the status page of Loops",
        ),
        KeyCheck::CertificateUntrusted => Check::LoopsKey.fail(
            format!("the certificate of {api_url} is not trusted, so the key was not sent"),
            "check LOOPS_API_URL (on AWS LoopsApiUrl), and any proxy in between",
        ),
        KeyCheck::NoResponse => Check::LoopsKey.fail(
            "Loops did not answer from here",
            "look at this machine's network and at LOOPS_API_URL (on AWS LoopsApiUrl), and run doctor again",
        ),
    }
}
