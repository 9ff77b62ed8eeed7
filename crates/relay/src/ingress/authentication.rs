//! Who calls an API route, and whether its relay token may.

use std::sync::Arc;

use http::HeaderMap;
use relay_core::error::{ErrorCode, RequestError};
use relay_core::token::Scope;

use crate::ports::secrets::{ClayToLoopsSecret, SecretField, SecretSource};

/// A caller whose token has the scope that was asked for.
#[derive(Debug)]
pub(crate) struct Authenticated {
    /// The secret that has the token.
    pub(crate) secret: Arc<ClayToLoopsSecret>,
    /// The token's name, if it has one.
    pub(crate) token_name: Option<String>,
}

/// Checks that the caller's relay token is known and has this scope. Where it does not, the secret is read again once, because
/// the token or its scope may have been set a moment ago.
pub(crate) async fn authenticate<S: SecretSource<ClayToLoopsSecret>>(
    secrets: &S,
    headers: &HeaderMap,
    scope: Scope,
) -> Result<Authenticated, RequestError> {
    let tokens_unavailable = |_| {
        RequestError::new(ErrorCode::Unavailable, "The relay's tokens cannot be read now: run the row again later.")
    };
    // Two headers are no token, as where a gateway joins them.
    let mut values = headers.get_all(http::header::AUTHORIZATION).iter().map(http::HeaderValue::as_bytes);
    let authorization = values.next().filter(|_| values.next().is_none());
    let mut secret = secrets.current().await.map_err(tokens_unavailable)?;
    if !secret.tokens.authorize(authorization).is_some_and(|token| token.allows(scope)) {
        secret = secrets.refresh().await.map_err(tokens_unavailable)?;
    }
    match secret.tokens.authorize(authorization) {
        Some(token) if token.allows(scope) => {
            let token_name = token.name.clone();
            Ok(Authenticated { secret, token_name })
        }
        Some(token) => Err(missing_scope(scope, token.name.as_deref())),
        None => {
            let is_closed = secret.tokens.is_empty();
            Err(invalid_token(is_closed.then(|| secrets.describe_field(SecretField::RelayTokens))))
        }
    }
}

/// The error of a token that is right, and may not do this. The log names the token.
fn missing_scope(scope: Scope, token_name: Option<&str>) -> RequestError {
    let message = format!(
        "This relay token may not call this route, because it lacks the scope {scope}: send another token, which the relay's \
         operator makes with `relayctl setup --add-relay-token --scopes {scope}` (on one machine `setup --local`)."
    );
    let token = token_name.map_or_else(|| "a token without a name".to_owned(), |name| format!("the token {name}"));
    RequestError::new(ErrorCode::MissingScope, message).with_log_detail(format!("{token} lacks the scope {scope}"))
}

/// The error of a caller who may be a stranger: the log alone says which field has no token.
fn invalid_token(empty_field: Option<String>) -> RequestError {
    let message = "The relay's token is missing or wrong: send the header Authorization with Bearer and a relay token.";
    let error = RequestError::new(ErrorCode::InvalidToken, message);
    match empty_field {
        Some(field) => error.with_log_detail(format!("no relay token is set: put one into {field}")),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_of_a_missing_scope_fits_into_a_cell() {
        for scope in Scope::ALL {
            let error = missing_scope(*scope, Some("clay-table"));
            let message = error.message();
            assert!(message.contains(&format!("lacks the scope {scope}:")) && message.ends_with(")."), "{message}");
            assert!(message.contains(&format!("--add-relay-token --scopes {scope}`")), "{message}");
            assert!(!message.contains("clay-table"), "the log alone names the token: {message}");
            let logged = error.log_detail().unwrap_or_default();
            assert_eq!(logged, format!("the token clay-table lacks the scope {scope}"));
        }
    }
}
