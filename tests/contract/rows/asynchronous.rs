//! Rows over the rate limit of Loops: queued, answered with 202, and delivered in order.

use std::time::{Duration, Instant};

use crate::Relay;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually_within;
use relay_testkit::mock_destination::{MockDestination, Reply, UnusedPort};
use relay_testkit::row::{Route, contact, send};
use serde_json::{Value, json};

use super::{ROUTES, assert_queued, contact_row, row_on, start_loops, start_relay, wait_for_bodies};

/// A row that failed four times waits 16 s at most, and then perhaps for a destination that is probed every 10 s; twice
/// that.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until everything that is stored is delivered, and gives the ids.
async fn wait_until_all_delivered(relay: &Relay) -> Vec<String> {
    eventually_within(DELIVERY_TIMEOUT, "every row delivered", async || {
        let deliveries = relay.deliveries().await;
        let all = deliveries.iter().all(|delivery| delivery["state"] == "delivered");
        all.then(|| deliveries.iter().map(|delivery| delivery["id"].as_str().unwrap_or_default().to_owned()).collect())
    })
    .await
}

#[tokio::test]
async fn rows_are_queued_during_loops_failures_and_then_delivered() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let mut ids = Vec::new();
    for status in [429, 408, 425, 500, 502, 503, 504, 529, 599] {
        loops.set_default_reply(Reply::status(status));
        for route in ROUTES {
            let row = row_on(route, &format!("{}-{status}@example.com", route.method()));
            ids.push(assert_queued(&send(relay.base(), route, "", &[], row).await));
        }
    }
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    assert_eq!(wait_until_all_delivered(&relay).await, ids);
}

#[tokio::test]
async fn retry_after_of_loops_delays_all_rows() {
    let loops = MockDestination::start(Reply::status(429).with_header("Retry-After", "3")).await;
    let relay = start_relay(&loops, &[]).await;
    assert_queued(&contact(relay.base(), contact_row("ada@example.com")).await);
    assert_queued(&contact(relay.base(), contact_row("bob@example.com")).await);
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    wait_until_all_delivered(&relay).await;
    let requests = loops.received();
    assert!(
        requests[1].received_at - requests[0].received_at >= Duration::from_secs(3),
        "{:?}",
        requests[1].received_at - requests[0].received_at
    );
}

#[tokio::test]
async fn hanging_loops_is_not_awaited_beyond_the_timeout_of_clay() {
    let loops = MockDestination::start(Reply::Hang).await;
    let relay = start_relay(&loops, &[]).await;
    let started_at = Instant::now();
    let id = assert_queued(&contact(relay.base(), contact_row("ada@example.com")).await);
    assert!(started_at.elapsed() < Duration::from_secs(12), "{:?}", started_at.elapsed());
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    assert_eq!(relay.wait_for_state("delivered").await["id"], id.as_str());
}

#[tokio::test]
async fn unreachable_or_resetting_loops_loses_no_row() {
    let unused_port = UnusedPort::new();
    let url = unused_port.url("/api");
    let relay = Relay::start(&[("LOOPS_API_URL", &url), ("LOOPS_API_KEY", "loops-key")]).await;
    let id = assert_queued(&contact(relay.base(), contact_row("ada@example.com")).await);
    assert_eq!(relay.wait_for_state("waiting").await["id"], id.as_str());
    let loops = unused_port.listen(Reply::json(200, r#"{"success":true}"#));
    relay.wait_for_state("delivered").await;
    assert_eq!(loops.received().len(), 1);

    let loops = MockDestination::start(Reply::Reset).await;
    let relay = start_relay(&loops, &[]).await;
    assert_queued(&contact(relay.base(), contact_row("ada@example.com")).await);
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    relay.wait_for_state("delivered").await;
}

#[tokio::test]
async fn row_waits_behind_a_queued_row_of_its_contact() {
    let loops = MockDestination::start(Reply::status(500)).await;
    let relay = start_relay(&loops, &[]).await;
    let row = |email: &str, step: usize| json!({"email": email, "step": step}).to_string();
    let event_row = json!({"email": " ada@example.com", "eventName": "x", "step": 2}).to_string();
    let mut ids = vec![assert_queued(&contact(relay.base(), row("ada@example.com", 0)).await)];
    let earlier_requests = loops.received().len();
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    ids.push(assert_queued(&contact(relay.base(), row("Ada@Example.com", 1)).await));
    ids.push(assert_queued(&send(relay.base(), Route::Event, "", &[], event_row).await));
    ids.push(assert_queued(&contact(relay.base(), row("ADA@EXAMPLE.COM", 3)).await));
    let other = contact(relay.base(), row("bob@example.com", 9)).await;
    assert_eq!(other.status, 200, "another contact does not wait: {}", other.text());

    let listed = wait_until_all_delivered(&relay).await;
    assert_eq!(listed.iter().filter(|id| ids.contains(id)).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    let steps: Vec<Value> = loops.received()[earlier_requests..].iter().map(step).collect();
    assert_eq!(steps, [json!(9), json!(0), json!(1), json!(2), json!(3)]);
}

fn step(request: &relay_testkit::mock_destination::ReceivedRequest) -> Value {
    serde_json::from_slice::<Value>(&request.body).unwrap()["step"].clone()
}

#[tokio::test]
async fn rows_with_only_a_user_id_are_ordered_by_it() {
    let loops = start_loops().await;
    loops.enqueue_replies([Reply::status(500), Reply::status(500)]);
    let relay = start_relay(&loops, &[]).await;
    assert_queued(&contact(relay.base(), r#"{"userId":7,"step":0}"#).await);
    assert_queued(&contact(relay.base(), r#"{"userId":"7","email":"","step":1}"#).await);
    wait_until_all_delivered(&relay).await;
    let steps: Vec<Value> = loops.received().iter().map(step).collect();
    assert_eq!(steps, [json!(0), json!(0), json!(0), json!(1)]);
}

#[tokio::test]
async fn async_preference_gets_202_at_once() {
    let loops = MockDestination::start(Reply::Hang).await;
    let relay = start_relay(&loops, &[]).await;
    let started_at = Instant::now();
    for (number, prefer) in ["respond-async", "Respond-Async", "wait=5, respond-async"].into_iter().enumerate() {
        for route in ROUTES {
            let row = row_on(route, &format!("n{number}@example.com"));
            assert_queued(&send(relay.base(), route, "", &[("prefer", prefer)], row).await);
        }
    }
    assert!(started_at.elapsed() < Duration::from_secs(3), "{:?}", started_at.elapsed());
}

#[tokio::test]
async fn async_row_is_delivered_under_its_response_id() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let row = r#"{"email":"ada@example.com"}"#;
    let id = assert_queued(&send(relay.base(), Route::Contact, "", &[("prefer", "respond-async")], row).await);
    let delivery = relay.wait_for_state("delivered").await;
    assert_eq!((&delivery["id"], &delivery["direction"]), (&json!(id), &json!("clay-to-loops")));
    assert_eq!(wait_for_bodies(&loops, 1).await, [row]);
    let other = send(relay.base(), Route::Contact, "", &[("prefer", "wait=5")], row).await;
    assert_eq!(other.status, 200, "another preference is not minded: {}", other.text());
}

#[tokio::test]
async fn stored_row_keeps_characters_that_a_queue_refuses() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    for row in [
        "{\"email\":\"ada@example.com\",\"note\":\"A\u{fffe}d\u{ffff}a\"}",
        r#"{"email":"ada@example.com","note":"A\ufffed\uffffa"}"#,
    ] {
        assert_queued(&send(relay.base(), Route::Contact, "", &[("prefer", "respond-async")], row).await);
    }
    let expected = "{\"email\":\"ada@example.com\",\"note\":\"A\u{fffe}d\u{ffff}a\"}";
    assert_eq!(wait_for_bodies(&loops, 2).await, [expected, expected]);
}

#[tokio::test]
async fn async_rows_are_delivered_in_order() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    for step in 0..10 {
        let row = json!({"email": "ada@example.com", "step": step}).to_string();
        assert_queued(&send(relay.base(), Route::Contact, "", &[("prefer", "respond-async")], row).await);
    }
    wait_for_bodies(&loops, 10).await;
    let steps: Vec<Value> = loops.received().iter().map(step).collect();
    assert_eq!(steps, (0..10).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn late_rejection_is_dead_lettered_and_unblocks_contact() {
    let loops = MockDestination::start(Reply::json(400, r#"{"success":false,"message":"No."}"#)).await;
    loops.enqueue_replies([Reply::status(500), Reply::status(500)]);
    let relay = start_relay(&loops, &[]).await;
    let rejected_id = assert_queued(&contact(relay.base(), contact_row("ada@example.com")).await);
    let dead = relay.wait_for_state("dead").await;
    assert_eq!((&dead["id"], &dead["reason"]), (&json!(rejected_id), &json!("loops_rejected")));
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    assert_eq!(contact(relay.base(), contact_row("ada@example.com")).await.status, 200);
}
