//! The account of a stack's Loops key, over the sandboxes that share its table.

use std::num::NonZeroU32;
use std::sync::Arc;

use relay::delivery::Deliver as _;
use relay::delivery::loops::LoopsDeliverer;
use relay::destination::account_secrets::{AccountPorts, AccountSecrets};
use relay::destination::http_client;
use relay::destination::loops::HttpLoopsClient;
use relay::ports::clock::{Clock as _, SharedClock};
use relay::ports::secrets::{ClayToLoopsSecret, SecretError, SecretField, SecretSource};
use relay::rate_limit::limiter::LocalRateLimiter;
use relay_aws::ledger::accounts;
use relay_aws::ledger::deliveries::Ledger;
use relay_core::account::AccountId;
use relay_core::contact::ContactKey;
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, DeliveryId, DeliveryKind, Direction};
use relay_core::delivery::{Reason, ReasonCode};
use relay_testkit::aws_fake::table;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::store_harness::StoreHarness as _;

use crate::Store;

/// The secret of a stack, with this key.
struct Secret(&'static str);

impl SecretSource<ClayToLoopsSecret> for Secret {
    async fn current(&self) -> Result<Arc<ClayToLoopsSecret>, SecretError> {
        Ok(Arc::new(ClayToLoopsSecret { api_key: Some(self.0.into()), ..ClayToLoopsSecret::default() }))
    }

    async fn refresh(&self) -> Result<Arc<ClayToLoopsSecret>, SecretError> {
        self.current().await
    }

    fn describe_field(&self, _: SecretField) -> String {
        String::new()
    }
}

type Secrets = AccountSecrets<Secret, Ledger, HttpLoopsClient, LocalRateLimiter>;

/// The worker of a new sandbox, in a stack with this key.
fn sandbox(
    store: &Store,
    loops: &MockDestination,
    key: &'static str,
) -> LoopsDeliverer<Secrets, HttpLoopsClient, LocalRateLimiter> {
    let limiter = Arc::new(LocalRateLimiter::new(NonZeroU32::new(100).unwrap()));
    let clock: SharedClock = Arc::clone(store.clock()) as SharedClock;
    let loops = HttpLoopsClient::new(http_client::build().unwrap(), &loops.url("/api"));
    let ports = AccountPorts {
        ledger: Ledger::new(table(&store.services().clients())),
        loops: loops.clone(),
        api_url: "https://app.loops.so/api".to_owned(),
        limiter: Arc::clone(&limiter),
        clock: Arc::clone(&clock),
    };
    LoopsDeliverer { secrets: AccountSecrets::new(Secret(key), ports), loops, limiter, clock }
}

fn row(store: &Store) -> Delivery {
    Delivery {
        id: DeliveryId::random("1"),
        contact: ContactKey::from_email("ada@example.com"),
        received_at: store.clock().now(),
        kind: DeliveryKind::LoopsContact,
        body: r#"{"email":"ada@example.com"}"#.into(),
    }
}

fn name_team(loops: &MockDestination, name: &str) {
    loops.set_team_reply(Reply::json(200, &format!(r#"{{"success":true,"teamName":"{name}"}}"#)));
}

#[tokio::test]
async fn row_taken_before_the_account_changed_becomes_dead_letter() {
    let (store, loops) = (Store::new().await, MockDestination::start(Reply::json(200, "{}")).await);
    name_team(&loops, "Acme");
    let deliver = async |key, delivery: &Delivery| {
        sandbox(&store, &loops, key).deliver(delivery, AttemptHistory::default()).await.result
    };
    assert_eq!(deliver("key", &row(&store)).await, AttemptResult::Delivered);
    name_team(&loops, "Acme staging");
    let other_destination = AttemptResult::DeadLetter(Reason::without_status(ReasonCode::OtherDestination));
    assert_eq!(deliver("staging-key", &row(&store)).await, other_destination);
    let served = accounts::served(&table(&store.services().clients())).await.unwrap();
    let staging: AccountId = served.current(Direction::ClayToLoops).clone();
    assert_eq!(deliver("staging-key", &row(&store).in_account(&staging)).await, AttemptResult::Delivered);
    // Back on the first account, whose key is known.
    assert_eq!(deliver("key", &row(&store)).await, AttemptResult::Delivered);
    assert_eq!((loops.received().len(), loops.team_requests().len()), (3, 2));
}
