//! The settings of the one-machine program: those that every relay has, and its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use relay::config::env::{EnvReader, SettingError, SharedSettings};
use relay::config::names::{
    CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_API_URL, LOOPS_SIGNING_SECRET, RELAY_CONSOLE,
    RELAY_DATA, RELAY_LISTEN, RELAY_TOKEN,
};
use relay::config::relay_tokens::parse_token_list;
use relay_core::secret::{ExposeSecret as _, MIN_SECRET_BYTES, SecretString, is_set, secret_if_set};
use relay_core::token::RelayTokens;
use relay_core::webhook::route::{ClayWebhook, parse_destination_url};
use relay_core::webhook::signature::SigningSecret;

/// Default of `RELAY_LISTEN`.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8787";
/// Default of `RELAY_DATA`.
pub const DEFAULT_DATA: &str = ".relay";
/// Name of the one route that a relay on one machine has.
pub const ROUTE_NAME: &str = "default";

/// A setting that is simulated or generated if it is not set.
#[derive(Debug, Clone)]
pub enum Setting<T> {
    /// It is not set.
    Unset,
    /// It is set. An empty value closes the route that needs it.
    Set(T),
}

/// Settings of the one-machine program.
#[derive(Debug, Clone)]
pub struct LocalSettings {
    /// Settings that every relay has.
    pub shared: SharedSettings,
    /// Address that the relay listens on.
    pub listen: SocketAddr,
    /// Whether the console is served: on a loopback address, unless it is set otherwise.
    pub console: bool,
    /// Path of the data folder.
    pub data_dir: PathBuf,
    /// API key of Loops; `None` if it is set and empty.
    pub loops_api_key: Setting<Option<SecretString>>,
    /// Whether [`LOOPS_API_URL`] is set: then Loops is not simulated, with or without a key.
    pub loops_api_url_is_set: bool,
    /// Signing secrets of Loops.
    pub signing_secrets: Setting<Vec<SigningSecret>>,
    /// Pool of Clay webhooks.
    pub clay_webhooks: Setting<Vec<ClayWebhook>>,
    /// First token for Clay, which the simulator expects.
    pub simulated_clay_token: Option<String>,
    /// Relay tokens.
    pub relay_tokens: Setting<RelayTokens>,
    /// Names of the settings that come from the data folder instead of the environment.
    pub stored_names: Vec<&'static str>,
}

impl LocalSettings {
    /// Reads the settings, or returns every error in them.
    pub fn from_env(env: &BTreeMap<String, String>) -> Result<Self, Vec<SettingError>> {
        let mut env_reader = EnvReader::new(env);
        let shared = SharedSettings::from_reader(&mut env_reader);
        let listen = env_reader.parse(
            RELAY_LISTEN,
            SocketAddr::from(([127, 0, 0, 1], 8787)),
            "an IP address and a port",
            DEFAULT_LISTEN,
            |text| text.replace("localhost:", "127.0.0.1:").parse().ok(),
        );
        let console =
            env_reader.parse(RELAY_CONSOLE, listen.ip().is_loopback(), "on or off", "on", |text| match text {
                "on" => Some(true),
                "off" => Some(false),
                _ => None,
            });
        let data_dir = env_reader.parse(
            RELAY_DATA,
            PathBuf::from(DEFAULT_DATA),
            "the path of a folder, in which nothing fills in ~, $HOME or %USERPROFILE%",
            "/var/lib/relay",
            // A folder of that name is `./~`.
            |text| (!text.is_empty() && !text.starts_with(['~', '$', '%'])).then(|| PathBuf::from(text)),
        );
        let loops_api_key = setting(&mut env_reader, LOOPS_API_KEY, secret_if_set);
        let signing_secrets = env_reader.parse(
            LOOPS_SIGNING_SECRET,
            Setting::Unset,
            "one or more signing secrets, comma-separated, each the base64 of at least 16 bytes, with or without whsec_",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            |text| {
                let secrets = split_list(text).filter(|text| is_set(text)).map(SigningSecret::parse);
                secrets.collect::<Result<_, _>>().ok().map(Setting::Set)
            },
        );
        let auth_tokens: Vec<&str> =
            env_reader.raw(CLAY_WEBHOOK_AUTH_TOKEN).map(|text| split_list(text).collect()).unwrap_or_default();
        let clay_webhooks = clay_webhooks(&mut env_reader, &auth_tokens);
        for name in [LOOPS_API_KEY, CLAY_WEBHOOK_AUTH_TOKEN] {
            let texts = env_reader.raw(name).unwrap_or_default();
            if !split_list(texts).filter(|text| is_set(text)).all(is_header_safe) {
                let expected_format = "visible ASCII characters only, without spaces";
                env_reader.push_error(SettingError { name, expected_format, example: "0c1d2e3f4a5b6c7d" });
            }
        }
        let settings = Self {
            shared,
            listen,
            console,
            data_dir,
            loops_api_key,
            loops_api_url_is_set: env_reader.raw(LOOPS_API_URL).is_some(),
            signing_secrets,
            clay_webhooks,
            simulated_clay_token: auth_tokens.first().filter(|token| is_set(token)).map(|token| (*token).to_owned()),
            relay_tokens: relay_tokens(&mut env_reader),
            stored_names: Vec::new(),
        };
        env_reader.into_result(settings)
    }
}

fn clay_webhooks(env_reader: &mut EnvReader<'_>, auth_tokens: &[&str]) -> Setting<Vec<ClayWebhook>> {
    let Some(text) = env_reader.raw(CLAY_WEBHOOK_URL) else {
        return Setting::Unset;
    };
    let urls: Vec<&str> = split_list(text).collect();
    if urls.iter().any(|url| is_set(url) && parse_destination_url(url).is_err()) {
        env_reader.push_error(SettingError {
            name: CLAY_WEBHOOK_URL,
            expected_format: "one or more https URLs (http only for this machine) without a user name, comma-separated",
            example: "https://api.clay.com/v3/sources/webhook/pull-in-data-from-a-webhook-0c1d2e3f",
        });
    }
    if auth_tokens.len() > 1 && auth_tokens.len() != urls.len() {
        env_reader.push_error(SettingError {
            name: CLAY_WEBHOOK_AUTH_TOKEN,
            expected_format: "one token for all, or as many, comma-separated, as CLAY_WEBHOOK_URL has URLs",
            example: "token-of-the-first,token-of-the-second",
        });
    }
    let token_at = |index: usize| match auth_tokens {
        [single] => Some(*single),
        several => several.get(index).copied(),
    };
    let set_urls = urls.iter().enumerate().filter(|(_, url)| is_set(url));
    Setting::Set(set_urls.filter_map(|(index, url)| ClayWebhook::new(url, token_at(index)).ok()).collect())
}

/// Reads the relay tokens: a comma list, or the JSON list that a secret document and the data folder have.
fn relay_tokens(env_reader: &mut EnvReader<'_>) -> Setting<RelayTokens> {
    let Some(text) = env_reader.raw(RELAY_TOKEN) else { return Setting::Unset };
    let (tokens, expected_format, example) = if text.starts_with('[') {
        (
            parse_token_list(text),
            "a JSON list of tokens of at least 16 visible ASCII characters, each a text or an object of token, name and scopes \
             (contacts:write, events:send, contacts:read, contacts:delete, email:send, deliveries:read, account:read)",
            r#"["0c1d2e3f4a5b6c7d"]"#,
        )
    } else {
        (
            Some(RelayTokens::new(split_list(text))),
            "one or more tokens of at least 16 visible ASCII characters without spaces, quotes and brackets, comma-separated (with scopes: \
             a JSON list between [ and ])",
            "0c1d2e3f4a5b6c7d",
        )
    };
    // A part of a JSON list that was not recognised as one is no secret.
    let is_json = |text: &str| text.contains(['{', '}', '[', ']', '"']);
    let is_usable = |text: &str| text.len() >= MIN_SECRET_BYTES && is_header_safe(text) && !is_json(text);
    match tokens.filter(|tokens| tokens.iter().all(|token| is_usable(token.token.expose_secret()))) {
        Some(tokens) => Setting::Set(tokens),
        None => {
            env_reader.push_error(SettingError { name: RELAY_TOKEN, expected_format, example });
            Setting::Unset
        }
    }
}

/// Whether a text can be sent in a header.
fn is_header_safe(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn setting<T>(env_reader: &mut EnvReader<'_>, name: &'static str, parse: impl FnOnce(&str) -> T) -> Setting<T> {
    env_reader.raw(name).map_or(Setting::Unset, |text| Setting::Set(parse(text)))
}

fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

/// Returns the address by which programs of this machine reach a listener.
pub fn loopback_address(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use relay_core::token::Scope;

    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<LocalSettings, Vec<SettingError>> {
        LocalSettings::from_env(
            &variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        )
    }

    fn webhooks(variables: &[(&str, &str)]) -> Vec<ClayWebhook> {
        match parse(variables).unwrap().clay_webhooks {
            Setting::Set(webhooks) => webhooks,
            Setting::Unset => panic!("not set"),
        }
    }

    #[test]
    fn unset_setting_differs_from_empty_setting() {
        let unset = parse(&[]).unwrap();
        assert!(matches!(unset.loops_api_key, Setting::Unset) && matches!(unset.signing_secrets, Setting::Unset));
        let empty =
            parse(&[(LOOPS_API_KEY, ""), (LOOPS_SIGNING_SECRET, " "), (CLAY_WEBHOOK_URL, ""), (RELAY_TOKEN, "")])
                .unwrap();
        assert!(matches!(empty.loops_api_key, Setting::Set(None)));
        assert!(matches!(empty.signing_secrets, Setting::Set(secrets) if secrets.is_empty()));
        assert!(matches!(empty.clay_webhooks, Setting::Set(webhooks) if webhooks.is_empty()));
    }

    #[test]
    fn placeholder_value_counts_as_empty() {
        let settings = parse(&[(LOOPS_API_KEY, "REPLACE-me"), (LOOPS_SIGNING_SECRET, "REPLACE-me")]).unwrap();
        assert!(matches!(settings.loops_api_key, Setting::Set(None)));
        assert!(matches!(settings.signing_secrets, Setting::Set(secrets) if secrets.is_empty()));
    }

    #[test]
    fn webhook_tokens_match_urls_by_position_or_apply_to_all() {
        let urls = (CLAY_WEBHOOK_URL, "https://api.clay.com/a , https://api.clay.com/b");
        assert!(webhooks(&[urls, (CLAY_WEBHOOK_AUTH_TOKEN, "t")]).iter().all(|webhook| webhook.auth_token().is_some()));
        let by_position = webhooks(&[urls, (CLAY_WEBHOOK_AUTH_TOKEN, ",t")]);
        assert!(by_position[0].auth_token().is_none() && by_position[1].auth_token().is_some());
        assert!(webhooks(&[urls]).iter().all(|webhook| webhook.auth_token().is_none()));
    }

    #[test]
    fn key_with_non_ascii_or_control_chars_is_rejected() {
        for name in [LOOPS_API_KEY, CLAY_WEBHOOK_AUTH_TOKEN, RELAY_TOKEN] {
            assert_eq!(parse(&[(name, "k\ney")]).unwrap_err()[0].name, name);
            assert_eq!(parse(&[(name, "kéy")]).unwrap_err()[0].name, name);
        }
    }

    #[test]
    fn secret_that_can_be_guessed_is_rejected() {
        for (name, value) in [
            (LOOPS_SIGNING_SECRET, "AA"),
            (LOOPS_SIGNING_SECRET, "whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==,whsec_AAAA"),
            (RELAY_TOKEN, "t"),
            (RELAY_TOKEN, r#"{"token":"0123456789abcdef","scopes":["email:send"]}"#),
            (RELAY_TOKEN, r#"0123456789abcdef,{"token":"0123456789abcdeg","scopes":["email:send"]}"#),
            (RELAY_TOKEN, "0123456789abcde"),
            (RELAY_TOKEN, "0123456789abcdef,short"),
        ] {
            let errors = parse(&[(name, value)]).unwrap_err();
            assert!(errors[0].name == name && errors[0].to_string().contains("at least 16"), "{value}: {errors:?}");
        }
        assert!(parse(&[(RELAY_TOKEN, "0123456789abcdef,,REPLACE-me"), (LOOPS_API_KEY, "short")]).is_ok());
    }

    #[test]
    fn listed_tokens_have_their_own_names_and_scopes() {
        let list = r#"["0123456789abcdef", {"token": "fedcba9876543210", "name": "mailer", "scopes": ["email:send"]}]"#;
        let Setting::Set(tokens) = parse(&[(RELAY_TOKEN, list)]).unwrap().relay_tokens else { panic!("not set") };
        let names: Vec<_> = tokens.iter().map(|token| token.name.as_deref()).collect();
        assert_eq!(names, [None, Some("mailer")]);
        let mailer = tokens.authorize(Some(b"Bearer fedcba9876543210")).unwrap();
        assert!(mailer.allows(Scope::EmailSend) && !mailer.allows(Scope::ContactsWrite));
    }

    #[test]
    fn list_with_an_unknown_scope_or_an_unusable_token_is_rejected() {
        for list in [
            r#"[{"token": "0123456789abcdef", "scopes": ["hidden:all"]}]"#,
            r#"[{"token": "0123456789abcdef", "scopes": []}]"#,
            r#"[{"token": "0123456789abcdef", "name": "hidden name"}]"#,
            r#"["0123456789 abcdef"]"#,
            r#"["short"]"#,
            r#"[7]"#,
            "[0123456789abcdef",
        ] {
            let errors = parse(&[(RELAY_TOKEN, list)]).unwrap_err();
            assert_eq!((errors.len(), errors[0].name), (1, RELAY_TOKEN), "{list}");
            let message = errors[0].to_string();
            let has_all = Scope::ALL.iter().all(|scope| message.contains(scope.as_str()));
            assert!(has_all && !message.contains("hidden"), "{message}");
        }
    }

    #[test]
    fn path_with_an_unexpanded_home_is_rejected() {
        for path in
            ["~", "~/relay", "~ada/relay", "$HOME/.relay", "${HOME}/.relay", "%USERPROFILE%\\relay", "\"/data\""]
        {
            assert_eq!(parse(&[(RELAY_DATA, path)]).unwrap_err()[0].name, RELAY_DATA, "{path}");
        }
        for path in ["/var/lib/relay", "./~", "data/$HOME", "my data"] {
            assert_eq!(parse(&[(RELAY_DATA, path)]).unwrap().data_dir, PathBuf::from(path));
        }
    }

    #[test]
    fn quoted_commented_or_spaced_secret_is_rejected_without_value() {
        for (name, value) in [
            (LOOPS_API_KEY, "\"hidden\""),
            (LOOPS_API_KEY, "hidden hidden"),
            (LOOPS_SIGNING_SECRET, "'whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw=='"),
            (RELAY_TOKEN, "0123456789abcdef # hidden"),
            (RELAY_TOKEN, "RELAY_TOKEN=0123456789abcdef"),
            (CLAY_WEBHOOK_URL, "\"https://api.clay.com/a\""),
            (CLAY_WEBHOOK_URL, "https://api.clay.com/hidden;https://api.clay.com/b"),
            (CLAY_WEBHOOK_URL, "https://api.clay.com@hidden.example/a"),
            (LOOPS_API_URL, "https://app.loops.so@hidden.example/api"),
            (RELAY_LISTEN, "\"127.0.0.1:8787\""),
        ] {
            let errors = parse(&[(name, value)]).unwrap_err();
            assert_eq!((errors.len(), errors[0].name), (1, name), "{value}: {errors:?}");
            assert!(!errors[0].to_string().contains("hidden"), "{errors:?}");
        }
    }

    #[test]
    fn all_setting_errors_are_reported_without_values() {
        let errors = parse(&[
            (RELAY_LISTEN, "8787"),
            (LOOPS_SIGNING_SECRET, "whsec_%oops%"),
            (CLAY_WEBHOOK_URL, "http://api.clay.com/oops,https://api.clay.com/b"),
            (CLAY_WEBHOOK_AUTH_TOKEN, "a,b,oops"),
            ("LOOPS_RATE_PER_SECOND", "fast"),
        ])
        .unwrap_err();
        let mut names: Vec<&str> = errors.iter().map(|error| error.name).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, "LOOPS_RATE_PER_SECOND", LOOPS_SIGNING_SECRET, RELAY_LISTEN]
        );
        assert!(!format!("{errors:?}").contains("oops"));
    }
}
