//! What is held goes on at once when the secret that it waits for has changed, whoever changed it. Here nothing lets time pass
//! for what is hidden.

use aws_sdk_dynamodb::types::AttributeValue;
use relay_testkit::eventually;
use relay_testkit::lambda_fake::operator::{LOOPS_TEAM_BODY, OperatorHarness};
use relay_testkit::lambda_fake::{FakeStack, Setup};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::{Route, send};
use relay_testkit::webhook::{contact_created, post};

use crate::to_clay;

/// A stack whose Clay webhook has taken its 50,000, and three deliveries that are held for that. Nothing shows them before
/// their time, but who is told to.
async fn with_three_held() -> OperatorHarness {
    let operated =
        OperatorHarness::with_setup(|_, clay| Setup { loops_to_clay: Some(to_clay(&[clay])), ..Setup::default() })
            .await;
    operated.clay.set_default_reply(Reply::status(403));
    for name in ["ada", "bob", "cyd"] {
        webhook_comes(&operated, name).await;
    }
    parked(&operated, "loops-to-clay person contacts", 3).await;
    operated
}

/// Waits until so many deliveries are parked in a place, and no worker has one any more.
async fn parked(operated: &OperatorHarness, place: &str, count: i32) {
    eventually(&format!("{count} held deliveries"), async || {
        let items = operated.stack().clients().dynamodb().query().table_name(operated.stack().table());
        let items = items.index_name("parked").key_condition_expression("parked = :place");
        let place = AttributeValue::S(place.to_owned());
        let found = items.expression_attribute_values(":place", place).send().await.ok()?;
        let at_work =
            operated.fake_stack.in_progress_count("ClayQueue") + operated.fake_stack.in_progress_count("LoopsQueue");
        (found.count == count && at_work == 0).then_some(())
    })
    .await;
}

async fn webhook_comes(operated: &OperatorHarness, name: &str) {
    let body = contact_created(&format!("{name}@example.com"));
    assert_eq!(post(&operated.fake_stack.base(), &format!("msg_{name}"), &body).await.status, 200);
}

#[tokio::test]
async fn what_is_held_goes_at_once_when_setup_has_written_what_it_waits_for() {
    let operated = with_three_held().await;
    let new = MockDestination::start(Reply::status(200)).await;
    let given = format!("CLAY_WEBHOOK_URL={}\n", new.url("/v3/sources/webhook/hidden"));
    let said = operated.relayctl(&["setup", "--add-clay-webhook", "--from", "-"], &given).await;
    assert!(said.code == 0 && said.stdout.contains("3 held deliveries are tried now."), "{said:?}");
    eventually("three rows", async || (new.received().len() == 3).then_some(())).await;
    // One for each row, with the webhook as it was read anew: none was held once more.
    eventually("an empty queue", async || (operated.fake_stack.queue_length("ClayQueue").await == 0).then_some(()))
        .await;
    assert_eq!(operated.fake_stack.log().matches(r#""outcome":"held""#).count(), 3, "{}", operated.fake_stack.log());
    let again = operated.relayctl(&["setup", "--retire-clay-webhook", "1"], "").await;
    assert!(again.code == 0 && !again.stdout.contains("tried now"), "{again:?}");
}

#[tokio::test]
async fn that_held_deliveries_cannot_be_shown_is_told_and_what_was_written_is_in_use() {
    for (action, told) in [("Query", "dynamodb:Query"), ("ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility")]
    {
        let operated = with_three_held().await;
        let new = MockDestination::start(Reply::status(200)).await;
        operated.permission_proxy.deny(action, "AccessDeniedException");
        let given = format!("CLAY_WEBHOOK_URL={}\n", new.url("/v3/sources/webhook/hidden"));
        let said = operated.relayctl(&["setup", "--add-clay-webhook", "--from", "-"], &given).await;
        assert!(said.code == 0 && said.stdout.contains(told) && said.stdout.contains("within 15 minutes"), "{said:?}");
        operated.fake_stack.make_all_visible().await;
        eventually("three rows", async || (new.received().len() == 3).then_some(())).await;
    }
}

#[tokio::test]
async fn what_is_held_goes_when_a_worker_finds_the_secret_changed() {
    let operated = with_three_held().await;
    let new = MockDestination::start(Reply::status(200)).await;
    operated.stack().put_secret("LoopsToClaySecret", &to_clay(&[&operated.clay, &new])).await;
    webhook_comes(&operated, "dan").await;
    eventually("four rows", async || (new.received().len() == 4).then_some(())).await;
}

#[tokio::test]
async fn what_is_held_goes_when_a_new_sandbox_finds_the_secret_changed_and_not_otherwise() {
    let OperatorHarness { fake_stack, clay, .. } = with_three_held().await;
    let kept = fake_stack.kill().await;
    let same = FakeStack::start_in(kept, Setup::default()).await;
    let asked = clay.received().len();
    clay.enqueue_replies([Reply::status(400)]);
    let body = contact_created("dan@example.com");
    assert_eq!(post(&same.base(), "msg_dan", &body).await.status, 200);
    eventually("a dead letter", async || (same.queue_length("ClayDeadLetters").await == 1).then_some(())).await;
    eventually("idle workers", async || (same.in_progress_count("ClayQueue") == 0).then_some(())).await;
    assert_eq!(clay.received().len(), asked + 1, "nothing else was tried");

    let kept = same.kill().await;
    let new = MockDestination::start(Reply::status(200)).await;
    let setup = Setup { loops_to_clay: Some(to_clay(&[&new])), ..Setup::default() };
    let other = FakeStack::start_in(kept, setup).await;
    let body = contact_created("eve@example.com");
    assert_eq!(post(&other.base(), "msg_eve", &body).await.status, 200);
    eventually("four rows", async || (new.received().len() == 4).then_some(())).await;
}

#[tokio::test]
async fn rows_that_are_held_for_a_key_go_at_once_when_setup_has_written_another() {
    let operated =
        OperatorHarness::with_setup(|_, _| Setup { clay_to_loops: Some(crate::to_loops()), ..Setup::default() }).await;
    let refused = Reply::json(401, r#"{"success":false,"message":"Invalid API key"}"#);
    operated.loops.set_default_reply(refused);
    let row = r#"{"email": "ada@example.com", "plan": "pro"}"#;
    let later = [("prefer", "respond-async")];
    assert_eq!(send(&operated.fake_stack.base(), Route::Contact, "", &later, row).await.status, 202);
    parked(&operated, "clay-to-loops person", 1).await;
    operated.loops.set_default_reply(Reply::json(200, LOOPS_TEAM_BODY));
    let said = operated.relayctl(&["setup", "--from", "-"], "LOOPS_API_KEY=hidden-other\n").await;
    assert!(said.code == 0 && said.stdout.contains("1 held delivery is tried now."), "{said:?}");
    eventually("an empty queue", async || (operated.fake_stack.queue_length("LoopsQueue").await == 0).then_some(()))
        .await;
}
