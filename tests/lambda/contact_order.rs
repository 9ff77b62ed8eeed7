//! The order of a contact's deliveries, through failures in the middle of a batch and answers of AWS that are lost.

use relay_testkit::eventually;
use relay_testkit::lambda_fake::services::ServiceFault;
use relay_testkit::lambda_fake::{FakeStack, Setup, deliveries};
use relay_testkit::mock_destination::{MockDestination, ReceivedRequest, Reply};
use relay_testkit::row::{Route, contact, send};
use relay_testkit::webhook::{contact_created, post};
use serde_json::{Value, json};

use crate::{between, settings};

const TAKEN: &str = r#"{"success":true,"id":"c1"}"#;
const LATER: [(&str, &str); 1] = [("prefer", "respond-async")];

async fn ends() -> (MockDestination, MockDestination) {
    (MockDestination::start(Reply::json(200, TAKEN)).await, MockDestination::start(Reply::status(200)).await)
}

fn step(number: usize) -> String {
    json!({"email": "ada@example.com", "step": number}).to_string()
}

fn steps(far: &MockDestination) -> Vec<i64> {
    let body = |got: &ReceivedRequest| serde_json::from_slice::<Value>(&got.body).unwrap();
    far.received().iter().map(|got| body(got)["step"].as_i64().unwrap()).collect()
}

async fn empty(cloud: &FakeStack, queue: &str) {
    eventually(&format!("an empty {queue}"), async || (cloud.queue_length(queue).await == 0).then_some(())).await;
}

/// The same stack, its workers started anew.
async fn again(cloud: FakeStack, loops: &MockDestination) -> FakeStack {
    FakeStack::start_in(cloud.stop().await, Setup { settings: settings(loops), ..Setup::default() }).await
}

#[tokio::test]
async fn what_stands_behind_a_failure_in_a_batch_waits_for_it_and_no_longer() {
    let (loops, clay) = ends().await;
    let mut cloud = between(&loops, &clay).await;
    cloud.stop_workers().await;
    for number in 0..4 {
        assert_eq!(send(&cloud.base(), Route::Contact, "", &LATER, step(number)).await.status, 202);
    }
    loops.enqueue_replies([Reply::json(200, TAKEN), Reply::status(500)]);
    let cloud = again(cloud, &loops).await;
    // One batch holds all four: the second fails, and the two behind it go after it, within seconds.
    empty(&cloud, "LoopsQueue").await;
    assert_eq!(steps(&loops), [0, 1, 1, 2, 3]);
}

#[tokio::test]
async fn an_update_whose_storing_was_not_answered_is_not_overtaken_by_a_newer_one() {
    let (loops, clay) = ends().await;
    let mut cloud = between(&loops, &clay).await;
    cloud.stop_workers().await;
    cloud.services().inject("sqs:SendMessage", ServiceFault::LoseResponse);
    loops.set_default_reply(Reply::status(503));
    contact(&cloud.base(), step(1)).await.assert_error_response(429, "unavailable", None);
    loops.set_default_reply(Reply::json(200, TAKEN));
    cloud.services().clear();
    // It may be in the queue, and it is: the newer one goes behind it.
    assert_eq!(contact(&cloud.base(), step(2)).await.status, 202);
    let cloud = again(cloud, &loops).await;
    empty(&cloud, "LoopsQueue").await;
    let steps = steps(&loops);
    assert!(steps.is_sorted() && steps.last() == Some(&2), "{steps:?}");
}

#[tokio::test]
async fn what_goes_first_and_dies_is_a_dead_letter_also_where_it_has_no_message() {
    let (loops, clay) = ends().await;
    let cloud = between(&loops, &clay).await;
    loops.set_default_reply(Reply::Hang);
    let base = cloud.base();
    let first = tokio::spawn(async move { contact(&base, step(1)).await });
    eventually("the first at Loops", async || (!loops.received().is_empty()).then_some(())).await;
    assert_eq!(contact(&cloud.base(), step(2)).await.status, 202);
    cloud.services().inject("sqs:SendMessage", ServiceFault::InternalError);
    // It could not be stored, and its caller knows; but what is on record goes before the other.
    first.await.unwrap().assert_error_response(429, "unavailable", None);
    loops.enqueue_replies([Reply::json(422, r#"{"message":"no"}"#)]);
    loops.set_default_reply(Reply::json(200, TAKEN));
    cloud.services().clear();
    empty(&cloud, "LoopsQueue").await;
    assert_eq!(cloud.dead_letter_reasons("LoopsDeadLetters").await, ["loops_rejected"]);
    assert_eq!(steps(&loops).last(), Some(&2));
}

#[tokio::test]
async fn an_event_that_died_and_was_mended_is_sent() {
    let (loops, clay) = ends().await;
    loops.set_default_reply(Reply::json(422, r#"{"message":"bad property"}"#));
    let cloud = between(&loops, &clay).await;
    let row = |plan: &str| json!({"email": "ada@example.com", "eventName": "e", "plan": plan}).to_string();
    assert_eq!(send(&cloud.base(), Route::Event, "", &LATER, row("wrong")).await.status, 202);
    eventually("a dead letter", async || (cloud.queue_length("LoopsDeadLetters").await == 1).then_some(())).await;
    empty(&cloud, "LoopsQueue").await;
    loops.set_default_reply(Reply::json(200, TAKEN));
    let before = loops.received().len();
    assert_eq!(send(&cloud.base(), Route::Event, "", &LATER, row("right")).await.status, 202);
    empty(&cloud, "LoopsQueue").await;
    assert_eq!((loops.received().len() - before, cloud.queue_length("LoopsDeadLetters").await), (1, 1));
}

#[tokio::test]
async fn a_lane_that_a_killed_function_has_left_closed_opens_again() {
    let (loops, clay) = ends().await;
    let cloud = between(&loops, &clay).await;
    // As a function leaves it that is killed before its message is in the queue, half an hour ago.
    let then = relay_testkit::webhook::now() * 1000 - 1_800_000;
    let table = cloud.stack().clients().dynamodb();
    let string = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let waiting = aws_sdk_dynamodb::types::AttributeValue::Ss(vec![format!("{then:015}#contact_gone")]);
    let put = table.put_item().table_name(cloud.stack().table()).item("pk", string(&contact_key()));
    put.item("waiting", waiting).send().await.unwrap();

    assert_eq!(contact(&cloud.base(), step(1)).await.status, 202, "it joins what seems to wait");
    empty(&cloud, "LoopsQueue").await;
    assert_eq!(contact(&cloud.base(), step(2)).await.status, 200, "and the next goes directly");
    assert_eq!(steps(&loops), [1, 2]);
}

fn contact_key() -> String {
    format!("contact#{}", relay_core::contact::ContactKey::from_email("ada@example.com").as_str())
}

#[tokio::test]
async fn a_delivery_that_dies_again_after_it_was_taken_out_of_the_dead_letters_is_kept_again() {
    let (loops, clay) = ends().await;
    clay.set_default_reply(Reply::status(422));
    let cloud = between(&loops, &clay).await;
    assert_eq!(post(&cloud.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    eventually("a dead letter", async || (cloud.queue_length("ClayDeadLetters").await == 1).then_some(())).await;
    // As SQS' own redrive does it.
    let (sqs, stack) = (cloud.stack().clients().sqs(), cloud.stack());
    let letters = sqs.receive_message().queue_url(stack.queue("ClayDeadLetters")).message_attribute_names("All");
    let letter = letters.send().await.unwrap().messages.unwrap().remove(0);
    let redriven = sqs.send_message().queue_url(stack.queue("ClayQueue")).message_body(letter.body.unwrap());
    let redriven = redriven.set_message_attributes(letter.message_attributes);
    redriven.message_group_id("g").message_deduplication_id("redriven").send().await.unwrap();
    let receipt = letter.receipt_handle.unwrap();
    sqs.delete_message().queue_url(stack.queue("ClayDeadLetters")).receipt_handle(receipt).send().await.unwrap();
    eventually("a second try", async || (clay.received().len() == 2).then_some(())).await;
    empty(&cloud, "ClayQueue").await;
    assert_eq!(cloud.queue_length("ClayDeadLetters").await, 1);
    assert_eq!(deliveries::list(&cloud).await[0]["state"], "dead");
}
