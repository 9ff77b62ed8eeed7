//! The handler of Clay's rows: what it does while Clay waits, and where what it needs is out of order.

mod accounts;
mod dry_run;
mod scopes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use relay::destination::http_client::DestinationResponse;
use relay::ingress::clay_row::ClayRowHandler;
use relay::ingress::schema_cache::SchemaCache;
use relay::ports::row_intake::{Admission, DeliveryMode, SyncSendResult};
use relay::ports::secrets::ClayToLoopsSecret;
use relay_core::account::{AccountId, KeyAccount};
use relay_core::delivery::{DeliveryKind, Reason, ReasonCode};
use relay_core::policy::response::CallOutcome;
use relay_core::row::RowKind;
use relay_core::secret::SecretString;
use relay_core::token::{RelayToken, RelayTokens, Scope};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::destinations::{FakeLoops, reply, reply_with_body, reply_with_retry_after};
use crate::fake_store::FakeRowIntake;
use crate::harness::{FakeRateLimiter, FakeSecrets, FixedClock, now, reason_with_status};

const LOOPS_SUCCESS: &str = r#"{"success":true,"id":"c1"}"#;

type Handler = ClayRowHandler<FakeSecrets<ClayToLoopsSecret>, FakeLoops, FakeRowIntake, FakeRateLimiter>;

fn secret(key: &str) -> ClayToLoopsSecret {
    ClayToLoopsSecret {
        api_key: Some(SecretString::from(key)),
        tokens: RelayTokens::new(["token"]),
        ..ClayToLoopsSecret::default()
    }
}

fn handler(intake: FakeRowIntake, loops: FakeLoops) -> Handler {
    ClayRowHandler {
        secrets: FakeSecrets::new(secret("key")),
        loops,
        intake,
        limiter: Arc::default(),
        clock: Arc::new(FixedClock::default()),
        contact_source: None,
        schema: SchemaCache::new(false),
    }
}

fn always_replying(response: DestinationResponse) -> FakeLoops {
    FakeLoops::new(move |_, _| response.clone())
}

fn unlocked() -> FakeRowIntake {
    FakeRowIntake::admitting(Admission::SendNow)
}

/// A row of that kind.
fn body_of(kind: RowKind) -> Bytes {
    Bytes::from_static(match kind {
        RowKind::Event => br#"{"email":"ada@example.com","eventName":"signup"}"#,
        RowKind::Contact | RowKind::Create | RowKind::Delete => br#"{"email":"ada@example.com"}"#,
        RowKind::Email => br#"{"email":"ada@example.com","transactionalId":"t1"}"#,
    })
}

async fn post_event(handler: &Handler, prefer: &str) -> (Response<Bytes>, Value) {
    let request = Request::post("/api/v1/events/send")
        .header("authorization", "Bearer token")
        .header("prefer", prefer)
        .body(body_of(RowKind::Event))
        .unwrap();
    let response = handler.handle(RowKind::Event, request).await;
    let json = serde_json::from_slice(response.body()).unwrap();
    (response, json)
}

fn assert_unavailable((response, json): &(Response<Bytes>, Value)) {
    assert_eq!((response.status().as_u16(), json["code"].as_str()), (429, Some("unavailable")));
    assert_eq!(response.headers()["retry-after"], "1");
}

/// Every answer that should pass, and why it is not delivered.
fn transient_responses() -> Vec<(DestinationResponse, Reason)> {
    let responses = [302, 408, 425, 500, 503]
        .map(|http_status| (reply(http_status), reason_with_status(ReasonCode::DestinationFailed, http_status)));
    let unreachable = DestinationResponse::without_response(CallOutcome::Unreachable);
    responses.into_iter().chain([(unreachable, Reason::without_status(ReasonCode::Unreachable))]).collect()
}

#[tokio::test]
async fn delivered_row_returns_loops_body_and_is_recorded() {
    let handler = handler(unlocked(), always_replying(reply_with_body(200, LOOPS_SUCCESS)));
    let (response, _) = post_event(&handler, "").await;
    assert_eq!((response.status().as_u16(), response.body().as_ref()), (200, LOOPS_SUCCESS.as_bytes()));
    assert_eq!(handler.intake.results(), [SyncSendResult::Delivered]);
    assert_eq!(handler.loops.calls()[0].api_key, "key");
}

#[tokio::test(start_paused = true)]
async fn transient_failure_is_tried_twice_with_one_key_then_queued() {
    for (response, reason) in transient_responses() {
        let outcome_unknown = response.outcome.is_unknown();
        let handler = handler(unlocked(), always_replying(response));
        let (response, json) = post_event(&handler, "").await;
        assert_eq!((response.status().as_u16(), json["status"].as_str()), (202, Some("queued")));
        let calls = handler.loops.calls();
        assert_eq!(calls.len(), 2, "{reason:?}");
        assert_eq!(calls[0].kind, calls[1].kind);
        assert!(matches!(calls[0].kind, DeliveryKind::LoopsEvent { .. }));
        // Two attempts: at most four seconds, with a chance of one half two and a half.
        let retry_at = now() + Duration::from_millis(2500);
        assert_eq!(
            handler.intake.results(),
            [SyncSendResult::Deferred { attempts: 2, retry_at, reason, no_early_retry: false, outcome_unknown }]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn transient_failure_succeeds_on_second_try() {
    for (response, reason) in transient_responses() {
        let loops = FakeLoops::new(
            move |_, calls| if calls == 0 { response.clone() } else { reply_with_body(200, LOOPS_SUCCESS) },
        );
        let handler = handler(unlocked(), loops);
        assert_eq!(post_event(&handler, "").await.0.status(), 200, "{reason:?}");
        assert_eq!(handler.intake.results(), [SyncSendResult::Delivered]);
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_loops_is_queued_within_the_caller_deadline() {
    let (started_at, handler) = (Instant::now(), handler(unlocked(), FakeLoops::never_replying()));
    assert_eq!(post_event(&handler, "").await.0.status(), 202);
    assert_eq!(handler.loops.calls().len(), 2);
    assert!(started_at.elapsed() < Duration::from_secs(10), "{:?}", started_at.elapsed());
}

#[tokio::test(start_paused = true)]
async fn long_retry_after_defers_the_row_to_the_queue() {
    for (retry_after, delay) in [(30, 30), (90_000, 3600)] {
        let (started_at, handler) =
            (Instant::now(), handler(unlocked(), always_replying(reply_with_retry_after(503, retry_after))));
        assert_eq!(post_event(&handler, "").await.0.status(), 202);
        assert!(started_at.elapsed() < Duration::from_secs(1));
        let (retry_at, reason) =
            (now() + Duration::from_secs(delay), reason_with_status(ReasonCode::DestinationFailed, 503));
        let deferred =
            SyncSendResult::Deferred { attempts: 1, retry_at, reason, no_early_retry: true, outcome_unknown: true };
        assert_eq!(handler.intake.results(), [deferred]);
    }
}

#[tokio::test(start_paused = true)]
async fn rejection_after_an_unanswered_try_leaves_the_outcome_unknown() {
    for (first, second) in [(reply(500), 400), (DestinationResponse::without_response(CallOutcome::TimedOut), 401)] {
        let loops = FakeLoops::new(move |_, calls| if calls == 0 { first.clone() } else { reply(second) });
        let handler = handler(unlocked(), loops);
        assert!(post_event(&handler, "").await.0.status().is_client_error() || second == 401);
        assert_eq!(handler.intake.results(), [SyncSendResult::OutcomeUnknown], "{second}");
    }
}

#[tokio::test]
async fn key_of_another_contact_is_an_error_that_names_the_header() {
    let handler = handler(FakeRowIntake::admitting(Admission::KeyOfOtherContact), always_replying(reply(200)));
    let (response, json) = post_event(&handler, "").await;
    assert_eq!((response.status().as_u16(), &json["code"]), (400, &json!("invalid_option")));
    assert_eq!(json["field"], "Idempotency-Key");
    let message = json["message"].as_str().unwrap();
    assert!(message.contains("a column that differs for each row") && !message.contains("ada@"), "{message}");
    assert_eq!(handler.loops.calls().len(), 0);
}

#[tokio::test]
async fn event_with_an_unknown_outcome_is_answered_409_and_not_sent() {
    let handler = handler(FakeRowIntake::admitting(Admission::OutcomeUnknown), always_replying(reply(200)));
    let (response, json) = post_event(&handler, "").await;
    assert_eq!((response.status().as_u16(), &json["code"]), (409, &json!("outcome_unknown")));
    let message = json["message"].as_str().unwrap();
    assert!(message.contains("relayctl dead-letters") && message.ends_with('.'), "{message}");
    assert_eq!(handler.loops.calls().len(), 0);
}

#[tokio::test]
async fn event_answered_409_is_duplicate() {
    let handler = handler(unlocked(), always_replying(reply(409)));
    let (response, json) = post_event(&handler, "").await;
    assert_eq!((response.status().as_u16(), json), (200, json!({"success": true, "duplicate": true})));
    assert_eq!(handler.intake.results(), [SyncSendResult::Delivered]);
}

#[tokio::test]
async fn loops_rejection_is_passed_on_and_not_stored() {
    for (http_status, expected_status) in
        [(400, 400), (402, 400), (403, 400), (404, 404), (410, 400), (413, 400), (422, 422)]
    {
        let handler = handler(
            unlocked(),
            always_replying(reply_with_body(http_status, r#"{"success":false,"message":"Because."}"#)),
        );
        let (response, json) = post_event(&handler, "").await;
        assert_eq!((response.status().as_u16(), json["code"].as_str()), (expected_status, Some("loops_rejected")));
        assert_eq!(json["message"], "Because.");
        assert_eq!((handler.intake.results(), handler.loops.calls().len()), (vec![SyncSendResult::Rejected], 1));
    }
}

#[tokio::test]
async fn rotated_key_succeeds_on_second_call() {
    let loops =
        FakeLoops::new(|call, _| if call.api_key == "new" { reply_with_body(200, LOOPS_SUCCESS) } else { reply(401) });
    let mut handler = handler(unlocked(), loops);
    handler.secrets = FakeSecrets::rotating(secret("old"), secret("new"));
    assert_eq!(post_event(&handler, "").await.0.status(), 200);
    assert_eq!((handler.loops.calls().len(), handler.secrets.refreshes()), (2, 1));
}

#[tokio::test]
async fn twice_unauthorized_key_is_named_in_the_error() {
    let handler = handler(unlocked(), always_replying(reply(401)));
    let (response, json) = post_event(&handler, "").await;
    assert_eq!((response.status().as_u16(), json["code"].as_str()), (502, Some("loops_key_rejected")));
    assert!(json["message"].as_str().unwrap().contains("the document's LoopsApiKey"), "{json}");
    assert_eq!((handler.loops.calls().len(), handler.intake.results()), (2, vec![SyncSendResult::Rejected]));
}

#[tokio::test]
async fn rate_limited_or_async_row_is_queued_without_a_call() {
    let mut exhausted = handler(FakeRowIntake::admitting(Admission::Queued), always_replying(reply(200)));
    exhausted.limiter = Arc::new(FakeRateLimiter::exhausted());
    let async_preferred = handler(FakeRowIntake::admitting(Admission::Queued), always_replying(reply(200)));
    for (handler, prefer) in [(exhausted, ""), (async_preferred, "respond-async")] {
        assert_eq!(post_event(&handler, prefer).await.0.status(), 202);
        assert_eq!(handler.intake.modes(), [DeliveryMode::Async]);
        assert!(handler.loops.calls().is_empty());
    }
}

#[tokio::test]
async fn only_a_separate_respond_async_preference_queues_the_row() {
    for (prefer, stored) in [
        ("wait=10, respond-async", true),
        ("Respond-Async; x=1", true),
        ("handling=lenient,respond-async ,wait=5", true),
        ("wait=10;respond-async", false),
        ("wait=10; respond-async, handling=lenient", false),
        ("respond-asynchronously", false),
        ("", false),
    ] {
        let handler = handler(unlocked(), always_replying(reply_with_body(200, LOOPS_SUCCESS)));
        post_event(&handler, prefer).await;
        assert_eq!(handler.intake.modes(), [if stored { DeliveryMode::Async } else { DeliveryMode::Sync }], "{prefer}");
    }
}

#[tokio::test]
async fn event_with_two_idempotency_keys_is_rejected() {
    for (kind, status) in [(RowKind::Event, 400), (RowKind::Contact, 200)] {
        let handler = handler(unlocked(), always_replying(reply_with_body(200, LOOPS_SUCCESS)));
        let request = Request::post("/").header("authorization", "Bearer token");
        let request = request.header("idempotency-key", "one").header("Idempotency-Key", "other");
        let response = handler.handle(kind, request.body(body_of(kind)).unwrap()).await;
        assert_eq!(response.status(), status);
        let json: Value = serde_json::from_slice(response.body()).unwrap();
        let named = (json["code"].as_str(), json["field"].as_str());
        let expected = (Some("invalid_option"), Some("Idempotency-Key"));
        assert_eq!(named, if status == 400 { expected } else { (None, None) });
    }
}

#[tokio::test]
async fn unwritable_store_still_sends_row_synchronously() {
    for (response, status) in
        [(reply_with_body(200, LOOPS_SUCCESS), 200), (reply(409), 200), (reply(422), 422), (reply(401), 502)]
    {
        let handler = handler(FakeRowIntake::unwritable(Some(Admission::SendNow)), always_replying(response));
        assert_eq!(post_event(&handler, "").await.0.status(), status);
        assert!(!handler.loops.calls().is_empty());
    }
}

#[tokio::test]
async fn unwritable_store_does_not_let_row_overtake_older_one() {
    for unrecorded_admission in [Some(Admission::InFlight), None] {
        let handler = handler(
            FakeRowIntake::unwritable(unrecorded_admission),
            always_replying(reply_with_body(200, LOOPS_SUCCESS)),
        );
        assert_unavailable(&post_event(&handler, "").await);
        assert!(handler.loops.calls().is_empty());
    }
}

#[tokio::test]
async fn row_stored_despite_lost_response_is_not_sent_again() {
    let expected = [(Admission::AlreadyDelivered, 200), (Admission::Queued, 202)];
    for (unrecorded_admission, status) in expected {
        let handler = handler(
            FakeRowIntake::unwritable(Some(unrecorded_admission)),
            always_replying(reply_with_body(200, LOOPS_SUCCESS)),
        );
        for (kind, path) in [(RowKind::Event, "/api/v1/events/send"), (RowKind::Contact, "/api/v1/contacts/update")] {
            let request = Request::post(path).header("authorization", "Bearer token");
            let response = handler.handle(kind, request.body(body_of(kind)).unwrap()).await;
            let json: Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!((response.status().as_u16(), &json["success"]), (status, &Value::Bool(true)), "{json}");
        }
        assert!(handler.loops.calls().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn row_neither_sent_nor_stored_is_unavailable() {
    let intake = || FakeRowIntake::unwritable(Some(Admission::SendNow));
    for loops in [
        always_replying(reply(503)),
        always_replying(reply(429)),
        always_replying(reply_with_retry_after(429, 60)),
        FakeLoops::never_replying(),
    ] {
        assert_unavailable(&post_event(&handler(intake(), loops), "").await);
    }
    let mut exhausted = handler(intake(), always_replying(reply_with_body(200, LOOPS_SUCCESS)));
    exhausted.limiter = Arc::new(FakeRateLimiter::exhausted());
    assert_unavailable(&post_event(&exhausted, "").await);
    // The contact lock was free, and the store broke after that.
    let failing_on_complete = handler(FakeRowIntake::failing_on_complete(), always_replying(reply(503)));
    assert_unavailable(&post_event(&failing_on_complete, "").await);
}

#[tokio::test(start_paused = true)]
async fn expired_permit_is_reacquired_or_row_is_queued() {
    for (permits, status, calls) in [(2, 200, 1), (1, 202, 0)] {
        let mut slow = handler(unlocked(), always_replying(reply_with_body(200, LOOPS_SUCCESS)));
        slow.intake.delay = Duration::from_secs(1);
        slow.limiter = Arc::new(FakeRateLimiter::with_permits(permits));
        assert_eq!(post_event(&slow, "").await.0.status(), status);
        assert_eq!((slow.limiter.permits_taken(), slow.loops.calls().len()), (permits, calls));
    }
}

#[tokio::test(start_paused = true)]
async fn row_admitted_after_the_deadline_is_queued_and_not_sent() {
    for (delay, status, calls) in [(8_900, 200, 1), (9_100, 202, 0), (20_000, 202, 0)] {
        let mut handler = handler(unlocked(), always_replying(reply_with_body(200, LOOPS_SUCCESS)));
        handler.intake.delay = Duration::from_millis(delay);
        assert_eq!(post_event(&handler, "").await.0.status(), status, "{delay}");
        assert_eq!(handler.loops.calls().len(), calls, "{delay}");
    }
}

#[tokio::test]
async fn delivered_but_unrecorded_row_is_reported_delivered() {
    let handler = handler(FakeRowIntake::failing_on_complete(), always_replying(reply_with_body(200, LOOPS_SUCCESS)));
    assert_eq!(post_event(&handler, "").await.0.status(), 200);
}

#[tokio::test]
async fn unavailable_relay_secret_makes_row_unavailable() {
    let mut handler = handler(unlocked(), always_replying(reply_with_body(200, LOOPS_SUCCESS)));
    handler.secrets = FakeSecrets::unavailable();
    assert_unavailable(&post_event(&handler, "").await);
    assert!(handler.loops.calls().is_empty());
}

#[tokio::test]
async fn row_that_escapes_make_larger_than_a_request_is_too_large() {
    let handler = handler(unlocked(), always_replying(reply_with_body(200, LOOPS_SUCCESS)));
    // A line break is one byte in a body that is read generously, and two in JSON.
    let text = format!("x{}x", "\n".repeat(400));
    let fields: Vec<String> = (0..400).map(|number| format!("\"f{number}\":\"{text}\"")).collect();
    let request = Request::put("/api/v1/contacts/update")
        .header("authorization", "Bearer token")
        .body(Bytes::from(format!("{{\"email\":\"ada@example.com\",{}}}", fields.join(","))))
        .unwrap();
    let response = handler.handle(RowKind::Contact, request).await;
    assert_eq!(response.status(), 400);
    assert!(String::from_utf8_lossy(response.body()).contains("too_large"));
    assert!(handler.loops.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn row_with_duplicate_in_flight_waits_until_the_deadline() {
    let started_at = Instant::now();
    let handler =
        handler(FakeRowIntake::admitting(Admission::InFlight), always_replying(reply_with_body(200, LOOPS_SUCCESS)));
    assert_unavailable(&post_event(&handler, "").await);
    assert!(started_at.elapsed() < Duration::from_secs(12));
    assert!(handler.loops.calls().is_empty());
}
