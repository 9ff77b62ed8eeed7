//! An event that found no route, moved back from the dead letters to the queue.

use relay_testkit::eventually;
use relay_testkit::lambda_fake::{FakeStack, Setup};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::webhook::{self, contact_created, post};
use serde_json::{Value, json};

use crate::{settings, to_loops};

fn document(clay: &MockDestination, routes: &[(&str, &str)]) -> Value {
    let route = |(name, event): &(&str, &str)| json!({"name": name, "events": [event], "webhooks": [{"url": clay.url(&format!("/{name}"))}]});
    json!({"loops_signing_secrets": [webhook::SIGNING_SECRET], "clay_routes": routes.iter().map(route).collect::<Vec<_>>()})
}

/// Moves the only dead letter back to its queue, as SQS' own redrive does.
async fn redrive(cloud: &FakeStack, token: &str) {
    let (sqs, stack) = (cloud.stack().clients().sqs(), cloud.stack());
    let letters = sqs.receive_message().queue_url(stack.queue("ClayDeadLetters")).message_attribute_names("All");
    let letter = letters.send().await.unwrap().messages.unwrap().remove(0);
    let send = sqs.send_message().queue_url(stack.queue("ClayQueue")).message_body(letter.body.unwrap());
    let send = send.set_message_attributes(letter.message_attributes);
    send.message_group_id("g").message_deduplication_id(token).send().await.unwrap();
    let receipt = letter.receipt_handle.unwrap();
    sqs.delete_message().queue_url(stack.queue("ClayDeadLetters")).receipt_handle(receipt).send().await.unwrap();
}

async fn settled(cloud: &FakeStack, dead: u64) {
    eventually("an empty queue", async || {
        let (waiting, kept) = (cloud.queue_length("ClayQueue").await, cloud.queue_length("ClayDeadLetters").await);
        (waiting == 0 && kept == dead).then_some(())
    })
    .await;
}

#[tokio::test]
async fn it_dies_again_where_there_is_still_no_route_and_goes_to_every_route_that_there_is() {
    let (loops, clay) =
        (MockDestination::start(Reply::status(200)).await, MockDestination::start(Reply::status(200)).await);
    let mut settings = settings(&loops);
    settings.push(("RELAYED_EVENTS".to_owned(), "contact.*".to_owned()));
    let setup = |routes: &[(&str, &str)]| Setup {
        loops_to_clay: Some(document(&clay, routes)),
        clay_to_loops: Some(to_loops()),
        settings: settings.clone(),
        ..Setup::default()
    };
    let cloud = FakeStack::start(setup(&[("other", "contact.deleted")])).await;
    let answer = post(&cloud.base(), "msg_1", &contact_created("ada@example.com")).await;
    assert_eq!(answer.json()["status"], "rejected");
    redrive(&cloud, "first").await;
    settled(&cloud, 1).await;
    assert_eq!(cloud.dead_letter_reasons("ClayDeadLetters").await, ["no_route"]);
    assert!(clay.received().is_empty());

    let cloud =
        FakeStack::start_in(cloud.stop().await, setup(&[("one", "contact.created"), ("two", "contact.*")])).await;
    redrive(&cloud, "second").await;
    settled(&cloud, 0).await;
    let mut paths: Vec<String> = clay.received().into_iter().map(|got| got.path).collect();
    paths.sort();
    assert_eq!(paths, ["/one", "/two"], "{}", cloud.log());
}
