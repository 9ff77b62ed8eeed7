//! The Clay webhooks in the document of the direction from Loops to Clay.

use relay_core::secret::{ExposeSecret as _, SecretString, is_set};
use relay_core::webhook::route::{ClayWebhook, parse_destination_url};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::setup::documents::{SecretDocuments, SecretSelector, fingerprint, set_field};
use crate::setup::error::SetupError;

/// The field of the routes.
pub(crate) const ROUTES: &str = "clay_routes";
/// The name of the route that is made where there is none, as in the template.
const DEFAULT_ROUTE: &str = "contacts";

/// A route as it is shown: without what is secret.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RouteSummary {
    /// Its name.
    pub(crate) name: String,
    /// The events that it takes.
    pub(crate) events: Vec<String>,
    /// Its webhooks.
    pub(crate) webhooks: Vec<WebhookSummary>,
}

/// A webhook as it is shown.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WebhookSummary {
    /// Its position, from 1.
    pub(crate) position: usize,
    /// Where it is: scheme and host.
    pub(crate) origin: String,
    /// By what the relay's log and ledger know it: its fingerprint.
    pub(crate) key: String,
    /// Whether a token is sent with each row.
    #[serde(rename = "token")]
    pub(crate) has_token: bool,
}

impl SecretDocuments {
    /// The routes, as far as they are filled in.
    pub(crate) fn routes(&self) -> Vec<RouteSummary> {
        let routes = self.to_clay.get(ROUTES).and_then(Value::as_array).into_iter().flatten();
        routes
            .map(|route| RouteSummary {
                name: str_field(route, "name").to_owned(),
                events: array_items(route, "events").filter_map(Value::as_str).map(str::to_owned).collect(),
                webhooks: configured_webhooks(route).iter().enumerate().map(summarize_webhook).collect(),
            })
            .collect()
    }

    /// Puts these URLs and tokens into a route: the one of that name, or the only one, or a new one where there is none.
    /// A token that is not given stays with its URL. What is written into other events than `events` stays. Webhooks that
    /// are there and not among the URLs go only by `force`, and so do the tokens of a pool for a single one.
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
        let current = configured_webhooks(route);
        if let Some(urls) = urls {
            let new_ids: Vec<String> = urls.iter().map(|url| webhook_id(url.expose_secret())).collect();
            let removed =
                current.iter().filter(|webhook| !new_ids.contains(&webhook_id(str_field(webhook, "url")))).count();
            if removed > 0 && !force {
                return Err(SetupError::PoolWouldShrink { removed, total: current.len() });
            }
        }
        let mut webhooks: Vec<Value> = match urls {
            // A webhook that is known keeps what it has.
            Some(urls) => urls
                .iter()
                .map(|url| {
                    let id = webhook_id(url.expose_secret());
                    let existing = current.iter().find(|webhook| webhook_id(str_field(webhook, "url")) == id);
                    existing.cloned().unwrap_or_else(|| json!({"url": url.expose_secret()}))
                })
                .collect(),
            None => current,
        };
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

    /// Puts webhooks behind those of a route, which stay as they are.
    pub(crate) fn add_webhooks(
        &mut self,
        route: Option<&str>,
        urls: &[SecretString],
        tokens: Option<&[SecretString]>,
        events: &[String],
    ) -> Result<(), SetupError> {
        let route = self.route_mut(route, events)?;
        let mut webhooks = configured_webhooks(route);
        for url in urls {
            let id = webhook_id(url.expose_secret());
            if let Some(index) = webhooks.iter().position(|webhook| webhook_id(str_field(webhook, "url")) == id) {
                return Err(SetupError::DuplicateWebhook { position: index + 1 });
            }
        }
        let mut added: Vec<Value> = urls.iter().map(|url| json!({"url": url.expose_secret()})).collect();
        set_tokens(&mut added, tokens)?;
        webhooks.append(&mut added);
        set_field(route, "webhooks", Value::Array(webhooks));
        Ok(())
    }

    /// Takes a webhook out of a route, and gives the key by which the relay's log knows it. The last one stays, unless
    /// `force`.
    pub(crate) fn retire_webhook(
        &mut self,
        route: Option<&str>,
        selector: &SecretSelector,
        force: bool,
    ) -> Result<String, SetupError> {
        let route = self.route_mut(route, &[])?;
        let mut webhooks = configured_webhooks(route);
        let mut ids: Vec<String> = webhooks.iter().map(|webhook| webhook_id(str_field(webhook, "url"))).collect();
        let index = selector.resolve(&ids, "Clay webhook", force)?;
        webhooks.remove(index);
        set_field(route, "webhooks", Value::Array(webhooks));
        Ok(ids.swap_remove(index))
    }

    fn route_mut(&mut self, name: Option<&str>, events: &[String]) -> Result<&mut Value, SetupError> {
        if self.to_clay.get(ROUTES).and_then(Value::as_array).is_none_or(Vec::is_empty) {
            let name = name.unwrap_or(DEFAULT_ROUTE);
            set_field(&mut self.to_clay, ROUTES, json!([{"name": name, "events": events, "webhooks": []}]));
        }
        let routes = self.to_clay.get_mut(ROUTES).and_then(Value::as_array_mut);
        let routes = routes.map(Vec::as_mut_slice).unwrap_or_default();
        let names: Vec<String> = routes.iter().map(|route| str_field(route, "name").trim().to_owned()).collect();
        let index = match name {
            Some(name) => names.iter().position(|candidate| candidate == name),
            None => (names.len() == 1).then_some(0),
        };
        let ambiguous = || SetupError::AmbiguousRoute { routes: names.join(", ") };
        index.and_then(|index| routes.get_mut(index)).ok_or_else(ambiguous)
    }
}

/// Checks the URLs of a pool: each as the relay does, and that it can be a webhook's, which has a path; and that each is there
/// once, because two would be counted as one.
pub(crate) fn check_urls(urls: &[SecretString]) -> Result<(), SetupError> {
    let mut seen_ids = Vec::new();
    for url in urls {
        let text = url.expose_secret();
        let parsed = parse_destination_url(text).map_err(|_| SetupError::InvalidClayUrl)?;
        if parsed.path() == "/" && parsed.query().is_none() {
            return Err(SetupError::UrlWithoutPath);
        }
        let id = webhook_id(text);
        if let Some(index) = seen_ids.iter().position(|seen_id| *seen_id == id) {
            return Err(SetupError::RepeatedUrl { first: index + 1, second: seen_ids.len() + 1 });
        }
        seen_ids.push(id);
    }
    Ok(())
}

/// The webhooks of a route, without what is still to be filled in.
fn configured_webhooks(route: &Value) -> Vec<Value> {
    array_items(route, "webhooks").filter(|webhook| is_set(str_field(webhook, "url"))).cloned().collect()
}

/// By what a webhook is told from others, however its URL is written: the key by which the relay's log knows it, or the
/// fingerprint of the text, where the relay could not send there.
fn webhook_id(url: &str) -> String {
    ClayWebhook::new(url, None).map_or_else(|_| fingerprint(url), |webhook| webhook.fingerprint())
}

fn summarize_webhook((index, webhook): (usize, &Value)) -> WebhookSummary {
    let (url, token) = (str_field(webhook, "url"), str_field(webhook, "auth_token"));
    let origin = ClayWebhook::new(url, None).map_or_else(|_| "no usable URL".to_owned(), |webhook| webhook.origin());
    WebhookSummary { position: index + 1, origin, key: webhook_id(url), has_token: is_set(token) }
}

fn set_tokens(webhooks: &mut [Value], tokens: Option<&[SecretString]>) -> Result<(), SetupError> {
    match tokens {
        None => {}
        Some([single]) => webhooks.iter_mut().for_each(|webhook| set_token(webhook, single)),
        Some(per_webhook) if per_webhook.len() == webhooks.len() => {
            webhooks.iter_mut().zip(per_webhook).for_each(|(webhook, token)| set_token(webhook, token));
        }
        Some(per_webhook) => {
            return Err(SetupError::TokenCountMismatch { tokens: per_webhook.len(), urls: webhooks.len() });
        }
    }
    Ok(())
}

/// A token; none, where it is empty. A placeholder goes with it.
fn set_token(webhook: &mut Value, token: &SecretString) {
    match (token.expose_secret(), webhook.as_object_mut()) {
        ("", Some(fields)) => drop(Map::remove(fields, "auth_token")),
        (token, _) => set_field(webhook, "auth_token", token.into()),
    }
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
