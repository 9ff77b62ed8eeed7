//! A stack under the settings of `relay-local`, so that the same tests run against both.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Value, json};

use super::services::Services;
use super::{FakeStack, Setup, StackState, deliveries};
use crate::deliveries::ListDeliveries;
use crate::relay_process;

/// The relay as functions.
#[derive(Debug)]
pub struct Relay {
    fake_stack: FakeStack,
    base: String,
}

impl Relay {
    /// Name of the Loops key in error messages.
    pub const LOOPS_API_KEY: &str = "loops_api_key of the secret";
    /// Name of the signing secrets in error messages.
    pub const LOOPS_SIGNING_SECRET: &str = "loops_signing_secrets of the secret";

    /// Makes a stack under these settings.
    pub async fn start(overrides: &[(&str, &str)]) -> Self {
        Self::from_stack(FakeStack::start(setup(overrides)).await)
    }

    /// Starts a stopped or killed stack. Its queues are not restarted with it, so the visibility timeouts are ended.
    pub async fn start_in(state: StackState, overrides: &[(&str, &str)]) -> Self {
        state.make_all_visible().await;
        Self::from_stack(FakeStack::start_in(state, setup(overrides)).await)
    }

    fn from_stack(fake_stack: FakeStack) -> Self {
        Self { base: fake_stack.base(), fake_stack }
    }

    /// Its address, as `http://…`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Returns the log of its functions so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.fake_stack.log()
    }

    /// Returns the statuses of all responses of its gateway so far.
    #[must_use]
    pub fn gateway_statuses(&self) -> Vec<u16> {
        self.fake_stack.gateway_statuses()
    }

    /// Returns the description of its stack.
    #[must_use]
    pub const fn description(&self) -> &Value {
        self.fake_stack.stack().description()
    }

    /// The AWS services as its functions see them.
    #[must_use]
    pub const fn services(&self) -> &Services {
        self.fake_stack.services()
    }

    /// Sets whether the workers' responses are lost, so that their messages become visible again.
    pub fn drop_responses(&self, enabled: bool) {
        self.fake_stack.drop_responses(enabled);
    }

    /// Ends the visibility timeout of every hidden message.
    pub async fn make_all_visible(&self) {
        self.fake_stack.make_all_visible().await;
    }

    /// The texts of an item of a table.
    ///
    /// # Panics
    /// When it is not there.
    pub async fn ledger_item(&self, table: &str, key: &str) -> BTreeMap<String, String> {
        let key = AttributeValue::S(key.to_owned());
        let output =
            self.fake_stack.stack().clients().dynamodb().get_item().table_name(table).key("pk", key).send().await;
        let item = output.unwrap_or_else(|error| panic!("{error:?}")).item.unwrap_or_default();
        item.into_iter().filter_map(|(name, value)| Some((name, value.as_s().ok()?.clone()))).collect()
    }

    /// Kills its functions, whatever they are doing.
    pub async fn kill(self) -> StackState {
        self.fake_stack.kill().await
    }

    /// Stops it as a new version of the functions does: running invocations finish.
    pub async fn stop(self) -> (StackState, ()) {
        (self.fake_stack.stop().await, ())
    }
}

impl ListDeliveries for Relay {
    async fn deliveries(&self) -> Vec<Value> {
        deliveries::list(&self.fake_stack).await
    }
}

/// The settings of `relay-local` as documents and parameters of a stack.
fn setup(overrides: &[(&str, &str)]) -> Setup {
    let settings = relay_process::settings(overrides);
    let setting = |name: &str| settings.get(name).map_or("", String::as_str);
    let setting_list = |name: &str| setting(name).split(',').map(str::trim).collect::<Vec<_>>();
    let relayed_events = settings.get("RELAYED_EVENTS").map_or("contact.created", String::as_str);
    let events: Vec<&str> = relayed_events.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let tokens = setting_list("CLAY_WEBHOOK_AUTH_TOKEN");
    let webhooks = setting_list("CLAY_WEBHOOK_URL").into_iter().enumerate().map(|(index, url)| {
        let token = if tokens.len() == 1 { tokens.first() } else { tokens.get(index) };
        json!({"url": url, "auth_token": token})
    });
    let route = json!({"name": "contacts", "events": events, "webhooks": webhooks.collect::<Vec<_>>()});
    let relay_tokens =
        serde_json::from_str(setting("RELAY_TOKEN")).unwrap_or_else(|_| json!(setting_list("RELAY_TOKEN")));
    Setup {
        loops_to_clay: Some(
            json!({"loops_signing_secrets": setting_list("LOOPS_SIGNING_SECRET"), "clay_routes": [route]}),
        ),
        clay_to_loops: Some(json!({"loops_api_key": setting("LOOPS_API_KEY"), "relay_tokens": relay_tokens})),
        settings: settings.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect(),
        ..Setup::default()
    }
}
