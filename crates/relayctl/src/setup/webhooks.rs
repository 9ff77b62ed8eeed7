//! The Clay webhooks in the document of the direction from Loops to Clay.

use relay_core::route::{ClayWebhook, far_end_url};
use relay_core::secret::{ExposeSecret as _, SecretString, is_set};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::documents::{Documents, put};
use crate::fault::Fault;

/// The field of the routes.
pub(super) const ROUTES: &str = "clay_routes";
/// The name of the route that is made where there is none, as in the template.
const FIRST_ROUTE: &str = "contacts";

/// A route as it is shown: without what is secret.
#[derive(Debug, Clone, Serialize)]
pub struct RouteShown {
    /// Its name.
    pub name: String,
    /// The events that it takes.
    pub events: Vec<String>,
    /// Its webhooks.
    pub webhooks: Vec<WebhookShown>,
}

/// A webhook as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct WebhookShown {
    /// Where it is: scheme and host.
    pub origin: String,
    /// By what the relay's log and ledger know it.
    pub key: String,
    /// Whether a token is sent with each row.
    pub token: bool,
}

impl Documents {
    /// The routes, as far as they are filled in.
    #[must_use]
    pub fn routes(&self) -> Vec<RouteShown> {
        let routes = self.to_clay.get(ROUTES).and_then(Value::as_array).into_iter().flatten();
        routes
            .map(|route| RouteShown {
                name: text(route, "name").to_owned(),
                events: items(route, "events").filter_map(Value::as_str).map(str::to_owned).collect(),
                webhooks: items(route, "webhooks").filter_map(shown).collect(),
            })
            .collect()
    }

    /// Puts these URLs and tokens into a route: the one of that name, or the only one, or a new one where there is none.
    /// A token that is not given stays with its URL. What is written into other events than `events` stays.
    ///
    /// # Errors
    /// When it is not clear which route is meant, or tokens and URLs do not match.
    pub fn set_webhooks(
        &mut self,
        route: Option<&str>,
        urls: Option<&[SecretString]>,
        tokens: Option<&[SecretString]>,
        events: &[String],
    ) -> Result<(), Fault> {
        if urls.is_none() && tokens.is_none() {
            return Ok(());
        }
        let route = self.route(route, events)?;
        let known: Vec<Value> =
            items(route, "webhooks").filter(|webhook| is_set(text(webhook, "url"))).cloned().collect();
        let mut webhooks: Vec<Value> = match urls {
            // A webhook that is known keeps what it has.
            Some(urls) => urls
                .iter()
                .map(|url| {
                    let same = known.iter().find(|webhook| text(webhook, "url").trim() == url.expose_secret());
                    same.cloned().unwrap_or_else(|| json!({"url": url.expose_secret()}))
                })
                .collect(),
            None => known,
        };
        match tokens {
            None => {}
            Some([single]) => webhooks.iter_mut().for_each(|webhook| put_token(webhook, single)),
            Some(several) if several.len() == webhooks.len() => {
                webhooks.iter_mut().zip(several).for_each(|(webhook, token)| put_token(webhook, token));
            }
            Some(several) => return Err(Fault::TokenCount { tokens: several.len(), urls: webhooks.len() }),
        }
        put(route, "webhooks", Value::Array(webhooks));
        Ok(())
    }

    fn route(&mut self, name: Option<&str>, events: &[String]) -> Result<&mut Value, Fault> {
        if self.to_clay.get(ROUTES).and_then(Value::as_array).is_none_or(Vec::is_empty) {
            let name = name.unwrap_or(FIRST_ROUTE);
            put(&mut self.to_clay, ROUTES, json!([{"name": name, "events": events, "webhooks": []}]));
        }
        let routes = self.to_clay.get_mut(ROUTES).and_then(Value::as_array_mut);
        let routes = routes.map(Vec::as_mut_slice).unwrap_or_default();
        let names: Vec<String> = routes.iter().map(|route| text(route, "name").trim().to_owned()).collect();
        let place = match name {
            Some(name) => names.iter().position(|known| known == name),
            None => (names.len() == 1).then_some(0),
        };
        let which = || Fault::WhichRoute { routes: names.join(", ") };
        place.and_then(|place| routes.get_mut(place)).ok_or_else(which)
    }
}

/// Checks a URL as the relay does.
///
/// # Errors
/// When the relay would not send to it.
pub fn check_url(url: &SecretString) -> Result<(), Fault> {
    far_end_url(url.expose_secret()).map(drop).map_err(|_| Fault::ClayUrl)
}

fn shown(webhook: &Value) -> Option<WebhookShown> {
    let url = Some(text(webhook, "url")).filter(|url| is_set(url))?;
    let token = Some(text(webhook, "auth_token")).filter(|token| is_set(token));
    let webhook = ClayWebhook::new(url, token).ok()?;
    Some(WebhookShown { origin: webhook.origin(), key: webhook.key(), token: token.is_some() })
}

/// A token; none, where it is empty. A placeholder goes with it.
fn put_token(webhook: &mut Value, token: &SecretString) {
    match (token.expose_secret(), webhook.as_object_mut()) {
        ("", Some(fields)) => drop(Map::remove(fields, "auth_token")),
        (token, _) => put(webhook, "auth_token", token.into()),
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
        documents.set_webhooks(None, Some(&urls), Some(&tokens), &events()).unwrap();
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
        documents.set_webhooks(None, Some(&urls), None, &events()).unwrap();
        let route = &documents.to_clay["clay_routes"][0];
        assert_eq!((&route["more"], &route["events"]), (&json!(1), &json!(["*"])));
        assert_eq!(route["webhooks"][1], json!({"url": "https://a.example/x", "auth_token": "t", "since": "May"}));
    }

    #[test]
    fn of_several_routes_one_must_be_named_and_the_others_stay() {
        let two = r#"{"clay_routes": [{"name": "a", "events": [], "webhooks": []}, {"name": "b", "events": ["x"]}]}"#;
        let mut documents = documents(two);
        let urls = secrets(&["https://a.example/x"]);
        let fault = documents.set_webhooks(None, Some(&urls), None, &events()).unwrap_err();
        assert!(fault.to_string().contains("a, b"), "{fault}");
        documents.set_webhooks(Some("a"), Some(&urls), None, &events()).unwrap();
        assert_eq!(documents.to_clay["clay_routes"][1], json!({"name": "b", "events": ["x"]}));
    }

    #[test]
    fn where_there_is_no_route_one_is_made() {
        let mut documents = documents("{}");
        documents.set_webhooks(None, Some(&secrets(&["https://a.example/x"])), None, &events()).unwrap();
        assert_eq!(documents.routes()[0].events, ["contact.created"]);
    }

    #[test]
    fn tokens_and_urls_must_match() {
        let mut documents = documents(TEMPLATE);
        let (urls, tokens) = (secrets(&["https://a.example/x"]), secrets(&["a", "b"]));
        let fault = documents.set_webhooks(None, Some(&urls), Some(&tokens), &events()).unwrap_err();
        assert!(matches!(fault, Fault::TokenCount { tokens: 2, urls: 1 }));
    }
}
