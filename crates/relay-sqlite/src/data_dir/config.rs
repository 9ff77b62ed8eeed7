//! The settings of the program: those that every relay has, and those that take the place of the cloud's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use relay::config::env::{EnvReader, SettingError, SharedSettings};
use relay::config::names::{
    CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_API_URL, LOOPS_SIGNING_SECRET, RELAY_DATA,
    RELAY_LISTEN, RELAY_TOKEN,
};
use relay_core::secret::{SecretString, is_set, secret_if_set};
use relay_core::webhook::route::{ClayWebhook, parse_destination_url};
use relay_core::webhook::signature::SigningSecret;

/// Where the relay listens unless it is told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8787";
/// Where its data is unless it is told otherwise.
pub const DEFAULT_DATA: &str = ".relay";

/// What was set for something that is simulated or generated where nothing was.
#[derive(Debug, Clone)]
pub enum Setting<T> {
    /// Nothing: it is simulated or generated.
    Unset,
    /// A value; an empty one closes.
    Set(T),
}

/// The settings.
#[derive(Debug, Clone)]
pub struct LocalSettings {
    /// Those that every relay has.
    pub shared: SharedSettings,
    /// Where the relay listens.
    pub listen: SocketAddr,
    /// The data folder.
    pub data: PathBuf,
    /// The Loops key; `None` inside is closed.
    pub loops_api_key: Setting<Option<SecretString>>,
    /// Whether [`LOOPS_API_URL`] was set: then Loops is not simulated, key or no key.
    pub loops_api_url_given: bool,
    /// The signing secrets; none is closed.
    pub signing_secrets: Setting<Vec<SigningSecret>>,
    /// The pool of Clay webhooks; none is closed.
    pub clay_webhooks: Setting<Vec<ClayWebhook>>,
    /// The first token for Clay, for the simulated one to ask for.
    pub clay_token: Option<String>,
    /// The relay tokens; none is closed.
    pub relay_tokens: Setting<Vec<String>>,
    /// Which of them come from the data folder instead of the environment.
    pub stored: Vec<&'static str>,
}

impl LocalSettings {
    /// Reads the settings.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn read(variables: &BTreeMap<String, String>) -> Result<Self, Vec<SettingError>> {
        let mut reader = EnvReader::new(variables);
        let shared = SharedSettings::from_reader(&mut reader);
        let listen = reader.parse(
            RELAY_LISTEN,
            SocketAddr::from(([127, 0, 0, 1], 8787)),
            "an IP address and a port",
            DEFAULT_LISTEN,
            |text| text.replace("localhost:", "127.0.0.1:").parse().ok(),
        );
        let data = reader.parse(RELAY_DATA, PathBuf::from(DEFAULT_DATA), "a folder", DEFAULT_DATA, |text| {
            (!text.is_empty()).then(|| PathBuf::from(text))
        });
        let loops_api_key = setting(&reader, LOOPS_API_KEY, secret_if_set);
        let signing_secrets = reader.parse(
            LOOPS_SIGNING_SECRET,
            Setting::Unset,
            "one or more signing secrets, comma-separated, each base64 with or without whsec_",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            |text| {
                split_list(text)
                    .filter(|text| is_set(text))
                    .map(SigningSecret::parse)
                    .collect::<Result<_, _>>()
                    .ok()
                    .map(Setting::Set)
            },
        );
        let tokens: Vec<&str> =
            reader.raw(CLAY_WEBHOOK_AUTH_TOKEN).map(|text| split_list(text).collect()).unwrap_or_default();
        let clay_webhooks = clay_webhooks(&mut reader, &tokens);
        for name in [LOOPS_API_KEY, CLAY_WEBHOOK_AUTH_TOKEN, RELAY_TOKEN] {
            // They are sent, or come, in a header.
            if reader.raw(name).is_some_and(|text| !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')) {
                reader.push_error(SettingError {
                    name,
                    expected_format: "visible ASCII characters only",
                    example: "0c1d2e3f4a5b6c7d",
                });
            }
        }
        let settings = Self {
            shared,
            listen,
            data,
            loops_api_key,
            loops_api_url_given: reader.raw(LOOPS_API_URL).is_some(),
            signing_secrets,
            clay_webhooks,
            clay_token: tokens.first().filter(|token| is_set(token)).map(|token| (*token).to_owned()),
            relay_tokens: setting(&reader, RELAY_TOKEN, |text| split_list(text).map(str::to_owned).collect()),
            stored: Vec::new(),
        };
        reader.into_result(settings)
    }
}

fn clay_webhooks(reader: &mut EnvReader<'_>, tokens: &[&str]) -> Setting<Vec<ClayWebhook>> {
    let Some(text) = reader.raw(CLAY_WEBHOOK_URL) else {
        return Setting::Unset;
    };
    let urls: Vec<&str> = split_list(text).collect();
    if urls.iter().any(|url| is_set(url) && parse_destination_url(url).is_err()) {
        reader.push_error(SettingError {
            name: CLAY_WEBHOOK_URL,
            expected_format: "one or more https URLs (http only for this machine), comma-separated",
            example: "https://api.clay.com/v3/sources/webhook/pull-in-data-from-a-webhook-0c1d2e3f",
        });
    }
    if tokens.len() > 1 && tokens.len() != urls.len() {
        reader.push_error(SettingError {
            name: CLAY_WEBHOOK_AUTH_TOKEN,
            expected_format: "one token for all, or as many, comma-separated, as CLAY_WEBHOOK_URL has URLs",
            example: "token-of-the-first,token-of-the-second",
        });
    }
    let token_of = |place: usize| match tokens {
        [single] => Some(*single),
        several => several.get(place).copied(),
    };
    let set = urls.iter().enumerate().filter(|(_, url)| is_set(url));
    Setting::Set(set.filter_map(|(place, url)| ClayWebhook::new(url, token_of(place)).ok()).collect())
}

fn setting<T>(reader: &EnvReader<'_>, name: &str, read: impl FnOnce(&str) -> T) -> Setting<T> {
    reader.raw(name).map_or(Setting::Unset, |text| Setting::Set(read(text)))
}

fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<LocalSettings, Vec<SettingError>> {
        LocalSettings::read(&variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn webhooks(variables: &[(&str, &str)]) -> Vec<ClayWebhook> {
        match read(variables).unwrap().clay_webhooks {
            Setting::Set(webhooks) => webhooks,
            Setting::Unset => panic!("not set"),
        }
    }

    #[test]
    fn what_is_not_set_is_told_from_what_is_empty() {
        let nothing = read(&[]).unwrap();
        assert!(matches!(nothing.loops_api_key, Setting::Unset) && matches!(nothing.signing_secrets, Setting::Unset));
        let empty =
            read(&[(LOOPS_API_KEY, ""), (LOOPS_SIGNING_SECRET, " "), (CLAY_WEBHOOK_URL, ""), (RELAY_TOKEN, "")])
                .unwrap();
        assert!(matches!(empty.loops_api_key, Setting::Set(None)));
        assert!(matches!(empty.signing_secrets, Setting::Set(secrets) if secrets.is_empty()));
        assert!(matches!(empty.clay_webhooks, Setting::Set(webhooks) if webhooks.is_empty()));
    }

    #[test]
    fn a_placeholder_counts_as_empty() {
        let settings = read(&[(LOOPS_API_KEY, "REPLACE-me"), (LOOPS_SIGNING_SECRET, "REPLACE-me")]).unwrap();
        assert!(matches!(settings.loops_api_key, Setting::Set(None)));
        assert!(matches!(settings.signing_secrets, Setting::Set(secrets) if secrets.is_empty()));
    }

    #[test]
    fn tokens_go_by_position_and_a_single_one_serves_all() {
        let urls = (CLAY_WEBHOOK_URL, "https://api.clay.com/a , https://api.clay.com/b");
        assert!(webhooks(&[urls, (CLAY_WEBHOOK_AUTH_TOKEN, "t")]).iter().all(|webhook| webhook.auth_token().is_some()));
        let by_position = webhooks(&[urls, (CLAY_WEBHOOK_AUTH_TOKEN, ",t")]);
        assert!(by_position[0].auth_token().is_none() && by_position[1].auth_token().is_some());
        assert!(webhooks(&[urls]).iter().all(|webhook| webhook.auth_token().is_none()));
    }

    #[test]
    fn a_key_that_no_header_can_carry_is_a_fault() {
        for name in [LOOPS_API_KEY, CLAY_WEBHOOK_AUTH_TOKEN, RELAY_TOKEN] {
            assert_eq!(read(&[(name, "k\ney")]).unwrap_err()[0].name, name);
            assert_eq!(read(&[(name, "kéy")]).unwrap_err()[0].name, name);
        }
    }

    #[test]
    fn every_fault_is_told_at_once_without_its_value() {
        let faults = read(&[
            (RELAY_LISTEN, "8787"),
            (LOOPS_SIGNING_SECRET, "whsec_%oops%"),
            (CLAY_WEBHOOK_URL, "http://api.clay.com/oops,https://api.clay.com/b"),
            (CLAY_WEBHOOK_AUTH_TOKEN, "a,b,oops"),
            ("LOOPS_RATE_PER_SECOND", "fast"),
        ])
        .unwrap_err();
        let mut names: Vec<&str> = faults.iter().map(|error| error.name).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, "LOOPS_RATE_PER_SECOND", LOOPS_SIGNING_SECRET, RELAY_LISTEN]
        );
        assert!(!format!("{faults:?}").contains("oops"));
    }
}
