//! The relay's bearer tokens: who may call the API routes, and what each token may do there.
//!
//! See docs/adr/0018-scoped-relay-tokens.md.

mod scope;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

pub use self::scope::{Scope, Scopes};
use crate::secret::{ExposeSecret as _, SecretString, secret_if_set};

/// Maximum length of a token's name.
pub const MAX_NAME_CHARS: usize = 40;

/// Whether a text can be the name of a token: 1 to [`MAX_NAME_CHARS`] of `A-Z a-z 0-9 . _ -`. It is written into the log.
pub fn is_valid_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME_CHARS).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// A bearer token, and what it may do.
#[derive(Debug, Clone)]
pub struct RelayToken {
    /// The token itself.
    pub token: SecretString,
    /// The name under which the log knows it.
    pub name: Option<String>,
    /// What it may do.
    pub scopes: Scopes,
}

impl RelayToken {
    /// Returns the token with the [default scopes](Scope::DEFAULT) and no name, or nothing if the text is not set.
    pub fn from_text(text: &str) -> Option<Self> {
        Some(Self { token: secret_if_set(text)?, name: None, scopes: Scope::DEFAULT.into() })
    }

    /// Whether it may call what needs this scope.
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// The bearer tokens that the API routes accept. An empty list accepts nothing.
#[derive(Debug, Clone, Default)]
pub struct RelayTokens(Vec<RelayToken>);

impl RelayTokens {
    /// Returns the tokens among these texts that are set, with the [default scopes](Scope::DEFAULT).
    pub fn new<T: AsRef<str>>(tokens: impl IntoIterator<Item = T>) -> Self {
        Self(tokens.into_iter().filter_map(|token| RelayToken::from_text(token.as_ref())).collect())
    }

    /// Returns these tokens.
    pub const fn from_tokens(tokens: Vec<RelayToken>) -> Self {
        Self(tokens)
    }

    /// Whether no token is configured, so that every request is rejected.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the tokens in their order.
    pub fn iter(&self) -> impl Iterator<Item = &RelayToken> {
        self.0.iter()
    }

    /// Returns the token that the value of an `Authorization` header carries as a bearer token (RFC 6750 §2.1; the scheme's case
    /// does not matter, RFC 9110 §11.1). If it is listed twice, the first entry counts.
    ///
    /// Each token is compared whole and in constant time, so the time of a rejection shows neither the content nor the length of
    /// any.
    pub fn authorize(&self, authorization: Option<&[u8]>) -> Option<&RelayToken> {
        let text = authorization.and_then(|value| std::str::from_utf8(value).ok())?;
        let (scheme, token) = text.trim_ascii().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") || token.trim_ascii().is_empty() {
            return None;
        }
        let presented_hash = Sha256::digest(token.trim_ascii());
        self.0.iter().fold(None, |found, known| {
            let is_equal = Sha256::digest(known.token.expose_secret().as_bytes()).ct_eq(&presented_hash);
            found.or(bool::from(is_equal).then_some(known))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> RelayTokens {
        RelayTokens::new(["first-token", "second-token"])
    }

    fn is_authorized(tokens: &RelayTokens, authorization: &str) -> bool {
        tokens.authorize(Some(authorization.as_bytes())).is_some()
    }

    fn scoped(token: &str, scopes: &[Scope]) -> RelayToken {
        RelayToken { token: token.into(), name: None, scopes: scopes.iter().copied().collect() }
    }

    #[test]
    fn any_configured_token_authorizes() {
        assert!(is_authorized(&tokens(), "Bearer first-token"));
        assert!(is_authorized(&tokens(), "Bearer second-token"));
    }

    #[test]
    fn scheme_is_case_insensitive_and_token_is_case_sensitive() {
        assert!(is_authorized(&tokens(), "bEARER first-token"));
        assert!(!is_authorized(&tokens(), "Bearer FIRST-token"));
    }

    #[test]
    fn partial_or_extended_token_does_not_authorize() {
        for invalid in
            ["Bearer first", "Bearer first-token2", "Bearer", "Bearer ", "first-token", "Basic first-token", ""]
        {
            assert!(!is_authorized(&tokens(), invalid), "{invalid:?}");
        }
        assert!(tokens().authorize(None).is_none());
    }

    #[test]
    fn empty_or_placeholder_tokens_authorize_nothing() {
        let closed = RelayTokens::new(["", "  ", "REPLACE-with-a-token"]);
        assert!(closed.is_empty());
        assert!(!is_authorized(&closed, "Bearer "));
        assert!(!is_authorized(&closed, "Bearer REPLACE-with-a-token"));
    }

    #[test]
    fn tokens_debug_output_hides_tokens() {
        assert!(!format!("{:?}", tokens()).contains("first-token"));
    }

    #[test]
    fn token_written_as_a_text_has_the_default_scopes() {
        for token in tokens().iter() {
            let allowed: Vec<&str> =
                Scope::ALL.iter().filter(|scope| token.allows(**scope)).map(|scope| scope.as_str()).collect();
            assert_eq!(allowed, ["contacts:write", "events:send", "deliveries:read"]);
            assert_eq!(token.name, None);
        }
    }

    #[test]
    fn token_allows_its_own_scopes_alone() {
        let tokens =
            RelayTokens::from_tokens(Scope::ALL.iter().map(|scope| scoped(scope.as_str(), &[*scope])).collect());
        for scope in Scope::ALL {
            let token = tokens.authorize(Some(format!("Bearer {scope}").as_bytes())).unwrap();
            for other in Scope::ALL {
                assert_eq!(token.allows(*other), scope == other, "{scope} {other}");
            }
        }
    }

    #[test]
    fn first_entry_of_a_repeated_token_counts() {
        let tokens = RelayTokens::from_tokens(vec![scoped("token", &[Scope::EmailSend]), scoped("token", Scope::ALL)]);
        let token = tokens.authorize(Some(b"Bearer token")).unwrap();
        assert!(token.allows(Scope::EmailSend) && !token.allows(Scope::ContactsDelete));
    }

    #[test]
    fn name_is_a_short_word_without_spaces() {
        for valid in ["a", "clay-table_1.eu", &"x".repeat(40)] {
            assert!(is_valid_name(valid), "{valid}");
        }
        for invalid in ["", "a b", "a,b", "né", "a\"", "a\n", &"x".repeat(41)] {
            assert!(!is_valid_name(invalid), "{invalid:?}");
        }
    }
}
