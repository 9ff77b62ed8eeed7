//! Keys, tokens and secrets: values that do not print.

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

pub use secrecy::{ExposeSecret, SecretString};

/// Minimum length of a secret that lets a caller in: that of a decoded signing secret, and of a relay token. A shorter one could
/// be guessed. Standard Webhooks ("Symmetric signatures") asks for 24 to 64 bytes.
pub const MIN_SECRET_BYTES: usize = 16;

/// Whether a configured text is a real value: not empty, and not a placeholder (one that starts with `REPLACE`).
pub fn is_set(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && !text.starts_with("REPLACE")
}

/// Returns the trimmed text as a secret, or nothing if it [is not set](is_set).
pub fn secret_if_set(text: &str) -> Option<SecretString> {
    is_set(text).then(|| SecretString::from(text.trim()))
}

/// Bearer tokens that the two API routes accept. An empty list accepts nothing.
///
/// Tokens are compared whole and in constant time, so the time of a rejection shows neither their content nor their
/// length.
#[derive(Debug, Clone, Default)]
pub struct RelayTokens(Vec<SecretString>);

impl RelayTokens {
    /// Returns the tokens among these texts that are set.
    pub fn new<T: AsRef<str>>(tokens: impl IntoIterator<Item = T>) -> Self {
        Self(tokens.into_iter().filter_map(|token| secret_if_set(token.as_ref())).collect())
    }

    /// Whether no token is configured, so that every request is rejected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the value of an `Authorization` header carries one of the tokens as a bearer token (RFC 6750 §2.1; the
    /// scheme's case does not matter, RFC 9110 §11.1).
    pub fn authorizes(&self, authorization: Option<&[u8]>) -> bool {
        let text = authorization.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
        let Some((scheme, token)) = text.trim_ascii().split_once(' ') else { return false };
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim_ascii().is_empty() {
            return false;
        }
        let presented_hash = Sha256::digest(token.trim_ascii());
        let found = self.0.iter().fold(Choice::from(0), |found, known| {
            found | Sha256::digest(known.expose_secret().as_bytes()).ct_eq(&presented_hash)
        });
        found.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> RelayTokens {
        RelayTokens::new(["first-token", "second-token"])
    }

    #[test]
    fn any_configured_token_authorizes() {
        assert!(tokens().authorizes(Some(b"Bearer first-token")));
        assert!(tokens().authorizes(Some(b"Bearer second-token")));
    }

    #[test]
    fn scheme_is_case_insensitive_and_token_is_case_sensitive() {
        assert!(tokens().authorizes(Some(b"bEARER first-token")));
        assert!(!tokens().authorizes(Some(b"Bearer FIRST-token")));
    }

    #[test]
    fn partial_or_extended_token_does_not_authorize() {
        for invalid in
            ["Bearer first", "Bearer first-token2", "Bearer", "Bearer ", "first-token", "Basic first-token", ""]
        {
            assert!(!tokens().authorizes(Some(invalid.as_bytes())), "{invalid:?}");
        }
        assert!(!tokens().authorizes(None));
    }

    #[test]
    fn empty_or_placeholder_tokens_authorize_nothing() {
        let closed = RelayTokens::new(["", "  ", "REPLACE-with-a-token"]);
        assert!(closed.is_empty());
        assert!(!closed.authorizes(Some(b"Bearer ")));
        assert!(!closed.authorizes(Some(b"Bearer REPLACE-with-a-token")));
    }

    #[test]
    fn tokens_debug_output_hides_tokens() {
        assert!(!format!("{:?}", tokens()).contains("first-token"));
    }
}
