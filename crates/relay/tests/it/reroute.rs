//! What becomes of an event that found no route when it came, and is sent again.

use bytes::Bytes;
use relay::delivery::clay::ClayDeliverer;
use relay::ports::queue::{Deliver as _, Queue as _};
use relay::ports::secrets::LoopsToClaySecret;
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, DeliveryId, DeliveryKind, Reason, ReasonCode};
use relay_core::webhook::payload::{MAX_CLAY_PAYLOAD_BYTES, PayloadFormat};
use relay_core::webhook::route::{ClayRoute, ClayWebhook};
use relay_core::webhook::selection::EventSelection;

use crate::destinations::{FakeClay, status};
use crate::fake_store::{FakeLedger, FakeQueue};
use crate::harness::{FakePace, FakeSecrets, Still, delivery};

const ROW: &str = r#"{"eventName":"contact.created"}"#;

type Worker = ClayDeliverer<FakeSecrets<LoopsToClaySecret>, FakeClay, FakeLedger, FakePace, Still, FakeQueue>;

/// A secret with these routes, each for one event.
fn routes(routes: &[(&str, &str)]) -> LoopsToClaySecret {
    let webhooks = vec![ClayWebhook::new("https://clay.example/a", None).unwrap()];
    let route = |(name, event): &(&str, &str)| {
        let events = EventSelection::new(vec![event.parse().unwrap()]);
        ClayRoute { name: (*name).to_owned(), events, webhooks: webhooks.clone() }
    };
    LoopsToClaySecret { signing_secrets: Vec::new(), routes: routes.iter().map(route).collect() }
}

fn worker(secrets: FakeSecrets<LoopsToClaySecret>, broken: bool) -> Worker {
    ClayDeliverer {
        secrets,
        clay: FakeClay::new(|_, _| status(200)),
        ledger: FakeLedger::default(),
        pace: FakePace::default(),
        ambient: Still::default(),
        payload: PayloadFormat::Raw,
        queue: FakeQueue::new(broken),
    }
}

fn letter(route: &str) -> Delivery {
    let cargo = DeliveryKind::ClayRow { route: route.to_owned(), webhook_id: "msg_1".to_owned() };
    Delivery { id: DeliveryId::for_webhook(route, "msg_1"), ..delivery(cargo, ROW) }
}

async fn attempt(worker: &Worker, delivery: &Delivery) -> AttemptResult {
    worker.attempt(delivery, AttemptHistory::default()).await
}

#[tokio::test]
async fn it_becomes_a_delivery_for_every_route_that_takes_it_now_and_is_done() {
    let secret = routes(&[("a", "contact.created"), ("b", "contact.*"), ("c", "email.opened")]);
    let (worker, letter) = (worker(FakeSecrets::of(secret), false), letter(""));
    assert_eq!(attempt(&worker, &letter).await, AttemptResult::Delivered);
    let stored = ["a", "b"].map(|route| Delivery {
        id: DeliveryId::for_webhook(route, "msg_1"),
        kind: DeliveryKind::ClayRow { route: route.to_owned(), webhook_id: "msg_1".to_owned() },
        ..letter.clone()
    });
    assert_eq!(worker.queue.stored(), stored);
    assert!(worker.clay.posts().is_empty(), "they are sent in their turn");
    assert_eq!(attempt(&worker, &letter).await, AttemptResult::Delivered);
    assert_eq!(worker.queue.stored().len(), 2, "sent again, they are repeats");
}

#[tokio::test]
async fn where_there_is_still_no_route_it_dies_again_after_the_secret_was_read_again() {
    let worker = worker(FakeSecrets::of(routes(&[("c", "email.opened")])), false);
    let dead = AttemptResult::DeadLetter(Reason::without_status(ReasonCode::NoRoute));
    assert_eq!(attempt(&worker, &letter("")).await, dead);
    assert_eq!(worker.secrets.rereads(), 1);
}

#[tokio::test]
async fn a_route_that_was_made_a_moment_ago_is_found() {
    let secrets = FakeSecrets::changing(routes(&[]), routes(&[("a", "contact.created")]));
    let worker = worker(secrets, false);
    assert_eq!(attempt(&worker, &letter("")).await, AttemptResult::Delivered);
    assert_eq!(worker.queue.stored().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_or_stored_now_is_tried_later() {
    let known = routes(&[("a", "contact.created")]);
    let cases = [
        (FakeSecrets::unreadable(), false, ReasonCode::SecretUnavailable),
        (FakeSecrets::lost(routes(&[])), false, ReasonCode::SecretUnavailable),
        (FakeSecrets::of(known), true, ReasonCode::Internal),
    ];
    for (secrets, broken, code) in cases {
        let end = attempt(&worker(secrets, broken), &letter("")).await;
        assert!(
            matches!(end, AttemptResult::RetryAt { reason, .. } if reason == Reason::without_status(code)),
            "{end:?}"
        );
    }
}

#[tokio::test]
async fn what_is_known_with_another_body_is_kept_beside_it() {
    let (worker, letter) = (worker(FakeSecrets::of(routes(&[("a", "contact.created")])), false), letter(""));
    let id = DeliveryId::for_webhook("a", "msg_1");
    worker
        .queue
        .enqueue(&Delivery { id: id.clone(), body: Bytes::from_static(b"{}"), ..letter.clone() })
        .await
        .unwrap();
    assert_eq!(attempt(&worker, &letter).await, AttemptResult::Delivered);
    let dead = worker.queue.dead();
    let [(kept, reason)] = dead.as_slice() else { panic!("{dead:?}") };
    assert_eq!((&kept.body, *reason), (&letter.body, Reason::without_status(ReasonCode::IdConflict)));
    assert_ne!(kept.id, id);
}

#[tokio::test]
async fn what_is_too_large_for_clay_or_no_event_dies_again() {
    let worker = worker(FakeSecrets::of(routes(&[("a", "*")])), false);
    let cases = [(vec![b' '; MAX_CLAY_PAYLOAD_BYTES + 1], ReasonCode::TooLarge), (b"{}".to_vec(), ReasonCode::NoRoute)];
    for (body, code) in cases {
        let letter = Delivery { body: body.into(), ..letter("") };
        assert_eq!(attempt(&worker, &letter).await, AttemptResult::DeadLetter(Reason::without_status(code)));
    }
    assert!(worker.queue.stored().is_empty());
}

#[tokio::test]
async fn what_has_a_route_is_sent() {
    let worker = worker(FakeSecrets::of(routes(&[("a", "contact.created")])), false);
    assert_eq!(attempt(&worker, &letter("a")).await, AttemptResult::Delivered);
    assert_eq!((worker.clay.posts().len(), worker.queue.stored().len()), (1, 0));
}
