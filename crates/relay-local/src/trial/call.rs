//! A call of the relay's own API, as a row in Clay makes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method};
use relay::ports::secrets::{ClayToLoopsSecret, SecretSource as _};
use relay::routes::ApiRoute;
use relay_core::delivery::Direction;
use relay_core::secret::ExposeSecret as _;
use relay_core::token::{RelayToken, RelayTokens};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Trial, TrialError};

/// Path below which the relay's routes for Clay are.
const API_PATH: &str = "/api/v1/";
/// The headers of an answer that the page shows.
const SHOWN_HEADERS: [&str; 3] = ["x-relay-delivery-id", "retry-after", "content-type"];
/// Maximum time for an answer: that in which the relay answers a row, and some for a busy machine.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);

/// A call as the page asks for it.
#[derive(Debug, Deserialize)]
pub(super) struct Call {
    method: String,
    /// Path and query.
    path: String,
    #[serde(default)]
    body: String,
}

/// The relay's answer.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    status: u16,
    headers: BTreeMap<&'static str, String>,
    body: String,
}

impl Trial {
    /// Calls a route of the relay with one of its tokens.
    pub(super) async fn call(&self, call: Call) -> Result<Answer, TrialError> {
        self.refuse_real(Direction::ClayToLoops)?;
        let method = method(&call.method)?;
        let url = api_url(&self.base, &call.path)?;
        let secret: Arc<ClayToLoopsSecret> = self.secrets.current().await?;
        let token = token_for(&secret.tokens, &method, &url).ok_or(TrialError::NoRelayToken)?;
        let request = self
            .client
            .request(method, url.as_str())
            .header(AUTHORIZATION, format!("Bearer {}", token.token.expose_secret()))
            .header(CONTENT_TYPE, "application/json")
            .timeout(RESPONSE_TIMEOUT)
            .body(call.body);
        let response = self.client.execute(request).await.map_err(|_| TrialError::NoAnswer)?;
        let (status, headers) = (response.status().as_u16(), shown(response.headers()));
        let body = response.bytes().await.map_err(|_| TrialError::NoAnswer)?;
        Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

fn method(text: &str) -> Result<Method, TrialError> {
    let methods = [Method::GET, Method::POST, Method::PUT, Method::DELETE];
    methods.into_iter().find(|method| method.as_str() == text).ok_or(TrialError::Method)
}

/// Returns the URL of a route for Clay. It is compared as it will be sent, without `..` and what else a parser resolves.
fn api_url(base: &str, path: &str) -> Result<Url, TrialError> {
    let is_plain = path.starts_with(API_PATH) && !path.contains(|character: char| character.is_control());
    let url = Url::parse(&format!("{base}{path}")).ok().filter(|url| is_plain && url.path().starts_with(API_PATH));
    url.ok_or(TrialError::Path)
}

/// Returns the token that may call this route, or the first one, to which the relay then answers what it lacks.
fn token_for<'a>(tokens: &'a RelayTokens, method: &Method, url: &Url) -> Option<&'a RelayToken> {
    let scope = ApiRoute::find(method, url.path()).ok().map(|route| route.scope());
    let may_call = |token: &&RelayToken| scope.is_none_or(|scope| token.allows(scope));
    tokens.iter().find(may_call).or_else(|| tokens.iter().next())
}

fn shown(headers: &HeaderMap) -> BTreeMap<&'static str, String> {
    let header = |name| Some((name, headers.get(name)?.to_str().ok()?.to_owned()));
    SHOWN_HEADERS.into_iter().filter_map(header).collect()
}

#[cfg(test)]
mod tests {
    use relay_core::token::Scope;

    use super::*;

    const BASE: &str = "http://127.0.0.1:8787";

    #[test]
    fn only_paths_of_the_api_are_called() {
        for path in
            ["/api/v1/contacts/update", "/api/v1/contacts/find?email=a%40example.com&x=%2e%2e", "/api/v1/x/../y"]
        {
            let url = api_url(BASE, path).unwrap();
            assert!(url.as_str().starts_with("http://127.0.0.1:8787/api/v1/"), "{path}: {url}");
        }
        for path in [
            "",
            "/",
            "/api/v1",
            "/metrics",
            "/console/api/overview",
            "/webhooks/loops",
            "api/v1/lists",
            "http://evil.example/api/v1/lists",
            "//evil.example/api/v1/lists",
            "@evil.example/api/v1/lists",
            ".evil.example/api/v1/lists",
            "/api/v1/../../metrics",
            "/api/v1/%2e%2e/%2E%2e/metrics",
            "/api/v1/..\\..\\metrics",
            "/api/v1/lists\r\nx: y",
            "/api/v1/\t../metrics",
            "/api/v1/lists\0",
            "/API/V1/lists",
        ] {
            assert!(matches!(api_url(BASE, path), Err(TrialError::Path)), "{path:?}");
        }
    }

    #[test]
    fn only_methods_of_an_http_column_are_called() {
        assert!(["GET", "POST", "PUT", "DELETE"].into_iter().all(|name| method(name).is_ok()));
        for name in ["PATCH", "get", "CONNECT", "", "GET /", "GET\r\n"] {
            assert!(matches!(method(name), Err(TrialError::Method)), "{name:?}");
        }
    }

    #[test]
    fn token_with_the_scope_of_the_route_is_taken() {
        let token = |text: &str, scopes: &[Scope]| RelayToken {
            token: text.into(),
            name: None,
            scopes: scopes.iter().copied().collect(),
        };
        let tokens = [token("writes", &[Scope::ContactsWrite]), token("reads", &[Scope::ContactsRead])];
        let tokens = RelayTokens::from_tokens(tokens.into());
        for (path, method, expected) in [
            ("/api/v1/contacts/update", Method::PUT, "writes"),
            ("/api/v1/contacts/find?email=a%40example.com", Method::GET, "reads"),
            ("/api/v1/events/send", Method::POST, "writes"),
            ("/api/v1/nothing", Method::GET, "writes"),
        ] {
            let token = token_for(&tokens, &method, &api_url(BASE, path).unwrap()).unwrap();
            assert_eq!(token.token.expose_secret(), expected, "{path}");
        }
        let none = RelayTokens::from_tokens(Vec::new());
        assert!(token_for(&none, &Method::GET, &api_url(BASE, "/api/v1/lists").unwrap()).is_none());
    }
}
