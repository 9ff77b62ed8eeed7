//! A stack under the settings of `relay-local`, so that the same tests run against both.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use super::{Cloud, Kept, Setup, deliveries};
use crate::deliveries::Listing;
use crate::relay_process;

/// The relay as functions.
#[derive(Debug)]
pub struct Relay {
    cloud: Cloud,
    base: String,
}

impl Relay {
    /// What an answer calls the Loops key.
    pub const LOOPS_API_KEY: &str = "loops_api_key of the secret";
    /// What an answer calls the signing secrets.
    pub const LOOPS_SIGNING_SECRET: &str = "loops_signing_secrets of the secret";

    /// Makes a stack under these settings.
    pub async fn start(given: &[(&str, &str)]) -> Self {
        Self::of(Cloud::start(setup(given)).await)
    }

    /// Starts a stack that was stopped or killed. Its queues do not know of a restart, so the time passes for which they
    /// hide what waits.
    pub async fn start_in(kept: Kept, given: &[(&str, &str)]) -> Self {
        kept.let_time_pass().await;
        Self::of(Cloud::start_in(kept, setup(given)).await)
    }

    fn of(cloud: Cloud) -> Self {
        Self { base: cloud.base(), cloud }
    }

    /// Its address, as `http://…`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// What its functions have logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.cloud.log()
    }

    /// Everything that the template says of its stack.
    #[must_use]
    pub const fn described(&self) -> &Value {
        self.cloud.stack().described()
    }

    /// Whether what workers answer is lost on its way back, so that their messages come back.
    pub fn lose_answers(&self, lost: bool) {
        self.cloud.lose_answers(lost);
    }

    /// Shows every message that is hidden, as waiting for it would.
    pub async fn let_time_pass(&self) {
        self.cloud.let_time_pass().await;
    }

    /// The texts of an item of a table.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn ledger_item(&self, table: &str, key: &str) -> BTreeMap<String, String> {
        let key = AttributeValue::S(key.to_owned());
        let got = self.cloud.stack().account().dynamodb().get_item().table_name(table).key("pk", key).send().await;
        let item = got.unwrap_or_else(|error| panic!("{error:?}")).item.unwrap_or_default();
        item.into_iter().filter_map(|(name, value)| Some((name, value.as_s().ok()?.clone()))).collect()
    }

    /// Kills its functions, whatever they are doing.
    pub async fn kill(self) -> Kept {
        self.cloud.kill().await
    }

    /// Stops it as a new version of the functions does: what is under way comes to its end.
    pub async fn stop(self) -> (Kept, ()) {
        (self.cloud.stop().await, ())
    }
}

impl Listing for Relay {
    async fn deliveries(&self) -> Vec<Value> {
        deliveries::list(&self.cloud).await
    }
}

/// The settings of `relay-local` as documents and parameters of a stack.
fn setup(given: &[(&str, &str)]) -> Setup {
    let settings = relay_process::settings(given);
    let text = |name: &str| settings.get(name).map_or("", String::as_str);
    let list = |name: &str| text(name).split(',').map(str::trim).collect::<Vec<_>>();
    let relayed = settings.get("RELAYED_EVENTS").map_or("contact.created", String::as_str);
    let events: Vec<&str> = relayed.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let tokens = list("CLAY_WEBHOOK_AUTH_TOKEN");
    let webhooks = list("CLAY_WEBHOOK_URL").into_iter().enumerate().map(|(place, url)| {
        let token = if tokens.len() == 1 { tokens.first() } else { tokens.get(place) };
        json!({"url": url, "auth_token": token})
    });
    let route = json!({"name": "contacts", "events": events, "webhooks": webhooks.collect::<Vec<_>>()});
    Setup {
        loops_to_clay: Some(json!({"loops_signing_secrets": list("LOOPS_SIGNING_SECRET"), "clay_routes": [route]})),
        clay_to_loops: Some(json!({"loops_api_key": text("LOOPS_API_KEY"), "relay_tokens": list("RELAY_TOKEN")})),
        settings: settings.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect(),
        ..Setup::default()
    }
}
