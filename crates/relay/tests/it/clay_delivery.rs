//! The worker towards Clay: what it does with every answer, and which webhook of a pool it asks.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use relay::delivery::Deliver as _;
use relay::delivery::clay::ClayDeliverer;
use relay::destination::http_client::DestinationResponse;
use relay::ports::secrets::LoopsToClaySecret;
use relay::ports::webhook_usage::WebhookUsage;
use relay_core::account::AccountId;
use relay_core::delivery::{AttemptHistory, AttemptResult, DeliveryKind, Reason, ReasonCode};
use relay_core::policy::response::CallOutcome;
use relay_core::webhook::payload::PayloadFormat;
use relay_core::webhook::route::{ClayRoute, ClayWebhook};
use relay_core::webhook::selection::EventSelection;

use crate::destinations::{FakeClay, RecordedPost, reply, reply_with_retry_after};
use crate::fake_store::{FakeLedger, FakeQueue};
use crate::harness::{FakeRateLimiter, FakeSecrets, FixedClock, ago, delivery, in_seconds, now, reason_with_status};

const ROW: &str = r#"{"eventName":"contact.created"}"#;

type Worker = ClayDeliverer<FakeSecrets<LoopsToClaySecret>, FakeClay, FakeLedger, FakeRateLimiter, FakeQueue>;

fn webhook(name: &str, token: Option<&str>) -> ClayWebhook {
    ClayWebhook::new(&format!("https://clay.example/{name}"), token).unwrap()
}

/// A secret with one route, whose pool has webhooks of these names.
fn pool(names: &[&str], token: Option<&str>) -> LoopsToClaySecret {
    let webhooks = names.iter().map(|name| webhook(name, token)).collect();
    let route = ClayRoute { name: "contacts".to_owned(), events: EventSelection(Vec::new()), webhooks };
    LoopsToClaySecret { signing_secrets: Vec::new(), routes: vec![route], ..LoopsToClaySecret::default() }
}

fn worker(
    secrets: FakeSecrets<LoopsToClaySecret>,
    replies: impl Fn(&RecordedPost, usize) -> DestinationResponse + Send + Sync + 'static,
) -> Worker {
    ClayDeliverer {
        secrets,
        clay: FakeClay::new(replies),
        ledger: FakeLedger::default(),
        limiter: Arc::default(),
        clock: Arc::new(FixedClock::default()),
        payload: PayloadFormat::Raw,
        queue: FakeQueue::new(false),
    }
}

/// A worker whose only webhook always answers so.
fn worker_replying(response: DestinationResponse) -> Worker {
    worker(FakeSecrets::new(pool(&["a"], None)), move |_, _| response.clone())
}

/// A worker with a pool of webhooks, each with the status that it always answers.
fn worker_with_pool(statuses: &[(&'static str, u16)]) -> Worker {
    let names: Vec<&str> = statuses.iter().map(|(name, _)| *name).collect();
    let statuses = statuses.to_vec();
    worker(FakeSecrets::new(pool(&names, None)), move |post, _| {
        let entry = statuses.iter().find(|(name, _)| post.url.ends_with(name));
        reply(entry.map_or(500, |(_, status)| *status))
    })
}

async fn deliver(worker: &Worker, history: AttemptHistory) -> AttemptResult {
    let kind = DeliveryKind::ClayRow { route: "contacts".to_owned(), webhook_id: "msg_1".to_owned() };
    worker.deliver(&delivery(kind, ROW), history).await.result
}

fn rejected_usage(status: u16, since: SignedDuration) -> WebhookUsage {
    WebhookUsage { accepted: 50_000, rejected: Some((ago(since), status)) }
}

#[tokio::test]
async fn response_2xx_is_delivered_and_counted() {
    for http_status in [200, 201, 202, 204, 299] {
        let worker = worker_replying(reply(http_status));
        assert_eq!(deliver(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
        assert_eq!(
            worker.ledger.usage_of(&webhook("a", None).fingerprint()),
            WebhookUsage { accepted: 1, rejected: None }
        );
        assert_eq!(worker.clay.posts().len(), 1);
        assert_eq!(worker.limiter.acquires(), 1);
    }
}

#[tokio::test]
async fn permanent_rejection_is_dead_lettered_and_not_counted() {
    for http_status in [400, 402, 405, 409, 413, 418, 422, 499] {
        let worker = worker_replying(reply(http_status));
        let dead = AttemptResult::DeadLetter(reason_with_status(ReasonCode::ClayRejected, http_status));
        assert_eq!(deliver(&worker, AttemptHistory::default()).await, dead);
        assert_eq!(worker.ledger.usage_of(&webhook("a", None).fingerprint()), WebhookUsage::default());
    }
}

#[tokio::test]
async fn rotated_token_succeeds_on_second_call() {
    let secrets = FakeSecrets::rotating(pool(&["a"], Some("old")), pool(&["a"], Some("new")));
    let worker = worker(secrets, |post, _| reply(if post.token.as_deref() == Some("new") { 200 } else { 401 }));
    assert_eq!(deliver(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
    let tokens: Vec<_> = worker.clay.posts().into_iter().filter_map(|post| post.token).collect();
    assert_eq!(tokens, ["old", "new"]);
    assert_eq!(worker.secrets.refreshes(), 1);
}

#[tokio::test]
async fn twice_unauthorized_token_holds_with_backoff() {
    let minutes = SignedDuration::from_mins;
    let cases = [(None, 60), (Some(minutes(14)), 60), (Some(minutes(15)), 900), (Some(minutes(60 * 24 * 9)), 900)];
    for (held_for, seconds) in cases {
        let worker = worker_replying(reply(401));
        let history = AttemptHistory { attempts: 3, held_since: held_for.map(ago), ..AttemptHistory::default() };
        let held = AttemptResult::HoldUntil {
            at: in_seconds(seconds),
            reason: reason_with_status(ReasonCode::ClayTokenRejected, 401),
        };
        assert_eq!(deliver(&worker, history).await, held);
        assert_eq!((worker.clay.posts().len(), worker.secrets.refreshes()), (2, 1));
    }
}

#[tokio::test]
async fn unavailable_secret_is_retried() {
    let retry = AttemptResult::RetryAt {
        at: now() + Duration::from_millis(1500),
        reason: Reason::without_status(ReasonCode::SecretUnavailable),
        no_early_retry: false,
    };
    let never_readable = worker(FakeSecrets::unavailable(), |_, _| reply(200));
    assert_eq!(deliver(&never_readable, AttemptHistory::default()).await, retry);
    assert!(never_readable.clay.posts().is_empty());
    let failing_refresh = worker(FakeSecrets::failing_refresh(pool(&["a"], None)), |_, _| reply(401));
    assert_eq!(deliver(&failing_refresh, AttemptHistory::default()).await, retry);
    assert_eq!(failing_refresh.clay.posts().len(), 1);
}

#[tokio::test]
async fn retry_delay_doubles_up_to_fifteen_minutes() {
    // With a chance of one half: one second, and half of what the ceiling is above it.
    let waits = [(0, 1500), (1, 2500), (2, 4500), (5, 32_500), (8, 256_500), (9, 450_500), (4000, 450_500)];
    for (attempts, milliseconds) in waits {
        let worker = worker_replying(DestinationResponse::without_response(CallOutcome::TimedOut));
        let history = AttemptHistory {
            attempts,
            failing_since: Some(ago(SignedDuration::from_mins(1))),
            ..AttemptHistory::default()
        };
        let retry = AttemptResult::RetryAt {
            at: now() + Duration::from_millis(milliseconds),
            reason: Reason::without_status(ReasonCode::TimedOut),
            no_early_retry: false,
        };
        assert_eq!(deliver(&worker, history).await, retry, "{attempts}");
    }
}

#[tokio::test]
async fn transient_failure_is_dead_lettered_after_four_days() {
    let answers = [301, 302, 307, 408, 425, 429, 500, 502, 503].map(|http_status| {
        let code = if http_status == 429 { ReasonCode::DestinationThrottled } else { ReasonCode::DestinationFailed };
        (reply(http_status), reason_with_status(code, http_status))
    });
    let no_response = [
        (CallOutcome::TimedOut, ReasonCode::TimedOut),
        (CallOutcome::Unreachable, ReasonCode::Unreachable),
        (CallOutcome::CertificateUntrusted, ReasonCode::CertificateUntrusted),
    ];
    let no_response = no_response
        .map(|(outcome, code)| (DestinationResponse::without_response(outcome), Reason::without_status(code)));
    let failing =
        |since| AttemptHistory { attempts: 400, failing_since: Some(ago(since)), ..AttemptHistory::default() };
    let four_days = SignedDuration::from_hours(4 * 24);
    for (response, reason) in answers.into_iter().chain(no_response) {
        let worker = worker_replying(response);
        let last_retry = deliver(&worker, failing(four_days - SignedDuration::from_secs(1))).await;
        assert!(
            matches!(last_retry, AttemptResult::RetryAt { reason: actual, .. } if actual == reason),
            "{last_retry:?}"
        );
        assert_eq!(deliver(&worker, failing(four_days)).await, AttemptResult::DeadLetter(reason));
    }
}

#[tokio::test]
async fn retry_after_is_honoured_up_to_an_hour() {
    for (retry_after, seconds) in [(0, 1), (2, 2), (1800, 1800), (3600, 3600), (90_000, 3600)] {
        let worker = worker_replying(reply_with_retry_after(503, retry_after));
        let reason = reason_with_status(ReasonCode::DestinationFailed, 503);
        let retry = AttemptResult::RetryAt { at: in_seconds(seconds), reason, no_early_retry: true };
        assert_eq!(deliver(&worker, AttemptHistory::default()).await, retry);
        assert!(worker.limiter.throttles().is_empty());
    }
}

#[tokio::test]
async fn failure_while_others_succeed_pins_the_next_attempt() {
    let failing = AttemptHistory {
        attempts: 1,
        failing_since: Some(ago(SignedDuration::from_mins(1))),
        ..AttemptHistory::default()
    };
    for (success_seconds_ago, history, expected) in
        [(59, failing, true), (61, failing, false), (59, AttemptHistory::default(), false)]
    {
        let mut worker = worker_replying(reply(500));
        Arc::get_mut(&mut worker.limiter).unwrap().last_success_ago = Some(Duration::from_secs(success_seconds_ago));
        let result = deliver(&worker, history).await;
        assert!(
            matches!(result, AttemptResult::RetryAt { no_early_retry, .. } if no_early_retry == expected),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn response_429_throttles_all_calls_to_clay() {
    for (response, seconds) in [(reply(429), 1), (reply_with_retry_after(429, 7), 7)] {
        let worker = worker_replying(response);
        deliver(&worker, AttemptHistory::default()).await;
        assert_eq!(worker.limiter.throttles(), [Duration::from_secs(seconds)]);
    }
}

#[tokio::test]
async fn webhook_refusing_rows_is_replaced_by_the_next() {
    for http_status in [403, 404, 410] {
        let worker = worker_with_pool(&[("a", http_status), ("b", 200), ("c", 200)]);
        assert_eq!(deliver(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
        assert_eq!(worker.clay.posted_webhooks(), ["a", "b"]);
        assert_eq!(worker.ledger.usage_of(&webhook("a", None).fingerprint()).rejected, Some((now(), http_status)));
        assert_eq!(worker.ledger.usage_of(&webhook("b", None).fingerprint()).accepted, 1);
        // The next row goes where there is room at once.
        assert_eq!(deliver(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
        assert_eq!(worker.clay.posted_webhooks(), ["a", "b", "b"]);
    }
}

#[tokio::test]
async fn exhausted_pool_holds_the_row() {
    let worker = worker_with_pool(&[("a", 403), ("b", 410), ("c", 404)]);
    let held = AttemptResult::HoldUntil {
        at: in_seconds(60),
        reason: reason_with_status(ReasonCode::ClayWebhooksExhausted, 404),
    };
    assert_eq!(deliver(&worker, AttemptHistory::default()).await, held);
    assert_eq!(worker.clay.posted_webhooks(), ["a", "b", "c"], "nobody is asked again as long as the pool is the same");
    assert_eq!(worker.secrets.refreshes(), 1, "another webhook may have been set");
}

#[tokio::test]
async fn other_response_stops_trying_the_pool() {
    for (http_status, calls) in [(400, 1), (401, 2), (429, 1), (500, 1)] {
        let worker = worker_with_pool(&[("a", 403), ("b", http_status), ("c", 200)]);
        assert_ne!(deliver(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
        assert_eq!(worker.clay.posted_webhooks().last().map(String::as_str), Some("b"), "{http_status}");
        assert_eq!(worker.clay.posted_webhooks().len(), 1 + calls, "{http_status}");
    }
}

#[tokio::test]
async fn exhausted_webhook_stays_unused_and_gone_one_is_retried() {
    let cases = [
        (403, SignedDuration::from_hours(24 * 365), "b"),
        (404, SignedDuration::from_secs(899), "b"),
        (410, SignedDuration::from_secs(899), "b"),
        (404, SignedDuration::from_secs(900), "a"),
        (410, SignedDuration::from_secs(900), "a"),
    ];
    for (http_status, since, expected_webhook) in cases {
        let mut worker = worker_with_pool(&[("a", 200), ("b", 200)]);
        worker.ledger =
            FakeLedger::with_usages([(webhook("a", None).fingerprint(), rejected_usage(http_status, since))]);
        assert_eq!(deliver(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
        assert_eq!(worker.clay.posted_webhooks(), [expected_webhook], "{http_status}");
    }
}

#[tokio::test]
async fn pool_with_all_webhooks_unusable_probes_the_last() {
    let mut worker = worker_with_pool(&[("a", 403), ("b", 200)]);
    let used_up = rejected_usage(403, SignedDuration::from_hours(2));
    worker.ledger = FakeLedger::with_usages(["a", "b"].map(|name| (webhook(name, None).fingerprint(), used_up)));
    assert_eq!(deliver(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
    assert_eq!(worker.clay.posted_webhooks(), ["b"]);
    // It takes rows again, and is the first to be asked from now on.
    assert_eq!(worker.ledger.usage_of(&webhook("b", None).fingerprint()).rejected, None);
    assert_eq!(deliver(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
    assert_eq!(worker.clay.posted_webhooks(), ["b", "b"]);
}

#[tokio::test]
async fn unavailable_ledger_does_not_stop_delivery() {
    let mut worker = worker_with_pool(&[("a", 403), ("b", 200)]);
    worker.ledger = FakeLedger::broken();
    for _ in 0..2 {
        assert_eq!(deliver(&worker, AttemptHistory::default()).await, AttemptResult::Delivered);
    }
    assert_eq!(worker.clay.posted_webhooks(), ["a", "b", "a", "b"]);
}

#[tokio::test]
async fn row_without_webhook_or_route_is_held() {
    let no_webhook =
        AttemptResult::HoldUntil { at: in_seconds(60), reason: Reason::without_status(ReasonCode::NoWebhook) };
    for secret in [pool(&[], None), LoopsToClaySecret::default()] {
        let worker = worker(FakeSecrets::new(secret), |_, _| reply(200));
        assert_eq!(deliver(&worker, AttemptHistory::default()).await, no_webhook);
        assert!(worker.clay.posts().is_empty());
    }
}

#[tokio::test]
async fn event_taken_for_the_simulator_becomes_dead_letter() {
    let worker = worker_replying(reply(200));
    let kind = DeliveryKind::ClayRow { route: "contacts".to_owned(), webhook_id: "msg_1".to_owned() };
    let simulated = delivery(kind, ROW).in_account(&AccountId::simulated());
    let other_destination = AttemptResult::DeadLetter(Reason::without_status(ReasonCode::OtherDestination));
    assert_eq!(worker.deliver(&simulated, AttemptHistory::default()).await.result, other_destination);
    assert!(worker.clay.posts().is_empty());
}
