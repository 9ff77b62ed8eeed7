//! The list of contact properties: when Loops is asked for it, and that no row waits for it.

use std::time::{Duration, Instant};

use relay_testkit::eventually;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::contact;

use super::{start_loops, start_relay};
use crate::Relay;

const SEATS_PROPERTY_LIST: &str = r#"[{"key":"seats","label":"Seats","type":"number"}]"#;
const ROW: &str = r#"{"email":"ada@example.com","seats":"42"}"#;

#[tokio::test]
async fn property_list_is_fetched_once_and_used_from_first_row() {
    let loops = start_loops().await;
    loops.set_properties_reply(Reply::json(200, SEATS_PROPERTY_LIST));
    let relay = start_relay(&loops, &[]).await;
    for _ in 0..3 {
        assert_eq!(contact(relay.base(), ROW).await.status, 200);
    }
    assert!(
        loops.received().iter().all(|request| request.text() == r#"{"email":"ada@example.com","seats":42}"#),
        "{:?}",
        loops.received()
    );
    let list_requests = loops.property_requests();
    assert_eq!(list_requests.len(), 1);
    assert_eq!(
        (list_requests[0].path.as_str(), list_requests[0].header("authorization")),
        ("/api/v1/contacts/properties", "Bearer loops-key")
    );
}

#[tokio::test]
async fn disabled_setting_fetches_no_list_and_passes_rows_as_is() {
    let loops = start_loops().await;
    loops.set_properties_reply(Reply::json(200, SEATS_PROPERTY_LIST));
    let relay = start_relay(&loops, &[("TYPED_PROPERTIES", "off")]).await;
    assert_eq!(contact(relay.base(), ROW).await.status, 200);
    assert_eq!(loops.received()[0].text(), ROW);
    assert!(loops.property_requests().is_empty());
}

#[tokio::test]
async fn placeholder_key_fetches_no_property_list() {
    let loops = start_loops().await;
    for key in ["", "REPLACE-me"] {
        let relay = start_relay(&loops, &[("LOOPS_API_KEY", key)]).await;
        contact(relay.base(), ROW).await.assert_error_response(502, "not_configured", None);
    }
    assert!(loops.property_requests().is_empty() && loops.received().is_empty());
}

#[tokio::test]
async fn rows_pass_as_is_without_a_property_list() {
    let replies = [Reply::status(401), Reply::status(404), Reply::html(200), Reply::status(500), Reply::Reset];
    for reply in replies {
        let loops = start_loops().await;
        loops.set_properties_reply(reply.clone());
        let relay = start_relay(&loops, &[]).await;
        assert_eq!(contact(relay.base(), ROW).await.status, 200, "{reply:?}");
        assert_eq!(loops.received()[0].text(), ROW, "{reply:?}");
    }
}

#[tokio::test]
async fn hanging_property_list_delays_no_row() {
    let loops = start_loops().await;
    loops.set_properties_reply(Reply::Hang);
    let started_at = Instant::now();
    let relay = start_relay(&loops, &[]).await;
    assert_eq!(contact(relay.base(), ROW).await.status, 200);
    assert_eq!(loops.received()[0].text(), ROW);
    println!("a start and a row beside a list that hangs took {:?}", started_at.elapsed());
    // The start waits a second for it; the first row has it asked for once more, and does not wait.
    assert!((1..=2).contains(&loops.property_requests().len()));
}

#[tokio::test]
async fn failed_property_list_is_not_refetched_by_every_row() {
    let loops = start_loops().await;
    loops.set_properties_reply(Reply::status(503));
    let relay = start_relay(&loops, &[]).await;
    for _ in 0..20 {
        assert_eq!(contact(relay.base(), ROW).await.status, 200);
    }
    assert_eq!(loops.property_requests().len(), 1);
}

#[tokio::test]
async fn property_list_429_throttles_rows() {
    let loops = MockDestination::start(Reply::json(200, r#"{"success":true}"#)).await;
    loops.set_properties_reply(Reply::status(429).with_header("Retry-After", "2"));
    let url = loops.url("/api");
    let started_at = Instant::now();
    let relay = Relay::start(&[("LOOPS_API_URL", &url), ("LOOPS_API_KEY", "loops-key")]).await;
    assert_eq!(contact(relay.base(), ROW).await.status, 202);
    eventually("the row at Loops", async || (!loops.received().is_empty()).then_some(())).await;
    assert!(started_at.elapsed() >= Duration::from_secs(2), "{:?}", started_at.elapsed());
}
