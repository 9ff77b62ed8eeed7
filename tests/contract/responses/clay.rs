//! What is done with Clay's answers to a row; and what the tests of answers share.

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
const ROUNDING: Duration = Duration::from_millis(2);

/// The settings of a relay whose Clay is these webhooks, and that has no Loops.
pub(crate) fn clay(urls: &str) -> Vec<(&'static str, &str)> {
    vec![("CLAY_WEBHOOK_URL", urls), ("CLAY_RATE_PER_SECOND", "1000"), ("LOOPS_API_KEY", "")]
}

/// Waits until the delivery that came as number `place` has all of these fields.
pub(crate) async fn becomes(relay: &Relay, place: usize, fields: Value) -> Value {
    eventually(&format!("delivery {place} with {fields}"), async || {
        let delivery = relay.deliveries().await.into_iter().nth(place)?;
        let same = |(name, value): (&String, &Value)| delivery[name] == *value;
        fields.as_object()?.iter().all(same).then_some(delivery)
    })
    .await
}

/// Waits until the far end got that many requests.
pub(crate) async fn gets(far: &MockDestination, count: usize) {
    eventually(&format!("{count} requests"), async || (far.received().len() >= count).then_some(())).await;
}

/// An answer after which the same is tried again, with the reason and the status that are shown meanwhile.
pub(crate) type Passing = (Reply, &'static str, Option<u16>);

/// The answers after which the same is tried again.
pub(crate) fn passing() -> Vec<Passing> {
    let answers = [301, 302, 303, 307, 308, 408, 425, 429, 500, 501, 503, 504];
    let told = |status| {
        if status == 429 { "destination_throttled" } else { "destination_failed" }
    };
    let answers = answers.map(|status| (Reply::status(status), told(status), Some(status)));
    let others = [
        (Reply::html(502), "destination_failed", Some(502)),
        (Reply::TruncatedBody(500), "destination_failed", Some(500)),
        (Reply::Reset, "unreachable", None),
        (Reply::Hang, "timed_out", None),
    ];
    answers.into_iter().chain(others).collect()
}

/// Posts the webhook of a contact that was created.
pub(crate) async fn post_contact_created(relay: &Relay, name: &str) {
    let answer = post(relay.base(), &format!("msg_{name}"), &contact_created(&format!("{name}@example.com"))).await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("queued")));
}

/// An HTTP date that far ahead, and when at the earliest that is.
pub(crate) fn date_in(wait: Duration) -> (String, Instant) {
    let (now, date) = (SystemClock.now(), retry::add_saturating(SystemClock.now(), wait));
    let text = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let until = u64::try_from(date.as_second() * 1000 - now.as_millisecond()).unwrap();
    (text, Instant::now() + Duration::from_millis(until) - ROUNDING)
}

#[tokio::test]
async fn any_2xx_from_clay_is_delivered_at_the_first_attempt() {
    let far = MockDestination::start(Reply::status(500)).await;
    let relay = Relay::start(&clay(&far.url("/hook"))).await;
    let replies = [Reply::status(200), Reply::status(201), Reply::status(202), Reply::status(204), Reply::html(200)];
    for (place, reply) in replies.into_iter().enumerate() {
        far.enqueue_replies([reply]);
        post_contact_created(&relay, &format!("n{place}")).await;
        becomes(&relay, place, json!({"state": "delivered", "attempts": 1, "reason": null})).await;
    }
    assert_eq!(far.received().len(), 5);
}

#[tokio::test]
async fn a_200_with_half_a_body_is_delivered_and_not_sent_again() {
    let far = MockDestination::start(Reply::TruncatedBody(200)).await;
    let relay = Relay::start(&clay(&far.url("/hook"))).await;
    post_contact_created(&relay, "ada").await;
    becomes(&relay, 0, json!({"state": "delivered", "attempts": 1})).await;
    assert_eq!(far.received().len(), 1);
}

#[tokio::test]
async fn any_other_4xx_from_clay_is_a_dead_letter_with_its_reason() {
    let far = MockDestination::start(Reply::status(200)).await;
    let relay = Relay::start(&clay(&far.url("/hook"))).await;
    let statuses = [400, 402, 405, 406, 409, 411, 413, 414, 415, 418, 421, 422, 423, 431, 451, 499];
    for (place, status) in statuses.into_iter().enumerate() {
        far.enqueue_replies([Reply::json(status, r#"{"message":"no"}"#)]);
        post_contact_created(&relay, &format!("n{place}")).await;
        let dead = json!({"state": "dead", "attempts": 1, "reason": "clay_rejected", "status": status});
        becomes(&relay, place, dead).await;
    }
    post_contact_created(&relay, "ada").await;
    becomes(&relay, statuses.len(), json!({"state": "delivered"})).await;
    assert_eq!(far.received().len(), statuses.len() + 1);
}

#[tokio::test]
async fn what_should_pass_at_clay_is_tried_again_until_the_row_is_taken() {
    let mut cases = JoinSet::new();
    for (reply, reason, status) in passing() {
        cases.spawn(async move {
            let far = MockDestination::start(reply.clone()).await;
            let relay = Relay::start(&clay(&far.url("/hook"))).await;
            post_contact_created(&relay, "ada").await;
            becomes(&relay, 0, json!({"state": "waiting", "reason": reason, "status": status})).await;
            far.set_default_reply(Reply::status(200));
            becomes(&relay, 0, json!({"state": "delivered", "reason": null, "status": null})).await;
            let got = far.received();
            assert!(got.len() >= 2, "{reply:?}");
            assert!(got.iter().all(|got| got.body == contact_created("ada@example.com")), "{reply:?}");
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn a_clay_that_is_down_gets_its_rows_when_it_is_up() {
    let down = UnusedPort::new();
    let relay = Relay::start(&clay(&down.url("/hook"))).await;
    post_contact_created(&relay, "ada").await;
    becomes(&relay, 0, json!({"state": "waiting", "reason": "unreachable", "status": null})).await;
    let far = down.listen(Reply::status(200));
    becomes(&relay, 0, json!({"state": "delivered"})).await;
    assert_eq!(far.received().len(), 1);
}

#[tokio::test]
async fn clay_is_left_alone_for_as_many_seconds_as_it_asks_for() {
    let mut cases = JoinSet::new();
    for status in [408, 425, 429, 302, 503] {
        cases.spawn(async move {
            let far = MockDestination::start(Reply::status(200)).await;
            far.enqueue_replies([Reply::status(status).with_header("Retry-After", "2")]);
            let relay = Relay::start(&clay(&far.url("/hook"))).await;
            post_contact_created(&relay, "ada").await;
            becomes(&relay, 0, json!({"state": "delivered", "attempts": 2})).await;
            let wait = far.received()[1].received_at - far.received()[0].received_at;
            assert!(wait >= Duration::from_secs(2) - ROUNDING, "{status}: {wait:?}");
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn clay_is_left_alone_until_the_date_that_it_gives() {
    let mut cases = JoinSet::new();
    for status in [429, 503] {
        cases.spawn(async move {
            let far = MockDestination::start(Reply::status(200)).await;
            let relay = Relay::start(&clay(&far.url("/hook"))).await;
            let (date, earliest) = date_in(Duration::from_secs(3));
            far.enqueue_replies([Reply::status(status).with_header("Retry-After", &date)]);
            post_contact_created(&relay, "ada").await;
            becomes(&relay, 0, json!({"state": "delivered", "attempts": 2})).await;
            assert!(far.received()[1].received_at >= earliest, "{status}");
        });
    }
    cases.join_all().await;
}

#[tokio::test]
async fn a_redirect_of_clay_is_never_followed() {
    let elsewhere = MockDestination::start(Reply::status(200)).await;
    let mut cases = JoinSet::new();
    for status in [301, 302, 303, 307, 308] {
        let location = elsewhere.url("/elsewhere");
        cases.spawn(async move {
            let far = MockDestination::start(Reply::status(200)).await;
            far.enqueue_replies([Reply::status(status).with_header("Location", &location)]);
            let relay = Relay::start(&clay(&far.url("/hook"))).await;
            post_contact_created(&relay, "ada").await;
            becomes(&relay, 0, json!({"state": "delivered", "attempts": 2})).await;
            let paths: Vec<String> = far.received().into_iter().map(|got| got.path).collect();
            assert_eq!(paths, ["/hook", "/hook"], "{status}");
        });
    }
    cases.join_all().await;
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn a_connection_to_clay_that_died_in_the_pool_is_replaced_at_once() {
    let far = MockDestination::start(Reply::status(200)).await;
    far.enqueue_replies([Reply::RespondThenReset]);
    let relay = Relay::start(&clay(&far.url("/hook"))).await;
    for (place, name) in ["ada", "bob"].into_iter().enumerate() {
        post_contact_created(&relay, name).await;
        becomes(&relay, place, json!({"state": "delivered", "attempts": 1})).await;
    }
    assert_eq!(far.received().len(), 2);
}

#[tokio::test]
async fn a_row_that_waits_lets_those_of_other_contacts_pass() {
    let far = MockDestination::start(Reply::status(200)).await;
    far.enqueue_replies([Reply::status(503).with_header("Retry-After", "3600")]);
    let relay = Relay::start(&clay(&far.url("/hook"))).await;
    post_contact_created(&relay, "ada").await;
    becomes(&relay, 0, json!({"state": "waiting", "reason": "destination_failed"})).await;
    post_contact_created(&relay, "bob").await;
    becomes(&relay, 1, json!({"state": "delivered"})).await;
    gets(&far, 2).await;
    becomes(&relay, 0, json!({"state": "waiting", "attempts": 1})).await;
}

#[tokio::test]
async fn an_end_that_is_down_is_asked_seldom_and_gets_everything_when_it_is_back() {
    let far = MockDestination::start(Reply::status(503)).await;
    let relay = Relay::start(&clay(&far.url("/hook"))).await;
    for number in 0..20 {
        post_contact_created(&relay, &format!("n{number}")).await;
    }
    // What is under way when it goes down fails; after that, each of at most two workers asks once in ten seconds.
    gets(&far, 3).await;
    tokio::time::sleep(Duration::from_secs(14)).await;
    let lately = Instant::now() - Duration::from_secs(9);
    let asked = far.received().iter().filter(|got| got.received_at > lately).count();
    assert!(asked <= 2, "{asked} requests in nine seconds");

    far.set_default_reply(Reply::status(200));
    eventually_within(Duration::from_secs(40), "everything delivered", async || {
        let all = relay.deliveries().await;
        (all.len() == 20 && all.iter().all(|one| one["state"] == "delivered")).then_some(())
    })
    .await;
    let taken: BTreeSet<String> = far.received().iter().map(ReceivedRequest::text).collect();
    assert_eq!(taken.len(), 20);
}
