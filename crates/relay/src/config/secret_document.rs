//! The JSON documents of the secrets, which an operator fills in.
//!
//! A text that is empty or starts with `REPLACE` counts as not set. An error names the field, never its value.

use relay_core::secret::{is_set, secret_if_set};
use relay_core::webhook::route::{ClayRoute, ClayWebhook};
use relay_core::webhook::selection::EventSelection;
use relay_core::webhook::signature::SigningSecret;
use serde::Deserialize;

use crate::config::relay_tokens::{TokenList, TokenListError};
use crate::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret};

/// A document that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is no JSON object with the document's fields.
    #[error("it is not the JSON document that it should be (line {line}, column {column}): compare it with the README")]
    InvalidJson {
        /// Line of the error, from 1.
        line: usize,
        /// Column of the error, from 1.
        column: usize,
    },
    /// A field has the wrong form.
    #[error("{field} must be {expected_format}")]
    Malformed {
        /// Path of the field.
        field: String,
        /// Form that its value must have.
        expected_format: &'static str,
    },
}

/// Parses the document of a secret.
pub type DocumentParser<T> = fn(&str) -> Result<T, DocumentError>;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LoopsToClayDocument {
    loops_signing_secrets: Vec<String>,
    clay_routes: Vec<RouteDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteDocument {
    name: String,
    events: Vec<String>,
    #[serde(default)]
    webhooks: Vec<WebhookDocument>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WebhookDocument {
    url: String,
    auth_token: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ClayToLoopsDocument {
    loops_api_key: String,
    relay_tokens: TokenList,
}

impl From<TokenListError> for DocumentError {
    fn from(TokenListError { field, expected_format }: TokenListError) -> Self {
        Self::Malformed { field, expected_format }
    }
}

impl LoopsToClaySecret {
    /// Parses the document of this direction. Fails if it or one of its fields has another form.
    pub fn parse(json: &str) -> Result<Self, DocumentError> {
        let document: LoopsToClayDocument = parse_object(json)?;
        let signing_secrets = document
            .loops_signing_secrets
            .iter()
            .enumerate()
            .filter(|(_, text)| is_set(text))
            .map(|(index, text)| {
                let expected_format = "the base64 of at least 16 bytes, with or without whsec_";
                SigningSecret::parse(text)
                    .map_err(|_| malformed(format!("loops_signing_secrets[{index}]"), expected_format))
            })
            .collect::<Result<_, _>>()?;
        let routes = document.clay_routes.iter().map(parse_route).collect::<Result<_, _>>()?;
        Ok(Self { signing_secrets, routes, ..Self::default() })
    }

    /// Does the same on Lambda, where this machine is no destination: its port 9001 is Lambda's runtime API (Lambda Developer
    /// Guide, "Using the Lambda runtime API").
    pub fn parse_for_lambda(json: &str) -> Result<Self, DocumentError> {
        let secret = Self::parse(json)?;
        match secret.routes.iter().find(|route| route.webhooks.iter().any(ClayWebhook::is_loopback)) {
            Some(route) => Err(malformed_webhooks(&route.name)),
            None => Ok(secret),
        }
    }
}

impl ClayToLoopsSecret {
    /// Parses the document of this direction. Fails if it has another form.
    pub fn parse(json: &str) -> Result<Self, DocumentError> {
        let document: ClayToLoopsDocument = parse_object(json)?;
        Ok(Self {
            api_key: secret_if_set(&document.loops_api_key),
            tokens: document.relay_tokens.parse()?,
            ..Self::default()
        })
    }
}

/// Parses an object. Serde would also take a list, for the values of the fields in their order.
fn parse_object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, DocumentError> {
    if !json.trim_start().starts_with('{') {
        return Err(DocumentError::InvalidJson { line: 1, column: 1 });
    }
    serde_json::from_str(json)
        .map_err(|error| DocumentError::InvalidJson { line: error.line(), column: error.column() })
}

fn parse_route(document: &RouteDocument) -> Result<ClayRoute, DocumentError> {
    let name = document.name.trim();
    let events: EventSelection = document
        .events
        .join(",")
        .parse()
        .map_err(|_| malformed(format!("clay_routes[{name:?}].events"), "event names, prefix.* or *"))?;
    let configured = document.webhooks.iter().filter(|webhook| is_set(&webhook.url));
    let webhooks = configured
        .map(|webhook| ClayWebhook::new(&webhook.url, webhook.auth_token.as_deref()))
        .collect::<Result<_, _>>()
        .map_err(|_| malformed_webhooks(name))?;
    Ok(ClayRoute { name: name.to_owned(), events, webhooks })
}

fn malformed_webhooks(route: &str) -> DocumentError {
    malformed(format!("clay_routes[{route:?}].webhooks"), "https URLs of Clay webhooks")
}

fn malformed(field: String, expected_format: &'static str) -> DocumentError {
    DocumentError::Malformed { field, expected_format }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_document_is_parsed() {
        let secret = LoopsToClaySecret::parse(
            r#"{"loops_signing_secrets": ["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==", "REPLACE"],
                "clay_routes": [{"name": "contacts", "events": ["contact.created", "email.*"],
                                 "webhooks": [{"url": "https://api.clay.com/v3/sources/webhook/x", "auth_token": "t"},
                                              {"url": "REPLACE-with-the-next", "auth_token": ""}]}]}"#,
        )
        .unwrap();
        assert_eq!((secret.signing_secrets.len(), secret.routes.len()), (1, 1));
        assert!(secret.routes[0].events.selects("email.opened"));
        assert_eq!(secret.routes[0].webhooks.len(), 1);
        let secret =
            ClayToLoopsSecret::parse(r#"{"loops_api_key": "k", "relay_tokens": ["relay-token-of-a-test"]}"#).unwrap();
        assert!(secret.api_key.is_some() && secret.tokens.authorize(Some(b"Bearer relay-token-of-a-test")).is_some());
    }

    #[test]
    fn single_relay_token_string_is_accepted() {
        let secret =
            ClayToLoopsSecret::parse(r#"{"loops_api_key": "k", "relay_tokens": "relay-token-of-a-test"}"#).unwrap();
        assert!(secret.tokens.authorize(Some(b"Bearer relay-token-of-a-test")).is_some());
        assert!(ClayToLoopsSecret::parse(r#"{"relay_tokens": ""}"#).unwrap().tokens.is_empty());
    }

    #[test]
    fn placeholders_count_as_not_configured() {
        let secret =
            LoopsToClaySecret::parse(r#"{"loops_signing_secrets": ["REPLACE-me", ""], "clay_routes": []}"#).unwrap();
        assert!(secret.signing_secrets.is_empty() && secret.routes.is_empty());
        let secret = ClayToLoopsSecret::parse(r#"{"loops_api_key": "REPLACE-me", "relay_tokens": []}"#).unwrap();
        assert!(secret.api_key.is_none() && secret.tokens.is_empty());
    }

    #[test]
    fn error_names_the_field_but_not_its_value() {
        let error = LoopsToClaySecret::parse(r#"{"loops_signing_secrets": ["%hidden%"]}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "loops_signing_secrets[0] must be the base64 of at least 16 bytes, with or without whsec_"
        );
        let error = LoopsToClaySecret::parse(
            r#"{"clay_routes": [{"name": "a", "events": ["*"], "webhooks": [{"url": "http://hidden.example.com"}]}]}"#,
        )
        .unwrap_err();
        assert!(error.to_string().contains(r#"clay_routes["a"].webhooks"#) && !error.to_string().contains("hidden"));
        for json in ["hidden", r#"{"hidden": 1}"#, r#"{"loops_api_key": 7}"#] {
            let error = ClayToLoopsSecret::parse(json).unwrap_err();
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
    }

    #[test]
    fn loopback_webhook_is_rejected_for_lambda_alone() {
        let document = |url: &str| {
            format!(r#"{{"clay_routes": [{{"name": "a", "events": ["*"], "webhooks": [{{"url": "{url}"}}]}}]}}"#)
        };
        for url in ["http://127.0.0.1:9001/2018-06-01/runtime/x", "https://localhost/x"] {
            assert!(LoopsToClaySecret::parse(&document(url)).is_ok(), "{url}");
            let error = LoopsToClaySecret::parse_for_lambda(&document(url)).unwrap_err();
            assert_eq!(error.to_string(), r#"clay_routes["a"].webhooks must be https URLs of Clay webhooks"#);
        }
        assert!(LoopsToClaySecret::parse_for_lambda(&document("https://api.clay.com/x")).is_ok());
    }

    #[test]
    fn secret_that_can_be_guessed_is_an_error_that_names_it() {
        let error = LoopsToClaySecret::parse(r#"{"loops_signing_secrets": ["REPLACE", "whsec_AAAA"]}"#).unwrap_err();
        assert!(error.to_string().starts_with("loops_signing_secrets[1] must be"), "{error}");
        for (tokens, index) in [(r#""hidden""#, 0), (r#"["REPLACE", "", "fifteen-hidden-"]"#, 2)] {
            let error = ClayToLoopsSecret::parse(&format!(r#"{{"relay_tokens": {tokens}}}"#)).unwrap_err().to_string();
            assert_eq!(error, format!("relay_tokens[{index}] must be at least 16 characters long"));
        }
    }

    #[test]
    fn token_with_an_unknown_scope_closes_the_document() {
        let document =
            r#"{"loops_api_key": "key", "relay_tokens": [{"token": "hidden-relay-token", "scopes": ["hidden:all"]}]}"#;
        let error = ClayToLoopsSecret::parse(document).unwrap_err().to_string();
        assert!(error.starts_with("relay_tokens[0].scopes must be one or more of contacts:write, "), "{error}");
        assert!(!error.contains("hidden"), "{error}");
    }

    #[test]
    fn non_object_document_is_rejected() {
        let error = DocumentError::InvalidJson { line: 1, column: 1 };
        for list in [r#"["key", ["token"]]"#, " []", "\"text\"", "null", ""] {
            assert_eq!(ClayToLoopsSecret::parse(list).unwrap_err(), error, "{list}");
            assert_eq!(LoopsToClaySecret::parse(list).unwrap_err(), error, "{list}");
        }
        assert!(ClayToLoopsSecret::parse("\n {}").is_ok());
    }
}
