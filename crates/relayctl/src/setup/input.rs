//! The values that the operator gives: typed without an echo, or read from a file or standard input. Never an argument,
//! which a shell stores and every process sees.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use relay::config::leftovers::find_leftover;
use relay::config::names::{CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET};
use relay_core::secret::{ExposeSecret, SecretString, is_set, secret_if_set};
use relay_core::webhook::signature::{SigningSecret, SigningSecretError};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use crate::setup::INPUT_NAMES;
use crate::setup::clay_webhooks::check_urls;
use crate::setup::error::SetupError;

const SIGNING_SECRET_PREFIX: &str = "whsec_";
const MAX_INPUT_BYTES: u64 = 64 * 1024;

/// The values that were given. A value that is missing stays as it is stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct SetupInput {
    pub(crate) api_key: Option<SecretString>,
    pub(crate) signing_secrets: Option<Vec<SecretString>>,
    /// The URLs of the webhooks of one route.
    pub(crate) urls: Option<Vec<SecretString>>,
    /// One token for all URLs, or one for each. An empty one stands for no token.
    pub(crate) tokens: Option<Vec<SecretString>>,
}

impl SetupInput {
    /// Loads a file; `-` is standard input.
    pub(crate) fn load(path: &Path) -> Result<Self, SetupError> {
        let mut text = Zeroizing::new(String::new());
        let result = if path.as_os_str() == "-" {
            io::stdin().lock().take(MAX_INPUT_BYTES).read_to_string(&mut text)
        } else {
            File::open(path).and_then(|file| file.take(MAX_INPUT_BYTES).read_to_string(&mut text))
        };
        match result {
            Ok(_) => Self::parse(&text),
            Err(error) => Err(SetupError::UnreadableInput { path: path.display().to_string(), kind: error.kind() }),
        }
    }

    /// Parses a JSON object of texts or lists of texts, or lines of `NAME=VALUE`.
    pub(crate) fn parse(text: &str) -> Result<Self, SetupError> {
        let text = text.trim_start_matches('\u{feff}').trim();
        let values = if text.starts_with('{') { parse_json(text)? } else { parse_lines(text)? };
        if let Some(unknown) = values.keys().find(|name| !INPUT_NAMES.contains(&name.as_str())) {
            // A line that is no setting may hold a secret before its equals sign.
            let is_name =
                unknown.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && unknown.len() <= 40;
            let name = if is_name { unknown.as_str() } else { "something else" };
            return Err(SetupError::UnknownValue { name: name.to_owned() });
        }
        Self::from_values(|name| values.get(name).map(|value| SecretString::from(value.as_str())))
    }

    /// Takes the values by their names, and validates them.
    pub(crate) fn from_values(lookup: impl Fn(&str) -> Option<SecretString>) -> Result<Self, SetupError> {
        for name in INPUT_NAMES {
            // The relay would refuse it.
            let leftover = lookup(name).and_then(|value| find_leftover(name, value.expose_secret().trim()));
            if let Some(expected_format) = leftover {
                return Err(SetupError::Leftover { name, expected_format });
            }
        }
        let list_value = |name| {
            let value = lookup(name).filter(|value| is_set(value.expose_secret()))?;
            Some(value.expose_secret().split(',').map(|item| SecretString::from(item.trim())).collect::<Vec<_>>())
        };
        let without_blanks = |name| {
            let mut list = list_value(name)?;
            list.retain(|item| is_set(item.expose_secret()));
            // Commas alone give nothing: they do not empty a list.
            (!list.is_empty()).then_some(list)
        };
        let input = Self {
            api_key: lookup(LOOPS_API_KEY).and_then(|key| secret_if_set(key.expose_secret())),
            signing_secrets: without_blanks(LOOPS_SIGNING_SECRET),
            urls: without_blanks(CLAY_WEBHOOK_URL),
            tokens: list_value(CLAY_WEBHOOK_AUTH_TOKEN),
        };
        input.validate()?;
        Ok(input)
    }

    fn validate(&self) -> Result<(), SetupError> {
        for secret in self.signing_secrets.iter().flatten() {
            SigningSecret::parse(secret.expose_secret()).map_err(|error| match error {
                SigningSecretError::NotBase64 => SetupError::InvalidSigningSecret,
                SigningSecretError::TooShort => SetupError::SigningSecretTooShort,
            })?;
        }
        check_urls(self.urls.as_deref().unwrap_or_default())?;
        let is_header_safe = |value: &SecretString| value.expose_secret().bytes().all(|byte| byte.is_ascii_graphic());
        if !self.api_key.iter().all(is_header_safe) {
            return Err(SetupError::NotHeaderSafe { name: LOOPS_API_KEY });
        }
        if !self.tokens.iter().flatten().all(is_header_safe) {
            return Err(SetupError::NotHeaderSafe { name: CLAY_WEBHOOK_AUTH_TOKEN });
        }
        Ok(())
    }

    /// Whether nothing was given.
    pub(crate) const fn is_empty(&self) -> bool {
        self.api_key.is_none() && self.signing_secrets.is_none() && self.urls.is_none() && self.tokens.is_none()
    }

    /// Checks that an option gets only what it takes.
    pub(crate) fn check_allowed(&self, option: &'static str, accepted: &[&str]) -> Result<(), SetupError> {
        let present = [
            (LOOPS_API_KEY, self.api_key.is_some()),
            (LOOPS_SIGNING_SECRET, self.signing_secrets.is_some()),
            (CLAY_WEBHOOK_URL, self.urls.is_some()),
            (CLAY_WEBHOOK_AUTH_TOKEN, self.tokens.is_some()),
        ];
        match present.into_iter().find(|(name, is_given)| *is_given && !accepted.contains(name)) {
            Some((name, _)) => Err(SetupError::UnexpectedValue { option, name }),
            None => Ok(()),
        }
    }

    /// Checks that no signing secret is the Loops key, neither the given nor the stored one.
    pub(crate) fn check_not_api_key(&self, stored_key: Option<&SecretString>) -> Result<(), SetupError> {
        let keys: Vec<&str> = self.api_key.iter().chain(stored_key).map(ExposeSecret::expose_secret).collect();
        let mut secrets = self.signing_secrets.iter().flatten().map(base64_part);
        if secrets.any(|secret| keys.contains(&secret)) { Err(SetupError::ApiKeyAsSigningSecret) } else { Ok(()) }
    }

    /// Returns the signing secrets without the prefix that Loops shows. The relay takes them.
    pub(crate) fn unprefixed_signing_secrets(&self) -> impl Iterator<Item = &SecretString> {
        let secrets = self.signing_secrets.iter().flatten();
        secrets.filter(|secret| !secret.expose_secret().starts_with(SIGNING_SECRET_PREFIX))
    }
}

fn base64_part(secret: &SecretString) -> &str {
    let text = secret.expose_secret();
    text.strip_prefix(SIGNING_SECRET_PREFIX).unwrap_or(text)
}

type Values = BTreeMap<String, Zeroizing<String>>;

fn parse_json(text: &str) -> Result<Values, SetupError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum TextOrList {
        Text(String),
        List(Vec<String>),
    }
    let values: BTreeMap<String, TextOrList> =
        serde_json::from_str(text).map_err(|error| SetupError::InvalidInputDocument { line: error.line() })?;
    let texts = values.into_iter().map(|(name, value)| match value {
        TextOrList::Text(text) => (name, Zeroizing::new(text)),
        TextOrList::List(items) => (name, Zeroizing::new(items.join(","))),
    });
    Ok(texts.collect())
}

fn parse_lines(text: &str) -> Result<Values, SetupError> {
    let lines = text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let settings = lines.map(|(line, number)| {
        let setting = line.strip_prefix("export ").unwrap_or(line).split_once('=');
        let (name, value) = setting.ok_or(SetupError::InvalidInputDocument { line: number })?;
        let value = value.trim();
        let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        Ok((name.trim().to_owned(), Zeroizing::new(unquoted.unwrap_or(value).to_owned())))
    });
    settings.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposed(list: &Option<Vec<SecretString>>) -> Vec<&str> {
        list.iter().flatten().map(ExposeSecret::expose_secret).collect()
    }

    #[test]
    fn env_lines_and_json_parse_to_the_same_input() {
        let lines = "# mine\nexport LOOPS_API_KEY='key'\nLOOPS_SIGNING_SECRET=whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==\n\
                     CLAY_WEBHOOK_URL = https://a.example/x , https://a.example/y\nCLAY_WEBHOOK_AUTH_TOKEN=,t\n";
        let json = r#"{"LOOPS_API_KEY": "key", "LOOPS_SIGNING_SECRET": ["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw=="],
            "CLAY_WEBHOOK_URL": ["https://a.example/x", "https://a.example/y"], "CLAY_WEBHOOK_AUTH_TOKEN": ["", "t"]}"#;
        for text in [lines, json] {
            let input = SetupInput::parse(text).unwrap();
            assert_eq!(input.api_key.as_ref().unwrap().expose_secret(), "key");
            assert_eq!(exposed(&input.signing_secrets), ["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw=="]);
            assert_eq!(exposed(&input.urls), ["https://a.example/x", "https://a.example/y"]);
            assert_eq!(exposed(&input.tokens), ["", "t"]);
        }
    }

    #[test]
    fn empty_values_and_placeholders_are_ignored() {
        assert!(SetupInput::parse("LOOPS_API_KEY=\nLOOPS_SIGNING_SECRET=REPLACE me\n").unwrap().is_empty());
        assert!(SetupInput::parse("").unwrap().is_empty());
        assert!(SetupInput::parse("LOOPS_SIGNING_SECRET=,\nCLAY_WEBHOOK_URL=,\n").unwrap().is_empty());
    }

    #[test]
    fn input_errors_never_contain_the_value() {
        for (text, part) in [
            ("hidden", "line 1"),
            ("{\n\"hidden\"", "line 2"),
            (r#"{"LOOPS_API_KEY": 7}"#, "line 1"),
            ("RELAY_TOKEN=hidden", "RELAY_TOKEN"),
            ("hidden%=hidden", "something else"),
            ("LOOPS_API_KEY=hidd\u{e9}n", "LOOPS_API_KEY"),
            ("LOOPS_SIGNING_SECRET=%hidden%", "whsec_"),
            ("LOOPS_SIGNING_SECRET=hiddenxx", "too short"),
            ("LOOPS_SIGNING_SECRET=whsec_hiddenhiddenhiddenhi", "too short"),
            ("CLAY_WEBHOOK_URL=http://hidden.example/x", "https"),
            ("CLAY_WEBHOOK_URL=https://api.clay.com@hidden.example/x", "without a user name"),
            ("CLAY_WEBHOOK_AUTH_TOKEN=“hidden”", "without quotes"),
            ("LOOPS_API_KEY=hidden # mine", "without a comment"),
            (r#"{"LOOPS_API_KEY": "LOOPS_API_KEY=hidden"}"#, "without its own name"),
            ("CLAY_WEBHOOK_URL=https://hidden.example/", "without a path"),
            ("CLAY_WEBHOOK_URL=https://a.example/x,https://a.example/y,https://A.example:443/x", "number 1 and 3"),
        ] {
            let message = SetupInput::parse(text).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains("hidden") && message.len() <= 300, "{message}");
        }
    }

    #[test]
    fn loops_api_key_is_rejected_as_signing_secret() {
        let key = SecretString::from("0123456789abcdef0123456789abcdef");
        for text in ["LOOPS_SIGNING_SECRET=", "LOOPS_SIGNING_SECRET=whsec_"] {
            let input = SetupInput::parse(&format!("{text}{}", key.expose_secret())).unwrap();
            input.check_not_api_key(None).unwrap();
            let error = input.check_not_api_key(Some(&key)).unwrap_err().to_string();
            assert!(error.contains("is the Loops API key") && error.len() <= 300, "{error}");
        }
    }
}
