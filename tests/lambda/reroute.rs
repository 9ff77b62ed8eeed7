//! An event without a route, redriven from the dead-letter queue.

use relay_testkit::eventually;
use relay_testkit::lambda_fake::{FakeStack, Setup};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::webhook::{self, contact_created, post};
use serde_json::{Value, json};

use crate::{clay_to_loops_document, settings};

fn document(clay: &MockDestination, routes: &[(&str, &str)]) -> Value {
    let route = |(name, event): &(&str, &str)| json!({"name": name, "events": [event], "webhooks": [{"url": clay.url(&format!("/{name}"))}]});
    json!({"loops_signing_secrets": [webhook::SIGNING_SECRET], "clay_routes": routes.iter().map(route).collect::<Vec<_>>()})
}

/// Moves the only dead letter back to its queue, as SQS' own redrive does.
async fn redrive(fake_stack: &FakeStack, token: &str) {
    let (sqs, stack) = (fake_stack.stack().clients().sqs(), fake_stack.stack());
    let receive = sqs.receive_message().queue_url(stack.queue("ClayDeadLetters")).message_attribute_names("All");
    let dead_letter = receive.send().await.unwrap().messages.unwrap().remove(0);
    let send = sqs.send_message().queue_url(stack.queue("ClayQueue")).message_body(dead_letter.body.unwrap());
    let send = send.set_message_attributes(dead_letter.message_attributes);
    send.message_group_id("g").message_deduplication_id(token).send().await.unwrap();
    let receipt = dead_letter.receipt_handle.unwrap();
    sqs.delete_message().queue_url(stack.queue("ClayDeadLetters")).receipt_handle(receipt).send().await.unwrap();
}

async fn wait_until_settled(fake_stack: &FakeStack, expected_dead_letters: u64) {
    eventually("an empty queue", async || {
        let (waiting, dead_letters) =
            (fake_stack.queue_length("ClayQueue").await, fake_stack.queue_length("ClayDeadLetters").await);
        (waiting == 0 && dead_letters == expected_dead_letters).then_some(())
    })
    .await;
}

#[tokio::test]
async fn redriven_event_is_dead_lettered_until_routes_exist() {
    let (loops, clay) =
        (MockDestination::start(Reply::status(200)).await, MockDestination::start(Reply::status(200)).await);
    let mut settings = settings(&loops);
    settings.push(("RELAYED_EVENTS".to_owned(), "contact.*".to_owned()));
    let setup = |routes: &[(&str, &str)]| Setup {
        loops_to_clay: Some(document(&clay, routes)),
        clay_to_loops: Some(clay_to_loops_document()),
        settings: settings.clone(),
        ..Setup::default()
    };
    let fake_stack = FakeStack::start(setup(&[("other", "contact.deleted")])).await;
    let response = post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await;
    assert_eq!(response.json()["status"], "rejected");
    redrive(&fake_stack, "first").await;
    wait_until_settled(&fake_stack, 1).await;
    assert_eq!(fake_stack.dead_letter_reasons("ClayDeadLetters").await, ["no_route"]);
    assert!(clay.received().is_empty());

    let fake_stack =
        FakeStack::start_in(fake_stack.stop().await, setup(&[("one", "contact.created"), ("two", "contact.*")])).await;
    redrive(&fake_stack, "second").await;
    wait_until_settled(&fake_stack, 0).await;
    let mut paths: Vec<String> = clay.received().into_iter().map(|request| request.path).collect();
    paths.sort();
    assert_eq!(paths, ["/one", "/two"], "{}", fake_stack.log());
}
