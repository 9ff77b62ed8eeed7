//! The list of contact properties: when it is read, what rows make of it, and that nobody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use http::Request;
use jiff::{SignedDuration, Timestamp};
use relay::destination::http_client::DestinationResponse;
use relay::ingress::clay_row::ClayRowHandler;
use relay::ingress::schema_cache::{SchemaCache, SchemaRefresher};
use relay::ports::clock::Clock;
use relay::ports::row_intake::Admission;
use relay::ports::secrets::ClayToLoopsSecret;
use relay_core::row::RowKind;
use relay_core::secret::SecretString;
use relay_core::token::RelayTokens;

use crate::destinations::{FakeLoops, reply, reply_with_body, reply_with_retry_after};
use crate::fake_store::FakeRowIntake;
use crate::harness::{FakeRateLimiter, FakeSecrets, now};

const LIST: &str = r#"[{"key":"seats","label":"Seats","type":"number"}]"#;
const TYPED: &str = r#"{"email":"a@b.co","seats":42}"#;
const UNTYPED: &str = r#"{"email":"a@b.co","seats":"42"}"#;

/// A clock that the test moves.
#[derive(Debug, Clone, Default)]
struct FakeClock(Arc<AtomicI64>);

impl FakeClock {
    fn advance(&self, time: SignedDuration) {
        self.0.fetch_add(time.as_secs(), Ordering::Relaxed);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        now() + SignedDuration::from_secs(self.0.load(Ordering::Relaxed))
    }

    fn random(&self) -> f64 {
        0.5
    }

    fn new_id(&self) -> String {
        "u".to_owned()
    }
}

type Refresher = SchemaRefresher<FakeSecrets<ClayToLoopsSecret>, FakeLoops, FakeRateLimiter>;
type Handler = ClayRowHandler<FakeSecrets<ClayToLoopsSecret>, FakeLoops, FakeRowIntake, FakeRateLimiter>;

fn secret(key: Option<&str>) -> ClayToLoopsSecret {
    ClayToLoopsSecret {
        api_key: key.map(SecretString::from),
        tokens: RelayTokens::new(["token"]),
        ..ClayToLoopsSecret::default()
    }
}

/// A handler and what reads its list.
fn handler_and_refresher(
    list: impl Fn(usize) -> DestinationResponse + Send + Sync + 'static,
) -> (Handler, Refresher, FakeClock) {
    let clock = FakeClock::default();
    let handler = ClayRowHandler {
        secrets: FakeSecrets::new(secret(Some("key"))),
        loops: FakeLoops::new(|_, _| reply_with_body(200, "{}")),
        intake: FakeRowIntake::admitting(Admission::SendNow),
        limiter: Arc::default(),
        clock: Arc::new(clock.clone()),
        contact_source: None,
        schema: SchemaCache::new(true),
    };
    let refresher = SchemaRefresher {
        cache: handler.schema.clone(),
        secrets: FakeSecrets::new(secret(Some("key"))),
        loops: FakeLoops::with_schema_reply(list),
        limiter: Arc::default(),
        clock: Arc::new(clock.clone()),
    };
    (handler, refresher, clock)
}

async fn status_of(handler: &Handler, row: &'static str) -> u16 {
    let request = Request::put("/api/v1/contacts/update").header("authorization", "Bearer token");
    handler.handle(RowKind::Contact, request.body(Bytes::from_static(row.as_bytes())).unwrap()).await.status().as_u16()
}

/// What Loops gets of a row whose property may be a number.
async fn sent_body(handler: &Handler) -> String {
    assert_eq!(status_of(handler, UNTYPED).await, 200);
    String::from_utf8(handler.loops.calls().last().unwrap().body.to_vec()).unwrap()
}

#[tokio::test]
async fn rows_pass_unchanged_until_schema_is_fetched() {
    let (handler, refresher, _) = handler_and_refresher(|_| reply_with_body(200, LIST));
    assert_eq!(sent_body(&handler).await, UNTYPED);
    assert!(refresher.refresh_if_due().await);
    assert_eq!(sent_body(&handler).await, TYPED);
    assert_eq!(refresher.loops.schema_requests(), ["key"]);
}

#[tokio::test]
async fn rate_limited_schema_refresh_is_postponed() {
    let (_, mut refresher, clock) = handler_and_refresher(|_| reply_with_body(200, LIST));
    refresher.limiter = Arc::new(FakeRateLimiter::exhausted());
    refresher.refresh_if_due().await;
    assert_eq!((refresher.loops.schema_requests().len(), refresher.limiter.acquires()), (0, 0));
    refresher.limiter = Arc::default();
    clock.advance(SignedDuration::from_secs(60));
    assert!(refresher.refresh_if_due().await);
}

#[tokio::test]
async fn schema_is_refreshed_after_ttl_and_used_up_to_max_age() {
    let (handler, refresher, clock) =
        handler_and_refresher(|attempt| if attempt == 0 { reply_with_body(200, LIST) } else { reply(500) });
    refresher.refresh_if_due().await;
    clock.advance(SignedDuration::from_secs(15 * 60 - 1));
    assert!(!refresher.refresh_if_due().await);
    clock.advance(SignedDuration::from_secs(1));
    assert_eq!(sent_body(&handler).await, TYPED);
    assert!(refresher.refresh_if_due().await, "it is due");
    assert_eq!(sent_body(&handler).await, TYPED, "what is known serves on");
    clock.advance(SignedDuration::from_secs(59));
    assert!(!refresher.refresh_if_due().await, "what failed is not asked again at once");
    clock.advance(SignedDuration::from_secs(1));
    assert!(refresher.refresh_if_due().await);
    clock.advance(SignedDuration::from_mins(44));
    assert_eq!(sent_body(&handler).await, UNTYPED, "what is an hour old is not known any more");
}

#[tokio::test]
async fn unavailable_schema_leaves_rows_unchanged() {
    for response in
        [reply(401), reply(403), reply(404), reply(500), reply_with_body(200, "<html>"), reply_with_body(200, "[]")]
    {
        let (handler, refresher, _) = handler_and_refresher(move |_| response.clone());
        refresher.refresh_if_due().await;
        assert_eq!(sent_body(&handler).await, UNTYPED);
    }
}

#[tokio::test]
async fn unsupported_schema_is_requested_once_per_ttl() {
    let (_, refresher, clock) = handler_and_refresher(|_| reply(404));
    refresher.refresh_if_due().await;
    clock.advance(SignedDuration::from_mins(14));
    assert!(!refresher.refresh_if_due().await);
    clock.advance(SignedDuration::from_mins(1));
    assert!(refresher.refresh_if_due().await);
}

#[tokio::test]
async fn schema_request_answered_429_throttles_rows() {
    let (_, refresher, _) = handler_and_refresher(|_| reply_with_retry_after(429, 7));
    refresher.refresh_if_due().await;
    assert_eq!(refresher.limiter.throttles(), [std::time::Duration::from_secs(7)]);
}

#[tokio::test]
async fn missing_key_or_disabled_cache_makes_no_request() {
    let (_, refresher, _) = handler_and_refresher(|_| reply_with_body(200, LIST));
    let no_key = SchemaRefresher { secrets: FakeSecrets::new(secret(None)), ..refresher };
    assert!(!no_key.refresh_if_due().await);
    let unreadable = SchemaRefresher { secrets: FakeSecrets::unavailable(), cache: SchemaCache::new(true), ..no_key };
    assert!(!unreadable.refresh_if_due().await);
    let key = FakeSecrets::new(secret(Some("key")));
    let off = SchemaRefresher { cache: SchemaCache::new(false), secrets: key, ..unreadable };
    assert!(!off.refresh_if_due().await);
    assert!(off.loops.schema_requests().is_empty());
}

#[tokio::test]
async fn row_rejected_by_stale_schema_triggers_refresh() {
    let (handler, refresher, clock) = handler_and_refresher(|attempt| {
        let grown = r#"[{"key":"companyName","type":"string"},{"key":"company_name","type":"string"}]"#;
        if attempt == 0 {
            reply_with_body(200, r#"[{"key":"companyName","type":"string"}]"#)
        } else {
            reply_with_body(200, grown)
        }
    });
    let row = r#"{"email":"a@b.co","company_name":"Ltd"}"#;
    refresher.refresh_if_due().await;
    assert_eq!(status_of(&handler, row).await, 400);
    assert!(!refresher.refresh_if_due().await, "a list of this minute is not doubted");
    clock.advance(SignedDuration::from_mins(1));
    assert_eq!(status_of(&handler, row).await, 400);
    assert!(refresher.refresh_if_due().await);
    assert_eq!(status_of(&handler, row).await, 200);
}

#[tokio::test]
async fn failed_refresh_is_not_repeated_within_a_minute() {
    for failure in [reply(500), reply(404), reply_with_body(200, "[]")] {
        let (handler, refresher, clock) =
            handler_and_refresher(
                move |attempt| if attempt == 0 { reply_with_body(200, LIST) } else { failure.clone() },
            );
        let row = r#"{"email":"a@b.co","seats":"many"}"#;
        refresher.refresh_if_due().await;
        clock.advance(SignedDuration::from_mins(2));
        assert_eq!(status_of(&handler, row).await, 400);
        assert!(refresher.refresh_if_due().await, "an old list is doubted");
        for _ in 0..59 {
            clock.advance(SignedDuration::from_secs(1));
            assert_eq!(status_of(&handler, row).await, 400);
            assert!(!refresher.refresh_if_due().await, "what failed is not asked again at once");
        }
        clock.advance(SignedDuration::from_secs(1));
        assert_eq!(status_of(&handler, row).await, 400);
        assert!(refresher.refresh_if_due().await);
    }
}

#[tokio::test]
async fn row_rejected_for_other_reason_keeps_the_schema() {
    let (handler, refresher, clock) = handler_and_refresher(|_| reply_with_body(200, LIST));
    refresher.refresh_if_due().await;
    clock.advance(SignedDuration::from_mins(2));
    for row in [r#"{"email":"ada"}"#, r#"{"email":"a@b.co","tags":[]}"#, r#"{"email":"a@b.co","subscribed":"yes"}"#] {
        assert_eq!(status_of(&handler, row).await, 400);
        assert!(!refresher.refresh_if_due().await, "{row}");
    }
    assert_eq!(status_of(&handler, r#"{"email":"ada","seats":"many"}"#).await, 400);
    assert!(refresher.refresh_if_due().await, "the type of one of several fields");
}

#[tokio::test]
async fn failed_schema_requests_do_not_trip_breaker() {
    let (_, refresher, clock) = handler_and_refresher(|_| reply(500));
    for _ in 0..3 {
        assert!(refresher.refresh_if_due().await);
        clock.advance(SignedDuration::from_mins(1));
    }
    assert_eq!(refresher.limiter.recorded(), []);
}

#[tokio::test]
async fn row_finding_stale_schema_triggers_refresh_without_waiting() {
    let (handler, refresher, _) = handler_and_refresher(|_| reply_with_body(200, LIST));
    let task = tokio::spawn(refresher.run());
    assert_eq!(sent_body(&handler).await, UNTYPED);
    let typed = async {
        while sent_body(&handler).await != TYPED {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), typed).await.unwrap();
    task.abort();
}
