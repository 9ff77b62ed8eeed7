//! The handler of Clay's rows: what it does while Clay waits, and where what it needs is out of order.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use relay::destination::http_client::DestinationResponse;
use relay::ingress::clay_row::ClayRowHandler;
use relay::ingress::schema_cache::SchemaCache;
use relay::ports::queue::{Admission, DeliveryMode, FastPathResult};
use relay::ports::secrets::ClayToLoopsSecret;
use relay_core::delivery::{DeliveryKind, Reason, ReasonCode};
use relay_core::policy::response::CallOutcome;
use relay_core::row::RowKind;
use relay_core::secret::{RelayTokens, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::destinations::{FakeLoops, asking, saying, status};
use crate::fake_store::FakeLane;
use crate::harness::{FakePace, FakeSecrets, Still, because, now};

const TAKEN: &str = r#"{"success":true,"id":"c1"}"#;

type Handler = ClayRowHandler<FakeSecrets<ClayToLoopsSecret>, FakeLoops, FakeLane, FakePace, Still>;

fn secret(key: &str) -> ClayToLoopsSecret {
    ClayToLoopsSecret { api_key: Some(SecretString::from(key)), tokens: RelayTokens::new(["token"]) }
}

fn handler(lane: FakeLane, loops: FakeLoops) -> Handler {
    ClayRowHandler {
        secrets: FakeSecrets::of(secret("key")),
        loops,
        lane,
        pace: FakePace::default(),
        ambient: Still::default(),
        contact_source: None,
        properties: SchemaCache::disabled(),
    }
}

fn always(answer: DestinationResponse) -> FakeLoops {
    FakeLoops::new(move |_, _| answer.clone())
}

fn free() -> FakeLane {
    FakeLane::admitting(Admission::Direct)
}

async fn event(handler: &Handler, prefer: &str) -> (Response<Bytes>, Value) {
    let request = Request::post("/api/v1/events/send")
        .header("authorization", "Bearer token")
        .header("prefer", prefer)
        .body(Bytes::from_static(br#"{"email":"ada@example.com","eventName":"signup"}"#))
        .unwrap();
    let response = handler.handle(RowKind::Event, request).await;
    let told = serde_json::from_slice(response.body()).unwrap();
    (response, told)
}

fn is_to_be_run_again((response, told): &(Response<Bytes>, Value)) {
    assert_eq!((response.status().as_u16(), told["code"].as_str()), (429, Some("unavailable")));
    assert_eq!(response.headers()["retry-after"], "1");
}

/// Every answer that should pass, and why it is not delivered.
fn passing() -> Vec<(DestinationResponse, Reason)> {
    let answers =
        [302, 408, 425, 500, 503].map(|answered| (status(answered), because(ReasonCode::DestinationFailed, answered)));
    let nothing = DestinationResponse::without_response(CallOutcome::Unreachable);
    answers.into_iter().chain([(nothing, Reason::without_status(ReasonCode::Unreachable))]).collect()
}

#[tokio::test]
async fn what_loops_takes_is_answered_with_its_own_words_and_recorded() {
    let handler = handler(free(), always(saying(200, TAKEN)));
    let (response, _) = event(&handler, "").await;
    assert_eq!((response.status().as_u16(), response.body().as_ref()), (200, TAKEN.as_bytes()));
    assert_eq!(handler.lane.ends(), [FastPathResult::Delivered]);
    assert_eq!(handler.loops.calls()[0].api_key, "key");
}

#[tokio::test(start_paused = true)]
async fn what_should_pass_is_tried_twice_with_one_key_and_then_stored() {
    for (answer, reason) in passing() {
        let handler = handler(free(), always(answer));
        let (response, told) = event(&handler, "").await;
        assert_eq!((response.status().as_u16(), told["status"].as_str()), (202, Some("queued")));
        let calls = handler.loops.calls();
        assert_eq!(calls.len(), 2, "{reason:?}");
        assert_eq!(calls[0].cargo, calls[1].cargo);
        assert!(matches!(calls[0].cargo, DeliveryKind::LoopsEvent { .. }));
        // Two attempts: at most four seconds, with a chance of one half two and a half.
        let at = now() + Duration::from_millis(2500);
        assert_eq!(handler.lane.ends(), [FastPathResult::Deferred { attempts: 2, at, reason, firm: false }]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_try_may_succeed() {
    for (answer, reason) in passing() {
        let loops = FakeLoops::new(move |_, calls| if calls == 0 { answer.clone() } else { saying(200, TAKEN) });
        let handler = handler(free(), loops);
        assert_eq!(event(&handler, "").await.0.status(), 200, "{reason:?}");
        assert_eq!(handler.lane.ends(), [FastPathResult::Delivered]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_loops_that_hangs_is_given_up_within_the_callers_time() {
    let (began, handler) = (Instant::now(), handler(free(), FakeLoops::hanging()));
    assert_eq!(event(&handler, "").await.0.status(), 202);
    assert_eq!(handler.loops.calls().len(), 2);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_longer_than_the_caller_waits_gets_the_row_from_the_queue_then() {
    for (asked, wait) in [(30, 30), (90_000, 3600)] {
        let (began, handler) = (Instant::now(), handler(free(), always(asking(503, asked))));
        assert_eq!(event(&handler, "").await.0.status(), 202);
        assert!(began.elapsed() < Duration::from_secs(1));
        let (at, reason) = (now() + Duration::from_secs(wait), because(ReasonCode::DestinationFailed, 503));
        assert_eq!(handler.lane.ends(), [FastPathResult::Deferred { attempts: 1, at, reason, firm: true }]);
    }
}

#[tokio::test]
async fn a_409_on_an_event_is_a_duplicate() {
    let handler = handler(free(), always(status(409)));
    let (response, told) = event(&handler, "").await;
    assert_eq!((response.status().as_u16(), told), (200, json!({"success": true, "duplicate": true})));
    assert_eq!(handler.lane.ends(), [FastPathResult::Delivered]);
}

#[tokio::test]
async fn a_refusal_is_passed_on_and_nothing_is_kept() {
    for (answered, told_as) in [(400, 400), (402, 400), (403, 400), (404, 404), (410, 400), (413, 400), (422, 422)] {
        let handler = handler(free(), always(saying(answered, r#"{"success":false,"message":"Because."}"#)));
        let (response, told) = event(&handler, "").await;
        assert_eq!((response.status().as_u16(), told["code"].as_str()), (told_as, Some("loops_rejected")));
        assert_eq!(told["message"], "Because.");
        assert_eq!((handler.lane.ends(), handler.loops.calls().len()), (vec![FastPathResult::Rejected], 1));
    }
}

#[tokio::test]
async fn a_key_that_is_read_again_and_new_makes_the_second_call_succeed() {
    let loops = FakeLoops::new(|call, _| if call.api_key == "new" { saying(200, TAKEN) } else { status(401) });
    let mut handler = handler(free(), loops);
    handler.secrets = FakeSecrets::changing(secret("old"), secret("new"));
    assert_eq!(event(&handler, "").await.0.status(), 200);
    assert_eq!((handler.loops.calls().len(), handler.secrets.rereads()), (2, 1));
}

#[tokio::test]
async fn a_key_that_is_refused_twice_is_named() {
    let handler = handler(free(), always(status(401)));
    let (response, told) = event(&handler, "").await;
    assert_eq!((response.status().as_u16(), told["code"].as_str()), (502, Some("loops_key_rejected")));
    assert!(told["message"].as_str().unwrap().contains("the document's LoopsApiKey"), "{told}");
    assert_eq!((handler.loops.calls().len(), handler.lane.ends()), (2, vec![FastPathResult::Rejected]));
}

#[tokio::test]
async fn a_row_that_finds_no_room_or_may_wait_is_stored_untried() {
    let mut full = handler(FakeLane::admitting(Admission::Queued), always(status(200)));
    full.pace = FakePace::full();
    let async_wanted = handler(FakeLane::admitting(Admission::Queued), always(status(200)));
    for (handler, prefer) in [(full, ""), (async_wanted, "respond-async")] {
        assert_eq!(event(&handler, prefer).await.0.status(), 202);
        assert_eq!(handler.lane.wishes(), [DeliveryMode::Async]);
        assert!(handler.loops.calls().is_empty());
    }
}

#[tokio::test]
async fn only_a_preference_of_its_own_is_one_for_an_answer_at_once() {
    for (prefer, stored) in [
        ("wait=10, respond-async", true),
        ("Respond-Async; x=1", true),
        ("handling=lenient,respond-async ,wait=5", true),
        ("wait=10;respond-async", false),
        ("wait=10; respond-async, handling=lenient", false),
        ("respond-asynchronously", false),
        ("", false),
    ] {
        let handler = handler(free(), always(saying(200, TAKEN)));
        event(&handler, prefer).await;
        assert_eq!(handler.lane.wishes(), [if stored { DeliveryMode::Async } else { DeliveryMode::Sync }], "{prefer}");
    }
}

#[tokio::test]
async fn an_event_with_two_keys_is_refused_and_a_contact_has_none() {
    for (kind, status) in [(RowKind::Event, 400), (RowKind::Contact, 200)] {
        let handler = handler(free(), always(saying(200, TAKEN)));
        let request = Request::post("/").header("authorization", "Bearer token");
        let request = request.header("idempotency-key", "one").header("Idempotency-Key", "other");
        let body = Bytes::from_static(br#"{"email":"ada@example.com","eventName":"signup"}"#);
        let response = handler.handle(kind, request.body(body).unwrap()).await;
        assert_eq!(response.status(), status);
        let told: Value = serde_json::from_slice(response.body()).unwrap();
        let named = (told["code"].as_str(), told["field"].as_str());
        let expected = (Some("invalid_option"), Some("Idempotency-Key"));
        assert_eq!(named, if status == 400 { expected } else { (None, None) });
    }
}

#[tokio::test]
async fn a_row_goes_directly_where_the_store_can_be_read_but_not_written() {
    for (answer, status) in [(saying(200, TAKEN), 200), (status(409), 200), (status(422), 422), (status(401), 502)] {
        let handler = handler(FakeLane::unwritable(Some(Admission::Direct)), always(answer));
        assert_eq!(event(&handler, "").await.0.status(), status);
        assert!(!handler.loops.calls().is_empty());
    }
}

#[tokio::test]
async fn a_row_does_not_overtake_an_older_one_where_the_store_cannot_be_written() {
    for unstored in [Some(Admission::InFlight), None] {
        let handler = handler(FakeLane::unwritable(unstored), always(saying(200, TAKEN)));
        is_to_be_run_again(&event(&handler, "").await);
        assert!(handler.loops.calls().is_empty());
    }
}

#[tokio::test]
async fn a_row_that_was_stored_without_an_answer_is_answered_as_what_has_become_of_it_and_not_sent() {
    let expected = [(Admission::AlreadyDelivered, 200), (Admission::Queued, 202)];
    for (unstored, status) in expected {
        let handler = handler(FakeLane::unwritable(Some(unstored)), always(saying(200, TAKEN)));
        for (kind, path) in [(RowKind::Event, "/api/v1/events/send"), (RowKind::Contact, "/api/v1/contacts/update")] {
            let request = Request::post(path).header("authorization", "Bearer token");
            let body = Bytes::from_static(br#"{"email":"ada@example.com","eventName":"signup"}"#);
            let response = handler.handle(kind, request.body(body).unwrap()).await;
            let told: Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!((response.status().as_u16(), &told["success"]), (status, &Value::Bool(true)), "{told}");
        }
        assert!(handler.loops.calls().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_can_be_neither_sent_nor_stored_is_to_be_run_again() {
    let lane = || FakeLane::unwritable(Some(Admission::Direct));
    for loops in [always(status(503)), always(status(429)), always(asking(429, 60)), FakeLoops::hanging()] {
        is_to_be_run_again(&event(&handler(lane(), loops), "").await);
    }
    let mut full = handler(lane(), always(saying(200, TAKEN)));
    full.pace = FakePace::full();
    is_to_be_run_again(&event(&full, "").await);
    // The lane was to be had, and the store broke after that.
    let breaking = handler(FakeLane::breaking(), always(status(503)));
    is_to_be_run_again(&event(&breaking, "").await);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_over_when_the_row_has_its_lane_is_taken_anew_or_the_row_is_stored() {
    for (turns, status, calls) in [(2, 200, 1), (1, 202, 0)] {
        let mut late = handler(free(), always(saying(200, TAKEN)));
        late.lane.takes = Duration::from_secs(1);
        late.pace = FakePace::with_turns(turns);
        assert_eq!(event(&late, "").await.0.status(), status);
        assert_eq!((late.pace.taken(), late.loops.calls().len()), (turns, calls));
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_callers_time_is_up_when_it_has_its_lane_is_stored_and_not_sent() {
    for (late, status, calls) in [(8_900, 200, 1), (9_100, 202, 0), (20_000, 202, 0)] {
        let mut handler = handler(free(), always(saying(200, TAKEN)));
        handler.lane.takes = Duration::from_millis(late);
        assert_eq!(event(&handler, "").await.0.status(), status, "{late}");
        assert_eq!(handler.loops.calls().len(), calls, "{late}");
    }
}

#[tokio::test]
async fn a_row_that_loops_took_is_taken_even_if_that_cannot_be_recorded() {
    let handler = handler(FakeLane::breaking(), always(saying(200, TAKEN)));
    assert_eq!(event(&handler, "").await.0.status(), 200);
}

#[tokio::test]
async fn without_the_relays_secret_a_row_is_to_be_run_again() {
    let mut handler = handler(free(), always(saying(200, TAKEN)));
    handler.secrets = FakeSecrets::unreadable();
    is_to_be_run_again(&event(&handler, "").await);
    assert!(handler.loops.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_row_whose_twin_is_being_sent_waits_for_it_no_longer_than_its_caller() {
    let began = Instant::now();
    let handler = handler(FakeLane::admitting(Admission::InFlight), always(saying(200, TAKEN)));
    is_to_be_run_again(&event(&handler, "").await);
    assert!(began.elapsed() < Duration::from_secs(12));
    assert!(handler.loops.calls().is_empty());
}
