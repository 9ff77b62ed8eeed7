//! The worker towards Loops: what it does with every answer.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay::delivery::Deliver as _;
use relay::delivery::loops::LoopsDeliverer;
use relay::destination::http_client::DestinationResponse;
use relay::ports::secrets::ClayToLoopsSecret;
use relay_core::delivery::{AttemptHistory, AttemptResult, DeliveryKind, FinishedAttempt, Reason, ReasonCode};
use relay_core::idempotency::IdempotencyKey;
use relay_core::policy::response::CallOutcome;
use relay_core::secret::SecretString;
use relay_core::token::RelayTokens;

use crate::destinations::{FakeLoops, RecordedCall, reply, reply_with_retry_after};
use crate::harness::{FakeRateLimiter, FakeSecrets, FixedClock, ago, delivery, in_seconds, now, reason_with_status};

const ROW: &str = r#"{"email":"ada@example.com"}"#;

type Worker = LoopsDeliverer<FakeSecrets<ClayToLoopsSecret>, FakeLoops, FakeRateLimiter>;

fn secret(key: Option<&str>) -> ClayToLoopsSecret {
    ClayToLoopsSecret {
        api_key: key.map(SecretString::from),
        tokens: RelayTokens::default(),
        ..ClayToLoopsSecret::default()
    }
}

fn event() -> DeliveryKind {
    DeliveryKind::LoopsEvent { key: IdempotencyKey::from_stored("key-1".to_owned()) }
}

fn worker(
    secrets: FakeSecrets<ClayToLoopsSecret>,
    replies: impl Fn(&RecordedCall, usize) -> DestinationResponse + Send + Sync + 'static,
) -> Worker {
    LoopsDeliverer {
        secrets,
        loops: FakeLoops::new(replies),
        limiter: Arc::default(),
        clock: Arc::new(FixedClock::default()),
    }
}

fn worker_replying(response: DestinationResponse) -> Worker {
    worker(FakeSecrets::new(secret(Some("key"))), move |_, _| response.clone())
}

async fn deliver(worker: &Worker, kind: DeliveryKind, history: AttemptHistory) -> AttemptResult {
    worker.deliver(&delivery(kind, ROW), history).await.result
}

#[tokio::test]
async fn response_2xx_and_409_on_event_are_delivered() {
    for (kind, http_status) in
        [(DeliveryKind::LoopsContact, 200), (DeliveryKind::LoopsContact, 204), (event(), 201), (event(), 409)]
    {
        let worker = worker_replying(reply(http_status));
        assert_eq!(deliver(&worker, kind.clone(), AttemptHistory::default()).await, AttemptResult::Delivered);
        let calls = worker.loops.calls();
        assert_eq!((calls.len(), worker.limiter.acquires()), (1, 1));
        assert_eq!((&calls[0].kind, calls[0].body.as_ref(), calls[0].api_key.as_str()), (&kind, ROW.as_bytes(), "key"));
    }
}

#[tokio::test]
async fn permanent_rejection_is_dead_lettered() {
    let statuses = [400, 402, 403, 404, 405, 410, 413, 418, 422, 499];
    let events = statuses.map(|http_status| (event(), http_status));
    let contacts = statuses.map(|http_status| (DeliveryKind::LoopsContact, http_status));
    for (kind, http_status) in events.into_iter().chain(contacts).chain([(DeliveryKind::LoopsContact, 409)]) {
        let worker = worker_replying(reply(http_status));
        let dead = AttemptResult::DeadLetter(reason_with_status(ReasonCode::LoopsRejected, http_status));
        assert_eq!(deliver(&worker, kind, AttemptHistory::default()).await, dead);
        assert_eq!(worker.loops.calls().len(), 1);
    }
}

#[tokio::test]
async fn rotated_key_succeeds_on_second_call() {
    let secrets = FakeSecrets::rotating(secret(Some("old")), secret(Some("new")));
    let worker = worker(secrets, |call, _| reply(if call.api_key == "new" { 200 } else { 401 }));
    assert_eq!(deliver(&worker, event(), AttemptHistory::default()).await, AttemptResult::Delivered);
    let calls = worker.loops.calls();
    let keys: Vec<&str> = calls.iter().map(|call| call.api_key.as_str()).collect();
    assert_eq!(keys, ["old", "new"]);
    assert_eq!((calls[0].kind.clone(), worker.secrets.refreshes()), (calls[1].kind.clone(), 1));
}

#[tokio::test]
async fn twice_unauthorized_key_holds_with_backoff() {
    let minutes = SignedDuration::from_mins;
    for (held_for, seconds) in
        [(None, 60), (Some(minutes(14)), 60), (Some(minutes(15)), 900), (Some(minutes(9999)), 900)]
    {
        let worker = worker_replying(reply(401));
        let history = AttemptHistory { attempts: 3, held_since: held_for.map(ago), ..AttemptHistory::default() };
        let held = AttemptResult::HoldUntil {
            at: in_seconds(seconds),
            reason: reason_with_status(ReasonCode::LoopsKeyRejected, 401),
        };
        assert_eq!(deliver(&worker, DeliveryKind::LoopsContact, history).await, held);
        assert_eq!((worker.loops.calls().len(), worker.secrets.refreshes()), (2, 1));
    }
}

#[tokio::test]
async fn missing_api_key_holds_the_row() {
    let held =
        AttemptResult::HoldUntil { at: in_seconds(60), reason: Reason::without_status(ReasonCode::NotConfigured) };
    let unset = worker(FakeSecrets::new(secret(None)), |_, _| reply(200));
    assert_eq!(deliver(&unset, event(), AttemptHistory::default()).await, held);
    assert!(unset.loops.calls().is_empty());
    // Also where it is gone when it is read again.
    let removed = worker(FakeSecrets::rotating(secret(Some("old")), secret(None)), |_, _| reply(401));
    assert_eq!(deliver(&removed, event(), AttemptHistory::default()).await, held);
}

#[tokio::test]
async fn unavailable_secret_is_retried() {
    let retry = AttemptResult::RetryAt {
        at: now() + Duration::from_millis(1500),
        reason: Reason::without_status(ReasonCode::SecretUnavailable),
        no_early_retry: false,
    };
    let never_readable = worker(FakeSecrets::unavailable(), |_, _| reply(200));
    assert_eq!(deliver(&never_readable, event(), AttemptHistory::default()).await, retry);
    let failing_refresh = worker(FakeSecrets::failing_refresh(secret(Some("old"))), |_, _| reply(401));
    assert_eq!(deliver(&failing_refresh, event(), AttemptHistory::default()).await, retry);
}

#[tokio::test]
async fn retry_delay_doubles_up_to_fifteen_minutes() {
    for (attempts, milliseconds) in [(0, 1500), (1, 2500), (2, 4500), (5, 32_500), (9, 450_500), (4000, 450_500)] {
        let worker = worker_replying(DestinationResponse::without_response(CallOutcome::Unreachable));
        let history = AttemptHistory { attempts, ..AttemptHistory::default() };
        let retry = AttemptResult::RetryAt {
            at: now() + Duration::from_millis(milliseconds),
            reason: Reason::without_status(ReasonCode::Unreachable),
            no_early_retry: false,
        };
        assert_eq!(deliver(&worker, event(), history).await, retry, "{attempts}");
    }
}

#[tokio::test]
async fn transient_failure_is_dead_lettered_after_four_days() {
    let answers = [301, 302, 307, 408, 425, 429, 500, 502, 503].map(|http_status| {
        let code = if http_status == 429 { ReasonCode::DestinationThrottled } else { ReasonCode::DestinationFailed };
        (reply(http_status), reason_with_status(code, http_status))
    });
    let no_response =
        [(CallOutcome::TimedOut, ReasonCode::TimedOut), (CallOutcome::Unreachable, ReasonCode::Unreachable)];
    let no_response = no_response
        .map(|(outcome, code)| (DestinationResponse::without_response(outcome), Reason::without_status(code)));
    let four_days = SignedDuration::from_hours(4 * 24);
    let failing =
        |since| AttemptHistory { attempts: 400, failing_since: Some(ago(since)), ..AttemptHistory::default() };
    for (response, reason) in answers.into_iter().chain(no_response) {
        for kind in [DeliveryKind::LoopsContact, event()] {
            let worker = worker_replying(response.clone());
            let last_retry = deliver(&worker, kind.clone(), failing(four_days - SignedDuration::from_secs(1))).await;
            assert!(
                matches!(last_retry, AttemptResult::RetryAt { reason: actual, .. } if actual == reason),
                "{last_retry:?}"
            );
            assert_eq!(deliver(&worker, kind, failing(four_days)).await, AttemptResult::DeadLetter(reason));
        }
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
        let result = deliver(&worker, event(), history).await;
        assert!(
            matches!(result, AttemptResult::RetryAt { no_early_retry, .. } if no_early_retry == expected),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn retry_after_is_honoured_and_429_throttles_all_calls() {
    for (response, seconds, throttles) in [
        (reply_with_retry_after(503, 0), 1, vec![]),
        (reply_with_retry_after(503, 90_000), 3600, vec![]),
        (reply_with_retry_after(429, 7), 7, vec![Duration::from_secs(7)]),
    ] {
        let worker = worker_replying(response);
        let result = deliver(&worker, event(), AttemptHistory::default()).await;
        assert!(
            matches!(result, AttemptResult::RetryAt { at, no_early_retry: true, .. } if at == in_seconds(seconds)),
            "{result:?}"
        );
        assert_eq!(worker.limiter.throttles(), throttles);
    }
    let worker = worker_replying(reply(429));
    deliver(&worker, event(), AttemptHistory::default()).await;
    assert_eq!(worker.limiter.throttles(), [Duration::from_secs(1)]);
}

/// Delivers an event, and returns the result with the time since which its outcome is unknown.
async fn deliver_event(outcome: CallOutcome, unknown_since: Option<Timestamp>) -> (usize, FinishedAttempt) {
    let worker = worker_replying(DestinationResponse::without_response(outcome));
    let history = AttemptHistory { attempts: 1, unknown_since, ..AttemptHistory::default() };
    let finished = worker.deliver(&delivery(event(), ROW), history).await;
    (worker.loops.calls().len(), finished)
}

#[tokio::test]
async fn event_without_an_answer_has_an_unknown_outcome_since_its_start() {
    let earlier = Some(ago(SignedDuration::from_hours(1)));
    for outcome in [CallOutcome::TimedOut, CallOutcome::ConnectionLost, CallOutcome::Responded(502)] {
        assert_eq!(deliver_event(outcome, None).await.1.unknown_since, Some(now()), "{outcome:?}");
        assert_eq!(deliver_event(outcome, earlier).await.1.unknown_since, earlier, "{outcome:?}");
    }
    for outcome in [CallOutcome::Unreachable, CallOutcome::Responded(429), CallOutcome::Responded(422)] {
        assert_eq!(deliver_event(outcome, None).await.1.unknown_since, None, "{outcome:?}");
        assert_eq!(deliver_event(outcome, earlier).await.1.unknown_since, earlier, "{outcome:?}");
    }
    assert_eq!(deliver_event(CallOutcome::Responded(409), earlier).await.1.unknown_since, None);
    let worker = worker_replying(DestinationResponse::without_response(CallOutcome::TimedOut));
    let contact = delivery(DeliveryKind::LoopsContact, ROW);
    assert_eq!(worker.deliver(&contact, AttemptHistory::default()).await.unknown_since, None);
}

#[tokio::test]
async fn event_with_an_outcome_unknown_for_23_hours_is_not_sent() {
    let since = |hours| Some(ago(SignedDuration::from_hours(hours)));
    let (calls, finished) = deliver_event(CallOutcome::Responded(200), since(23)).await;
    let dead = AttemptResult::DeadLetter(Reason::without_status(ReasonCode::OutcomeUnknown));
    assert_eq!((calls, finished.result, finished.unknown_since), (0, dead, since(23)));
    let (calls, finished) = deliver_event(CallOutcome::Responded(200), since(22)).await;
    assert_eq!((calls, finished.result), (1, AttemptResult::Delivered));
}
