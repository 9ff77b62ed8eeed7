//! The worker towards Clay: what it does with every answer, and which webhook of a pool it asks.

use std::time::Duration;

use jiff::SignedDuration;
use relay::delivery::clay::ClayDeliverer;
use relay::destination::http_client::DestinationResponse;
use relay::ports::queue::{Deliver as _, WebhookUsage};
use relay::ports::secrets::LoopsToClaySecret;
use relay_core::delivery::{AttemptHistory, AttemptResult, DeliveryKind, Reason, ReasonCode};
use relay_core::policy::response::CallOutcome;
use relay_core::webhook::payload::PayloadFormat;
use relay_core::webhook::route::{ClayRoute, ClayWebhook};
use relay_core::webhook::selection::EventSelection;

use crate::destinations::{FakeClay, Post, asking, status};
use crate::fake_store::{FakeLedger, FakeQueue};
use crate::harness::{FakePace, FakeSecrets, Still, ago, because, delivery, in_seconds, now};

const ROW: &str = r#"{"eventName":"contact.created"}"#;

type Worker = ClayDeliverer<FakeSecrets<LoopsToClaySecret>, FakeClay, FakeLedger, FakePace, Still, FakeQueue>;

fn webhook(name: &str, token: Option<&str>) -> ClayWebhook {
    ClayWebhook::new(&format!("https://clay.example/{name}"), token).unwrap()
}

/// A secret with one route, whose pool has webhooks of these names.
fn pool(names: &[&str], token: Option<&str>) -> LoopsToClaySecret {
    let webhooks = names.iter().map(|name| webhook(name, token)).collect();
    let route = ClayRoute { name: "contacts".to_owned(), events: EventSelection::new(Vec::new()), webhooks };
    LoopsToClaySecret { signing_secrets: Vec::new(), routes: vec![route] }
}

fn worker(
    secrets: FakeSecrets<LoopsToClaySecret>,
    answers: impl Fn(&Post, usize) -> DestinationResponse + Send + Sync + 'static,
) -> Worker {
    ClayDeliverer {
        secrets,
        clay: FakeClay::new(answers),
        ledger: FakeLedger::default(),
        pace: FakePace::default(),
        ambient: Still::default(),
        payload: PayloadFormat::Raw,
        queue: FakeQueue::new(false),
    }
}

/// A worker whose only webhook always answers so.
fn answering(answer: DestinationResponse) -> Worker {
    worker(FakeSecrets::of(pool(&["a"], None)), move |_, _| answer.clone())
}

/// A worker with a pool of webhooks, each with the status that it always answers.
fn pool_answering(statuses: &[(&'static str, u16)]) -> Worker {
    let names: Vec<&str> = statuses.iter().map(|(name, _)| *name).collect();
    let statuses = statuses.to_vec();
    worker(FakeSecrets::of(pool(&names, None)), move |post, _| {
        let answers = statuses.iter().find(|(name, _)| post.url.ends_with(name));
        status(answers.map_or(500, |(_, status)| *status))
    })
}

async fn attempt(worker: &Worker, history: AttemptHistory) -> AttemptResult {
    let cargo = DeliveryKind::ClayRow { route: "contacts".to_owned(), webhook_id: "msg_1".to_owned() };
    worker.attempt(&delivery(cargo, ROW), history).await
}

fn refused(status: u16, since: SignedDuration) -> WebhookUsage {
    WebhookUsage { taken: 50_000, refused: Some((ago(since), status)) }
}

#[tokio::test]
async fn a_2xx_is_delivered_and_counted() {
    for answered in [200, 201, 202, 204, 299] {
        let worker = answering(status(answered));
        assert_eq!(attempt(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
        assert_eq!(worker.ledger.of(&webhook("a", None).fingerprint()), WebhookUsage { taken: 1, refused: None });
        assert_eq!(worker.clay.posts().len(), 1);
        assert_eq!(worker.pace.waits(), 1);
    }
}

#[tokio::test]
async fn a_final_refusal_is_a_dead_letter_and_not_counted() {
    for answered in [400, 402, 405, 409, 413, 418, 422, 499] {
        let worker = answering(status(answered));
        let dead = AttemptResult::DeadLetter(because(ReasonCode::ClayRejected, answered));
        assert_eq!(attempt(&worker, AttemptHistory::default()).await, dead);
        assert_eq!(worker.ledger.of(&webhook("a", None).fingerprint()), WebhookUsage::default());
    }
}

#[tokio::test]
async fn a_token_that_is_read_again_and_new_makes_the_second_call_succeed() {
    let secrets = FakeSecrets::changing(pool(&["a"], Some("old")), pool(&["a"], Some("new")));
    let worker = worker(secrets, |post, _| status(if post.token.as_deref() == Some("new") { 200 } else { 401 }));
    assert_eq!(attempt(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
    let tokens: Vec<_> = worker.clay.posts().into_iter().filter_map(|post| post.token).collect();
    assert_eq!(tokens, ["old", "new"]);
    assert_eq!(worker.secrets.rereads(), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_twice_holds_the_row_for_a_minute_then_for_a_quarter_of_an_hour() {
    let minutes = SignedDuration::from_mins;
    let cases = [(None, 60), (Some(minutes(14)), 60), (Some(minutes(15)), 900), (Some(minutes(60 * 24 * 9)), 900)];
    for (held_for, seconds) in cases {
        let worker = answering(status(401));
        let history = AttemptHistory { attempts: 3, failing_since: None, held_since: held_for.map(ago) };
        let held =
            AttemptResult::HoldUntil { at: in_seconds(seconds), reason: because(ReasonCode::ClayTokenRejected, 401) };
        assert_eq!(attempt(&worker, history).await, held);
        assert_eq!((worker.clay.posts().len(), worker.secrets.rereads()), (2, 1));
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_tried_later() {
    let unreadable = AttemptResult::RetryAt {
        at: now() + Duration::from_millis(1500),
        reason: Reason::without_status(ReasonCode::SecretUnavailable),
        no_early_retry: false,
    };
    let unread = worker(FakeSecrets::unreadable(), |_, _| status(200));
    assert_eq!(attempt(&unread, AttemptHistory::default()).await, unreadable);
    assert!(unread.clay.posts().is_empty());
    let lost = worker(FakeSecrets::lost(pool(&["a"], None)), |_, _| status(401));
    assert_eq!(attempt(&lost, AttemptHistory::default()).await, unreadable);
    assert_eq!(lost.clay.posts().len(), 1);
}

#[tokio::test]
async fn waits_double_up_to_a_quarter_of_an_hour() {
    // With a chance of one half: one second, and half of what the ceiling is above it.
    let waits = [(0, 1500), (1, 2500), (2, 4500), (5, 32_500), (8, 256_500), (9, 450_500), (4000, 450_500)];
    for (attempts, milliseconds) in waits {
        let worker = answering(DestinationResponse::without_response(CallOutcome::TimedOut));
        let history =
            AttemptHistory { attempts, failing_since: Some(ago(SignedDuration::from_mins(1))), held_since: None };
        let later = AttemptResult::RetryAt {
            at: now() + Duration::from_millis(milliseconds),
            reason: Reason::without_status(ReasonCode::TimedOut),
            no_early_retry: false,
        };
        assert_eq!(attempt(&worker, history).await, later, "{attempts}");
    }
}

#[tokio::test]
async fn what_should_pass_is_tried_later_and_dead_after_four_days() {
    let answers = [301, 302, 307, 408, 425, 429, 500, 502, 503].map(|answered| {
        let code = if answered == 429 { ReasonCode::DestinationThrottled } else { ReasonCode::DestinationFailed };
        (status(answered), because(code, answered))
    });
    let nothing = [
        (CallOutcome::TimedOut, ReasonCode::TimedOut),
        (CallOutcome::Unreachable, ReasonCode::Unreachable),
        (CallOutcome::CertificateUntrusted, ReasonCode::CertificateUntrusted),
    ];
    let nothing =
        nothing.map(|(outcome, code)| (DestinationResponse::without_response(outcome), Reason::without_status(code)));
    let failing = |since| AttemptHistory { attempts: 400, failing_since: Some(ago(since)), held_since: None };
    let four_days = SignedDuration::from_hours(4 * 24);
    for (answer, reason) in answers.into_iter().chain(nothing) {
        let worker = answering(answer);
        let almost = attempt(&worker, failing(four_days - SignedDuration::from_secs(1))).await;
        assert!(matches!(almost, AttemptResult::RetryAt { reason: why, .. } if why == reason), "{almost:?}");
        assert_eq!(attempt(&worker, failing(four_days)).await, AttemptResult::DeadLetter(reason));
    }
}

#[tokio::test]
async fn the_far_end_says_how_long_up_to_an_hour() {
    for (asked, seconds) in [(0, 1), (2, 2), (1800, 1800), (3600, 3600), (90_000, 3600)] {
        let worker = answering(asking(503, asked));
        let reason = because(ReasonCode::DestinationFailed, 503);
        let later = AttemptResult::RetryAt { at: in_seconds(seconds), reason, no_early_retry: true };
        assert_eq!(attempt(&worker, AttemptHistory::default()).await, later);
        assert!(worker.pace.pauses().is_empty());
    }
}

#[tokio::test]
async fn what_fails_while_others_get_through_has_a_firm_time() {
    let failing =
        AttemptHistory { attempts: 1, failing_since: Some(ago(SignedDuration::from_mins(1))), held_since: None };
    for (taken_seconds_ago, history, alone) in
        [(59, failing, true), (61, failing, false), (59, AttemptHistory::default(), false)]
    {
        let mut worker = answering(status(500));
        worker.pace.taken_ago = Some(Duration::from_secs(taken_seconds_ago));
        let end = attempt(&worker, history).await;
        assert!(matches!(end, AttemptResult::RetryAt { no_early_retry, .. } if no_early_retry == alone), "{end:?}");
    }
}

#[tokio::test]
async fn a_429_pauses_every_call_to_clay() {
    for (answer, seconds) in [(status(429), 1), (asking(429, 7), 7)] {
        let worker = answering(answer);
        attempt(&worker, AttemptHistory::default()).await;
        assert_eq!(worker.pace.pauses(), [Duration::from_secs(seconds)]);
    }
}

#[tokio::test]
async fn a_webhook_that_takes_no_more_makes_way_for_the_next() {
    for answered in [403, 404, 410] {
        let worker = pool_answering(&[("a", answered), ("b", 200), ("c", 200)]);
        assert_eq!(attempt(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
        assert_eq!(worker.clay.asked(), ["a", "b"]);
        assert_eq!(worker.ledger.of(&webhook("a", None).fingerprint()).refused, Some((now(), answered)));
        assert_eq!(worker.ledger.of(&webhook("b", None).fingerprint()).taken, 1);
        // The next row goes where there is room at once.
        assert_eq!(attempt(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
        assert_eq!(worker.clay.asked(), ["a", "b", "b"]);
    }
}

#[tokio::test]
async fn a_pool_that_is_used_up_holds_the_row() {
    let worker = pool_answering(&[("a", 403), ("b", 410), ("c", 404)]);
    let held = AttemptResult::HoldUntil { at: in_seconds(60), reason: because(ReasonCode::ClayWebhooksExhausted, 404) };
    assert_eq!(attempt(&worker, AttemptHistory::default()).await, held);
    assert_eq!(worker.clay.asked(), ["a", "b", "c"], "nobody is asked again as long as the pool is the same");
    assert_eq!(worker.secrets.rereads(), 1, "another webhook may have been set");
}

#[tokio::test]
async fn any_other_answer_ends_the_round_through_the_pool() {
    for (answered, reads) in [(400, 1), (401, 2), (429, 1), (500, 1)] {
        let worker = pool_answering(&[("a", 403), ("b", answered), ("c", 200)]);
        assert_ne!(attempt(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
        assert_eq!(worker.clay.asked().last().map(String::as_str), Some("b"), "{answered}");
        assert_eq!(worker.clay.asked().len(), 1 + reads, "{answered}");
    }
}

#[tokio::test]
async fn a_used_up_webhook_stays_closed_and_one_that_is_gone_is_asked_again_after_a_quarter_of_an_hour() {
    let cases = [
        (403, SignedDuration::from_hours(24 * 365), "b"),
        (404, SignedDuration::from_secs(899), "b"),
        (410, SignedDuration::from_secs(899), "b"),
        (404, SignedDuration::from_secs(900), "a"),
        (410, SignedDuration::from_secs(900), "a"),
    ];
    for (answered, since, asked) in cases {
        let mut worker = pool_answering(&[("a", 200), ("b", 200)]);
        worker.ledger = FakeLedger::knowing([(webhook("a", None).fingerprint(), refused(answered, since))]);
        assert_eq!(attempt(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
        assert_eq!(worker.clay.asked(), [asked], "{answered}");
    }
}

#[tokio::test]
async fn where_all_are_closed_one_is_asked_whether_it_still_is() {
    let mut worker = pool_answering(&[("a", 403), ("b", 200)]);
    let used_up = refused(403, SignedDuration::from_hours(2));
    worker.ledger = FakeLedger::knowing(["a", "b"].map(|name| (webhook(name, None).fingerprint(), used_up)));
    assert_eq!(attempt(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
    assert_eq!(worker.clay.asked(), ["b"]);
    // It takes rows again, and is the first to be asked from now on.
    assert_eq!(worker.ledger.of(&webhook("b", None).fingerprint()).refused, None);
    assert_eq!(attempt(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
    assert_eq!(worker.clay.asked(), ["b", "b"]);
}

#[tokio::test]
async fn a_ledger_out_of_order_stops_nothing() {
    let mut worker = pool_answering(&[("a", 403), ("b", 200)]);
    worker.ledger = FakeLedger::broken();
    for _ in 0..2 {
        assert_eq!(attempt(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
    }
    assert_eq!(worker.clay.asked(), ["a", "b", "a", "b"]);
}

#[tokio::test]
async fn a_row_without_a_webhook_or_a_route_is_held() {
    let no_webhook =
        AttemptResult::HoldUntil { at: in_seconds(60), reason: Reason::without_status(ReasonCode::NoWebhook) };
    for secret in [pool(&[], None), LoopsToClaySecret::default()] {
        let worker = worker(FakeSecrets::of(secret), |_, _| status(200));
        assert_eq!(attempt(&worker, AttemptHistory::default()).await, no_webhook);
        assert!(worker.clay.posts().is_empty());
    }
}
