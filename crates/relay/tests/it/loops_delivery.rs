//! The worker towards Loops: what it does with every answer.

use std::time::Duration;

use jiff::SignedDuration;
use relay::delivery::loops::LoopsDeliverer;
use relay::destination::http_client::DestinationResponse;
use relay::ports::queue::Deliver as _;
use relay::ports::secrets::ClayToLoopsSecret;
use relay_core::delivery::{AttemptHistory, AttemptResult, DeliveryKind, Reason, ReasonCode};
use relay_core::idempotency::IdempotencyKey;
use relay_core::policy::response::CallOutcome;
use relay_core::secret::{RelayTokens, SecretString};

use crate::destinations::{Call, FakeLoops, asking, status};
use crate::harness::{FakePace, FakeSecrets, Still, ago, because, delivery, in_seconds, now};

const ROW: &str = r#"{"email":"ada@example.com"}"#;

type Worker = LoopsDeliverer<FakeSecrets<ClayToLoopsSecret>, FakeLoops, FakePace, Still>;

fn secret(key: Option<&str>) -> ClayToLoopsSecret {
    ClayToLoopsSecret { api_key: key.map(SecretString::from), tokens: RelayTokens::default() }
}

fn event() -> DeliveryKind {
    DeliveryKind::LoopsEvent { key: IdempotencyKey::from_stored("key-1".to_owned()) }
}

fn worker(
    secrets: FakeSecrets<ClayToLoopsSecret>,
    answers: impl Fn(&Call, usize) -> DestinationResponse + Send + Sync + 'static,
) -> Worker {
    LoopsDeliverer { secrets, loops: FakeLoops::new(answers), pace: FakePace::default(), ambient: Still::default() }
}

fn answering(answer: DestinationResponse) -> Worker {
    worker(FakeSecrets::of(secret(Some("key"))), move |_, _| answer.clone())
}

async fn attempt(worker: &Worker, cargo: DeliveryKind, history: AttemptHistory) -> AttemptResult {
    worker.attempt(&delivery(cargo, ROW), history).await
}

#[tokio::test]
async fn a_2xx_is_delivered_and_so_is_a_409_on_an_event() {
    for (cargo, answered) in
        [(DeliveryKind::LoopsContact, 200), (DeliveryKind::LoopsContact, 204), (event(), 201), (event(), 409)]
    {
        let worker = answering(status(answered));
        assert_eq!(attempt(&worker, cargo.clone(), AttemptHistory::default()).await, AttemptResult::Delivered);
        let calls = worker.loops.calls();
        assert_eq!((calls.len(), worker.pace.waits()), (1, 1));
        assert_eq!(
            (&calls[0].cargo, calls[0].body.as_ref(), calls[0].api_key.as_str()),
            (&cargo, ROW.as_bytes(), "key")
        );
    }
}

#[tokio::test]
async fn a_refusal_is_a_dead_letter() {
    let statuses = [400, 402, 403, 404, 405, 410, 413, 418, 422, 499];
    let events = statuses.map(|answered| (event(), answered));
    let contacts = statuses.map(|answered| (DeliveryKind::LoopsContact, answered));
    for (cargo, answered) in events.into_iter().chain(contacts).chain([(DeliveryKind::LoopsContact, 409)]) {
        let worker = answering(status(answered));
        let dead = AttemptResult::DeadLetter(because(ReasonCode::LoopsRejected, answered));
        assert_eq!(attempt(&worker, cargo, AttemptHistory::default()).await, dead);
        assert_eq!(worker.loops.calls().len(), 1);
    }
}

#[tokio::test]
async fn a_key_that_is_read_again_and_new_makes_the_second_call_succeed() {
    let secrets = FakeSecrets::changing(secret(Some("old")), secret(Some("new")));
    let worker = worker(secrets, |call, _| status(if call.api_key == "new" { 200 } else { 401 }));
    assert_eq!(attempt(&worker, event(), AttemptHistory::default()).await, AttemptResult::Delivered);
    let calls = worker.loops.calls();
    let keys: Vec<&str> = calls.iter().map(|call| call.api_key.as_str()).collect();
    assert_eq!(keys, ["old", "new"]);
    assert_eq!((calls[0].cargo.clone(), worker.secrets.rereads()), (calls[1].cargo.clone(), 1));
}

#[tokio::test]
async fn a_key_that_is_refused_twice_holds_the_row_for_a_minute_then_for_a_quarter_of_an_hour() {
    let minutes = SignedDuration::from_mins;
    for (held_for, seconds) in
        [(None, 60), (Some(minutes(14)), 60), (Some(minutes(15)), 900), (Some(minutes(9999)), 900)]
    {
        let worker = answering(status(401));
        let history = AttemptHistory { attempts: 3, failing_since: None, held_since: held_for.map(ago) };
        let held =
            AttemptResult::HoldUntil { at: in_seconds(seconds), reason: because(ReasonCode::LoopsKeyRejected, 401) };
        assert_eq!(attempt(&worker, DeliveryKind::LoopsContact, history).await, held);
        assert_eq!((worker.loops.calls().len(), worker.secrets.rereads()), (2, 1));
    }
}

#[tokio::test]
async fn a_key_that_is_not_set_holds_the_row() {
    let held =
        AttemptResult::HoldUntil { at: in_seconds(60), reason: Reason::without_status(ReasonCode::NotConfigured) };
    let unset = worker(FakeSecrets::of(secret(None)), |_, _| status(200));
    assert_eq!(attempt(&unset, event(), AttemptHistory::default()).await, held);
    assert!(unset.loops.calls().is_empty());
    // Also where it is gone when it is read again.
    let removed = worker(FakeSecrets::changing(secret(Some("old")), secret(None)), |_, _| status(401));
    assert_eq!(attempt(&removed, event(), AttemptHistory::default()).await, held);
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_tried_later() {
    let later = AttemptResult::RetryAt {
        at: now() + Duration::from_millis(1500),
        reason: Reason::without_status(ReasonCode::SecretUnavailable),
        no_early_retry: false,
    };
    let unread = worker(FakeSecrets::unreadable(), |_, _| status(200));
    assert_eq!(attempt(&unread, event(), AttemptHistory::default()).await, later);
    let lost = worker(FakeSecrets::lost(secret(Some("old"))), |_, _| status(401));
    assert_eq!(attempt(&lost, event(), AttemptHistory::default()).await, later);
}

#[tokio::test]
async fn waits_double_up_to_a_quarter_of_an_hour() {
    for (attempts, milliseconds) in [(0, 1500), (1, 2500), (2, 4500), (5, 32_500), (9, 450_500), (4000, 450_500)] {
        let worker = answering(DestinationResponse::without_response(CallOutcome::Unreachable));
        let history = AttemptHistory { attempts, ..AttemptHistory::default() };
        let later = AttemptResult::RetryAt {
            at: now() + Duration::from_millis(milliseconds),
            reason: Reason::without_status(ReasonCode::Unreachable),
            no_early_retry: false,
        };
        assert_eq!(attempt(&worker, event(), history).await, later, "{attempts}");
    }
}

#[tokio::test]
async fn what_should_pass_is_tried_later_and_dead_after_four_days() {
    let answers = [301, 302, 307, 408, 425, 429, 500, 502, 503].map(|answered| {
        let code = if answered == 429 { ReasonCode::DestinationThrottled } else { ReasonCode::DestinationFailed };
        (status(answered), because(code, answered))
    });
    let nothing = [(CallOutcome::TimedOut, ReasonCode::TimedOut), (CallOutcome::Unreachable, ReasonCode::Unreachable)];
    let nothing =
        nothing.map(|(outcome, code)| (DestinationResponse::without_response(outcome), Reason::without_status(code)));
    let four_days = SignedDuration::from_hours(4 * 24);
    let failing = |since| AttemptHistory { attempts: 400, failing_since: Some(ago(since)), held_since: None };
    for (answer, reason) in answers.into_iter().chain(nothing) {
        for cargo in [DeliveryKind::LoopsContact, event()] {
            let worker = answering(answer.clone());
            let almost = attempt(&worker, cargo.clone(), failing(four_days - SignedDuration::from_secs(1))).await;
            assert!(matches!(almost, AttemptResult::RetryAt { reason: why, .. } if why == reason), "{almost:?}");
            assert_eq!(attempt(&worker, cargo, failing(four_days)).await, AttemptResult::DeadLetter(reason));
        }
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
        let end = attempt(&worker, event(), history).await;
        assert!(matches!(end, AttemptResult::RetryAt { no_early_retry, .. } if no_early_retry == alone), "{end:?}");
    }
}

#[tokio::test]
async fn loops_says_how_long_up_to_an_hour_and_a_429_pauses_every_call() {
    for (answer, seconds, pauses) in [
        (asking(503, 0), 1, vec![]),
        (asking(503, 90_000), 3600, vec![]),
        (asking(429, 7), 7, vec![Duration::from_secs(7)]),
    ] {
        let worker = answering(answer);
        let disposition = attempt(&worker, event(), AttemptHistory::default()).await;
        assert!(
            matches!(disposition, AttemptResult::RetryAt { at, no_early_retry: true, .. } if at == in_seconds(seconds)),
            "{disposition:?}"
        );
        assert_eq!(worker.pace.pauses(), pauses);
    }
    let worker = answering(status(429));
    attempt(&worker, event(), AttemptHistory::default()).await;
    assert_eq!(worker.pace.pauses(), [Duration::from_secs(1)]);
}
