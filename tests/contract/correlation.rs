//! One id from the door to the far end: in the answer, in the call, and in every line of the log.

use relay_testkit::mock_destination::ReceivedRequest;
use relay_testkit::row::{Route, contact, send};
use relay_testkit::webhook::{contact_created, post};
use relay_testkit::{eventually, http};
use serde_json::Value;

use super::rows::{loops, relay_to, row_of};
use super::signals::line_with;
use super::webhooks::{self, clay};

const HEADER: &str = "x-relay-delivery-id";

async fn first(got: impl Fn() -> Vec<ReceivedRequest>) -> ReceivedRequest {
    eventually("a call at the far end", async || got().into_iter().next()).await
}

#[tokio::test]
async fn a_webhook_keeps_its_id_until_clay_has_the_row() {
    let clay = clay().await;
    let relay = webhooks::relay_to(&clay, &[]).await;
    let answer = post(relay.base(), "msg_1", &contact_created("ada@example.com")).await;
    let id = answer.headers[HEADER].clone();
    assert_eq!(first(|| clay.received()).await.header(HEADER), id);
    let stored = line_with(&relay, &[("delivery.id", &id), ("outcome", "queued")]).await;
    let delivered = line_with(&relay, &[("delivery.id", &id), ("outcome", "delivered")]).await;
    assert_eq!((&stored["webhook.id"], &delivered["webhook.id"]), (&"msg_1".into(), &"msg_1".into()));
    assert_eq!((&stored["loops.event"], &delivered["attempts"]), (&"contact.created".into(), &1.into()));
    // Whom it is about is the same hash in both, and not the unkeyed one.
    let hash = stored["contact"].as_str().unwrap_or_default();
    assert!(hash.len() == 16 && delivered["contact"] == hash, "{stored} {delivered}");
    assert!(!relay_core::contact::ContactKey::from_email("ada@example.com").as_str().starts_with(hash));
    for line in [&stored, &delivered] {
        assert!(line["ms"].is_u64(), "{line}");
    }
    assert!(delivered["destination_ms"].is_u64() && delivered["age_ms"].is_u64(), "{delivered}");
    let repeat = post(relay.base(), "msg_1", &contact_created("ada@example.com")).await;
    assert_eq!(repeat.headers[HEADER], id, "a repeat is the same delivery");
}

#[tokio::test]
async fn a_row_keeps_its_id_on_either_way_to_loops() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let direct = contact(relay.base(), row_of("ada@example.com")).await;
    assert_eq!(first(|| loops.received()).await.header(HEADER), direct.headers[HEADER]);
    let line = line_with(&relay, &[("delivery.id", &direct.headers[HEADER]), ("outcome", "delivered")]).await;
    assert_eq!((&line["row"], &line["attempts"]), (&Value::from("contact"), &1.into()));
    let stored = send(relay.base(), Route::Event, "", &[("prefer", "respond-async")], row_of("bob@example.com")).await;
    let id = &stored.headers[HEADER];
    eventually("the stored row at Loops", async || {
        loops.received().iter().find(|got| got.header(HEADER) == id).map(drop)
    })
    .await;
    line_with(&relay, &[("delivery.id", id), ("outcome", "queued")]).await;
    line_with(&relay, &[("delivery.id", id), ("outcome", "delivered"), ("row", "event")]).await;
}

#[tokio::test]
async fn every_refusal_has_an_id_under_which_the_log_tells_why() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let unsigned = http::send("POST", &format!("{}/webhooks/loops", relay.base()), &[], "{}").await;
    let nobody = contact(relay.base(), "{}").await;
    for (answer, code) in [(unsigned, "missing_header"), (nobody, "missing_field")] {
        let id = &answer.headers[HEADER];
        let line = line_with(&relay, &[("delivery.id", id), ("outcome", "refused")]).await;
        assert_eq!((&line["code"], answer.status_and_code().1.as_str()), (&Value::from(code), code));
    }
}
