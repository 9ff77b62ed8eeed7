//! One delivery id from ingress to destination: in the response, in the call, and in every line of the log.

use relay_testkit::mock_destination::ReceivedRequest;
use relay_testkit::row::{Route, contact, send};
use relay_testkit::webhook::{contact_created, post};
use relay_testkit::{eventually, http};
use serde_json::Value;

use super::rows::{contact_row, row_for, start_loops, start_relay};
use super::telemetry::wait_for_line;
use super::webhooks::{self, start_clay};

const DELIVERY_ID_HEADER: &str = "x-relay-delivery-id";

async fn first_request(requests: impl Fn() -> Vec<ReceivedRequest>) -> ReceivedRequest {
    eventually("a call at the destination", async || requests().into_iter().next()).await
}

#[tokio::test]
async fn webhook_keeps_its_delivery_id_until_clay() {
    let clay = start_clay().await;
    let relay = webhooks::start_relay(&clay, &[]).await;
    let response = post(relay.base(), "msg_1", &contact_created("ada@example.com")).await;
    let id = response.headers[DELIVERY_ID_HEADER].clone();
    assert_eq!(first_request(|| clay.received()).await.header(DELIVERY_ID_HEADER), id);
    let stored = wait_for_line(&relay, &[("delivery.id", &id), ("outcome", "queued")]).await;
    let delivered = wait_for_line(&relay, &[("delivery.id", &id), ("outcome", "delivered")]).await;
    assert_eq!((&stored["webhook.id"], &delivered["webhook.id"]), (&"msg_1".into(), &"msg_1".into()));
    assert_eq!((&stored["loops.event"], &delivered["attempts"]), (&"contact.created".into(), &1.into()));
    // The contact is the same hash in both, and not the unkeyed one.
    let hash = stored["contact"].as_str().unwrap_or_default();
    assert!(hash.len() == 16 && delivered["contact"] == hash, "{stored} {delivered}");
    assert!(!relay_core::contact::ContactKey::from_email("ada@example.com").as_str().starts_with(hash));
    for line in [&stored, &delivered] {
        assert!(line["ms"].is_u64(), "{line}");
    }
    assert!(delivered["destination_ms"].is_u64() && delivered["age_ms"].is_u64(), "{delivered}");
    let repeat = post(relay.base(), "msg_1", &contact_created("ada@example.com")).await;
    assert_eq!(repeat.headers[DELIVERY_ID_HEADER], id, "a repeat is the same delivery");
}

#[tokio::test]
async fn row_keeps_its_delivery_id_on_fast_path_and_queue() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let sync_response = contact(relay.base(), contact_row("ada@example.com")).await;
    assert_eq!(
        first_request(|| loops.received()).await.header(DELIVERY_ID_HEADER),
        sync_response.headers[DELIVERY_ID_HEADER]
    );
    let line =
        wait_for_line(&relay, &[("delivery.id", &sync_response.headers[DELIVERY_ID_HEADER]), ("outcome", "delivered")])
            .await;
    assert_eq!((&line["row"], &line["attempts"]), (&Value::from("contact"), &1.into()));
    let stored = send(relay.base(), Route::Event, "", &[("prefer", "respond-async")], row_for("bob@example.com")).await;
    let id = &stored.headers[DELIVERY_ID_HEADER];
    eventually("the stored row at Loops", async || {
        loops.received().iter().find(|request| request.header(DELIVERY_ID_HEADER) == id).map(drop)
    })
    .await;
    wait_for_line(&relay, &[("delivery.id", id), ("outcome", "queued")]).await;
    wait_for_line(&relay, &[("delivery.id", id), ("outcome", "delivered"), ("row", "event")]).await;
}

#[tokio::test]
async fn every_rejection_has_a_delivery_id_found_in_the_log() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let unsigned = http::send("POST", &format!("{}/webhooks/loops", relay.base()), &[], "{}").await;
    let no_contact = contact(relay.base(), "{}").await;
    for (response, code) in [(unsigned, "missing_header"), (no_contact, "missing_field")] {
        let id = &response.headers[DELIVERY_ID_HEADER];
        let line = wait_for_line(&relay, &[("delivery.id", id), ("outcome", "refused")]).await;
        assert_eq!((&line["code"], response.status_and_code().1.as_str()), (&Value::from(code), code));
    }
}
