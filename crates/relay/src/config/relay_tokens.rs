//! The list of relay tokens, as a secret document, a data folder and the environment write it.

use relay_core::secret::{ExposeSecret as _, MIN_SECRET_BYTES, secret_if_set};
use relay_core::token::{RelayToken, RelayTokens, Scope, Scopes, is_valid_name};
use serde::Deserialize;

/// A list, or the single token that CloudFormation can generate.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum TokenList {
    /// Several tokens.
    List(Vec<TokenDocument>),
    /// One token with the default scopes.
    Single(String),
}

/// A token in the list.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum TokenDocument {
    /// A token with the default scopes and no name.
    Text(String),
    /// A token that says what it may do.
    Scoped(ScopedToken),
}

/// A token with its name and its scopes. Without `scopes` it has the default ones.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScopedToken {
    token: String,
    name: Option<String>,
    scopes: Option<Vec<String>>,
}

/// A field of the list that has the wrong form. It does not say its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenListError {
    /// Path of the field.
    pub(crate) field: String,
    /// Form that its value must have.
    pub(crate) expected_format: &'static str,
}

/// Returns the tokens of a JSON list, or nothing if it is none or an entry cannot be used.
pub fn parse_token_list(json: &str) -> Option<RelayTokens> {
    serde_json::from_str::<TokenList>(json).ok()?.parse().ok()
}

impl Default for TokenList {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl TokenList {
    /// Returns the tokens of the list that are set. Fails if one could be guessed, or has a name or scopes that cannot be used.
    pub(crate) fn parse(self) -> Result<RelayTokens, TokenListError> {
        let documents = match self {
            Self::List(documents) => documents,
            Self::Single(text) => vec![TokenDocument::Text(text)],
        };
        let mut tokens: Vec<RelayToken> = Vec::new();
        for (index, document) in documents.into_iter().enumerate() {
            let field = |name: &str| format!("relay_tokens[{index}]{name}");
            let (parsed, token_field) = match document {
                TokenDocument::Text(text) => (RelayToken::from_text(&text), field("")),
                TokenDocument::Scoped(scoped) => (scoped.parse(&tokens, field)?, field(".token")),
            };
            let Some(token) = parsed else { continue };
            if token.token.expose_secret().len() < MIN_SECRET_BYTES {
                return Err(TokenListError { field: token_field, expected_format: "at least 16 characters long" });
            }
            tokens.push(token);
        }
        Ok(RelayTokens::from_tokens(tokens))
    }
}

impl ScopedToken {
    /// Parses an entry that comes after these. Returns nothing if its token is not set.
    fn parse(
        self,
        earlier: &[RelayToken],
        field: impl Fn(&str) -> String,
    ) -> Result<Option<RelayToken>, TokenListError> {
        let is_taken = |name: &str| earlier.iter().any(|token| token.name.as_deref() == Some(name));
        if self.name.as_deref().is_some_and(|name| !is_valid_name(name) || is_taken(name)) {
            let expected_format = "a name of its own, of 1 to 40 of A-Z a-z 0-9 . _ -";
            return Err(TokenListError { field: field(".name"), expected_format });
        }
        let scopes: Option<Scopes> = match &self.scopes {
            None => Some(Scope::DEFAULT.into()),
            Some(texts) => texts.iter().map(|text| text.parse().ok()).collect(),
        };
        let Some(scopes) = scopes.filter(|scopes| !scopes.is_empty()) else {
            let expected_format = "one or more of contacts:write, events:send, contacts:read, contacts:delete, email:send, \
                                   deliveries:read, account:read";
            return Err(TokenListError { field: field(".scopes"), expected_format });
        };
        Ok(secret_if_set(&self.token).map(|token| RelayToken { token, name: self.name, scopes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<RelayTokens, TokenListError> {
        serde_json::from_str::<TokenList>(json).unwrap().parse()
    }

    /// The names and scopes of the tokens.
    fn summaries(json: &str) -> Vec<String> {
        let summarize = |token: &RelayToken| {
            let scopes: Vec<&str> = token.scopes.iter().map(|scope| scope.as_str()).collect();
            format!("{}: {}", token.name.as_deref().unwrap_or("-"), scopes.join(" "))
        };
        parse(json).unwrap().iter().map(summarize).collect()
    }

    #[test]
    fn texts_and_objects_are_mixed() {
        assert_eq!(
            summaries(
                r#"["token-of-a-test-one", {"token": "token-of-a-test-two", "name": "mailer", "scopes": ["email:send"]},
                    {"token": "token-of-a-test-six"}, {"token": "token-of-a-test-ten", "name": "clay"}, "REPLACE-me",
                    {"token": "REPLACE-me", "scopes": ["account:read"]}]"#
            ),
            [
                "-: contacts:write events:send deliveries:read",
                "mailer: email:send",
                "-: contacts:write events:send deliveries:read",
                "clay: contacts:write events:send deliveries:read",
            ]
        );
    }

    #[test]
    fn older_lists_of_tokens_mean_what_they_meant() {
        for (json, count) in [
            (r#""token-of-a-test-one""#, 1),
            (r#"["token-of-a-test-one"]"#, 1),
            (r#"["token-of-a-test-one", "token-of-a-test-two", "token-of-a-test-one"]"#, 3),
            (r#"["", "REPLACE-me"]"#, 0),
            ("[]", 0),
        ] {
            let expected = vec!["-: contacts:write events:send deliveries:read"; count];
            assert_eq!(summaries(json), expected, "{json}");
        }
    }

    #[test]
    fn unusable_entry_is_an_error_that_hides_its_values() {
        let entry = |fields: &str| format!(r#"["token-of-a-test-one", {{"token": "hidden-hidden-hidden"{fields}}}]"#);
        for (json, field) in [
            (entry(r#", "scopes": ["contacts:write", "hidden:all"]"#), "relay_tokens[1].scopes"),
            (entry(r#", "scopes": []"#), "relay_tokens[1].scopes"),
            (entry(r#", "name": "hidden name""#), "relay_tokens[1].name"),
            (entry(r#", "name": """#), "relay_tokens[1].name"),
            (r#"[{"token": "hidden"}]"#.to_owned(), "relay_tokens[0].token"),
            (r#"[{"token": "hidden-hidden-1", "name": "a"}]"#.to_owned(), "relay_tokens[0].token"),
            (
                r#"[{"token": "hidden-hidden-1-a", "name": "a"}, {"token": "hidden-hidden-2-a", "name": "a"}]"#
                    .to_owned(),
                "relay_tokens[1].name",
            ),
        ] {
            let error = parse(&json).unwrap_err();
            assert_eq!(error.field, field, "{json}");
            assert!(!error.expected_format.contains("hidden"), "{error:?}");
        }
    }

    #[test]
    fn error_of_scopes_lists_all_of_them() {
        let error = parse(r#"[{"token": "token-of-a-test-one", "scopes": ["x"]}]"#).unwrap_err();
        for scope in Scope::ALL {
            assert!(error.expected_format.contains(scope.as_str()), "{scope}");
        }
    }

    #[test]
    fn entry_with_other_fields_is_no_token() {
        for entry in [r#"{"token": "token-of-a-test-one", "scope": ["email:send"]}"#, r#"{"name": "a"}"#, "7", "null"] {
            assert!(serde_json::from_str::<TokenList>(&format!("[{entry}]")).is_err(), "{entry}");
        }
    }
}
