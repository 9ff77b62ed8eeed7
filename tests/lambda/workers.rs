//! The two workers: order, repeats, dead letters, and ends that fail.

use relay_testkit::http::send;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::RELAY_TOKEN;
use relay_testkit::{eventually, webhook};
use serde_json::{Value, json};

use crate::between;

const TAKEN: &str = r#"{"success":true,"id":"c1"}"#;

async fn row(base: &str, prefer: &str, row: &Value) -> u16 {
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("prefer", prefer)];
    send("PUT", &format!("{base}/api/v1/contacts/update"), &headers, row.to_string()).await.status
}

#[tokio::test]
async fn a_repeated_webhook_is_one_row_and_another_body_under_its_id_a_dead_letter() {
    let (loops, clay) =
        (MockDestination::start(Reply::json(200, TAKEN)).await, MockDestination::start(Reply::status(200)).await);
    let cloud = between(&loops, &clay).await;
    for _ in 0..2 {
        webhook::post(&cloud.base(), "msg_1", &webhook::contact_created("ada@example.com")).await;
    }
    eventually("a row at Clay", async || (!clay.received().is_empty()).then_some(())).await;
    webhook::post(&cloud.base(), "msg_1", &webhook::contact_created("bob@example.com")).await;
    let reasons = eventually("a dead letter", async || {
        Some(cloud.dead_letter_reasons("ClayDeadLetters").await).filter(|reasons| !reasons.is_empty())
    })
    .await;
    assert_eq!(reasons, ["id_conflict"], "{}", cloud.log());
    assert_eq!(clay.received().len(), 1);
}

#[tokio::test]
async fn rows_that_find_loops_failing_are_stored_and_arrive_in_order() {
    let (loops, clay) =
        (MockDestination::start(Reply::status(503)).await, MockDestination::start(Reply::status(200)).await);
    let cloud = between(&loops, &clay).await;
    for step in 0..3 {
        assert_eq!(
            row(&cloud.base(), "", &json!({"email": "ada@example.com", "step": step})).await,
            202,
            "{}",
            cloud.log()
        );
    }
    let tried = loops.received().len();
    loops.set_default_reply(Reply::json(200, TAKEN));
    let steps = eventually("three rows at Loops", async || {
        let taken: Vec<Value> =
            loops.received().iter().skip(tried).map(|got| serde_json::from_slice(&got.body).unwrap()).collect();
        let mut steps: Vec<i64> = taken.iter().map(|body| body["step"].as_i64().unwrap()).collect();
        steps.dedup();
        (steps.last() == Some(&2)).then_some(steps)
    })
    .await;
    assert!(steps.ends_with(&[0, 1, 2]), "{steps:?}");
    // With nothing waiting any more, the next row goes directly.
    eventually("an empty queue", async || (cloud.queue_length("LoopsQueue").await == 0).then_some(())).await;
    assert_eq!(row(&cloud.base(), "", &json!({"email": "ada@example.com", "step": 3})).await, 200, "{}", cloud.log());
}

#[tokio::test]
async fn a_row_that_loops_refuses_in_the_queue_is_a_dead_letter_with_its_reason() {
    let (loops, clay) =
        (MockDestination::start(Reply::status(422)).await, MockDestination::start(Reply::status(200)).await);
    let cloud = between(&loops, &clay).await;
    assert_eq!(row(&cloud.base(), "respond-async", &json!({"email": "ada@example.com"})).await, 202, "{}", cloud.log());
    let reasons = eventually("a dead letter", async || {
        Some(cloud.dead_letter_reasons("LoopsDeadLetters").await).filter(|reasons| !reasons.is_empty())
    })
    .await;
    assert_eq!(reasons, ["loops_rejected"], "{}", cloud.log());
    eventually("an empty queue", async || (cloud.queue_length("LoopsQueue").await == 0).then_some(())).await;
}

#[tokio::test]
async fn a_message_that_is_no_delivery_goes_to_the_dead_letters() {
    let (loops, clay) =
        (MockDestination::start(Reply::json(200, TAKEN)).await, MockDestination::start(Reply::status(200)).await);
    let cloud = between(&loops, &clay).await;
    let send =
        cloud.stack().clients().sqs().send_message().queue_url(cloud.stack().queue("ClayQueue")).message_body("hello");
    send.message_group_id("g").message_deduplication_id("d").send().await.unwrap();
    let reasons = eventually("a dead letter", async || {
        Some(cloud.dead_letter_reasons("ClayDeadLetters").await).filter(|reasons| !reasons.is_empty())
    })
    .await;
    assert_eq!(reasons, ["malformed"]);
    eventually("an empty queue", async || (cloud.queue_length("ClayQueue").await == 0).then_some(())).await;
}

#[tokio::test]
async fn what_fails_at_clay_is_tried_again_after_the_time_that_it_asks_for() {
    let (loops, clay) =
        (MockDestination::start(Reply::json(200, TAKEN)).await, MockDestination::start(Reply::status(200)).await);
    clay.enqueue_replies([Reply::status(429).with_header("Retry-After", "2"), Reply::status(500)]);
    let cloud = between(&loops, &clay).await;
    webhook::post(&cloud.base(), "msg_1", &webhook::contact_created("ada@example.com")).await;
    eventually("three posts at Clay", async || (clay.received().len() == 3).then_some(())).await;
    let got = clay.received();
    assert!(got[1].received_at - got[0].received_at >= std::time::Duration::from_secs(2), "{}", cloud.log());
    eventually("an empty queue", async || (cloud.queue_length("ClayQueue").await == 0).then_some(())).await;
}
