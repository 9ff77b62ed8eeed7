//! What is kept for a person.

use relay::ambient::Ambient as _;
use relay::store::Queue as _;
use relay_core::delivery::{Reason, ReasonCode};
use relay_tests::any_store::end::Answer;
use relay_tests::any_store::{AnyStore as _, Letter};

use super::{known, row, seconds, store, take};

#[tokio::test]
async fn a_dead_letter_says_why_when_and_after_how_many_attempts() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    end.then([Answer::Fails(503), Answer::Refuses(422)]);
    take(&store, &row).await;
    store.work(&end).await;
    store.let_pass(seconds(900)).await;
    store.work(&end).await;
    let letter = Letter {
        id: row.id.as_str().to_owned(),
        reason: "clay_rejected".to_owned(),
        status: Some(422),
        attempts: 2,
        received_at: row.received_at,
        died_at: store.clock().now(),
    };
    assert_eq!(store.dead_letters().await, [letter]);
    let known = known(&store, &row).await;
    assert_eq!((known.state.as_str(), known.reason), ("dead", Some(("clay_rejected".to_owned(), Some(422)))));
}

#[tokio::test]
async fn what_dies_as_it_comes_is_kept_once_however_often_it_comes() {
    let (store, _) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    for _ in 0..2 {
        store.queue().put_dead(&row, Reason::own(ReasonCode::NoRoute)).await.unwrap();
    }
    let letter = Letter {
        id: row.id.as_str().to_owned(),
        reason: "no_route".to_owned(),
        status: None,
        attempts: 0,
        received_at: row.received_at,
        died_at: store.clock().now(),
    };
    assert_eq!(store.dead_letters().await, [letter]);
}

#[tokio::test]
async fn a_dead_letter_that_is_sent_again_and_dies_again_tells_of_all_its_attempts() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    end.otherwise(Answer::Refuses(422));
    take(&store, &row).await;
    store.work(&end).await;
    store.let_pass(seconds(60)).await;
    store.send_again(&row.id).await;
    store.work(&end).await;
    let letters = store.dead_letters().await;
    let told: Vec<_> = letters.iter().map(|letter| (letter.attempts, letter.died_at)).collect();
    assert_eq!(told, [(2, store.clock().now())]);
    assert_eq!(known(&store, &row).await.failures, [(("clay_rejected".to_owned(), Some(422)), 2)].into());
}

#[tokio::test]
async fn a_dead_letter_that_is_sent_again_and_taken_is_done() {
    let (mut store, end) = store().await;
    let row = row(&store, "msg_1", "ada@example.com", "one");
    end.then([Answer::Refuses(422)]);
    take(&store, &row).await;
    store.work(&end).await;
    store.send_again(&row.id).await;
    store.work(&end).await;
    assert_eq!(known(&store, &row).await.state, "delivered");
    assert!(store.dead_letters().await.is_empty());
}
