//! The console of a relay on one machine, as its page uses it.

mod access;
mod operations;
mod trial;

use relay_testkit::http::{Response, send};
use relay_testkit::mock_destination::MockDestination;
use relay_testkit::relay_process::Relay;
use serde_json::Value;

/// The console of a relay.
pub(crate) struct Console<'a> {
    base: &'a str,
    token: String,
}

impl<'a> Console<'a> {
    pub(crate) async fn open(relay: &'a Relay) -> Self {
        let page = send("GET", relay.base(), &[], "").await.text();
        let (_, rest) = page.split_once(r#"name="console-token" content=""#).unwrap();
        let token = rest.split('"').next().unwrap().to_owned();
        assert_eq!(token.len(), 32);
        Self { base: relay.base(), token }
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = send("GET", &format!("{}/console/api/{path}", self.base), &[], "").await;
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Response {
        let headers = [("x-console-token", self.token.as_str()), ("content-type", "application/json")];
        send("POST", &format!("{}/console/api/{path}", self.base), &headers, body.to_string()).await
    }
}

/// A relay whose Clay is a mock.
pub(crate) async fn start(clay: &MockDestination) -> Relay {
    let webhook = clay.url("/hook");
    Relay::start(&[("CLAY_WEBHOOK_URL", webhook.as_str()), ("CLAY_RATE_PER_SECOND", "200")]).await
}
