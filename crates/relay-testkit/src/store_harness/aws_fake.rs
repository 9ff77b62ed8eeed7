//! The store of the relay on AWS, emulated inside the test's process: the very behaviours that the emulator behind
//! `make test-lambda` is asked for show that this one has them as well.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::SignedDuration;
use relay::ports::clock::Clock;
use relay::ports::queue::{FastPath, Queue, WebhookLedger};
use relay_aws::lambda::batch::MessageWorker;
use relay_aws::lambda::worker::{ClayWorker, LoopsWorker};
use relay_aws::ledger::contact_lock::ContactFastPath;
use relay_aws::ledger::deliveries::Ledger;
use relay_aws::sdk::clients::AwsClients;
use relay_aws::sqs::early_release::EarlyRelease;
use relay_aws::sqs::message;
use relay_aws::sqs::queue::SqsQueue;
use relay_core::delivery::{Delivery, DeliveryId};

use super::{AnyStore, Known, Letter, Moment};
use crate::aws_fake::{BATCH, Message, QUEUES, Services, invoke, queue, table};
use crate::store_harness::aws::known_in;
use crate::store_harness::batches::{Batches, die_in_a_batch, letter, work_on_batches};
use crate::store_harness::scripted_destination::{End, ManualClock};

type SharedClock = Arc<ManualClock>;

/// Services of its own.
#[derive(Debug)]
pub struct Emulated {
    clock: SharedClock,
    services: Services,
    account: AwsClients,
    queue: SqsQueue,
    lane: ContactFastPath<SharedClock>,
    webhooks: Ledger,
    /// What the workers remember as long as they live.
    parking: [EarlyRelease; 2],
    /// How often every message seems to have been received.
    pub receives: Option<u32>,
}

fn ledger(account: &AwsClients) -> Ledger {
    Ledger::new(table(account))
}

impl Batches for Emulated {
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

    fn forget_workers(&mut self) {
        self.parking = Default::default();
    }
}

impl Emulated {
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
        let queue = queue(&self.account, way);
        let back = tokio::select! {
            back = invoke(worker, &queue, &self.clock, &messages) => back,
            () = end.hangs() => return true,
        };
        if moment == Some(Moment::AfterTheRecord) {
            return true;
        }
        for message in messages.iter().filter(|message| !back.contains(&message.id)) {
            self.services.kept().queues.delete(url, &message.receipt);
        }
        true
    }
}

impl Emulated {
    /// The services, to let them fail.
    #[must_use]
    pub const fn services(&self) -> &Services {
        &self.services
    }

    /// Puts the message of a row into its queue once more.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub async fn put_again(&self, delivery: &Delivery) {
        let sent = queue(&self.account, 1).send(delivery, &self.clock.new_id()).await;
        sent.unwrap_or_else(|error| panic!("{error:?}"));
    }
}

impl AnyStore for Emulated {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let ambient: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let services = Services::new(Arc::default(), ambient).at_once();
        let account = services.account();
        let lane = ContactFastPath::new(queue(&account, 1), ledger(&account), Arc::clone(&clock));
        let (queue, webhooks) = (queue(&account, 0), ledger(&account));
        Self { clock, services, account, queue, lane, webhooks, parking: Default::default(), receives: None }
    }

    fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    fn queue(&self) -> &impl Queue {
        &self.queue
    }

    fn lane(&self) -> &impl FastPath {
        &self.lane
    }

    fn webhooks(&self) -> &impl WebhookLedger {
        &self.webhooks
    }

    async fn work(&mut self, end: &End) {
        work_on_batches(self, end).await;
    }

    async fn work_and_die(&mut self, end: &End, moment: Moment) {
        die_in_a_batch(self, end, moment).await;
    }

    async fn let_pass(&mut self, time: SignedDuration) {
        self.clock.pass(time);
        self.services.kept().table.forget_old(self.clock.now());
    }

    async fn known(&self, id: &DeliveryId) -> Option<Known> {
        let get = self.account.dynamodb().get_item().table_name("ledger").consistent_read(true);
        let got = get.key("pk", AttributeValue::S(format!("delivery#{id}"))).send().await;
        known_in(&got.unwrap_or_else(|error| panic!("{error:?}")).item?)
    }

    async fn dead_letters(&self) -> Vec<Letter> {
        let kept = self.services.kept();
        let dead = QUEUES.iter().flat_map(|(_, dead)| kept.queues.messages(dead));
        let letters = dead.map(|message| {
            letter(&message.body, |name| message.attributes[name]["StringValue"].as_str().map(str::to_owned))
        });
        letters.collect()
    }

    async fn send_again(&mut self, id: &DeliveryId) {
        let (now, token) = (self.clock.now(), self.clock.new_id());
        let mut kept = self.services.kept();
        for (queue, dead) in QUEUES {
            let is_it = |message: &&Message| message::decode(&message.body).is_ok_and(|delivery| delivery.id == *id);
            let Some(letter) = kept.queues.messages(dead).find(is_it).cloned() else { continue };
            kept.queues.take_out(dead, &letter.id);
            kept.queues.put(queue, letter, token, now);
            return;
        }
        panic!("{id} is no dead letter");
    }
}
