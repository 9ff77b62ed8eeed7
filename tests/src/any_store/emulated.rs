//! The store of the relay on AWS, emulated inside the test's process: the very behaviours that the emulator behind
//! `make test-aws` is asked for show that this one has them as well.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use relay::ambient::Ambient;
use relay::store::{DirectLane, Queue, WebhookLedger};
use relay_aws::account::Account;
use relay_aws::batch::MessageWorker;
use relay_aws::lane::AwsLane;
use relay_aws::ledger::Ledger;
use relay_aws::parking::Parking;
use relay_aws::queue::SqsQueue;
use relay_aws::table::LedgerTable;
use relay_aws::worker::{ClayWorker, LoopsWorker};
use relay_aws::{dead_letter, drain, envelope};
use relay_core::delivery::DeliveryId;
use serde_json::json;

use super::aws::known_in;
use super::end::{Answer, Clock, End};
use super::{AnyStore, Known, Letter, Moment};
use crate::emulated::{Message, QUEUES, Services};

type SharedClock = Arc<Clock>;

/// A worker's batch.
const BATCH: usize = 10;
/// The time that a worker has.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How many batches are worked on before it is said that there is no end.
const MOST_BATCHES: u32 = 200;

/// Services of its own.
#[derive(Debug)]
pub struct Emulated {
    clock: SharedClock,
    services: Services,
    account: Account,
    queue: SqsQueue,
    lane: AwsLane<SharedClock>,
    webhooks: Ledger,
    /// What the workers remember as long as they live.
    parking: [Parking; 2],
    /// How often every message seems to have been received.
    pub receives: Option<u32>,
}

fn ledger(account: &Account) -> Ledger {
    Ledger::new(LedgerTable::new(account.dynamodb(), "ledger".to_owned()))
}

fn queue(account: &Account, way: usize) -> SqsQueue {
    let (queue, dead) = QUEUES[way];
    SqsQueue::new(account.clone(), queue.to_owned(), dead.to_owned())
}

impl Emulated {
    async fn batch_to_clay(&mut self, end: &End, moment: Option<Moment>) -> bool {
        let parking = std::mem::take(&mut self.parking[0]);
        let (attempt, ambient) = (end.clone(), Arc::clone(&self.clock));
        let worker = ClayWorker { attempt, ledger: ledger(&self.account), parking, ambient };
        let worked = self.batch(0, &worker, end, moment).await;
        self.parking[0] = worker.parking;
        worked
    }

    async fn batch_to_loops(&mut self, end: &End) -> bool {
        let parking = std::mem::take(&mut self.parking[1]);
        let (attempt, ambient) = (end.clone(), Arc::clone(&self.clock));
        let lane = self.lane.clone();
        let worker = LoopsWorker { attempt, ledger: ledger(&self.account), lane, parking, ambient };
        let worked = self.batch(1, &worker, end, None).await;
        self.parking[1] = worker.parking;
        worked
    }

    /// Hands one batch to a worker, as Lambda does; false where there is none.
    async fn batch<W: MessageWorker>(&self, way: usize, worker: &W, end: &End, moment: Option<Moment>) -> bool {
        let (url, _) = QUEUES[way];
        let mut messages = self.services.kept().queues.receive(url, BATCH, self.clock.now());
        if messages.is_empty() {
            return false;
        }
        for message in &mut messages {
            message.receives = self.receives.unwrap_or(message.receives);
        }
        let payload = json!({"Records": messages.iter().map(Message::record).collect::<Vec<_>>()}).to_string();
        let deadline = u64::try_from((self.clock.now() + TIMEOUT).as_millisecond()).unwrap_or_default();
        let queue = queue(&self.account, way);
        let response = tokio::select! {
            response = drain::invoked(worker, &queue, &self.clock, &payload, deadline) => response,
            () = end.hangs() => return true,
        };
        if moment == Some(Moment::AfterTheRecord) {
            return true;
        }
        let failures = response.unwrap_or_else(|fault| panic!("{fault}")).batch_item_failures;
        for message in &messages {
            if !failures.iter().any(|failure| failure.item_identifier == message.id) {
                self.services.kept().queues.delete(url, &message.receipt);
            }
        }
        true
    }
}

impl AnyStore for Emulated {
    async fn new() -> Self {
        let clock = Arc::new(Clock::default());
        let ambient: Arc<dyn Ambient> = Arc::<Clock>::clone(&clock);
        let services = Services::new(Arc::default(), ambient).at_once();
        let account = services.account();
        let lane = AwsLane::new(queue(&account, 1), ledger(&account), Arc::clone(&clock));
        let (queue, webhooks) = (queue(&account, 0), ledger(&account));
        Self { clock, services, account, queue, lane, webhooks, parking: Default::default(), receives: None }
    }

    fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    fn queue(&self) -> &impl Queue {
        &self.queue
    }

    fn lane(&self) -> &impl DirectLane {
        &self.lane
    }

    fn webhooks(&self) -> &impl WebhookLedger {
        &self.webhooks
    }

    async fn work(&mut self, end: &End) {
        let mut batches = 0;
        while self.batch_to_clay(end, None).await || self.batch_to_loops(end).await {
            batches += 1;
            assert!(batches < MOST_BATCHES, "there is always something due");
        }
    }

    async fn work_and_die(&mut self, end: &End, moment: Moment) {
        if moment == Moment::BeforeTheRecord {
            end.then([Answer::TakesAndHangs]);
        }
        assert!(self.batch_to_clay(end, Some(moment)).await, "nothing is due");
        self.parking = Default::default();
    }

    async fn let_pass(&mut self, time: SignedDuration) {
        self.clock.pass(time);
        self.services.kept().table.forget_old(self.clock.now());
    }

    async fn known(&self, id: &DeliveryId) -> Option<Known> {
        let get = self.account.dynamodb().get_item().table_name("ledger").consistent_read(true);
        let got = get.key("pk", AttributeValue::S(format!("delivery#{id}"))).send().await;
        known_in(&got.unwrap_or_else(|fault| panic!("{fault:?}")).item?)
    }

    async fn dead_letters(&self) -> Vec<Letter> {
        let kept = self.services.kept();
        let dead = QUEUES.iter().flat_map(|(_, dead)| kept.queues.messages(dead));
        let letters = dead.map(|message| {
            let attribute = |name: &str| message.attributes[name]["StringValue"].as_str();
            let time = |name: &str| attribute(name).and_then(|time| time.parse::<Timestamp>().ok());
            let delivery = envelope::open(&message.body).unwrap_or_else(|fault| panic!("{fault}"));
            Letter {
                id: delivery.id.as_str().to_owned(),
                reason: attribute(dead_letter::REASON).unwrap_or_default().to_owned(),
                status: attribute(dead_letter::STATUS).and_then(|status| status.parse().ok()),
                attempts: attribute(dead_letter::ATTEMPTS).and_then(|number| number.parse().ok()).unwrap_or(u32::MAX),
                received_at: time(dead_letter::RECEIVED_AT).unwrap_or_default(),
                died_at: time(dead_letter::DIED_AT).unwrap_or_default(),
            }
        });
        letters.collect()
    }

    async fn send_again(&mut self, id: &DeliveryId) {
        let (now, token) = (self.clock.now(), self.clock.unique());
        let mut kept = self.services.kept();
        for (queue, dead) in QUEUES {
            let is_it = |message: &&Message| envelope::open(&message.body).is_ok_and(|delivery| delivery.id == *id);
            let Some(letter) = kept.queues.messages(dead).find(is_it).cloned() else { continue };
            kept.queues.take_out(dead, &letter.id);
            kept.queues.put(queue, letter, token, now);
            return;
        }
        panic!("{id} is no dead letter");
    }
}
