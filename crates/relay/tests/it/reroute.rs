//! What becomes of an event that found no route when it came, and is sent again.

use std::sync::Arc;

use bytes::Bytes;
use relay::delivery::Deliver as _;
use relay::delivery::clay::ClayDeliverer;
use relay::ports::queue::Queue as _;
use relay::ports::secrets::LoopsToClaySecret;
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode};
use relay_core::webhook::payload::{MAX_CLAY_PAYLOAD_BYTES, PayloadFormat};
use relay_core::webhook::route::{ClayRoute, ClayWebhook};
use relay_core::webhook::selection::EventSelection;

use crate::destinations::{FakeClay, reply};
use crate::fake_store::{FakeLedger, FakeQueue};
use crate::harness::{FakeRateLimiter, FakeSecrets, FixedClock, delivery};

const ROW: &str = r#"{"eventName":"contact.created"}"#;

type Worker = ClayDeliverer<FakeSecrets<LoopsToClaySecret>, FakeClay, FakeLedger, FakeRateLimiter, FakeQueue>;

/// A secret with these routes, each for one event.
fn routes(routes: &[(&str, &str)]) -> LoopsToClaySecret {
    let webhooks = vec![ClayWebhook::new("https://clay.example/a", None).unwrap()];
    let route = |(name, event): &(&str, &str)| {
        let events = EventSelection(vec![event.parse().unwrap()]);
        ClayRoute { name: (*name).to_owned(), events, webhooks: webhooks.clone() }
    };
    LoopsToClaySecret {
        signing_secrets: Vec::new(),
        routes: routes.iter().map(route).collect(),
        ..LoopsToClaySecret::default()
    }
}

fn worker(secrets: FakeSecrets<LoopsToClaySecret>, broken: bool) -> Worker {
    ClayDeliverer {
        secrets,
        clay: FakeClay::new(|_, _| reply(200)),
        ledger: FakeLedger::default(),
        limiter: Arc::default(),
        clock: Arc::new(FixedClock::default()),
        payload: PayloadFormat::Raw,
        queue: FakeQueue::new(broken),
    }
}

fn dead_letter(route: &str) -> Delivery {
    let kind = DeliveryKind::ClayRow { route: route.to_owned(), webhook_id: "msg_1".to_owned() };
    Delivery { id: DeliveryId::for_webhook(route, "msg_1"), ..delivery(kind, ROW) }
}

async fn deliver(worker: &Worker, delivery: &Delivery) -> AttemptResult {
    worker.deliver(delivery, AttemptHistory::default()).await.result
}

#[tokio::test]
async fn redriven_event_is_enqueued_for_every_matching_route() {
    let secret = routes(&[("a", "contact.created"), ("b", "contact.*"), ("c", "email.opened")]);
    let (worker, event) = (worker(FakeSecrets::new(secret), false), dead_letter(""));
    assert_eq!(deliver(&worker, &event).await, AttemptResult::Delivered);
    let stored = ["a", "b"].map(|route| Delivery {
        id: DeliveryId::for_webhook(route, "msg_1"),
        kind: DeliveryKind::ClayRow { route: route.to_owned(), webhook_id: "msg_1".to_owned() },
        ..event.clone()
    });
    assert_eq!(worker.queue.stored(), stored);
    assert!(worker.clay.posts().is_empty(), "they are sent in their turn");
    assert_eq!(deliver(&worker, &event).await, AttemptResult::Delivered);
    assert_eq!(worker.queue.stored().len(), 2, "sent again, they are repeats");
}

#[tokio::test]
async fn event_without_route_is_dead_lettered_after_refresh() {
    let worker = worker(FakeSecrets::new(routes(&[("c", "email.opened")])), false);
    let dead = AttemptResult::DeadLetter(Reason::without_status(ReasonCode::NoRoute));
    assert_eq!(deliver(&worker, &dead_letter("")).await, dead);
    assert_eq!(worker.secrets.refreshes(), 1);
}

#[tokio::test]
async fn route_added_by_secret_refresh_is_found() {
    let secrets = FakeSecrets::rotating(routes(&[]), routes(&[("a", "contact.created")]));
    let worker = worker(secrets, false);
    assert_eq!(deliver(&worker, &dead_letter("")).await, AttemptResult::Delivered);
    assert_eq!(worker.queue.stored().len(), 1);
}

#[tokio::test]
async fn unavailable_secret_or_store_is_retried() {
    let matching = routes(&[("a", "contact.created")]);
    let cases = [
        (FakeSecrets::unavailable(), false, ReasonCode::SecretUnavailable),
        (FakeSecrets::failing_refresh(routes(&[])), false, ReasonCode::SecretUnavailable),
        (FakeSecrets::new(matching), true, ReasonCode::Internal),
    ];
    for (secrets, broken, code) in cases {
        let result = deliver(&worker(secrets, broken), &dead_letter("")).await;
        assert!(
            matches!(result, AttemptResult::RetryAt { reason, .. } if reason == Reason::without_status(code)),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn conflicting_body_is_dead_lettered() {
    let (worker, event) = (worker(FakeSecrets::new(routes(&[("a", "contact.created")])), false), dead_letter(""));
    let id = DeliveryId::for_webhook("a", "msg_1");
    worker.queue.enqueue(&Delivery { id: id.clone(), body: Bytes::from_static(b"{}"), ..event.clone() }).await.unwrap();
    assert_eq!(deliver(&worker, &event).await, AttemptResult::Delivered);
    let dead = worker.queue.dead_letters();
    let [(conflicting, reason)] = dead.as_slice() else { panic!("{dead:?}") };
    assert_eq!((&conflicting.body, *reason), (&event.body, Reason::without_status(ReasonCode::IdConflict)));
    assert_ne!(conflicting.id, id);
}

#[tokio::test]
async fn oversized_or_invalid_event_is_dead_lettered_again() {
    let worker = worker(FakeSecrets::new(routes(&[("a", "*")])), false);
    let cases = [(vec![b' '; MAX_CLAY_PAYLOAD_BYTES + 1], ReasonCode::TooLarge), (b"{}".to_vec(), ReasonCode::NoRoute)];
    for (body, code) in cases {
        let dead_letter = Delivery { body: body.into(), ..dead_letter("") };
        assert_eq!(deliver(&worker, &dead_letter).await, AttemptResult::DeadLetter(Reason::without_status(code)));
    }
    assert!(worker.queue.stored().is_empty());
}

#[tokio::test]
async fn delivery_with_route_is_sent() {
    let worker = worker(FakeSecrets::new(routes(&[("a", "contact.created")])), false);
    assert_eq!(deliver(&worker, &dead_letter("a")).await, AttemptResult::Delivered);
    assert_eq!((worker.clay.posts().len(), worker.queue.stored().len()), (1, 0));
}
