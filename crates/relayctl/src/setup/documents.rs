//! The two secrets as JSON documents. Fields that are not edited stay as they were, known or not.

use relay::config::secret_document::DocumentParser;
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret};
use relay_core::secret::{ExposeSecret, SecretString, secret_if_set};
use relay_core::token::{Scope, is_valid_name};
use relay_doctor::urls::fingerprint;
use secrecy::zeroize::Zeroize as _;
use serde_json::{Map, Value, json};

use crate::setup::error::SetupError;

pub(crate) const SIGNING_SECRETS: &str = "loops_signing_secrets";
pub(crate) const API_KEY: &str = "loops_api_key";
pub(crate) const RELAY_TOKENS: &str = "relay_tokens";

/// The documents of both directions. They do not print, and are wiped when they are dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretDocuments {
    pub(crate) to_clay: Value,
    pub(crate) to_loops: Value,
}

impl std::fmt::Debug for SecretDocuments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Documents")
    }
}

impl Drop for SecretDocuments {
    fn drop(&mut self) {
        zeroize_json(&mut self.to_clay);
        zeroize_json(&mut self.to_loops);
    }
}

fn zeroize_json(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(zeroize_json),
        Value::Object(fields) => fields.values_mut().for_each(zeroize_json),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The name and the scopes of a relay token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TokenGrant {
    pub(crate) name: Option<String>,
    pub(crate) scopes: Vec<Scope>,
}

/// One of several secrets, as the operator names it. Positions count from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretSelector {
    Position(usize),
    Fingerprint(String),
}

impl std::str::FromStr for SecretSelector {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if matches!(text.len(), 8 | 16) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self::Fingerprint(text.to_ascii_lowercase()));
        }
        match text.parse() {
            Ok(position) if position > 0 => Ok(Self::Position(position)),
            _ => Err(
                "give a position from 1, or a fingerprint of 8 hexadecimal digits (16 of a Clay webhook): `relayctl setup --list` shows both",
            ),
        }
    }
}

impl SecretSelector {
    /// Returns the index among the fingerprints of all secrets. The last secret is refused, unless `force`.
    pub(crate) fn resolve(
        &self,
        fingerprints: &[String],
        kind: &'static str,
        force: bool,
    ) -> Result<usize, SetupError> {
        let (index, which) = match self {
            Self::Position(position) => (position.checked_sub(1), format!("number {position}")),
            Self::Fingerprint(text) => (fingerprints.iter().position(|known| known == text), text.clone()),
        };
        match index {
            Some(index) if index < fingerprints.len() && (force || fingerprints.len() > 1) => Ok(index),
            Some(index) if index < fingerprints.len() => Err(SetupError::LastSecret { kind }),
            _ => Err(SetupError::NoSuchSecret { kind, which }),
        }
    }
}

/// A list of secrets that can be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretList {
    SigningSecrets,
    RelayTokens,
}

impl SecretList {
    pub(crate) const fn singular(self) -> &'static str {
        match self {
            Self::SigningSecrets => "signing secret",
            Self::RelayTokens => "relay token",
        }
    }
}

impl SecretDocuments {
    /// Parses the two texts. The names are those of the secrets, for errors.
    pub(crate) fn parse(texts: [&str; 2], names: [&str; 2]) -> Result<Self, SetupError> {
        let ([clay_text, loops_text], [clay_name, loops_name]) = (texts, names);
        let parse_object = |text: &str, name: &str| match serde_json::from_str::<Map<String, Value>>(text) {
            Ok(fields) => Ok(Value::Object(fields)),
            Err(error) => Err(SetupError::InvalidSecretDocument { name: name.to_owned(), line: error.line() }),
        };
        Ok(Self { to_clay: parse_object(clay_text, clay_name)?, to_loops: parse_object(loops_text, loops_name)? })
    }

    /// Checks that the relay can use the documents, the first of which it parses with `parse_to_clay`.
    pub(crate) fn validate(
        &self,
        [clay_name, loops_name]: [&str; 2],
        parse_to_clay: DocumentParser<LoopsToClaySecret>,
    ) -> Result<(), SetupError> {
        let unusable = |name: &str, error| SetupError::UnusableSecret { name: name.to_owned(), error };
        parse_to_clay(&self.to_clay.to_string()).map_err(|error| unusable(clay_name, error))?;
        ClayToLoopsSecret::parse(&self.to_loops.to_string()).map_err(|error| unusable(loops_name, error))?;
        Ok(())
    }

    /// Returns the entries of a list whose secrets are set, in their order.
    fn entries(&self, list: SecretList) -> impl Iterator<Item = (&Value, SecretString)> {
        let field = match list {
            SecretList::SigningSecrets => self.to_clay.get(SIGNING_SECRETS),
            SecretList::RelayTokens => self.to_loops.get(RELAY_TOKENS),
        };
        let entries = match field {
            Some(Value::Array(entries)) => entries.as_slice(),
            Some(single) => std::slice::from_ref(single),
            None => &[],
        };
        entries.iter().filter_map(|entry| {
            let text = entry.as_str().or_else(|| entry.get("token")?.as_str());
            Some((entry, secret_if_set(text?)?))
        })
    }

    /// Returns the secrets of a list that are set, in their order.
    pub(crate) fn list(&self, list: SecretList) -> Vec<SecretString> {
        self.entries(list).map(|(_, secret)| secret).collect()
    }

    /// Returns the name and the scopes of each relay token, in their order.
    pub(crate) fn token_grants(&self) -> Vec<TokenGrant> {
        let grant = |(entry, _): (&Value, SecretString)| {
            let name = entry.get("name").and_then(Value::as_str).filter(|name| is_valid_name(name));
            // What is no scope may be anything, also a secret.
            let scopes = match entry.get("scopes").and_then(Value::as_array) {
                Some(texts) => texts.iter().filter_map(|text| text.as_str()?.parse().ok()).collect(),
                None => Scope::DEFAULT.to_vec(),
            };
            TokenGrant { name: name.map(str::to_owned), scopes }
        };
        self.entries(SecretList::RelayTokens).map(grant).collect()
    }

    /// Returns the relay tokens as the setting of a data folder: a comma list of texts, or the JSON text of a list with objects.
    pub(crate) fn relay_token_setting(&self) -> String {
        let entries: Vec<&Value> = self.entries(SecretList::RelayTokens).map(|(entry, _)| entry).collect();
        match entries.iter().map(|entry| entry.as_str()).collect::<Option<Vec<_>>>() {
            Some(texts) => texts.join(","),
            None => json!(entries).to_string(),
        }
    }

    pub(crate) fn api_key(&self) -> Option<SecretString> {
        secret_if_set(self.to_loops.get(API_KEY)?.as_str()?)
    }

    pub(crate) fn set_api_key(&mut self, key: &SecretString) {
        set_field(&mut self.to_loops, API_KEY, key.expose_secret().into());
    }

    fn replace(&mut self, list: SecretList, entries: Value) {
        match list {
            SecretList::SigningSecrets => set_field(&mut self.to_clay, SIGNING_SECRETS, entries),
            SecretList::RelayTokens => set_field(&mut self.to_loops, RELAY_TOKENS, entries),
        }
    }

    fn push(&mut self, list: SecretList, entry: Value) {
        let entries = self.entries(list).map(|(entry, _)| entry.clone()).chain([entry]).collect();
        self.replace(list, entries);
    }

    /// Replaces the signing secrets, and returns the fingerprints of those that go. Of several none goes, unless `force`.
    pub(crate) fn set_signing_secrets(
        &mut self,
        secrets: &[SecretString],
        force: bool,
    ) -> Result<Vec<String>, SetupError> {
        let mut removed = self.list(SecretList::SigningSecrets);
        let total = removed.len();
        removed.retain(|existing| !contains(secrets, existing));
        if total > 1 && !removed.is_empty() && !force {
            return Err(SetupError::SigningSecretsWouldBeRemoved { removed: removed.len(), total });
        }
        let entries = secrets.iter().map(ExposeSecret::expose_secret).collect();
        self.replace(SecretList::SigningSecrets, entries);
        Ok(fingerprints(&removed))
    }

    /// Appends a signing secret, unless it is there.
    pub(crate) fn add_signing_secret(&mut self, secret: &SecretString) {
        if !contains(&self.list(SecretList::SigningSecrets), secret) {
            self.push(SecretList::SigningSecrets, secret.expose_secret().into());
        }
    }

    /// Appends a relay token. With neither a name nor scopes it is written as a text, which has the default scopes.
    pub(crate) fn add_relay_token(
        &mut self,
        token: &SecretString,
        TokenGrant { name, scopes }: &TokenGrant,
    ) -> Result<(), SetupError> {
        if let Some(name) = name
            && self.token_grants().iter().any(|grant| grant.name.as_ref() == Some(name))
        {
            return Err(SetupError::TokenNameTaken { name: name.clone() });
        }
        let entry = match (name, scopes.as_slice()) {
            (None, []) => token.expose_secret().into(),
            (name, scopes) => {
                let scopes = if scopes.is_empty() { &Scope::DEFAULT } else { scopes };
                let scopes: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
                let mut entry = json!({"token": token.expose_secret(), "scopes": scopes});
                if let Some(name) = name {
                    set_field(&mut entry, "name", name.as_str().into());
                }
                entry
            }
        };
        self.push(SecretList::RelayTokens, entry);
        Ok(())
    }

    /// Removes a secret, and returns its fingerprint. The last one stays, unless `force`.
    pub(crate) fn retire(
        &mut self,
        list: SecretList,
        selector: &SecretSelector,
        force: bool,
    ) -> Result<String, SetupError> {
        let mut fingerprints = fingerprints(&self.list(list));
        let index = selector.resolve(&fingerprints, list.singular(), force)?;
        let remaining = self.entries(list).enumerate().filter(|(position, _)| *position != index);
        let remaining = remaining.map(|(_, (entry, _))| entry.clone()).collect();
        self.replace(list, remaining);
        Ok(fingerprints.swap_remove(index))
    }
}

fn contains(secrets: &[SecretString], secret: &SecretString) -> bool {
    secrets.iter().any(|known| known.expose_secret() == secret.expose_secret())
}

fn fingerprints(secrets: &[SecretString]) -> Vec<String> {
    secrets.iter().map(|secret| fingerprint(secret.expose_secret())).collect()
}

/// Sets a field. A value that is no object becomes one.
pub(crate) fn set_field(object: &mut Value, field: &str, value: Value) {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> SecretDocuments {
        let to_clay = r#"{"loops_signing_secrets": ["REPLACE me"], "note": 1}"#;
        SecretDocuments::parse([to_clay, r#"{"relay_tokens": "first"}"#], ["a", "b"]).unwrap()
    }

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn placeholder_is_replaced_and_unknown_fields_stay() {
        let mut documents = documents();
        for _ in 0..2 {
            documents.add_signing_secret(&secret("whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw=="));
        }
        assert_eq!(
            documents.to_clay.to_string(),
            r#"{"loops_signing_secrets":["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw=="],"note":1}"#
        );
    }

    #[test]
    fn added_token_turns_single_value_into_list() {
        let mut documents = documents();
        documents.add_relay_token(&secret("second"), &TokenGrant::default()).unwrap();
        assert_eq!(documents.to_loops.to_string(), r#"{"relay_tokens":["first","second"]}"#);
    }

    #[test]
    fn secret_is_retired_by_position_or_fingerprint() {
        let mut documents = documents();
        documents.replace(SecretList::RelayTokens, json!(["a", {"token": "b", "name": "mailer"}, "c"]));
        documents.retire(SecretList::RelayTokens, &SecretSelector::Position(2), false).unwrap();
        documents.retire(SecretList::RelayTokens, &fingerprint("a").parse().unwrap(), false).unwrap();
        assert_eq!(documents.to_loops.to_string(), r#"{"relay_tokens":["c"]}"#);
        assert!(documents.retire(SecretList::RelayTokens, &SecretSelector::Position(2), false).is_err());
    }

    #[test]
    fn named_token_is_added_beside_texts_with_its_scopes() {
        let mut documents = documents();
        let grant = |name: &str, scopes: &[Scope]| TokenGrant { name: Some(name.to_owned()), scopes: scopes.to_vec() };
        documents.add_relay_token(&secret("second"), &grant("mailer", &[Scope::EmailSend])).unwrap();
        documents.add_relay_token(&secret("third"), &grant("clay", &[])).unwrap();
        assert_eq!(
            documents.to_loops["relay_tokens"],
            json!(["first", {"token": "second", "name": "mailer", "scopes": ["email:send"]},
                   {"token": "third", "name": "clay", "scopes": ["contacts:write", "events:send", "deliveries:read"]}])
        );
        let unnamed = TokenGrant { name: None, scopes: Scope::DEFAULT.to_vec() };
        assert_eq!(
            documents.token_grants(),
            [unnamed, grant("mailer", &[Scope::EmailSend]), grant("clay", &Scope::DEFAULT)]
        );
        let taken = documents.add_relay_token(&secret("fourth"), &grant("clay", &[])).unwrap_err().to_string();
        assert!(taken.contains("clay") && taken.contains("--name"), "{taken}");
        documents.retire(SecretList::RelayTokens, &SecretSelector::Position(1), false).unwrap();
        assert_eq!(documents.token_grants().len(), 2);
    }

    #[test]
    fn what_is_no_scope_or_name_is_not_listed() {
        let text = r#"{"relay_tokens": [{"token": "a", "name": "hidden name", "scopes": ["hidden", "email:send"]}]}"#;
        let documents = SecretDocuments::parse(["{}", text], ["a", "b"]).unwrap();
        assert_eq!(documents.token_grants(), [TokenGrant { name: None, scopes: vec![Scope::EmailSend] }]);
    }

    #[test]
    fn last_secret_is_retired_only_with_force() {
        let mut documents = documents();
        let last = SecretSelector::Position(1);
        assert!(matches!(documents.retire(SecretList::RelayTokens, &last, false), Err(SetupError::LastSecret { .. })));
        documents.retire(SecretList::RelayTokens, &last, true).unwrap();
        assert!(documents.list(SecretList::RelayTokens).is_empty());
    }

    #[test]
    fn invalid_document_is_named_without_its_content() {
        let error = SecretDocuments::parse(["{\n hidden", "{}"], ["one", "two"]).unwrap_err();
        assert!(error.to_string().contains("one") && !error.to_string().contains("hidden"), "{error}");
        assert!(SecretDocuments::parse(["{}", "[]"], ["one", "two"]).is_err());
    }

    #[test]
    fn selector_rejects_zero_and_other_words() {
        assert!("0".parse::<SecretSelector>().is_err() && "last".parse::<SecretSelector>().is_err());
        assert_eq!("DEADBEEF".parse::<SecretSelector>().unwrap(), SecretSelector::Fingerprint("deadbeef".to_owned()));
    }
}
