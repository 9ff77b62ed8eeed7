//! Rows for which Loops has no room: stored, answered 202, and delivered in their order.

use std::time::{Duration, Instant};

use crate::Relay;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually_within;
use relay_testkit::mock_destination::{MockDestination, Reply, UnusedPort};
use relay_testkit::row::{Route, contact, send};
use serde_json::{Value, json};

use super::{ROUTES, assert_queued, bodies, loops, relay_to, row_of};

/// A row that failed four times waits 16 s at the most, and then perhaps for an end that is asked every 10 s whether it is
/// back; twice that.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until everything that is stored is delivered, and gives the ids.
async fn all_delivered(relay: &Relay) -> Vec<String> {
    eventually_within(PATIENCE, "every row delivered", async || {
        let deliveries = relay.deliveries().await;
        let all = deliveries.iter().all(|delivery| delivery["state"] == "delivered");
        all.then(|| deliveries.iter().map(|delivery| delivery["id"].as_str().unwrap_or_default().to_owned()).collect())
    })
    .await
}

#[tokio::test]
async fn while_loops_is_full_or_fails_rows_are_stored_and_delivered_when_it_has_room() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let mut ids = Vec::new();
    for status in [429, 408, 425, 500, 502, 503, 504, 529, 599] {
        loops.set_default_reply(Reply::status(status));
        for route in ROUTES {
            let row = row_of(&format!("{}-{status}@example.com", route.method()));
            ids.push(assert_queued(&send(relay.base(), route, "", &[], row).await));
        }
    }
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    assert_eq!(all_delivered(&relay).await, ids);
}

#[tokio::test]
async fn a_loops_that_asks_to_be_left_alone_is_left_alone() {
    let loops = MockDestination::start(Reply::status(429).with_header("Retry-After", "3")).await;
    let relay = relay_to(&loops, &[]).await;
    assert_queued(&contact(relay.base(), row_of("ada@example.com")).await);
    assert_queued(&contact(relay.base(), row_of("bob@example.com")).await);
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    all_delivered(&relay).await;
    let got = loops.received();
    assert!(
        got[1].received_at - got[0].received_at >= Duration::from_secs(3),
        "{:?}",
        got[1].received_at - got[0].received_at
    );
}

#[tokio::test]
async fn a_loops_that_hangs_is_not_waited_for_longer_than_clay_waits() {
    let loops = MockDestination::start(Reply::Hang).await;
    let relay = relay_to(&loops, &[]).await;
    let began = Instant::now();
    let id = assert_queued(&contact(relay.base(), row_of("ada@example.com")).await);
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    assert_eq!(relay.wait_for_state("delivered").await["id"], id.as_str());
}

#[tokio::test]
async fn a_loops_that_cannot_be_reached_or_breaks_off_does_not_lose_a_row() {
    let down = UnusedPort::new();
    let url = down.url("/api");
    let relay = Relay::start(&[("LOOPS_API_URL", &url), ("LOOPS_API_KEY", "loops-key")]).await;
    let id = assert_queued(&contact(relay.base(), row_of("ada@example.com")).await);
    assert_eq!(relay.wait_for_state("waiting").await["id"], id.as_str());
    let loops = down.listen(Reply::json(200, r#"{"success":true}"#));
    relay.wait_for_state("delivered").await;
    assert_eq!(loops.received().len(), 1);

    let loops = MockDestination::start(Reply::Reset).await;
    let relay = relay_to(&loops, &[]).await;
    assert_queued(&contact(relay.base(), row_of("ada@example.com")).await);
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    relay.wait_for_state("delivered").await;
}

#[tokio::test]
async fn a_row_that_joins_one_of_the_same_contact_waits_behind_it() {
    let loops = MockDestination::start(Reply::status(500)).await;
    let relay = relay_to(&loops, &[]).await;
    let row = |email: &str, step: usize| json!({"email": email, "eventName": "x", "step": step}).to_string();
    let mut ids = vec![assert_queued(&contact(relay.base(), row("ada@example.com", 0)).await)];
    let tried = loops.received().len();
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    ids.push(assert_queued(&contact(relay.base(), row("Ada@Example.com", 1)).await));
    ids.push(assert_queued(&send(relay.base(), Route::Event, "", &[], row(" ada@example.com", 2)).await));
    ids.push(assert_queued(&contact(relay.base(), row("ADA@EXAMPLE.COM", 3)).await));
    let other = contact(relay.base(), row("bob@example.com", 9)).await;
    assert_eq!(other.status, 200, "another contact does not wait: {}", other.text());

    let listed = all_delivered(&relay).await;
    assert_eq!(listed.iter().filter(|id| ids.contains(id)).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    let steps: Vec<Value> = loops.received()[tried..].iter().map(step).collect();
    assert_eq!(steps, [json!(9), json!(0), json!(1), json!(2), json!(3)]);
}

fn step(got: &relay_testkit::mock_destination::ReceivedRequest) -> Value {
    serde_json::from_slice::<Value>(&got.body).unwrap()["step"].clone()
}

#[tokio::test]
async fn who_is_known_by_a_user_id_alone_is_kept_in_order_by_it() {
    let loops = loops().await;
    loops.enqueue_replies([Reply::status(500), Reply::status(500)]);
    let relay = relay_to(&loops, &[]).await;
    assert_queued(&contact(relay.base(), r#"{"userId":7,"step":0}"#).await);
    assert_queued(&contact(relay.base(), r#"{"userId":"7","email":"","step":1}"#).await);
    all_delivered(&relay).await;
    let steps: Vec<Value> = loops.received().iter().map(step).collect();
    assert_eq!(steps, [json!(0), json!(0), json!(0), json!(1)]);
}

#[tokio::test]
async fn who_prefers_not_to_wait_is_answered_202_at_once() {
    let loops = MockDestination::start(Reply::Hang).await;
    let relay = relay_to(&loops, &[]).await;
    let began = Instant::now();
    for (number, prefer) in ["respond-async", "Respond-Async", "wait=5, respond-async"].into_iter().enumerate() {
        for route in ROUTES {
            let row = row_of(&format!("n{number}@example.com"));
            assert_queued(&send(relay.base(), route, "", &[("prefer", prefer)], row).await);
        }
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_row_that_was_not_waited_for_arrives_under_the_id_that_was_answered() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let row = r#"{"email":"ada@example.com"}"#;
    let id = assert_queued(&send(relay.base(), Route::Contact, "", &[("prefer", "respond-async")], row).await);
    let delivery = relay.wait_for_state("delivered").await;
    assert_eq!((&delivery["id"], &delivery["direction"]), (&json!(id), &json!("clay-to-loops")));
    assert_eq!(bodies(&loops, 1).await, [row]);
    let other = send(relay.base(), Route::Contact, "", &[("prefer", "wait=5")], row).await;
    assert_eq!(other.status, 200, "another preference is not minded: {}", other.text());
}

#[tokio::test]
async fn rows_that_were_not_waited_for_arrive_in_their_order() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for step in 0..10 {
        let row = json!({"email": "ada@example.com", "step": step}).to_string();
        assert_queued(&send(relay.base(), Route::Contact, "", &[("prefer", "respond-async")], row).await);
    }
    bodies(&loops, 10).await;
    let steps: Vec<Value> = loops.received().iter().map(step).collect();
    assert_eq!(steps, (0..10).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_loops_refuses_later_is_kept_as_a_dead_letter_and_holds_up_nothing() {
    let loops = MockDestination::start(Reply::json(400, r#"{"success":false,"message":"No."}"#)).await;
    loops.enqueue_replies([Reply::status(500), Reply::status(500)]);
    let relay = relay_to(&loops, &[]).await;
    let refused = assert_queued(&contact(relay.base(), row_of("ada@example.com")).await);
    let dead = relay.wait_for_state("dead").await;
    assert_eq!((&dead["id"], &dead["reason"]), (&json!(refused), &json!("loops_rejected")));
    loops.set_default_reply(Reply::json(200, r#"{"success":true}"#));
    assert_eq!(contact(relay.base(), row_of("ada@example.com")).await.status, 200);
}
