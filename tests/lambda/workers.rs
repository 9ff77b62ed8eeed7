//! The two workers: order, repeats, dead letters, and failing destinations.

use relay_testkit::http::send;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::RELAY_TOKEN;
use relay_testkit::{eventually, webhook};
use serde_json::{Value, json};

use crate::start_stack;

const ACCEPTED_BODY: &str = r#"{"success":true,"id":"c1"}"#;

async fn send_row(base: &str, prefer: &str, row: &Value) -> u16 {
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("prefer", prefer)];
    send("PUT", &format!("{base}/api/v1/contacts/update"), &headers, row.to_string()).await.status
}

#[tokio::test]
async fn repeated_webhook_is_one_row_and_conflicting_body_dead() {
    let (loops, clay) = (
        MockDestination::start(Reply::json(200, ACCEPTED_BODY)).await,
        MockDestination::start(Reply::status(200)).await,
    );
    let fake_stack = start_stack(&loops, &clay).await;
    for _ in 0..2 {
        webhook::post(&fake_stack.base(), "msg_1", &webhook::contact_created("ada@example.com")).await;
    }
    eventually("a row at Clay", async || (!clay.received().is_empty()).then_some(())).await;
    webhook::post(&fake_stack.base(), "msg_1", &webhook::contact_created("bob@example.com")).await;
    let reasons = eventually("a dead letter", async || {
        Some(fake_stack.dead_letter_reasons("ClayDeadLetters").await).filter(|reasons| !reasons.is_empty())
    })
    .await;
    assert_eq!(reasons, ["id_conflict"], "{}", fake_stack.log());
    assert_eq!(clay.received().len(), 1);
}

#[tokio::test]
async fn rows_during_loops_outage_are_queued_and_arrive_in_order() {
    let (loops, clay) =
        (MockDestination::start(Reply::status(503)).await, MockDestination::start(Reply::status(200)).await);
    let fake_stack = start_stack(&loops, &clay).await;
    for step in 0..3 {
        assert_eq!(
            send_row(&fake_stack.base(), "", &json!({"email": "ada@example.com", "step": step})).await,
            202,
            "{}",
            fake_stack.log()
        );
    }
    let earlier_requests = loops.received().len();
    loops.set_default_reply(Reply::json(200, ACCEPTED_BODY));
    let steps = eventually("three rows at Loops", async || {
        let bodies: Vec<Value> = loops
            .received()
            .iter()
            .skip(earlier_requests)
            .map(|request| serde_json::from_slice(&request.body).unwrap())
            .collect();
        let mut steps: Vec<i64> = bodies.iter().map(|body| body["step"].as_i64().unwrap()).collect();
        steps.dedup();
        (steps.last() == Some(&2)).then_some(steps)
    })
    .await;
    assert!(steps.ends_with(&[0, 1, 2]), "{steps:?}");
    // With an empty queue, the next row takes the fast path.
    eventually("an empty queue", async || (fake_stack.queue_length("LoopsQueue").await == 0).then_some(())).await;
    assert_eq!(
        send_row(&fake_stack.base(), "", &json!({"email": "ada@example.com", "step": 3})).await,
        200,
        "{}",
        fake_stack.log()
    );
}

#[tokio::test]
async fn queued_row_rejected_by_loops_is_dead_lettered() {
    let (loops, clay) =
        (MockDestination::start(Reply::status(422)).await, MockDestination::start(Reply::status(200)).await);
    let fake_stack = start_stack(&loops, &clay).await;
    assert_eq!(
        send_row(&fake_stack.base(), "respond-async", &json!({"email": "ada@example.com"})).await,
        202,
        "{}",
        fake_stack.log()
    );
    let reasons = eventually("a dead letter", async || {
        Some(fake_stack.dead_letter_reasons("LoopsDeadLetters").await).filter(|reasons| !reasons.is_empty())
    })
    .await;
    assert_eq!(reasons, ["loops_rejected"], "{}", fake_stack.log());
    eventually("an empty queue", async || (fake_stack.queue_length("LoopsQueue").await == 0).then_some(())).await;
}

#[tokio::test]
async fn malformed_message_is_dead_lettered() {
    let (loops, clay) = (
        MockDestination::start(Reply::json(200, ACCEPTED_BODY)).await,
        MockDestination::start(Reply::status(200)).await,
    );
    let fake_stack = start_stack(&loops, &clay).await;
    let send = fake_stack
        .stack()
        .clients()
        .sqs()
        .send_message()
        .queue_url(fake_stack.stack().queue("ClayQueue"))
        .message_body("hello");
    send.message_group_id("g").message_deduplication_id("d").send().await.unwrap();
    let reasons = eventually("a dead letter", async || {
        Some(fake_stack.dead_letter_reasons("ClayDeadLetters").await).filter(|reasons| !reasons.is_empty())
    })
    .await;
    assert_eq!(reasons, ["malformed"]);
    eventually("an empty queue", async || (fake_stack.queue_length("ClayQueue").await == 0).then_some(())).await;
}

#[tokio::test]
async fn failed_clay_call_is_retried_after_its_retry_after() {
    let (loops, clay) = (
        MockDestination::start(Reply::json(200, ACCEPTED_BODY)).await,
        MockDestination::start(Reply::status(200)).await,
    );
    clay.enqueue_replies([Reply::status(429).with_header("Retry-After", "2"), Reply::status(500)]);
    let fake_stack = start_stack(&loops, &clay).await;
    webhook::post(&fake_stack.base(), "msg_1", &webhook::contact_created("ada@example.com")).await;
    eventually("three posts at Clay", async || (clay.received().len() == 3).then_some(())).await;
    let requests = clay.received();
    assert!(
        requests[1].received_at - requests[0].received_at >= std::time::Duration::from_secs(2),
        "{}",
        fake_stack.log()
    );
    eventually("an empty queue", async || (fake_stack.queue_length("ClayQueue").await == 0).then_some(())).await;
}
