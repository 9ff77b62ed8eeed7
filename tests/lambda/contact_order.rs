//! The order of a contact's deliveries, through failures in the middle of a batch and lost responses of AWS.

use relay_testkit::eventually;
use relay_testkit::lambda_fake::services::ServiceFault;
use relay_testkit::lambda_fake::{FakeStack, Setup, deliveries};
use relay_testkit::mock_destination::{MockDestination, ReceivedRequest, Reply};
use relay_testkit::row::{Route, contact, send};
use relay_testkit::webhook::{contact_created, post};
use serde_json::{Value, json};

use crate::{settings, start_stack};

const ACCEPTED_BODY: &str = r#"{"success":true,"id":"c1"}"#;
const RESPOND_ASYNC: [(&str, &str); 1] = [("prefer", "respond-async")];

async fn start_destinations() -> (MockDestination, MockDestination) {
    (MockDestination::start(Reply::json(200, ACCEPTED_BODY)).await, MockDestination::start(Reply::status(200)).await)
}

fn step_row(number: usize) -> String {
    json!({"email": "ada@example.com", "step": number}).to_string()
}

fn received_steps(destination: &MockDestination) -> Vec<i64> {
    let body = |request: &ReceivedRequest| serde_json::from_slice::<Value>(&request.body).unwrap();
    destination.received().iter().map(|request| body(request)["step"].as_i64().unwrap()).collect()
}

async fn wait_until_empty(fake_stack: &FakeStack, queue: &str) {
    eventually(&format!("an empty {queue}"), async || (fake_stack.queue_length(queue).await == 0).then_some(())).await;
}

/// The same stack, its workers started anew.
async fn restart(fake_stack: FakeStack, loops: &MockDestination) -> FakeStack {
    FakeStack::start_in(fake_stack.stop().await, Setup { settings: settings(loops), ..Setup::default() }).await
}

#[tokio::test]
async fn batch_behind_a_failure_waits_only_for_its_retry() {
    let (loops, clay) = start_destinations().await;
    let mut fake_stack = start_stack(&loops, &clay).await;
    fake_stack.stop_workers().await;
    for number in 0..4 {
        assert_eq!(send(&fake_stack.base(), Route::Contact, "", &RESPOND_ASYNC, step_row(number)).await.status, 202);
    }
    loops.enqueue_replies([Reply::json(200, ACCEPTED_BODY), Reply::status(500)]);
    let fake_stack = restart(fake_stack, &loops).await;
    // One batch holds all four: the second fails, and the two behind it go after it, within seconds.
    wait_until_empty(&fake_stack, "LoopsQueue").await;
    assert_eq!(received_steps(&loops), [0, 1, 1, 2, 3]);
}

#[tokio::test]
async fn update_queued_despite_lost_response_is_not_overtaken() {
    let (loops, clay) = start_destinations().await;
    let mut fake_stack = start_stack(&loops, &clay).await;
    fake_stack.stop_workers().await;
    fake_stack.services().inject("sqs:SendMessage", ServiceFault::LoseResponse);
    loops.set_default_reply(Reply::status(503));
    contact(&fake_stack.base(), step_row(1)).await.assert_error_response(429, "unavailable", None);
    loops.set_default_reply(Reply::json(200, ACCEPTED_BODY));
    fake_stack.services().clear();
    // Its message may be in the queue, and it is: the newer row is queued behind it.
    assert_eq!(contact(&fake_stack.base(), step_row(2)).await.status, 202);
    let fake_stack = restart(fake_stack, &loops).await;
    wait_until_empty(&fake_stack, "LoopsQueue").await;
    let steps = received_steps(&loops);
    assert!(steps.is_sorted() && steps.last() == Some(&2), "{steps:?}");
}

#[tokio::test]
async fn rejected_deferred_row_without_message_is_dead_lettered() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    loops.set_default_reply(Reply::Hang);
    let base = fake_stack.base();
    let first = tokio::spawn(async move { contact(&base, step_row(1)).await });
    eventually("the first at Loops", async || (!loops.received().is_empty()).then_some(())).await;
    assert_eq!(contact(&fake_stack.base(), step_row(2)).await.status, 202);
    fake_stack.services().inject("sqs:SendMessage", ServiceFault::InternalError);
    // It could not be queued, and its caller knows that; but its record precedes the other.
    first.await.unwrap().assert_error_response(429, "unavailable", None);
    loops.enqueue_replies([Reply::json(422, r#"{"message":"no"}"#)]);
    loops.set_default_reply(Reply::json(200, ACCEPTED_BODY));
    fake_stack.services().clear();
    wait_until_empty(&fake_stack, "LoopsQueue").await;
    assert_eq!(fake_stack.dead_letter_reasons("LoopsDeadLetters").await, ["loops_rejected"]);
    assert_eq!(received_steps(&loops).last(), Some(&2));
}

#[tokio::test]
async fn corrected_event_is_sent_after_a_dead_letter() {
    let (loops, clay) = start_destinations().await;
    loops.set_default_reply(Reply::json(422, r#"{"message":"bad property"}"#));
    let fake_stack = start_stack(&loops, &clay).await;
    let row = |plan: &str| json!({"email": "ada@example.com", "eventName": "e", "plan": plan}).to_string();
    assert_eq!(send(&fake_stack.base(), Route::Event, "", &RESPOND_ASYNC, row("wrong")).await.status, 202);
    eventually("a dead letter", async || (fake_stack.queue_length("LoopsDeadLetters").await == 1).then_some(())).await;
    wait_until_empty(&fake_stack, "LoopsQueue").await;
    loops.set_default_reply(Reply::json(200, ACCEPTED_BODY));
    let before = loops.received().len();
    assert_eq!(send(&fake_stack.base(), Route::Event, "", &RESPOND_ASYNC, row("right")).await.status, 202);
    wait_until_empty(&fake_stack, "LoopsQueue").await;
    assert_eq!((loops.received().len() - before, fake_stack.queue_length("LoopsDeadLetters").await), (1, 1));
}

#[tokio::test]
async fn contact_lock_of_killed_function_expires() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    // As a function leaves it that is killed before its message is in the queue, half an hour ago.
    let expired_at_millis = relay_testkit::webhook::now() * 1000 - 1_800_000;
    let table = fake_stack.stack().clients().dynamodb();
    let string = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let waiting = aws_sdk_dynamodb::types::AttributeValue::Ss(vec![format!("{expired_at_millis:015}#contact_gone")]);
    let put = table.put_item().table_name(fake_stack.stack().table()).item("pk", string(&contact_item_key()));
    put.item("waiting", waiting).send().await.unwrap();

    assert_eq!(contact(&fake_stack.base(), step_row(1)).await.status, 202, "it joins what seems to wait");
    wait_until_empty(&fake_stack, "LoopsQueue").await;
    assert_eq!(contact(&fake_stack.base(), step_row(2)).await.status, 200, "and the next goes directly");
    assert_eq!(received_steps(&loops), [1, 2]);
}

fn contact_item_key() -> String {
    format!("contact#{}", relay_core::contact::ContactKey::from_email("ada@example.com").as_str())
}

#[tokio::test]
async fn redriven_delivery_that_fails_is_dead_lettered_again() {
    let (loops, clay) = start_destinations().await;
    clay.set_default_reply(Reply::status(422));
    let fake_stack = start_stack(&loops, &clay).await;
    assert_eq!(post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    eventually("a dead letter", async || (fake_stack.queue_length("ClayDeadLetters").await == 1).then_some(())).await;
    // As SQS' own redrive does it.
    let (sqs, stack) = (fake_stack.stack().clients().sqs(), fake_stack.stack());
    let receive = sqs.receive_message().queue_url(stack.queue("ClayDeadLetters")).message_attribute_names("All");
    let dead_letter = receive.send().await.unwrap().messages.unwrap().remove(0);
    let redriven = sqs.send_message().queue_url(stack.queue("ClayQueue")).message_body(dead_letter.body.unwrap());
    let redriven = redriven.set_message_attributes(dead_letter.message_attributes);
    redriven.message_group_id("g").message_deduplication_id("redriven").send().await.unwrap();
    let receipt = dead_letter.receipt_handle.unwrap();
    sqs.delete_message().queue_url(stack.queue("ClayDeadLetters")).receipt_handle(receipt).send().await.unwrap();
    eventually("a second try", async || (clay.received().len() == 2).then_some(())).await;
    wait_until_empty(&fake_stack, "ClayQueue").await;
    assert_eq!(fake_stack.queue_length("ClayDeadLetters").await, 1);
    assert_eq!(deliveries::list(&fake_stack).await[0]["state"], "dead");
}
