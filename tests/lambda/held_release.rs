//! A held delivery is sent at the end of its visibility timeout, once an operator has fixed its cause.

use relay_testkit::eventually;
use relay_testkit::lambda_fake::Setup;
use relay_testkit::lambda_fake::operator::OperatorHarness;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relayctl::LOOPS_TEAM_BODY;
use relay_testkit::row::{Route, send};
use relay_testkit::webhook::{contact_created, post};

use crate::loops_to_clay_document;

/// Waits until so many deliveries were held and no worker processes a message.
async fn wait_until_held(operated: &OperatorHarness, count: usize) {
    eventually(&format!("{count} held deliveries"), async || {
        let stack = &operated.fake_stack;
        let held = stack.log().matches(r#""outcome":"held""#).count();
        let in_progress = stack.in_progress_count("ClayQueue") + stack.in_progress_count("LoopsQueue");
        (held == count && in_progress == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn held_events_are_sent_after_setup_adds_a_webhook() {
    let operated = OperatorHarness::with_setup(|_, clay| Setup {
        loops_to_clay: Some(loops_to_clay_document(&[clay])),
        ..Setup::default()
    })
    .await;
    // The webhook has reached its 50,000 rows.
    operated.clay.set_default_reply(Reply::status(403));
    for name in ["ada", "bob", "cyd"] {
        let body = contact_created(&format!("{name}@example.com"));
        assert_eq!(post(&operated.fake_stack.base(), &format!("msg_{name}"), &body).await.status, 200);
    }
    wait_until_held(&operated, 3).await;
    let new = MockDestination::start(Reply::status(200)).await;
    let input = format!("CLAY_WEBHOOK_URL={}\n", new.url("/v3/sources/webhook/hidden"));
    let output = operated.relayctl(&["setup", "--add-clay-webhook", "--from", "-"], &input).await;
    assert!(
        output.code == 0 && output.stdout.contains("Held deliveries are tried again within 15 minutes."),
        "{output:?}"
    );
    operated.fake_stack.make_all_visible().await;
    eventually("three rows", async || (new.received().len() == 3).then_some(())).await;
    // One for each event, with the webhook as it was read anew: none was held once more.
    eventually("an empty queue", async || (operated.fake_stack.queue_length("ClayQueue").await == 0).then_some(()))
        .await;
    assert_eq!(operated.fake_stack.log().matches(r#""outcome":"held""#).count(), 3, "{}", operated.fake_stack.log());
}

#[tokio::test]
async fn held_row_is_sent_after_setup_writes_a_new_key() {
    let operated = OperatorHarness::with_setup(|_, _| Setup {
        clay_to_loops: Some(crate::clay_to_loops_document()),
        ..Setup::default()
    })
    .await;
    let refused = Reply::json(401, r#"{"success":false,"message":"Invalid API key"}"#);
    operated.loops.set_default_reply(refused);
    let row = r#"{"email": "ada@example.com", "plan": "pro"}"#;
    let later = [("prefer", "respond-async")];
    assert_eq!(send(&operated.fake_stack.base(), Route::Contact, "", &later, row).await.status, 202);
    wait_until_held(&operated, 1).await;
    operated.loops.set_default_reply(Reply::json(200, LOOPS_TEAM_BODY));
    let output = operated.relayctl(&["setup", "--from", "-"], "LOOPS_API_KEY=hidden-other\n").await;
    assert!(
        output.code == 0 && output.stdout.contains("Held deliveries are tried again within 15 minutes."),
        "{output:?}"
    );
    operated.fake_stack.make_all_visible().await;
    eventually("an empty queue", async || (operated.fake_stack.queue_length("LoopsQueue").await == 0).then_some(()))
        .await;
}
