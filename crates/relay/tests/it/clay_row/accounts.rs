//! Rows while it is not certain which account the Loops key belongs to.

use super::*;

#[tokio::test]
async fn row_is_only_stored_while_the_account_of_the_key_is_in_doubt() {
    let account = KeyAccount { doubt: Some(ReasonCode::Unreachable), ..KeyAccount::default() };
    for (intake, status) in [(FakeRowIntake::admitting(Admission::Queued), 202), (unlocked(), 202)] {
        let secrets = FakeSecrets::new(ClayToLoopsSecret { account: account.clone(), ..secret("key") });
        let handler = Handler { secrets, ..handler(intake, always_replying(reply(200))) };
        assert_eq!(post_event(&handler, "").await.0.status().as_u16(), status);
        assert_eq!(handler.intake.modes(), [DeliveryMode::Async]);
        assert!(handler.loops.calls().is_empty());
    }
}

#[tokio::test]
async fn row_is_refused_while_loops_refuses_the_new_key() {
    let account = KeyAccount { doubt: Some(ReasonCode::LoopsKeyRejected), ..KeyAccount::default() };
    let secrets = FakeSecrets::new(ClayToLoopsSecret { account, ..secret("key") });
    let handler = Handler { secrets, ..handler(unlocked(), always_replying(reply(200))) };
    let (response, json) = post_event(&handler, "").await;
    assert_eq!((response.status().as_u16(), &json["code"]), (502, &json!("loops_key_rejected")));
    assert!(handler.loops.calls().is_empty());
}

#[tokio::test]
async fn row_is_not_sent_with_a_refreshed_key_of_another_account() {
    let account = KeyAccount::known(AccountId::from_stored("0a1b2c3d".to_owned()));
    let other = ClayToLoopsSecret { account, ..secret("other") };
    let loops = FakeLoops::new(|call, _| reply(if call.api_key == "key" { 401 } else { 200 }));
    let handler = Handler { secrets: FakeSecrets::rotating(secret("key"), other), ..handler(unlocked(), loops) };
    let (response, json) = post_event(&handler, "").await;
    assert_eq!((response.status().as_u16(), &json["code"]), (502, &json!("loops_key_rejected")));
    assert_eq!(handler.loops.calls().len(), 1);
}
