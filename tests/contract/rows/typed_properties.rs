//! The list of contact properties: who asks Loops for it, and that no row waits for it.

use std::time::{Duration, Instant};

use relay_testkit::eventually;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::contact;

use super::{loops, relay_to};
use crate::Relay;

const SEATS: &str = r#"[{"key":"seats","label":"Seats","type":"number"}]"#;
const ROW: &str = r#"{"email":"ada@example.com","seats":"42"}"#;

#[tokio::test]
async fn the_list_is_asked_for_once_with_loops_key_and_is_in_use_from_the_first_row_on() {
    let loops = loops().await;
    loops.set_properties_reply(Reply::json(200, SEATS));
    let relay = relay_to(&loops, &[]).await;
    for _ in 0..3 {
        assert_eq!(contact(relay.base(), ROW).await.status, 200);
    }
    assert!(
        loops.received().iter().all(|got| got.text() == r#"{"email":"ada@example.com","seats":42}"#),
        "{:?}",
        loops.received()
    );
    let asked = loops.property_requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (asked[0].path.as_str(), asked[0].header("authorization")),
        ("/api/v1/contacts/properties", "Bearer loops-key")
    );
}

#[tokio::test]
async fn with_the_setting_off_nobody_asks_and_rows_pass_as_they_are() {
    let loops = loops().await;
    loops.set_properties_reply(Reply::json(200, SEATS));
    let relay = relay_to(&loops, &[("TYPED_PROPERTIES", "off")]).await;
    assert_eq!(contact(relay.base(), ROW).await.status, 200);
    assert_eq!(loops.received()[0].text(), ROW);
    assert!(loops.property_requests().is_empty());
}

#[tokio::test]
async fn a_placeholder_is_no_key_to_ask_with() {
    let loops = loops().await;
    for key in ["", "REPLACE-me"] {
        let relay = relay_to(&loops, &[("LOOPS_API_KEY", key)]).await;
        contact(relay.base(), ROW).await.assert_error_response(502, "not_configured", None);
    }
    assert!(loops.property_requests().is_empty() && loops.received().is_empty());
}

#[tokio::test]
async fn where_the_list_cannot_be_had_rows_pass_as_they_are() {
    let answers = [Reply::status(401), Reply::status(404), Reply::html(200), Reply::status(500), Reply::Reset];
    for answer in answers {
        let loops = loops().await;
        loops.set_properties_reply(answer.clone());
        let relay = relay_to(&loops, &[]).await;
        assert_eq!(contact(relay.base(), ROW).await.status, 200, "{answer:?}");
        assert_eq!(loops.received()[0].text(), ROW, "{answer:?}");
    }
}

#[tokio::test]
async fn a_list_that_does_not_come_delays_no_row() {
    let loops = loops().await;
    loops.set_properties_reply(Reply::Hang);
    let began = Instant::now();
    let relay = relay_to(&loops, &[]).await;
    assert_eq!(contact(relay.base(), ROW).await.status, 200);
    assert_eq!(loops.received()[0].text(), ROW);
    println!("a start and a row beside a list that hangs took {:?}", began.elapsed());
    // The start waits a second for it; the first row has it asked for once more, and does not wait.
    assert!((1..=2).contains(&loops.property_requests().len()));
}

#[tokio::test]
async fn a_list_that_failed_is_not_asked_for_again_by_every_row() {
    let loops = loops().await;
    loops.set_properties_reply(Reply::status(503));
    let relay = relay_to(&loops, &[]).await;
    for _ in 0..20 {
        assert_eq!(contact(relay.base(), ROW).await.status, 200);
    }
    assert_eq!(loops.property_requests().len(), 1);
}

#[tokio::test]
async fn a_429_for_the_list_is_minded_by_the_rows() {
    let loops = MockDestination::start(Reply::json(200, r#"{"success":true}"#)).await;
    loops.set_properties_reply(Reply::status(429).with_header("Retry-After", "2"));
    let url = loops.url("/api");
    let began = Instant::now();
    let relay = Relay::start(&[("LOOPS_API_URL", &url), ("LOOPS_API_KEY", "loops-key")]).await;
    assert_eq!(contact(relay.base(), ROW).await.status, 202);
    eventually("the row at Loops", async || (!loops.received().is_empty()).then_some(())).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}
