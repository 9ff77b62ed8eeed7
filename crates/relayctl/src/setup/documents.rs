//! The two secrets as documents that are edited: what is not touched stays as it was, known or not.

use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret};
use relay_core::secret::{ExposeSecret as _, SecretString, is_set};
use secrecy::zeroize::Zeroize as _;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::setup::error::SetupError;

/// The field of the signing secrets.
pub(crate) const SIGNING_SECRETS: &str = "loops_signing_secrets";
/// The field of the Loops key.
pub(crate) const API_KEY: &str = "loops_api_key";
/// The field of the relay tokens.
pub(crate) const RELAY_TOKENS: &str = "relay_tokens";

/// The two documents. They do not print, and are wiped when they are let go.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretDocuments {
    /// The direction from Loops to Clay.
    pub(crate) to_clay: Value,
    /// The direction from Clay to Loops.
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

/// By what a secret is told from others without showing it: the first eight hexadecimal digits of its SHA-256.
pub(crate) fn fingerprint(secret: &str) -> String {
    let mut hash = hex::encode(Sha256::digest(secret.trim()));
    hash.truncate(8);
    hash
}

/// One of several secrets, as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretSelector {
    /// By its position, from 1.
    Position(usize),
    /// By its fingerprint.
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
    /// Its place among these fingerprints of all that there are. The last one is not to be had, unless `force`.
    pub(crate) fn resolve(
        &self,
        fingerprints: &[String],
        kind: &'static str,
        force: bool,
    ) -> Result<usize, SetupError> {
        let index = match self {
            Self::Position(position) => position.checked_sub(1).filter(|index| *index < fingerprints.len()),
            Self::Fingerprint(fingerprint) => fingerprints.iter().position(|known| known == fingerprint),
        };
        let index = index.ok_or_else(|| SetupError::NoSuchSecret { kind, which: self.to_string() })?;
        if fingerprints.len() == 1 && !force {
            return Err(SetupError::LastSecret { kind });
        }
        Ok(index)
    }
}

impl std::fmt::Display for SecretSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Position(position) => write!(f, "number {position}"),
            Self::Fingerprint(fingerprint) => f.write_str(fingerprint),
        }
    }
}

/// A list of secrets that can be rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SecretList {
    /// Those that Loops signs with.
    SigningSecrets,
    /// Those that Clay shows.
    RelayTokens,
}

impl SecretList {
    /// What one of them is called.
    pub(crate) const fn singular(self) -> &'static str {
        match self {
            Self::SigningSecrets => "signing secret",
            Self::RelayTokens => "relay token",
        }
    }

    /// The name of the field.
    pub(crate) const fn field(self) -> &'static str {
        match self {
            Self::SigningSecrets => SIGNING_SECRETS,
            Self::RelayTokens => RELAY_TOKENS,
        }
    }
}

impl SecretDocuments {
    /// Reads the two texts, which are called by these names.
    pub(crate) fn parse(texts: [&str; 2], names: [&str; 2]) -> Result<Self, SetupError> {
        let [to_clay, to_loops] = [0, 1].map(|index| {
            let (text, name) = (texts.get(index).copied().unwrap_or_default(), names.get(index).copied());
            let invalid = |line| SetupError::InvalidSecretDocument { name: name.unwrap_or_default().to_owned(), line };
            match serde_json::from_str(text) {
                Ok(Value::Object(fields)) => Ok(Value::Object(fields)),
                Ok(_) => Err(invalid(1)),
                Err(error) => Err(invalid(error.line())),
            }
        });
        Ok(Self { to_clay: to_clay?, to_loops: to_loops? })
    }

    /// Reads them as the relay does.
    pub(crate) fn parse_as_relay(
        &self,
        names: [&str; 2],
    ) -> Result<(LoopsToClaySecret, ClayToLoopsSecret), SetupError> {
        let [clay_name, loops_name] = names;
        let unusable = |name: &str, error| SetupError::UnusableSecret { name: name.to_owned(), error };
        let to_clay =
            LoopsToClaySecret::parse(&self.to_clay.to_string()).map_err(|error| unusable(clay_name, error))?;
        let to_loops =
            ClayToLoopsSecret::parse(&self.to_loops.to_string()).map_err(|error| unusable(loops_name, error))?;
        Ok((to_clay, to_loops))
    }

    /// The secrets of a list that are set, in their order.
    pub(crate) fn list(&self, list: SecretList) -> Vec<SecretString> {
        let texts = match self.document(list).get(list.field()) {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(text)) => vec![text.as_str()],
            _ => Vec::new(),
        };
        texts.into_iter().filter(|text| is_set(text)).map(|text| SecretString::from(text.trim())).collect()
    }

    /// The Loops key, if it is set.
    pub(crate) fn api_key(&self) -> Option<SecretString> {
        relay_core::secret::secret_if_set(self.to_loops.get(API_KEY)?.as_str()?)
    }

    /// Puts a Loops key in.
    pub(crate) fn set_api_key(&mut self, key: &SecretString) {
        set_field(&mut self.to_loops, API_KEY, key.expose_secret().into());
    }

    /// Puts these secrets in place of all that are there.
    pub(crate) fn replace(&mut self, list: SecretList, secrets: &[SecretString]) {
        let items = secrets.iter().map(|secret| Value::from(secret.expose_secret())).collect();
        set_field(self.document_mut(list), list.field(), Value::Array(items));
    }

    /// Puts these signing secrets in place of what is there, and gives the fingerprints of those that go. Of several none
    /// goes, unless `force`.
    pub(crate) fn set_signing_secrets(
        &mut self,
        secrets: &[SecretString],
        force: bool,
    ) -> Result<Vec<String>, SetupError> {
        let current = self.list(SecretList::SigningSecrets);
        let is_kept =
            |existing: &SecretString| secrets.iter().any(|secret| secret.expose_secret() == existing.expose_secret());
        let removed = current.iter().filter(|known| !is_kept(known)).map(|known| fingerprint(known.expose_secret()));
        let removed: Vec<String> = removed.collect();
        if current.len() > 1 && !removed.is_empty() && !force {
            return Err(SetupError::SigningSecretsWouldBeRemoved { removed: removed.len(), total: current.len() });
        }
        self.replace(SecretList::SigningSecrets, secrets);
        Ok(removed)
    }

    /// Puts a secret behind those that are there; nothing changes where it is among them.
    pub(crate) fn add(&mut self, list: SecretList, secret: &SecretString) {
        let mut secrets = self.list(list);
        if !secrets.iter().any(|existing| existing.expose_secret() == secret.expose_secret()) {
            secrets.push(secret.clone());
            self.replace(list, &secrets);
        }
    }

    /// Takes a secret out, and gives its fingerprint. The last one stays, unless `force`.
    pub(crate) fn retire(
        &mut self,
        list: SecretList,
        selector: &SecretSelector,
        force: bool,
    ) -> Result<String, SetupError> {
        let mut secrets = self.list(list);
        let fingerprints = secrets.iter().map(|known| fingerprint(known.expose_secret())).collect::<Vec<_>>();
        let index = selector.resolve(&fingerprints, list.singular(), force)?;
        let retired = fingerprint(secrets.remove(index).expose_secret());
        self.replace(list, &secrets);
        Ok(retired)
    }

    fn document(&self, list: SecretList) -> &Value {
        match list {
            SecretList::SigningSecrets => &self.to_clay,
            SecretList::RelayTokens => &self.to_loops,
        }
    }

    fn document_mut(&mut self, list: SecretList) -> &mut Value {
        match list {
            SecretList::SigningSecrets => &mut self.to_clay,
            SecretList::RelayTokens => &mut self.to_loops,
        }
    }
}

/// Puts a field into an object.
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
        documents.add(SecretList::SigningSecrets, &secret("whsec_c2VjcmV0"));
        assert_eq!(documents.to_clay.to_string(), r#"{"loops_signing_secrets":["whsec_c2VjcmV0"],"note":1}"#);
    }

    #[test]
    fn added_token_turns_single_value_into_list() {
        let mut documents = documents();
        documents.add(SecretList::RelayTokens, &secret("second"));
        documents.add(SecretList::RelayTokens, &secret("second"));
        assert_eq!(documents.to_loops.to_string(), r#"{"relay_tokens":["first","second"]}"#);
    }

    #[test]
    fn secret_is_retired_by_position_or_fingerprint() {
        let mut documents = documents();
        documents.replace(SecretList::RelayTokens, &[secret("a"), secret("b"), secret("c")]);
        documents.retire(SecretList::RelayTokens, &SecretSelector::Position(2), false).unwrap();
        documents.retire(SecretList::RelayTokens, &fingerprint("a").parse().unwrap(), false).unwrap();
        assert_eq!(documents.to_loops.to_string(), r#"{"relay_tokens":["c"]}"#);
        assert!(documents.retire(SecretList::RelayTokens, &SecretSelector::Position(2), false).is_err());
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
