//! Rows whose token has some scopes, and not others.

use relay_core::token::{RelayToken, Scope};

use super::*;

/// A secret whose token has these scopes.
fn secret_with(scopes: &[Scope]) -> ClayToLoopsSecret {
    let token = RelayToken { token: "token".into(), name: None, scopes: scopes.iter().copied().collect() };
    ClayToLoopsSecret { tokens: RelayTokens::from_tokens(vec![token]), ..secret("key") }
}

fn handler_with(secrets: FakeSecrets<ClayToLoopsSecret>) -> Handler {
    Handler { secrets, ..handler(unlocked(), always_replying(reply_with_body(200, LOOPS_SUCCESS))) }
}

#[tokio::test]
async fn token_without_the_scope_is_refused_and_nothing_is_sent() {
    let handler = handler_with(FakeSecrets::new(secret_with(&[Scope::ContactsWrite, Scope::EmailSend])));
    let (response, json) = post_event(&handler, "").await;
    assert_eq!((response.status().as_u16(), &json["code"]), (403, &json!("missing_scope")));
    assert!(json["message"].as_str().unwrap().contains("events:send"), "{json}");
    assert!(handler.loops.calls().is_empty() && handler.intake.modes().is_empty());
    assert_eq!(handler.secrets.refreshes(), 1);
}

#[tokio::test]
async fn scope_that_was_just_given_to_a_token_counts_at_once() {
    let secrets = FakeSecrets::rotating(secret_with(&[Scope::ContactsWrite]), secret_with(&[Scope::EventsSend]));
    let handler = handler_with(secrets);
    assert_eq!(post_event(&handler, "").await.0.status(), 200);
    assert_eq!(handler.secrets.refreshes(), 1);
}

#[tokio::test]
async fn token_with_the_scope_costs_no_second_read() {
    let handler = handler_with(FakeSecrets::new(secret_with(&[Scope::EventsSend])));
    assert_eq!(post_event(&handler, "").await.0.status(), 200);
    assert_eq!(handler.secrets.refreshes(), 0);
}
