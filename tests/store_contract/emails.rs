//! E-mails: each is sent once, as an event is.

use jiff::SignedDuration;
use relay::ports::clock::Clock as _;
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _, SyncSendResult};
use relay_core::delivery::{Delivery, Reason, ReasonCode};
use relay_testkit::store_harness::StoreHarness as _;
use relay_testkit::store_harness::scripted_destination::Reply;

use super::{loops_email, loops_event, new_store, seconds, snapshot_of};
use crate::Store;

fn email(store: &Store) -> Delivery {
    loops_email(store, "receipt-1", "ada@example.com", "1")
}

async fn admit(store: &Store, email: &Delivery, mode: DeliveryMode) -> Admission {
    store.intake().admit(email, mode).await.unwrap()
}

async fn dead_letters(store: &Store) -> Vec<(String, String)> {
    store.dead_letters().await.into_iter().map(|dead| (dead.id, dead.reason)).collect()
}

fn body(email: &Delivery) -> String {
    String::from_utf8_lossy(&email.body).into_owned()
}

#[tokio::test]
async fn email_is_sent_once_however_often_its_row_is_run() {
    for mode in [DeliveryMode::Sync, DeliveryMode::Async] {
        let (mut store, destination) = new_store().await;
        let email = email(&store);
        match admit(&store, &email, mode).await {
            Admission::SendNow => {
                assert_eq!(admit(&store, &email, mode).await, Admission::InFlight);
                store.intake().complete(&email, SyncSendResult::Delivered).await.unwrap();
            }
            admission => {
                assert_eq!([admission, admit(&store, &email, mode).await], [Admission::Queued, Admission::Queued])
            }
        }
        store.work(&destination).await;
        assert_eq!(destination.received().len(), usize::from(mode == DeliveryMode::Async), "{mode:?}");
        for mode in [DeliveryMode::Sync, DeliveryMode::Async] {
            assert_eq!(admit(&store, &email, mode).await, Admission::AlreadyDelivered);
        }
    }
}

#[tokio::test]
async fn event_under_the_key_of_an_email_is_not_sent() {
    let (mut store, destination) = new_store().await;
    let event = r#"{"eventName":"e","email":"ada@example.com"}"#;
    let (email, event) = (email(&store), loops_event(&store, "receipt-1", "ada@example.com", event));
    assert_eq!(admit(&store, &email, DeliveryMode::Async).await, Admission::Queued);
    assert_eq!(admit(&store, &event, DeliveryMode::Async).await, Admission::Queued);
    store.work(&destination).await;
    assert_eq!(destination.received(), [body(&email)]);
    let reasons: Vec<String> = dead_letters(&store).await.into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["id_conflict"]);
}

#[tokio::test]
async fn email_without_an_answer_is_not_sent_after_23_hours() {
    for (reply, hours, received) in
        [(Reply::RetryAfter(1), 22, 2), (Reply::RetryAfter(1), 23, 1), (Reply::Fail(503), 23, 1)]
    {
        let (mut store, destination) = new_store().await;
        let email = email(&store);
        assert_eq!(admit(&store, &email, DeliveryMode::Async).await, Admission::Queued);
        destination.enqueue_replies([reply]);
        store.work(&destination).await;
        store.advance(SignedDuration::from_hours(hours) + seconds(900)).await;
        store.work(&destination).await;
        assert_eq!(destination.received().len(), received, "{reply:?} {hours}");
        let expected = if received == 1 { "outcome_unknown" } else { "" };
        let reasons: Vec<_> = dead_letters(&store).await.into_iter().map(|(_, reason)| reason).collect();
        assert_eq!(reasons.concat(), expected, "{reply:?} {hours}");
    }
}

#[tokio::test]
async fn email_of_a_killed_worker_is_sent_again_under_its_key() {
    let (mut store, destination) = new_store().await;
    let email = email(&store);
    assert_eq!(admit(&store, &email, DeliveryMode::Async).await, Admission::Queued);
    destination.enqueue_replies([Reply::AcceptThenHang]);
    store.work(&destination).await;
    store.advance(seconds(900)).await;
    store.work(&destination).await;
    assert_eq!(destination.received(), [body(&email), body(&email)]);
    let snapshot = snapshot_of(&store, &email).await;
    assert_eq!((snapshot.state.as_str(), snapshot.attempts), ("delivered", 2));
}

#[tokio::test]
async fn email_of_a_killed_caller_is_kept_not_sent_after_23_hours() {
    let (mut store, destination) = new_store().await;
    let email = email(&store);
    assert_eq!(admit(&store, &email, DeliveryMode::Sync).await, Admission::SendNow);
    store.kill_callers().await;
    store.advance(SignedDuration::from_hours(23)).await;
    assert_eq!(admit(&store, &email, DeliveryMode::Sync).await, Admission::OutcomeUnknown);
    store.work(&destination).await;
    let dead = vec![(email.id.to_string(), "outcome_unknown".to_owned())];
    assert_eq!((destination.received(), dead_letters(&store).await), (Vec::new(), dead));
}

#[tokio::test]
async fn two_emails_under_one_key_are_both_kept() {
    for (contact, answer) in
        [("bob@example.com", Admission::KeyOfOtherContact), ("ada@example.com", Admission::AlreadyDelivered)]
    {
        let (mut store, destination) = new_store().await;
        let (first, other) = (email(&store), loops_email(&store, "receipt-1", contact, "2"));
        assert_eq!(admit(&store, &first, DeliveryMode::Sync).await, Admission::SendNow);
        store.intake().complete(&first, SyncSendResult::Delivered).await.unwrap();
        assert_eq!(admit(&store, &other, DeliveryMode::Sync).await, answer);
        let conflict = other.as_conflicting_event();
        assert_eq!(dead_letters(&store).await, [(conflict.id.to_string(), "id_conflict".to_owned())]);
        store.redrive(&conflict.id).await;
        store.work(&destination).await;
        assert_eq!(destination.received(), [body(&other)]);
        assert_ne!(conflict.kind, first.kind, "Loops would call it a repeat");
    }
}

#[tokio::test]
async fn refused_email_is_sent_when_its_row_is_corrected() {
    let (mut store, destination) = new_store().await;
    let (wrong, corrected) = (email(&store), loops_email(&store, "receipt-1", "ada@example.com", "2"));
    assert_eq!(admit(&store, &wrong, DeliveryMode::Async).await, Admission::Queued);
    destination.enqueue_replies([Reply::Reject(422)]);
    store.work(&destination).await;
    assert_eq!(admit(&store, &corrected, DeliveryMode::Async).await, Admission::Queued);
    store.work(&destination).await;
    assert_eq!(destination.received(), [body(&wrong), body(&corrected)]);
    assert_eq!(snapshot_of(&store, &corrected).await.state, "delivered");
}

#[tokio::test]
async fn deferred_email_goes_before_what_came_later() {
    let (mut store, destination) = new_store().await;
    let (first, second) = (email(&store), loops_email(&store, "receipt-2", "ada@example.com", "2"));
    assert_eq!(admit(&store, &first, DeliveryMode::Sync).await, Admission::SendNow);
    assert_eq!(admit(&store, &second, DeliveryMode::Sync).await, Admission::Queued);
    let deferred = SyncSendResult::Deferred {
        attempts: 1,
        retry_at: store.clock().now(),
        reason: Reason { code: ReasonCode::DestinationFailed, status: Some(503) },
        no_early_retry: false,
        outcome_unknown: true,
    };
    store.intake().complete(&first, deferred).await.unwrap();
    for _ in 0..3 {
        store.advance(seconds(31)).await;
        store.work(&destination).await;
    }
    assert_eq!(destination.received(), [body(&first), body(&second)]);
}
