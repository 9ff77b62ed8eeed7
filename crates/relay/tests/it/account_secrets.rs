//! The account of the Loops key: whom it is asked of, how often, and what is done while it is not known.

use std::sync::{Arc, Mutex};

use relay::delivery::Deliver as _;
use relay::delivery::loops::LoopsDeliverer;
use relay::destination::account_secrets::{AccountPorts, AccountSecrets};
use relay::destination::http_client::DestinationResponse;
use relay::ports::accounts::AccountLedger;
use relay::ports::queue::StoreError;
use relay::ports::secrets::{ClayToLoopsSecret, SecretSource as _};
use relay_core::account::{AccountId, KeyAccount};
use relay_core::delivery::{AttemptHistory, AttemptResult, Delivery, DeliveryKind, Reason, ReasonCode};
use relay_core::policy::response::CallOutcome;
use relay_core::secret::SecretString;

use crate::destinations::{FakeLoops, reply, reply_with_body};
use crate::harness::{FakeRateLimiter, FakeSecrets, FixedClock, delivery, reason_with_status};

const ACME: &str = r#"{"success":true,"teamName":"Acme"}"#;
const STAGING: &str = r#"{"success":true,"teamName":"Acme staging"}"#;

/// The document of the accounts, which outlives the processes that use it.
#[derive(Debug, Clone, Default)]
struct FakeAccountLedger(Arc<Mutex<Option<String>>>);

impl AccountLedger for FakeAccountLedger {
    async fn load(&self) -> Result<Option<String>, StoreError> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn replace(&self, before: Option<&str>, after: &str) -> Result<bool, StoreError> {
        let mut document = self.0.lock().unwrap();
        let is_unchanged = document.as_deref() == before;
        if is_unchanged {
            *document = Some(after.to_owned());
        }
        Ok(is_unchanged)
    }
}

type Secrets = AccountSecrets<FakeSecrets<ClayToLoopsSecret>, FakeAccountLedger, &'static FakeLoops, FakeRateLimiter>;

fn secret(key: &str) -> ClayToLoopsSecret {
    ClayToLoopsSecret { api_key: Some(SecretString::from(key)), ..ClayToLoopsSecret::default() }
}

/// A process that begins to use a store with this secret.
fn process(ledger: &FakeAccountLedger, secrets: FakeSecrets<ClayToLoopsSecret>, loops: &'static FakeLoops) -> Secrets {
    let ports = AccountPorts {
        ledger: ledger.clone(),
        loops,
        api_url: "https://app.loops.so/api".to_owned(),
        limiter: Arc::default(),
        clock: Arc::new(FixedClock::default()),
    };
    AccountSecrets::new(secrets, ports)
}

fn loops(team_reply: impl Fn(&str, usize) -> DestinationResponse + Send + Sync + 'static) -> &'static FakeLoops {
    Box::leak(Box::new(FakeLoops::new(|_, _| reply(200)).with_team_reply(team_reply)))
}

async fn account(ledger: &FakeAccountLedger, key: &str, loops: &'static FakeLoops) -> KeyAccount {
    process(ledger, FakeSecrets::new(secret(key)), loops).current().await.unwrap().account.clone()
}

fn worker(secrets: Secrets, loops: &'static FakeLoops) -> LoopsDeliverer<Secrets, &'static FakeLoops, FakeRateLimiter> {
    let clock = Arc::new(FixedClock::default());
    LoopsDeliverer { secrets, loops, limiter: Arc::default(), clock }
}

fn row() -> Delivery {
    delivery(DeliveryKind::LoopsContact, r#"{"email":"ada@example.com"}"#)
}

#[tokio::test]
async fn known_key_is_not_asked_for_again_by_the_next_process() {
    let (ledger, loops) = (FakeAccountLedger::default(), loops(|_, _| reply_with_body(200, ACME)));
    for _ in 0..2 {
        assert_eq!(account(&ledger, "key", loops).await, KeyAccount::default());
    }
    assert_eq!(loops.team_requests(), ["key"]);
}

#[tokio::test]
async fn one_process_looks_a_key_up_once() {
    let (ledger, loops) = (FakeAccountLedger::default(), loops(|_, _| reply(404)));
    let secrets = process(&ledger, FakeSecrets::new(secret("key")), loops);
    let (first, second) = tokio::join!(secrets.current(), secrets.refresh());
    assert_eq!((first.unwrap().account.clone(), second.unwrap().account.clone()), Default::default());
    assert_eq!(loops.team_requests().len(), 1);
}

#[tokio::test]
async fn any_answer_to_the_first_key_lets_rows_pass() {
    for (status, body) in [(200, "{}"), (200, "?"), (404, ""), (500, ""), (429, ""), (302, "")] {
        let loops = loops(move |_, _| reply_with_body(status, body));
        assert_eq!(account(&FakeAccountLedger::default(), "key", loops).await, KeyAccount::default(), "{status}");
    }
}

#[tokio::test]
async fn key_of_another_team_is_another_account_until_the_first_is_back() {
    let ledger = FakeAccountLedger::default();
    let loops = loops(|key, _| reply_with_body(200, if key == "staging" { STAGING } else { ACME }));
    assert_eq!(account(&ledger, "key", loops).await, KeyAccount::default());
    let staging = account(&ledger, "staging", loops).await;
    assert!(!staging.id.is_first() && staging.doubt.is_none(), "{staging:?}");
    assert_eq!(account(&ledger, "key", loops).await, KeyAccount::default());
    assert_eq!(account(&ledger, "rotated", loops).await, KeyAccount::default());
    assert_eq!(account(&ledger, "staging", loops).await, staging);
}

#[tokio::test]
async fn simulated_account_is_not_asked_for() {
    let loops = loops(|_, _| reply_with_body(200, ACME));
    let simulated = KeyAccount::known(AccountId::simulated());
    let secrets = FakeSecrets::new(ClayToLoopsSecret { account: simulated.clone(), ..secret("key") });
    let secrets = process(&FakeAccountLedger::default(), secrets, loops);
    assert_eq!(secrets.current().await.unwrap().account, simulated);
    assert!(loops.team_requests().is_empty());
}

#[tokio::test]
async fn row_of_another_account_becomes_dead_letter() {
    let (ledger, loops) = (FakeAccountLedger::default(), loops(|_, _| reply_with_body(200, ACME)));
    let worker = worker(process(&ledger, FakeSecrets::new(secret("key")), loops), loops);
    let simulated = row().in_account(&AccountId::simulated());
    let other_destination = AttemptResult::DeadLetter(Reason::without_status(ReasonCode::OtherDestination));
    assert_eq!(worker.deliver(&simulated, AttemptHistory::default()).await.result, other_destination);
    assert!(loops.calls().is_empty());
    assert_eq!(worker.deliver(&row(), AttemptHistory::default()).await.result, AttemptResult::Delivered);
}

#[tokio::test]
async fn row_for_a_key_that_was_changed_a_moment_ago_is_sent() {
    let ledger = FakeAccountLedger::default();
    let loops = loops(|key, _| reply_with_body(200, if key == "new" { STAGING } else { ACME }));
    account(&ledger, "old", loops).await;
    let new = account(&ledger, "new", loops).await;
    let worker = worker(process(&ledger, FakeSecrets::rotating(secret("old"), secret("new")), loops), loops);
    let result = worker.deliver(&row().in_account(&new.id), AttemptHistory::default()).await.result;
    assert_eq!((result, loops.calls()[0].api_key.as_str()), (AttemptResult::Delivered, "new"));
}

#[tokio::test]
async fn nothing_is_sent_with_a_new_key_while_loops_cannot_be_asked() {
    let ledger = FakeAccountLedger::default();
    let loops = loops(|key, _| match key {
        "key" => reply_with_body(200, ACME),
        _ => DestinationResponse::without_response(CallOutcome::Unreachable),
    });
    account(&ledger, "key", loops).await;
    let worker = worker(process(&ledger, FakeSecrets::new(secret("new")), loops), loops);
    let result = worker.deliver(&row(), AttemptHistory::default()).await.result;
    let unreachable = Reason::without_status(ReasonCode::Unreachable);
    assert!(matches!(result, AttemptResult::RetryAt { reason, .. } if reason == unreachable), "{result:?}");
    assert!(loops.calls().is_empty());
}

#[tokio::test]
async fn key_that_loops_refuses_holds_rows() {
    let loops = loops(|_, _| reply(401));
    let secrets = process(&FakeAccountLedger::default(), FakeSecrets::new(secret("key")), loops);
    let result = worker(secrets, loops).deliver(&row(), AttemptHistory::default()).await.result;
    let rejected = reason_with_status(ReasonCode::LoopsKeyRejected, 401);
    assert!(matches!(result, AttemptResult::HoldUntil { reason, .. } if reason == rejected), "{result:?}");
    assert!(loops.calls().is_empty());
}
