//! The Clay webhooks in the document of the direction from Loops to Clay.

use relay_core::secret::{ExposeSecret as _, SecretString, is_set};
use relay_core::webhook::route::{ClayWebhook, parse_destination_url};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::setup::documents::{Documents, SecretSelector, fingerprint, set_field};
use crate::setup::error::SetupError;

/// The field of the routes.
pub(crate) const ROUTES: &str = "clay_routes";
/// The name of the route that is made where there is none, as in the template.
const DEFAULT_ROUTE: &str = "contacts";

/// A route as it is shown: without what is secret.
#[derive(Debug, Clone, Serialize)]
pub struct RouteSummary {
    /// Its name.
    pub name: String,
    /// The events that it takes.
    pub events: Vec<String>,
    /// Its webhooks.
    pub webhooks: Vec<WebhookSummary>,
}

/// A webhook as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct WebhookSummary {
    /// Its position, from 1.
    pub position: usize,
    /// Where it is: scheme and host.
    pub origin: String,
    /// By what the relay's log and ledger know it: its fingerprint.
    pub key: String,
    /// Whether a token is sent with each row.
    pub token: bool,
}

impl Documents {
    /// The routes, as far as they are filled in.
    #[must_use]
    pub fn routes(&self) -> Vec<RouteSummary> {
        let routes = self.to_clay.get(ROUTES).and_then(Value::as_array).into_iter().flatten();
        routes
            .map(|route| RouteSummary {
                name: text(route, "name").to_owned(),
                events: items(route, "events").filter_map(Value::as_str).map(str::to_owned).collect(),
                webhooks: configured_webhooks(route).iter().enumerate().map(shown).collect(),
            })
            .collect()
    }

    /// Puts these URLs and tokens into a route: the one of that name, or the only one, or a new one where there is none.
    /// A token that is not given stays with its URL. What is written into other events than `events` stays. Webhooks that
    /// are there and not among the URLs go only by `force`, and so do the tokens of a pool for a single one.
    ///
    /// # Errors
    /// When it is not clear which route is meant, tokens and URLs do not match, or webhooks or tokens that are there would go.
    pub fn set_webhooks(
        &mut self,
        route: Option<&str>,
        urls: Option<&[SecretString]>,
        tokens: Option<&[SecretString]>,
        events: &[String],
        force: bool,
    ) -> Result<(), Error> {
        if urls.is_none() && tokens.is_none() {
            return Ok(());
        }
        let route = self.route(route, events)?;
        let known = configured_webhooks(route);
        if let Some(urls) = urls {
            let given: Vec<String> = urls.iter().map(|url| webhook_id(url.expose_secret())).collect();
            let gone = known.iter().filter(|webhook| !given.contains(&webhook_id(text(webhook, "url")))).count();
            if gone > 0 && !force {
                return Err(SetupError::PoolWouldShrink { gone, known: known.len() }.into());
            }
        }
        let mut webhooks: Vec<Value> = match urls {
            // A webhook that is known keeps what it has.
            Some(urls) => urls
                .iter()
                .map(|url| {
                    let wanted = webhook_id(url.expose_secret());
                    let same = known.iter().find(|webhook| webhook_id(text(webhook, "url")) == wanted);
                    same.cloned().unwrap_or_else(|| json!({"url": url.expose_secret()}))
                })
                .collect(),
            None => known,
        };
        if let (Some([single]), [_, _, ..], false) = (tokens, webhooks.as_slice(), force) {
            let other = |token: &str| is_set(token) && token != single.expose_secret();
            let gone = webhooks.iter().filter(|webhook| other(text(webhook, "auth_token"))).count();
            if gone > 0 {
                return Err(SetupError::TokensWouldBeReplaced { gone, pool: webhooks.len() }.into());
            }
        }
        put_tokens(&mut webhooks, tokens)?;
        set_field(route, "webhooks", Value::Array(webhooks));
        Ok(())
    }

    /// Puts webhooks behind those of a route, which stay as they are.
    ///
    /// # Errors
    /// When it is not clear which route is meant, the pool has one of them, or tokens and URLs do not match.
    pub fn add_webhooks(
        &mut self,
        route: Option<&str>,
        urls: &[SecretString],
        tokens: Option<&[SecretString]>,
        events: &[String],
    ) -> Result<(), Error> {
        let route = self.route(route, events)?;
        let mut webhooks = configured_webhooks(route);
        for url in urls {
            let wanted = webhook_id(url.expose_secret());
            if let Some(place) = webhooks.iter().position(|webhook| webhook_id(text(webhook, "url")) == wanted) {
                return Err(SetupError::KnownWebhook { position: place + 1 }.into());
            }
        }
        let mut added: Vec<Value> = urls.iter().map(|url| json!({"url": url.expose_secret()})).collect();
        put_tokens(&mut added, tokens)?;
        webhooks.append(&mut added);
        set_field(route, "webhooks", Value::Array(webhooks));
        Ok(())
    }

    /// Takes a webhook out of a route, and gives the key by which the relay's log knows it. The last one stays, unless
    /// `force`.
    ///
    /// # Errors
    /// When it is not clear which route is meant, there is no such webhook, or it is the last.
    pub fn retire_webhook(
        &mut self,
        route: Option<&str>,
        which: &SecretSelector,
        force: bool,
    ) -> Result<String, Error> {
        let route = self.route(route, &[])?;
        let mut webhooks = configured_webhooks(route);
        let mut known: Vec<String> = webhooks.iter().map(|webhook| webhook_id(text(webhook, "url"))).collect();
        let place = which.resolve(&known, "Clay webhook", force)?;
        webhooks.remove(place);
        set_field(route, "webhooks", Value::Array(webhooks));
        Ok(known.swap_remove(place))
    }

    fn route(&mut self, name: Option<&str>, events: &[String]) -> Result<&mut Value, Error> {
        if self.to_clay.get(ROUTES).and_then(Value::as_array).is_none_or(Vec::is_empty) {
            let name = name.unwrap_or(DEFAULT_ROUTE);
            set_field(&mut self.to_clay, ROUTES, json!([{"name": name, "events": events, "webhooks": []}]));
        }
        let routes = self.to_clay.get_mut(ROUTES).and_then(Value::as_array_mut);
        let routes = routes.map(Vec::as_mut_slice).unwrap_or_default();
        let names: Vec<String> = routes.iter().map(|route| text(route, "name").trim().to_owned()).collect();
        let place = match name {
            Some(name) => names.iter().position(|known| known == name),
            None => (names.len() == 1).then_some(0),
        };
        let which = || Error::WhichRoute { routes: names.join(", ") };
        place.and_then(|place| routes.get_mut(place)).ok_or_else(which)
    }
}

/// Checks the URLs of a pool: each as the relay does, and that it can be a webhook's, which has a path; and that each is there
/// once, because two would be counted as one.
///
/// # Errors
/// When the relay would not send to one, it has no path, or it is there twice.
pub fn check_urls(urls: &[SecretString]) -> Result<(), Error> {
    let mut known = Vec::new();
    for url in urls {
        let text = url.expose_secret();
        let parsed = parse_destination_url(text).map_err(|_| Error::ClayUrl)?;
        if parsed.path() == "/" && parsed.query().is_none() {
            return Err(SetupError::UrlWithoutPath.into());
        }
        let identity = webhook_id(text);
        if let Some(place) = known.iter().position(|known| *known == identity) {
            return Err(SetupError::SameWebhook { first: place + 1, second: known.len() + 1 }.into());
        }
        known.push(identity);
    }
    Ok(())
}

/// The webhooks of a route, without what is still to be filled in.
fn configured_webhooks(route: &Value) -> Vec<Value> {
    items(route, "webhooks").filter(|webhook| is_set(text(webhook, "url"))).cloned().collect()
}

/// By what a webhook is told from others, however its URL is written: the key by which the relay's log knows it, or the
/// fingerprint of the text, where the relay could not send there.
fn webhook_id(url: &str) -> String {
    ClayWebhook::new(url, None).map_or_else(|_| fingerprint(url), |webhook| webhook.fingerprint())
}

fn shown((place, webhook): (usize, &Value)) -> WebhookSummary {
    let (url, token) = (text(webhook, "url"), text(webhook, "auth_token"));
    let origin = ClayWebhook::new(url, None).map_or_else(|_| "no usable URL".to_owned(), |webhook| webhook.origin());
    WebhookSummary { position: place + 1, origin, key: webhook_id(url), token: is_set(token) }
}

fn put_tokens(webhooks: &mut [Value], tokens: Option<&[SecretString]>) -> Result<(), Error> {
    match tokens {
        None => {}
        Some([single]) => webhooks.iter_mut().for_each(|webhook| put_token(webhook, single)),
        Some(several) if several.len() == webhooks.len() => {
            webhooks.iter_mut().zip(several).for_each(|(webhook, token)| put_token(webhook, token));
        }
        Some(several) => return Err(Error::TokenCount { tokens: several.len(), urls: webhooks.len() }),
    }
    Ok(())
}

/// A token; none, where it is empty. A placeholder goes with it.
fn put_token(webhook: &mut Value, token: &SecretString) {
    match (token.expose_secret(), webhook.as_object_mut()) {
        ("", Some(fields)) => drop(Map::remove(fields, "auth_token")),
        (token, _) => set_field(webhook, "auth_token", token.into()),
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = r#"{"clay_routes": [{"name": "contacts", "events": ["contact.created"],
        "webhooks": [{"url": "REPLACE me", "auth_token": "REPLACE me"}]}]}"#;

    fn documents(to_clay: &str) -> Documents {
        Documents::read([to_clay, "{}"], ["a", "b"]).unwrap()
    }

    fn secrets(texts: &[&str]) -> Vec<SecretString> {
        texts.iter().map(|text| SecretString::from(*text)).collect()
    }

    fn events() -> Vec<String> {
        vec!["contact.created".to_owned()]
    }

    #[test]
    fn the_templates_placeholder_becomes_a_pool() {
        let mut documents = documents(TEMPLATE);
        let (urls, tokens) = (secrets(&["https://a.example/x", "https://a.example/y"]), secrets(&["t", ""]));
        documents.set_webhooks(None, Some(&urls), Some(&tokens), &events(), false).unwrap();
        assert_eq!(
            documents.to_clay["clay_routes"][0]["webhooks"],
            json!([{"url": "https://a.example/x", "auth_token": "t"}, {"url": "https://a.example/y"}])
        );
    }

    #[test]
    fn a_known_url_keeps_its_token_and_what_else_it_has() {
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
    fn of_several_routes_one_must_be_named_and_the_others_stay() {
        let two = r#"{"clay_routes": [{"name": "a", "events": [], "webhooks": []}, {"name": "b", "events": ["x"]}]}"#;
        let mut documents = documents(two);
        let urls = secrets(&["https://a.example/x"]);
        let error = documents.set_webhooks(None, Some(&urls), None, &events(), false).unwrap_err();
        assert!(error.to_string().contains("a, b"), "{error}");
        documents.set_webhooks(Some("a"), Some(&urls), None, &events(), false).unwrap();
        assert_eq!(documents.to_clay["clay_routes"][1], json!({"name": "b", "events": ["x"]}));
    }

    #[test]
    fn where_there_is_no_route_one_is_made() {
        let mut documents = documents("{}");
        documents.set_webhooks(None, Some(&secrets(&["https://a.example/x"])), None, &events(), false).unwrap();
        assert_eq!(documents.routes()[0].events, ["contact.created"]);
    }

    const POOL: &str = r#"{"clay_routes": [{"name": "a", "events": ["*"], "webhooks": [
        {"url": "https://a.example/x", "auth_token": "one"}, {"url": "https://a.example/y", "auth_token": "two"}]}]}"#;

    #[test]
    fn a_pool_is_not_thrown_away_unless_that_is_meant() {
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
    fn a_single_token_takes_the_place_of_a_pools_only_by_force() {
        let mut documents = documents(POOL);
        let before = documents.clone();
        let single = secrets(&["three"]);
        let error = documents.set_webhooks(None, None, Some(&single), &events(), false).unwrap_err();
        assert!(matches!(error, Error::Setup(SetupError::TokensWouldBeReplaced { gone: 2, pool: 2 })), "{error}");
        assert!(error.to_string().len() <= 300, "{} bytes", error.to_string().len());
        assert!(documents == before, "nothing has changed");
        documents.set_webhooks(None, None, Some(&secrets(&["one", "three"])), &events(), false).unwrap();
        assert_eq!(documents.to_clay["clay_routes"][0]["webhooks"][1]["auth_token"], "three");
        documents.set_webhooks(None, None, Some(&single), &events(), true).unwrap();
        assert_eq!(documents.to_clay["clay_routes"][0]["webhooks"][0]["auth_token"], "three");
        documents.set_webhooks(None, None, Some(&single), &events(), false).unwrap();
    }

    #[test]
    fn a_webhook_is_put_behind_those_of_the_pool_once() {
        let mut documents = documents(POOL);
        let url = secrets(&["https://a.example/z"]);
        documents.add_webhooks(None, &url, Some(&secrets(&["three"])), &events()).unwrap();
        let webhooks = documents.to_clay["clay_routes"][0]["webhooks"].clone();
        assert_eq!(webhooks[0], json!({"url": "https://a.example/x", "auth_token": "one"}));
        assert_eq!(webhooks[2], json!({"url": "https://a.example/z", "auth_token": "three"}));
        let error = documents.add_webhooks(None, &url, None, &events()).unwrap_err();
        assert!(matches!(error, Error::Setup(SetupError::KnownWebhook { position: 3 })), "{error}");
    }

    #[test]
    fn a_webhook_is_taken_out_by_its_position_or_its_fingerprint_and_the_last_only_by_force() {
        let mut documents = documents(POOL);
        let first = documents.routes()[0].webhooks[0].key.clone();
        assert_eq!(documents.retire_webhook(None, &first.parse().unwrap(), false).unwrap(), first);
        assert_eq!(documents.routes()[0].webhooks.len(), 1);
        let last = SecretSelector::Position(1);
        assert!(matches!(documents.retire_webhook(None, &last, false), Err(Error::LastSecret { .. })));
        documents.retire_webhook(None, &last, true).unwrap();
        assert_eq!(documents.to_clay["clay_routes"][0]["webhooks"], json!([]));
        assert!(matches!(documents.retire_webhook(None, &last, true), Err(Error::NoSuchSecret { .. })));
    }

    #[test]
    fn tokens_and_urls_must_match() {
        let mut documents = documents(TEMPLATE);
        let (urls, tokens) = (secrets(&["https://a.example/x"]), secrets(&["a", "b"]));
        let error = documents.set_webhooks(None, Some(&urls), Some(&tokens), &events(), false).unwrap_err();
        assert!(matches!(error, Error::TokenCount { tokens: 2, urls: 1 }));
    }
}
