//! What a queue took without saying so: the relay may send it another way, but never after something newer.

use relay_tests::cloud::services::Trouble;
use relay_tests::cloud::{Cloud, Setup};
use relay_tests::eventually;
use relay_tests::far_end::{FarEnd, Reply};
use relay_tests::row::{Route, contact, send};
use serde_json::{Value, json};

use crate::{between, settings};

const TAKEN: &str = r#"{"success":true,"id":"c1"}"#;

/// A contact's update.
fn step(number: u32) -> String {
    json!({"email": "ada@example.com", "step": number}).to_string()
}

/// The steps that have come to Loops.
fn steps(loops: &FarEnd) -> Vec<Value> {
    let step = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["step"].clone();
    loops.got().iter().map(|got| step(&got.body)).collect()
}

/// Lets the workers come to what the queue has, and waits until it has nothing.
async fn drain(cloud: Cloud, loops: &FarEnd) -> Cloud {
    let kept = cloud.stop().await;
    let cloud = Cloud::start_in(kept, Setup { settings: settings(loops), ..Setup::default() }).await;
    eventually("an empty queue", async || (cloud.length("LoopsQueue").await == 0).then_some(())).await;
    cloud
}

#[tokio::test]
async fn an_update_that_the_queue_took_without_saying_so_does_not_come_after_a_newer_one() {
    let (loops, clay) = (FarEnd::start(Reply::json(200, TAKEN)).await, FarEnd::start(Reply::status(200)).await);
    let mut cloud = between(&loops, &clay).await;
    cloud.stop_workers().await;
    cloud.services().trouble("sqs:SendMessage", Trouble::LosesAnswers);
    let later = [("prefer", "respond-async")];
    let first = send(&cloud.base(), Route::Contact, "", &later, step(1)).await;
    assert_eq!(first.status, 200, "it could not be stored for sure, so it was sent: {}", first.text());
    assert_eq!(cloud.length("LoopsQueue").await, 1, "and yet it is there");
    cloud.services().mend();
    assert_eq!(contact(&cloud.base(), step(2)).await.status, 200);
    let _cloud = drain(cloud, &loops).await;
    assert_eq!(steps(&loops), [1, 2]);
}

#[tokio::test]
async fn an_update_that_was_tried_and_then_stored_without_an_answer_is_refused_and_not_sent_after_a_newer_one() {
    let (loops, clay) = (FarEnd::start(Reply::json(200, TAKEN)).await, FarEnd::start(Reply::status(200)).await);
    loops.then([Reply::status(503), Reply::status(503)]);
    let mut cloud = between(&loops, &clay).await;
    cloud.stop_workers().await;
    cloud.services().trouble("sqs:SendMessage", Trouble::LosesAnswers);
    contact(&cloud.base(), step(1)).await.assert_refused(429, "unavailable", None);
    assert_eq!(cloud.length("LoopsQueue").await, 1, "and yet it is there");
    cloud.services().mend();
    assert_eq!(contact(&cloud.base(), step(2)).await.status, 200);
    let _cloud = drain(cloud, &loops).await;
    assert_eq!(steps(&loops), [1, 1, 2], "two tries of the first, both refused; then the second");
}
