//! The Clay webhooks in the document of the direction from Loops to Clay.

use relay_core::secret::{ExposeSecret as _, SecretString, is_set};
use relay_core::webhook::route::{ClayWebhook, parse_destination_url};
use relay_doctor::urls::fingerprint;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::setup::documents::{SecretDocuments, SecretSelector, set_field};
use crate::setup::error::SetupError;

pub(crate) const ROUTES: &str = "clay_routes";
/// Name of the route that is created where there is none, as in the template.
const DEFAULT_ROUTE: &str = "contacts";

/// A route without its secrets.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RouteSummary {
    pub(crate) name: String,
    pub(crate) events: Vec<String>,
    pub(crate) webhooks: Vec<WebhookSummary>,
}

/// A webhook without its secrets. The position counts from 1.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WebhookSummary {
    pub(crate) position: usize,
    /// Scheme and host of the URL.
    pub(crate) origin: String,
    /// The fingerprint, as in the relay's log and ledger.
    pub(crate) key: String,
    #[serde(rename = "token")]
    pub(crate) has_token: bool,
}

impl SecretDocuments {
    /// Returns the routes with the webhooks that are filled in.
    pub(crate) fn routes(&self) -> Vec<RouteSummary> {
        let routes = array_items(&self.to_clay, ROUTES).map(|route| RouteSummary {
            name: str_field(route, "name").to_owned(),
            events: array_items(route, "events").filter_map(Value::as_str).map(str::to_owned).collect(),
            webhooks: configured_webhooks(route).iter().zip(1..).map(summarize_webhook).collect(),
        });
        routes.collect()
    }

    /// Sets URLs and tokens of a route: the one of that name, the only one, or a new one where there is none.
    ///
    /// A webhook whose URL stays has the token that it had, unless tokens are given. Webhooks are removed only with `force`,
    /// and only with it does a single token replace those of a pool. A new route takes `events`.
    pub(crate) fn set_webhooks(
        &mut self,
        route: Option<&str>,
        urls: Option<&[SecretString]>,
        tokens: Option<&[SecretString]>,
        events: &[String],
        force: bool,
    ) -> Result<(), SetupError> {
        if urls.is_none() && tokens.is_none() {
            return Ok(());
        }
        let route = self.route_mut(route, events)?;
        let mut webhooks = configured_webhooks(route);
        if let Some(urls) = urls {
            let current = std::mem::replace(&mut webhooks, new_webhooks(urls));
            let removed = current.iter().filter(|webhook| position(&webhooks, webhook).is_none()).count();
            if removed > 0 && !force {
                return Err(SetupError::PoolWouldShrink { removed, total: current.len() });
            }
            for webhook in &mut webhooks {
                if let Some(existing) = position(&current, webhook).and_then(|index| current.get(index)) {
                    webhook.clone_from(existing);
                }
            }
        }
        if let (Some([single]), [_, _, ..], false) = (tokens, webhooks.as_slice(), force) {
            let differs = |token: &str| is_set(token) && token != single.expose_secret();
            let replaced = webhooks.iter().filter(|webhook| differs(str_field(webhook, "auth_token"))).count();
            if replaced > 0 {
                return Err(SetupError::TokensWouldBeReplaced { replaced, total: webhooks.len() });
            }
        }
        set_tokens(&mut webhooks, tokens)?;
        set_field(route, "webhooks", Value::Array(webhooks));
        Ok(())
    }

    /// Appends webhooks to the pool of a route.
    pub(crate) fn add_webhooks(
        &mut self,
        route: Option<&str>,
        urls: &[SecretString],
        tokens: Option<&[SecretString]>,
        events: &[String],
    ) -> Result<(), SetupError> {
        let route = self.route_mut(route, events)?;
        let (mut webhooks, mut added) = (configured_webhooks(route), new_webhooks(urls));
        if let Some(index) = added.iter().find_map(|webhook| position(&webhooks, webhook)) {
            return Err(SetupError::DuplicateWebhook { position: index + 1 });
        }
        set_tokens(&mut added, tokens)?;
        webhooks.append(&mut added);
        set_field(route, "webhooks", Value::Array(webhooks));
        Ok(())
    }

    /// Removes a webhook from a route, and returns its key. The last one stays, unless `force`.
    pub(crate) fn retire_webhook(
        &mut self,
        route: Option<&str>,
        selector: &SecretSelector,
        force: bool,
    ) -> Result<String, SetupError> {
        let route = self.route_mut(route, &[])?;
        let mut webhooks = configured_webhooks(route);
        let mut keys: Vec<String> = webhooks.iter().map(webhook_key).collect();
        let index = selector.resolve(&keys, "Clay webhook", force)?;
        webhooks.remove(index);
        set_field(route, "webhooks", Value::Array(webhooks));
        Ok(keys.swap_remove(index))
    }

    fn route_mut(&mut self, name: Option<&str>, events: &[String]) -> Result<&mut Value, SetupError> {
        if array_items(&self.to_clay, ROUTES).next().is_none() {
            let name = name.unwrap_or(DEFAULT_ROUTE);
            set_field(&mut self.to_clay, ROUTES, json!([{"name": name, "events": events, "webhooks": []}]));
        }
        let names: Vec<String> =
            array_items(&self.to_clay, ROUTES).map(|route| str_field(route, "name").trim().to_owned()).collect();
        let index = match name {
            Some(name) => names.iter().position(|candidate| candidate == name),
            None => (names.len() == 1).then_some(0),
        };
        let route = index.and_then(move |index| self.to_clay.get_mut(ROUTES)?.get_mut(index));
        route.ok_or_else(|| SetupError::AmbiguousRoute { routes: names.join(", ") })
    }
}

/// Checks that the relay can send to each URL, that it has the path of a webhook, and that no URL is repeated.
pub(crate) fn check_urls(urls: &[SecretString]) -> Result<(), SetupError> {
    let mut keys = Vec::new();
    for url in urls {
        let parsed = parse_destination_url(url.expose_secret()).map_err(|_| SetupError::InvalidClayUrl)?;
        if parsed.path() == "/" && parsed.query().is_none() {
            return Err(SetupError::UrlWithoutPath);
        }
        let key = url_key(url.expose_secret());
        if let Some(index) = keys.iter().position(|known| *known == key) {
            return Err(SetupError::RepeatedUrl { first: index + 1, second: keys.len() + 1 });
        }
        keys.push(key);
    }
    Ok(())
}

/// Returns the webhooks of a route without placeholders.
fn configured_webhooks(route: &Value) -> Vec<Value> {
    array_items(route, "webhooks").filter(|webhook| is_set(str_field(webhook, "url"))).cloned().collect()
}

fn new_webhooks(urls: &[SecretString]) -> Vec<Value> {
    urls.iter().map(|url| json!({"url": url.expose_secret()})).collect()
}

/// Finds the webhook with the same URL, however that is written.
fn position(webhooks: &[Value], webhook: &Value) -> Option<usize> {
    let key = webhook_key(webhook);
    webhooks.iter().position(|candidate| webhook_key(candidate) == key)
}

fn webhook_key(webhook: &Value) -> String {
    url_key(str_field(webhook, "url"))
}

/// Returns the key that the relay's log has for a URL, or the fingerprint of a text that the relay could not send to.
fn url_key(url: &str) -> String {
    ClayWebhook::new(url, None).map_or_else(|_| fingerprint(url), |webhook| webhook.fingerprint())
}

fn summarize_webhook((webhook, position): (&Value, usize)) -> WebhookSummary {
    let origin = ClayWebhook::new(str_field(webhook, "url"), None).map(|webhook| webhook.origin());
    WebhookSummary {
        position,
        origin: origin.unwrap_or_else(|_| "no usable URL".to_owned()),
        key: webhook_key(webhook),
        has_token: is_set(str_field(webhook, "auth_token")),
    }
}

/// Sets one token for all webhooks, or one for each. An empty token removes what is there, also a placeholder.
fn set_tokens(webhooks: &mut [Value], tokens: Option<&[SecretString]>) -> Result<(), SetupError> {
    let (tokens, urls) = (tokens.unwrap_or_default(), webhooks.len());
    if tokens.len() > 1 && tokens.len() != urls {
        return Err(SetupError::TokenCountMismatch { tokens: tokens.len(), urls });
    }
    for (webhook, token) in webhooks.iter_mut().zip(tokens.iter().cycle()) {
        match (token.expose_secret(), webhook.as_object_mut()) {
            ("", Some(fields)) => drop(Map::remove(fields, "auth_token")),
            (token, _) => set_field(webhook, "auth_token", token.into()),
        }
    }
    Ok(())
}

fn str_field<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn array_items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = r#"{"clay_routes": [{"name": "contacts", "events": ["contact.created"],
        "webhooks": [{"url": "REPLACE me", "auth_token": "REPLACE me"}]}]}"#;

    fn documents(to_clay: &str) -> SecretDocuments {
        SecretDocuments::parse([to_clay, "{}"], ["a", "b"]).unwrap()
    }

    fn secrets(texts: &[&str]) -> Vec<SecretString> {
        texts.iter().map(|text| SecretString::from(*text)).collect()
    }

    fn events() -> Vec<String> {
        vec!["contact.created".to_owned()]
    }

    #[test]
    fn template_placeholder_is_replaced_by_a_pool() {
        let mut documents = documents(TEMPLATE);
        let (urls, tokens) = (secrets(&["https://a.example/x", "https://a.example/y"]), secrets(&["t", ""]));
        documents.set_webhooks(None, Some(&urls), Some(&tokens), &events(), false).unwrap();
        assert_eq!(
            documents.to_clay["clay_routes"][0]["webhooks"],
            json!([{"url": "https://a.example/x", "auth_token": "t"}, {"url": "https://a.example/y"}])
        );
    }

    #[test]
    fn existing_webhook_keeps_its_token_and_other_fields() {
        let mut documents = documents(
            r#"{"clay_routes": [{"name": "a", "events": ["*"], "more": 1,
                "webhooks": [{"url": "https://a.example/x", "auth_token": "t", "since": "May"}]}]}"#,
        );
        let urls = secrets(&["https://a.example/y", "https://a.example/x"]);
        documents.set_webhooks(None, Some(&urls), None, &events(), false).unwrap();
        let route = &documents.to_clay["clay_routes"][0];
        assert_eq!((&route["more"], &route["events"]), (&json!(1), &json!(["*"])));
        assert_eq!(route["webhooks"][1], json!({"url": "https://a.example/x", "auth_token": "t", "since": "May"}));
    }

    #[test]
    fn one_of_several_routes_must_be_named_others_stay() {
        let two = r#"{"clay_routes": [{"name": "a", "events": [], "webhooks": []}, {"name": "b", "events": ["x"]}]}"#;
        let mut documents = documents(two);
        let urls = secrets(&["https://a.example/x"]);
        let error = documents.set_webhooks(None, Some(&urls), None, &events(), false).unwrap_err();
        assert!(error.to_string().contains("a, b"), "{error}");
        documents.set_webhooks(Some("a"), Some(&urls), None, &events(), false).unwrap();
        assert_eq!(documents.to_clay["clay_routes"][1], json!({"name": "b", "events": ["x"]}));
    }

    #[test]
    fn missing_route_is_created_with_the_events() {
        let mut documents = documents("{}");
        documents.set_webhooks(None, Some(&secrets(&["https://a.example/x"])), None, &events(), false).unwrap();
        assert_eq!(documents.routes()[0].events, ["contact.created"]);
    }

    const POOL: &str = r#"{"clay_routes": [{"name": "a", "events": ["*"], "webhooks": [
        {"url": "https://a.example/x", "auth_token": "one"}, {"url": "https://a.example/y", "auth_token": "two"}]}]}"#;

    #[test]
    fn pool_webhooks_are_removed_only_with_force() {
        let mut documents = documents(POOL);
        let urls = secrets(&["https://a.example/z", "https://a.example:443/y"]);
        let before = documents.clone();
        let error = documents.set_webhooks(None, Some(&urls), None, &events(), false).unwrap_err();
        assert!(error.to_string().contains("1 of the 2 Clay webhooks") && error.to_string().len() <= 300, "{error}");
        assert!(documents == before, "nothing has changed");
        documents.set_webhooks(None, Some(&urls), None, &events(), true).unwrap();
        assert_eq!(
            documents.to_clay["clay_routes"][0]["webhooks"],
            json!([{"url": "https://a.example/z"}, {"url": "https://a.example/y", "auth_token": "two"}])
        );
    }

    #[test]
    fn single_token_replaces_pool_tokens_only_with_force() {
        let mut documents = documents(POOL);
        let before = documents.clone();
        let single = secrets(&["three"]);
        let error = documents.set_webhooks(None, None, Some(&single), &events(), false).unwrap_err();
        assert!(matches!(error, SetupError::TokensWouldBeReplaced { replaced: 2, total: 2 }), "{error}");
        assert!(error.to_string().len() <= 300, "{} bytes", error.to_string().len());
        assert!(documents == before, "nothing has changed");
        documents.set_webhooks(None, None, Some(&secrets(&["one", "three"])), &events(), false).unwrap();
        assert_eq!(documents.to_clay["clay_routes"][0]["webhooks"][1]["auth_token"], "three");
        documents.set_webhooks(None, None, Some(&single), &events(), true).unwrap();
        assert_eq!(documents.to_clay["clay_routes"][0]["webhooks"][0]["auth_token"], "three");
        documents.set_webhooks(None, None, Some(&single), &events(), false).unwrap();
    }

    #[test]
    fn webhook_is_appended_to_the_pool_only_once() {
        let mut documents = documents(POOL);
        let url = secrets(&["https://a.example/z"]);
        documents.add_webhooks(None, &url, Some(&secrets(&["three"])), &events()).unwrap();
        let webhooks = documents.to_clay["clay_routes"][0]["webhooks"].clone();
        assert_eq!(webhooks[0], json!({"url": "https://a.example/x", "auth_token": "one"}));
        assert_eq!(webhooks[2], json!({"url": "https://a.example/z", "auth_token": "three"}));
        let error = documents.add_webhooks(None, &url, None, &events()).unwrap_err();
        assert!(matches!(error, SetupError::DuplicateWebhook { position: 3 }), "{error}");
    }

    #[test]
    fn webhook_is_retired_by_selector_the_last_only_with_force() {
        let mut documents = documents(POOL);
        let first = documents.routes()[0].webhooks[0].key.clone();
        assert_eq!(documents.retire_webhook(None, &first.parse().unwrap(), false).unwrap(), first);
        assert_eq!(documents.routes()[0].webhooks.len(), 1);
        let last = SecretSelector::Position(1);
        assert!(matches!(documents.retire_webhook(None, &last, false), Err(SetupError::LastSecret { .. })));
        documents.retire_webhook(None, &last, true).unwrap();
        assert_eq!(documents.to_clay["clay_routes"][0]["webhooks"], json!([]));
        assert!(matches!(documents.retire_webhook(None, &last, true), Err(SetupError::NoSuchSecret { .. })));
    }

    #[test]
    fn token_count_must_match_url_count() {
        let mut documents = documents(TEMPLATE);
        let (urls, tokens) = (secrets(&["https://a.example/x"]), secrets(&["a", "b"]));
        let error = documents.set_webhooks(None, Some(&urls), Some(&tokens), &events(), false).unwrap_err();
        assert!(matches!(error, SetupError::TokenCountMismatch { tokens: 2, urls: 1 }));
    }
}
