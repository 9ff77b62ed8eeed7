//! Routes to Clay tables, each with its pool of webhooks.

use sha2::{Digest, Sha256};
use url::{Host, Url};

use crate::secret::{ExposeSecret as _, SecretString, secret_if_set};
use crate::webhook::selection::EventSelection;

/// Number of rows that a Clay webhook takes in its life (Clay, "Webhook integration guide": limits).
pub const CLAY_WEBHOOK_ROW_LIMIT: u64 = 50_000;

/// A route: which events go to which Clay table.
#[derive(Debug, Clone)]
pub struct ClayRoute {
    /// Part of every delivery's id, so it should not be changed.
    pub name: String,
    /// The events that go to the table.
    pub events: EventSelection,
    /// The pool: when a webhook has taken its 50,000 rows, the next takes over. If it is empty, deliveries are held.
    pub webhooks: Vec<ClayWebhook>,
}

/// A Clay webhook. Its URL is a secret like its token, because it is enough to add rows.
#[derive(Debug, Clone)]
pub struct ClayWebhook {
    url: SecretString,
    auth_token: Option<SecretString>,
}

/// Why a URL cannot be a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is not one absolute URL.
    #[error("it is not a URL")]
    NotAUrl,
    /// It has a user name or a password, behind which the host is easily overlooked: `https://api.clay.com@evil.example`.
    #[error("a URL with an @ before its host is not allowed")]
    HasUserInfo,
    /// It would send secrets in the clear.
    #[error("only https is allowed, except to this machine")]
    NotHttps,
}

impl ClayWebhook {
    /// Creates a webhook from its [URL](parse_destination_url) and, if it has one, the token that Clay showed for it.
    pub fn new(url: &str, auth_token: Option<&str>) -> Result<Self, UrlError> {
        let url = parse_destination_url(url)?;
        Ok(Self { url: SecretString::from(String::from(url)), auth_token: auth_token.and_then(secret_if_set) })
    }

    /// The URL, to send to.
    pub fn expose_url(&self) -> &str {
        self.url.expose_secret()
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        Url::parse(self.url.expose_secret()).is_ok_and(|url| is_loopback(&url))
    }

    /// The part of the URL that is no secret: `https://api.clay.com`. Its host is ASCII, so that letters of other alphabets
    /// show.
    pub fn origin(&self) -> String {
        // `new` has parsed the URL already, so this does not fail.
        Url::parse(self.url.expose_secret()).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
    }

    /// The token for the header `x-clay-webhook-auth`.
    pub const fn auth_token(&self) -> Option<&SecretString> {
        self.auth_token.as_ref()
    }

    /// Name of the webhook in stores and logs: 16 hexadecimal characters that do not reveal its URL.
    pub fn fingerprint(&self) -> String {
        format!("{:.16}", hex::encode(Sha256::digest(self.url.expose_secret())))
    }
}

/// Parses a URL that the relay may send to: `https`, or any loopback host.
///
/// # Errors
/// [`UrlError`]; also for quotes, white space and a second URL behind a wrong separator, which a URL parser would encode.
pub fn parse_destination_url(text: &str) -> Result<Url, UrlError> {
    let text = text.trim();
    let is_foreign = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '\\');
    if text.contains(is_foreign) || text.matches("://").count() > 1 {
        return Err(UrlError::NotAUrl);
    }
    let url = Url::parse(text).map_err(|_| UrlError::NotAUrl)?;
    if url.host().is_none() {
        return Err(UrlError::NotAUrl);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::HasUserInfo);
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(UrlError::NotHttps),
    }
}

/// Whether a URL leads to this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(domain)) => domain == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhook_origin_omits_path() {
        for (url, origin) in [
            ("https://api.clay.com/v3/sources/webhook/secret", "https://api.clay.com"),
            ("http://127.0.0.1:8787/secret?key=secret", "http://127.0.0.1:8787"),
        ] {
            assert_eq!(ClayWebhook::new(url, None).unwrap().origin(), origin);
        }
    }

    #[test]
    fn https_and_loopback_urls_are_accepted() {
        for url in [
            "https://api.clay.com/v3/sources/webhook/x",
            "http://127.0.0.1:1/x",
            "http://localhost/x",
            "http://[::1]:9/",
        ] {
            assert!(ClayWebhook::new(url, None).is_ok(), "{url}");
        }
    }

    #[test]
    fn remote_http_and_other_schemes_are_rejected() {
        for url in ["http://api.clay.com/x", "ftp://localhost/x", "http://localhost.example.com/"] {
            assert_eq!(ClayWebhook::new(url, None).unwrap_err(), UrlError::NotHttps, "{url}");
        }
        for url in ["", "clay", "/v3/sources", "data:x"] {
            assert_eq!(ClayWebhook::new(url, None).unwrap_err(), UrlError::NotAUrl, "{url}");
        }
    }

    #[test]
    fn url_with_user_or_password_is_rejected() {
        for url in [
            "https://api.clay.com@evil.example/v3",
            "https://api.clay.com:443@evil.example/x",
            "https://:secret@api.clay.com/v3",
            "http://user@127.0.0.1/x",
            "https://api.clay.com%40:x@evil.example/v3",
        ] {
            assert_eq!(parse_destination_url(url).unwrap_err(), UrlError::HasUserInfo, "{url}");
        }
        assert!(ClayWebhook::new("https://api.clay.com/x@y?z=a@b", None).is_ok());
    }

    #[test]
    fn quoted_commented_or_doubled_url_is_rejected() {
        for url in [
            "\"https://api.clay.com/x\"",
            "https://api.clay.com/x\"",
            "https://api.clay.com/x # comment",
            "https://api.clay.com/x;https://api.clay.com/y",
            "https://api.clay.com/x\nhttps://api.clay.com/y",
            "https://api.clay.com/\u{a0}x",
            "<https://api.clay.com/x>",
        ] {
            assert_eq!(ClayWebhook::new(url, None).unwrap_err(), UrlError::NotAUrl, "{url}");
        }
    }

    #[test]
    fn foreign_letters_of_a_host_are_shown_in_ascii() {
        // The first letter is Cyrillic.
        let webhook = ClayWebhook::new("https://\u{430}pi.clay.com/x", None).unwrap();
        assert_eq!(webhook.origin(), "https://xn--pi-6kc.clay.com");
    }

    #[test]
    fn loopback_hosts_are_recognised() {
        let is_loopback = |url| ClayWebhook::new(url, None).unwrap().is_loopback();
        for url in [
            "http://localhost/x",
            "https://127.1:9001/x",
            "http://2130706433/x",
            "http://[::1]/x",
            "https://[::ffff:127.0.0.1]/x",
        ] {
            assert!(is_loopback(url), "{url}");
        }
        assert!(!is_loopback("https://api.clay.com/x") && !is_loopback("https://localhost.example.com/x"));
    }

    #[test]
    fn webhook_debug_output_hides_url_and_token() {
        let webhook = ClayWebhook::new("https://api.clay.com/v3/sources/webhook/abc", Some("t0ken")).unwrap();
        let printed = format!("{webhook:?} {}", webhook.fingerprint());
        assert!(!printed.contains("abc") && !printed.contains("t0ken"), "{printed}");
    }

    #[test]
    fn placeholder_auth_token_is_ignored() {
        assert!(ClayWebhook::new("https://api.clay.com/x", Some("REPLACE")).unwrap().auth_token().is_none());
    }
}
