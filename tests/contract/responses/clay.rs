//! Handling of Clay's responses to a row; and helpers that the tests of responses share.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::Relay;
use relay::ports::clock::{Clock as _, SystemClock};
use relay_core::policy::retry;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::mock_destination::{MockDestination, ReceivedRequest, Reply, UnusedPort};
use relay_testkit::webhook::{contact_created, post};
use relay_testkit::{eventually, eventually_within};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// What the store's milliseconds cut off a wait.
const STORE_ROUNDING: Duration = Duration::from_millis(2);

/// Settings of a relay with these Clay webhooks, and without Loops.
pub(crate) fn clay_settings(urls: &str) -> Vec<(&'static str, &str)> {
    vec![("CLAY_WEBHOOK_URL", urls), ("CLAY_RATE_PER_SECOND", "1000"), ("LOOPS_API_KEY", "")]
}

/// Waits until the delivery at this index, in order of arrival, has all of these fields.
pub(crate) async fn wait_for_delivery(relay: &Relay, index: usize, fields: Value) -> Value {
    eventually(&format!("delivery {index} with {fields}"), async || {
        let delivery = relay.deliveries().await.into_iter().nth(index)?;
        let matches = |(name, value): (&String, &Value)| delivery[name] == *value;
        fields.as_object()?.iter().all(matches).then_some(delivery)
    })
    .await
}

/// Waits until the destination has received that many requests.
pub(crate) async fn wait_for_requests(destination: &MockDestination, count: usize) {
    eventually(&format!("{count} requests"), async || (destination.received().len() >= count).then_some(())).await;
}

/// A response that is retried, with the reason and the status of the waiting delivery.
pub(crate) type TransientFailure = (Reply, &'static str, Option<u16>);

/// Returns the responses that are retried.
pub(crate) fn transient_failures() -> Vec<TransientFailure> {
    let statuses = [301, 302, 303, 307, 308, 408, 425, 429, 500, 501, 503, 504];
    let reason_for = |status| {
        if status == 429 { "destination_throttled" } else { "destination_failed" }
    };
    let failures = statuses.map(|status| (Reply::status(status), reason_for(status), Some(status)));
    let other_failures = [
        (Reply::html(502), "destination_failed", Some(502)),
        (Reply::TruncatedBody(500), "destination_failed", Some(500)),
        (Reply::Reset, "unreachable", None),
        (Reply::Hang, "timed_out", None),
    ];
    failures.into_iter().chain(other_failures).collect()
}

/// Posts the webhook of a contact that was created.
pub(crate) async fn post_contact_created(relay: &Relay, name: &str) {
    let response = post(relay.base(), &format!("msg_{name}"), &contact_created(&format!("{name}@example.com"))).await;
    assert_eq!((response.status, response.json()["status"].as_str()), (200, Some("queued")));
}

/// An HTTP date that far ahead, and when at the earliest that is.
pub(crate) fn http_date_in(wait: Duration) -> (String, Instant) {
    let (now, date) = (SystemClock.now(), retry::add_saturating(SystemClock.now(), wait));
    let text = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let wait_millis = u64::try_from(date.as_second() * 1000 - now.as_millisecond()).unwrap();
    (text, Instant::now() + Duration::from_millis(wait_millis) - STORE_ROUNDING)
}

#[tokio::test]
async fn any_2xx_of_clay_is_delivered_on_the_first_attempt() {
    let destination = MockDestination::start(Reply::status(500)).await;
    let relay = Relay::start(&clay_settings(&destination.url("/hook"))).await;
    let replies = [Reply::status(200), Reply::status(201), Reply::status(202), Reply::status(204), Reply::html(200)];
    for (index, reply) in replies.into_iter().enumerate() {
        destination.enqueue_replies([reply]);
        post_contact_created(&relay, &format!("n{index}")).await;
        wait_for_delivery(&relay, index, json!({"state": "delivered", "attempts": 1, "reason": null})).await;
    }
    assert_eq!(destination.received().len(), 5);
}

#[tokio::test]
async fn truncated_200_of_clay_is_delivered_and_not_resent() {
    let destination = MockDestination::start(Reply::TruncatedBody(200)).await;
    let relay = Relay::start(&clay_settings(&destination.url("/hook"))).await;
    post_contact_created(&relay, "ada").await;
    wait_for_delivery(&relay, 0, json!({"state": "delivered", "attempts": 1})).await;
    assert_eq!(destination.received().len(), 1);
}

#[tokio::test]
async fn permanent_4xx_of_clay_is_dead_lettered_with_its_reason() {
    let destination = MockDestination::start(Reply::status(200)).await;
    let relay = Relay::start(&clay_settings(&destination.url("/hook"))).await;
    let statuses = [400, 402, 405, 406, 409, 411, 413, 414, 415, 418, 421, 422, 423, 431, 451, 499];
    for (index, status) in statuses.into_iter().enumerate() {
        destination.enqueue_replies([Reply::json(status, r#"{"message":"no"}"#)]);
        post_contact_created(&relay, &format!("n{index}")).await;
        let dead = json!({"state": "dead", "attempts": 1, "reason": "clay_rejected", "status": status});
        wait_for_delivery(&relay, index, dead).await;
    }
    post_contact_created(&relay, "ada").await;
    wait_for_delivery(&relay, statuses.len(), json!({"state": "delivered"})).await;
    assert_eq!(destination.received().len(), statuses.len() + 1);
}

#[tokio::test]
async fn transient_failure_of_clay_is_retried_until_accepted() {
    let mut cases = JoinSet::new();
    for (reply, reason, status) in transient_failures() {
        cases.spawn(async move {
            let destination = MockDestination::start(reply.clone()).await;
            let relay = Relay::start(&clay_settings(&destination.url("/hook"))).await;
            post_contact_created(&relay, "ada").await;
            wait_for_delivery(&relay, 0, json!({"state": "waiting", "reason": reason, "status": status})).await;
            destination.set_default_reply(Reply::status(200));
            wait_for_delivery(&relay, 0, json!({"state": "delivered", "reason": null, "status": null})).await;
            let requests = destination.received();
            assert!(requests.len() >= 2, "{reply:?}");
            assert!(requests.iter().all(|request| request.body == contact_created("ada@example.com")), "{reply:?}");
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn rows_are_delivered_after_clay_comes_up() {
    let unused_port = UnusedPort::new();
    let relay = Relay::start(&clay_settings(&unused_port.url("/hook"))).await;
    post_contact_created(&relay, "ada").await;
    wait_for_delivery(&relay, 0, json!({"state": "waiting", "reason": "unreachable", "status": null})).await;
    let destination = unused_port.listen(Reply::status(200));
    wait_for_delivery(&relay, 0, json!({"state": "delivered"})).await;
    assert_eq!(destination.received().len(), 1);
}

#[tokio::test]
async fn retry_after_seconds_of_clay_are_honoured() {
    let mut cases = JoinSet::new();
    for status in [408, 425, 429, 302, 503] {
        cases.spawn(async move {
            let destination = MockDestination::start(Reply::status(200)).await;
            destination.enqueue_replies([Reply::status(status).with_header("Retry-After", "2")]);
            let relay = Relay::start(&clay_settings(&destination.url("/hook"))).await;
            post_contact_created(&relay, "ada").await;
            wait_for_delivery(&relay, 0, json!({"state": "delivered", "attempts": 2})).await;
            let wait = destination.received()[1].received_at - destination.received()[0].received_at;
            assert!(wait >= Duration::from_secs(2) - STORE_ROUNDING, "{status}: {wait:?}");
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn retry_after_date_of_clay_is_honoured() {
    let mut cases = JoinSet::new();
    for status in [429, 503] {
        cases.spawn(async move {
            let destination = MockDestination::start(Reply::status(200)).await;
            let relay = Relay::start(&clay_settings(&destination.url("/hook"))).await;
            let (date, earliest) = http_date_in(Duration::from_secs(3));
            destination.enqueue_replies([Reply::status(status).with_header("Retry-After", &date)]);
            post_contact_created(&relay, "ada").await;
            wait_for_delivery(&relay, 0, json!({"state": "delivered", "attempts": 2})).await;
            assert!(destination.received()[1].received_at >= earliest, "{status}");
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn redirect_of_clay_is_never_followed() {
    let redirect_target = MockDestination::start(Reply::status(200)).await;
    let mut cases = JoinSet::new();
    for status in [301, 302, 303, 307, 308] {
        let location = redirect_target.url("/elsewhere");
        cases.spawn(async move {
            let destination = MockDestination::start(Reply::status(200)).await;
            destination.enqueue_replies([Reply::status(status).with_header("Location", &location)]);
            let relay = Relay::start(&clay_settings(&destination.url("/hook"))).await;
            post_contact_created(&relay, "ada").await;
            wait_for_delivery(&relay, 0, json!({"state": "delivered", "attempts": 2})).await;
            let paths: Vec<String> = destination.received().into_iter().map(|request| request.path).collect();
            assert_eq!(paths, ["/hook", "/hook"], "{status}");
        });
    }
    cases.join_all().await;
    assert!(redirect_target.received().is_empty());
}

#[tokio::test]
async fn dead_pooled_connection_to_clay_is_replaced_at_once() {
    let destination = MockDestination::start(Reply::status(200)).await;
    destination.enqueue_replies([Reply::RespondThenReset]);
    let relay = Relay::start(&clay_settings(&destination.url("/hook"))).await;
    for (index, name) in ["ada", "bob"].into_iter().enumerate() {
        post_contact_created(&relay, name).await;
        wait_for_delivery(&relay, index, json!({"state": "delivered", "attempts": 1})).await;
    }
    assert_eq!(destination.received().len(), 2);
}

#[tokio::test]
async fn retrying_row_does_not_block_other_contacts() {
    let destination = MockDestination::start(Reply::status(200)).await;
    destination.enqueue_replies([Reply::status(503).with_header("Retry-After", "3600")]);
    let relay = Relay::start(&clay_settings(&destination.url("/hook"))).await;
    post_contact_created(&relay, "ada").await;
    wait_for_delivery(&relay, 0, json!({"state": "waiting", "reason": "destination_failed"})).await;
    post_contact_created(&relay, "bob").await;
    wait_for_delivery(&relay, 1, json!({"state": "delivered"})).await;
    wait_for_requests(&destination, 2).await;
    wait_for_delivery(&relay, 0, json!({"state": "waiting", "attempts": 1})).await;
}

#[tokio::test]
async fn destination_outage_is_probed_rarely_and_then_drained() {
    let destination = MockDestination::start(Reply::status(503)).await;
    let relay = Relay::start(&clay_settings(&destination.url("/hook"))).await;
    for number in 0..20 {
        post_contact_created(&relay, &format!("n{number}")).await;
    }
    // Calls in flight when it goes down fail; after that, each of at most two workers probes once in ten seconds. The second
    // worker may start late.
    wait_for_requests(&destination, 3).await;
    let down_since = Instant::now();
    eventually_within(Duration::from_secs(30), "at most two requests in nine seconds", async || {
        let recent_from = Instant::now() - Duration::from_secs(9);
        let probes = destination.received().iter().filter(|request| request.received_at > recent_from).count();
        (recent_from > down_since && probes <= 2).then_some(())
    })
    .await;

    destination.set_default_reply(Reply::status(200));
    // Each row comes back after a random time, which has grown during the outage.
    eventually_within(Duration::from_secs(100), "everything delivered", async || {
        let all = relay.deliveries().await;
        (all.len() == 20 && all.iter().all(|delivery| delivery["state"] == "delivered")).then_some(())
    })
    .await;
    let delivered_bodies: BTreeSet<String> = destination.received().iter().map(ReceivedRequest::text).collect();
    assert_eq!(delivered_bodies.len(), 20);
}
