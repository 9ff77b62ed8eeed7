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
use relay::ports::queue::Admission;
use relay::ports::secrets::ClayToLoopsSecret;
use relay_core::row::RowKind;
use relay_core::secret::{RelayTokens, SecretString};

use crate::destinations::{FakeLoops, asking, saying, status};
use crate::fake_store::FakeLane;
use crate::harness::{FakePace, FakeSecrets, now};

const LIST: &str = r#"[{"key":"seats","label":"Seats","type":"number"}]"#;
const TYPED: &str = r#"{"email":"a@b.co","seats":42}"#;
const UNTYPED: &str = r#"{"email":"a@b.co","seats":"42"}"#;

/// A clock that goes on when it is told to.
#[derive(Debug, Clone, Default)]
struct FakeClock(Arc<AtomicI64>);

impl FakeClock {
    fn pass(&self, time: SignedDuration) {
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

type Reader = SchemaRefresher<FakeSecrets<ClayToLoopsSecret>, FakeLoops, FakePace, FakeClock>;
type Handler = ClayRowHandler<FakeSecrets<ClayToLoopsSecret>, FakeLoops, FakeLane, FakePace, FakeClock>;

fn secret(key: Option<&str>) -> ClayToLoopsSecret {
    ClayToLoopsSecret { api_key: key.map(SecretString::from), tokens: RelayTokens::new(["token"]) }
}

/// A handler and what reads its list.
fn pair(list: impl Fn(usize) -> DestinationResponse + Send + Sync + 'static) -> (Handler, Reader, FakeClock) {
    let clock = FakeClock::default();
    let handler = ClayRowHandler {
        secrets: FakeSecrets::of(secret(Some("key"))),
        loops: FakeLoops::new(|_, _| saying(200, "{}")),
        lane: FakeLane::admitting(Admission::Direct),
        pace: FakePace::default(),
        ambient: clock.clone(),
        contact_source: None,
        properties: SchemaCache::enabled(),
    };
    let reader = SchemaRefresher {
        list: handler.properties.clone(),
        secrets: FakeSecrets::of(secret(Some("key"))),
        loops: FakeLoops::listing(list),
        pace: FakePace::default(),
        ambient: clock.clone(),
    };
    (handler, reader, clock)
}

async fn status_of(handler: &Handler, row: &'static str) -> u16 {
    let request = Request::put("/api/v1/contacts/update").header("authorization", "Bearer token");
    handler.handle(RowKind::Contact, request.body(Bytes::from_static(row.as_bytes())).unwrap()).await.status().as_u16()
}

/// What Loops gets of a row whose property may be a number.
async fn sent(handler: &Handler) -> String {
    assert_eq!(status_of(handler, UNTYPED).await, 200);
    String::from_utf8(handler.loops.calls().last().unwrap().body.to_vec()).unwrap()
}

#[tokio::test]
async fn rows_pass_as_they_are_until_the_list_is_there() {
    let (handler, reader, _) = pair(|_| saying(200, LIST));
    assert_eq!(sent(&handler).await, UNTYPED);
    assert!(reader.refresh_if_due().await);
    assert_eq!(sent(&handler).await, TYPED);
    assert_eq!(reader.loops.lists(), ["key"]);
}

#[tokio::test]
async fn where_loops_has_no_room_the_list_is_read_later_and_rows_go_first() {
    let (_, mut reader, clock) = pair(|_| saying(200, LIST));
    reader.pace = FakePace::full();
    reader.refresh_if_due().await;
    assert_eq!((reader.loops.lists().len(), reader.pace.waits()), (0, 0));
    reader.pace = FakePace::default();
    clock.pass(SignedDuration::from_secs(60));
    assert!(reader.refresh_if_due().await);
}

#[tokio::test]
async fn the_list_is_read_once_in_a_quarter_of_an_hour_and_used_until_the_next_is_there() {
    let (handler, reader, clock) = pair(|times| if times == 0 { saying(200, LIST) } else { status(500) });
    reader.refresh_if_due().await;
    clock.pass(SignedDuration::from_secs(15 * 60 - 1));
    assert!(!reader.refresh_if_due().await);
    clock.pass(SignedDuration::from_secs(1));
    assert_eq!(sent(&handler).await, TYPED);
    assert!(reader.refresh_if_due().await, "it is due");
    assert_eq!(sent(&handler).await, TYPED, "what is known serves on");
    clock.pass(SignedDuration::from_secs(59));
    assert!(!reader.refresh_if_due().await, "what failed is not asked again at once");
    clock.pass(SignedDuration::from_secs(1));
    assert!(reader.refresh_if_due().await);
    clock.pass(SignedDuration::from_mins(44));
    assert_eq!(sent(&handler).await, UNTYPED, "what is an hour old is not known any more");
}

#[tokio::test]
async fn where_the_list_cannot_be_had_nothing_changes() {
    for answer in [status(401), status(403), status(404), status(500), saying(200, "<html>"), saying(200, "[]")] {
        let (handler, reader, _) = pair(move |_| answer.clone());
        reader.refresh_if_due().await;
        assert_eq!(sent(&handler).await, UNTYPED);
    }
}

#[tokio::test]
async fn an_api_without_the_list_is_asked_as_seldom_as_one_with_it() {
    let (_, reader, clock) = pair(|_| status(404));
    reader.refresh_if_due().await;
    clock.pass(SignedDuration::from_mins(14));
    assert!(!reader.refresh_if_due().await);
    clock.pass(SignedDuration::from_mins(1));
    assert!(reader.refresh_if_due().await);
}

#[tokio::test]
async fn a_429_for_the_list_pauses_the_rows_as_well() {
    let (_, reader, _) = pair(|_| asking(429, 7));
    reader.refresh_if_due().await;
    assert_eq!(reader.pace.pauses(), [std::time::Duration::from_secs(7)]);
}

#[tokio::test]
async fn without_a_key_or_without_the_wish_nobody_is_asked() {
    let (_, reader, _) = pair(|_| saying(200, LIST));
    let no_key = SchemaRefresher { secrets: FakeSecrets::of(secret(None)), ..reader };
    assert!(!no_key.refresh_if_due().await);
    let unreadable = SchemaRefresher { secrets: FakeSecrets::unreadable(), list: SchemaCache::enabled(), ..no_key };
    assert!(!unreadable.refresh_if_due().await);
    let key = FakeSecrets::of(secret(Some("key")));
    let off = SchemaRefresher { list: SchemaCache::disabled(), secrets: key, ..unreadable };
    assert!(!off.refresh_if_due().await);
    assert!(off.loops.lists().is_empty());
}

#[tokio::test]
async fn a_row_that_is_refused_for_an_old_list_has_it_read_again() {
    let (handler, reader, clock) = pair(|times| {
        let grown = r#"[{"key":"companyName","type":"string"},{"key":"company_name","type":"string"}]"#;
        if times == 0 { saying(200, r#"[{"key":"companyName","type":"string"}]"#) } else { saying(200, grown) }
    });
    let row = r#"{"email":"a@b.co","company_name":"Ltd"}"#;
    reader.refresh_if_due().await;
    assert_eq!(status_of(&handler, row).await, 400);
    assert!(!reader.refresh_if_due().await, "a list of this minute is not doubted");
    clock.pass(SignedDuration::from_mins(1));
    assert_eq!(status_of(&handler, row).await, 400);
    assert!(reader.refresh_if_due().await);
    assert_eq!(status_of(&handler, row).await, 200);
}

#[tokio::test]
async fn a_list_that_failed_is_asked_for_a_minute_later_at_the_earliest_however_many_rows_are_refused() {
    for failed in [status(500), status(404), saying(200, "[]")] {
        let (handler, reader, clock) = pair(move |times| if times == 0 { saying(200, LIST) } else { failed.clone() });
        let row = r#"{"email":"a@b.co","seats":"many"}"#;
        reader.refresh_if_due().await;
        clock.pass(SignedDuration::from_mins(2));
        assert_eq!(status_of(&handler, row).await, 400);
        assert!(reader.refresh_if_due().await, "an old list is doubted");
        for _ in 0..59 {
            clock.pass(SignedDuration::from_secs(1));
            assert_eq!(status_of(&handler, row).await, 400);
            assert!(!reader.refresh_if_due().await, "what failed is not asked again at once");
        }
        clock.pass(SignedDuration::from_secs(1));
        assert_eq!(status_of(&handler, row).await, 400);
        assert!(reader.refresh_if_due().await);
    }
}

#[tokio::test]
async fn a_row_that_is_refused_for_something_else_says_nothing_of_the_list() {
    let (handler, reader, clock) = pair(|_| saying(200, LIST));
    reader.refresh_if_due().await;
    clock.pass(SignedDuration::from_mins(2));
    for row in [r#"{"email":"ada"}"#, r#"{"email":"a@b.co","tags":[]}"#, r#"{"email":"a@b.co","subscribed":"yes"}"#] {
        assert_eq!(status_of(&handler, row).await, 400);
        assert!(!reader.refresh_if_due().await, "{row}");
    }
    assert_eq!(status_of(&handler, r#"{"email":"ada","seats":"many"}"#).await, 400);
    assert!(reader.refresh_if_due().await, "the type of one of several fields");
}

#[tokio::test]
async fn what_comes_of_the_list_opens_no_circuit_for_the_rows() {
    let (_, reader, clock) = pair(|_| status(500));
    for _ in 0..3 {
        assert!(reader.refresh_if_due().await);
        clock.pass(SignedDuration::from_mins(1));
    }
    assert_eq!(reader.pace.notes(), []);
}

#[tokio::test]
async fn a_row_that_finds_the_list_due_wakes_its_reader_and_does_not_wait() {
    let (handler, reader, _) = pair(|_| saying(200, LIST));
    let asked = tokio::spawn(reader.keep());
    assert_eq!(sent(&handler).await, UNTYPED);
    let typed = async {
        while sent(&handler).await != TYPED {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), typed).await.unwrap();
    asked.abort();
}
