//! Accounts in one store: what one has is neither a duplicate for another nor in front of it.

use relay::ports::accounts::{AccountLedger as _, load_accounts, update_accounts};
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake as _, SyncSendResult};
use relay_core::account::{AccountId, DestinationKind, ServedAccounts};
use relay_core::delivery::Direction;
use relay_testkit::store_harness::StoreHarness as _;

use super::{accept_webhook, clay_row, contact_update, loops_event, new_store};

#[tokio::test]
async fn event_of_another_account_is_no_duplicate() {
    let (store, _) = new_store().await;
    let real = loops_event(&store, "row-7", "ada@example.com", "{}");
    for event in [real.clone().in_account(&AccountId::simulated()), real] {
        assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
        store.intake().complete(&event, SyncSendResult::Delivered).await.unwrap();
        assert_eq!(store.intake().admit(&event, DeliveryMode::Sync).await.unwrap(), Admission::AlreadyDelivered);
    }
}

#[tokio::test]
async fn waiting_row_of_another_account_does_not_close_the_fast_path() {
    let (store, _) = new_store().await;
    let simulated = contact_update(&store, "ada@example.com", "1").in_account(&AccountId::simulated());
    assert_eq!(store.intake().admit(&simulated, DeliveryMode::Async).await.unwrap(), Admission::Queued);
    let real = contact_update(&store, "ada@example.com", "2");
    assert_eq!(store.intake().admit(&real, DeliveryMode::Sync).await.unwrap(), Admission::SendNow);
}

#[tokio::test]
async fn webhook_of_another_account_is_no_duplicate() {
    let (mut store, destination) = new_store().await;
    let real = clay_row(&store, "msg_1", "ada@example.com", "row");
    for row in [real.clone().in_account(&AccountId::simulated()), real.clone(), real] {
        accept_webhook(&store, &row).await;
    }
    store.work(&destination).await;
    assert_eq!(destination.received(), ["row", "row"]);
}

#[tokio::test]
async fn served_accounts_are_replaced_only_if_unchanged() {
    let (store, _) = new_store().await;
    let (hash_key, serve) = (
        || "random".to_owned(),
        |accounts: &mut ServedAccounts| {
            accounts.serve(Direction::LoopsToClay, DestinationKind::Real);
        },
    );
    update_accounts(store.accounts(), hash_key, serve).await.unwrap();
    let (accounts, document) = load_accounts(store.accounts(), hash_key).await.unwrap();
    assert!(accounts.was_real(Direction::LoopsToClay) && !accounts.was_real(Direction::ClayToLoops));
    assert!(!store.accounts().replace(None, "{}").await.unwrap());
    assert!(!store.accounts().replace(Some("{}"), "{}").await.unwrap());
    assert_eq!(store.accounts().load().await.unwrap(), document);
}
