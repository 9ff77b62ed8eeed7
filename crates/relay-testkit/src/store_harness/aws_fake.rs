//! The AWS store on the in-process fake. The store contract runs against it and against the emulator behind `make
//! test-lambda`, so the two behave alike.

use std::sync::Arc;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::SignedDuration;
use relay::ports::accounts::AccountLedger;
use relay::ports::clock::Clock;
use relay::ports::delivery_status::DeliveryStatusSource;
use relay::ports::queue::Queue;
use relay::ports::row_intake::RowIntake;
use relay::ports::webhook_usage::WebhookLedger;
use relay_aws::lambda::contact_order::{ContactOrder, QueueOrderOnly};
use relay_aws::lambda::worker::QueueWorker;
use relay_aws::ledger::contacts::ContactLedger;
use relay_aws::ledger::deliveries::Ledger;
use relay_aws::ledger::webhook_usage::BatchedWebhookLedger;
use relay_aws::sdk::clients::AwsClients;
use relay_aws::sqs::message;
use relay_aws::sqs::queue::SqsQueue;
use relay_core::delivery::{Delivery, DeliveryId};

use super::{CrashPoint, DeadLetterSnapshot, DeliverySnapshot, StoreHarness};
use crate::aws_fake::{FakeServices, MAX_BATCH_SIZE, Message, QUEUES, invoke_worker, queue, table};
use crate::store_harness::aws::snapshot_from_item;
use crate::store_harness::batches::{BatchHarness, crash_in_batch, dead_letter_from_message, drain_batches};
use crate::store_harness::scripted_destination::{ManualClock, ScriptedDestination};

/// Services of its own.
#[derive(Debug)]
pub struct AwsFakeHarness {
    clock: Arc<ManualClock>,
    services: FakeServices,
    clients: AwsClients,
    queue: SqsQueue,
    intake: ContactLedger,
    accounts: Ledger,
    webhook_usage: BatchedWebhookLedger,
    /// How often every message seems to have been received.
    pub receive_count: Option<u32>,
}

fn ledger(clients: &AwsClients) -> Ledger {
    Ledger::new(table(clients))
}

impl BatchHarness for AwsFakeHarness {
    async fn process_clay_batch(&mut self, destination: &ScriptedDestination, crash_point: Option<CrashPoint>) -> bool {
        let (deliverer, ledger) = (destination.clone(), ledger(&self.clients));
        let (queue, clock) = (queue(&self.clients, 0), Arc::clone(&self.clock));
        let worker = QueueWorker { deliverer, ledger, order: QueueOrderOnly, queue, clock };
        self.process_batch(0, &worker, destination, crash_point).await
    }

    async fn process_loops_batch(&mut self, destination: &ScriptedDestination) -> bool {
        let (deliverer, ledger) = (destination.clone(), ledger(&self.clients));
        let (queue, clock) = (queue(&self.clients, 1), Arc::clone(&self.clock));
        let worker = QueueWorker { deliverer, ledger, order: self.intake.clone(), queue, clock };
        self.process_batch(1, &worker, destination, None).await
    }
}

impl AwsFakeHarness {
    /// Hands one batch to a worker, as Lambda does; false where there is none.
    async fn process_batch<O: ContactOrder>(
        &self,
        direction: usize,
        worker: &QueueWorker<ScriptedDestination, O>,
        destination: &ScriptedDestination,
        crash_point: Option<CrashPoint>,
    ) -> bool {
        let (url, _) = QUEUES[direction];
        let mut messages = self.services.state().queues.receive(url, MAX_BATCH_SIZE, self.clock.now());
        if messages.is_empty() {
            return false;
        }
        for message in &mut messages {
            message.receive_count = self.receive_count.unwrap_or(message.receive_count);
        }
        let failed_ids = tokio::select! {
            failed_ids = invoke_worker(worker, &messages) => failed_ids,
            () = destination.wait_until_hung() => return true,
        };
        if crash_point == Some(CrashPoint::AfterRecord) {
            return true;
        }
        for message in messages.iter().filter(|message| !failed_ids.contains(&message.id)) {
            self.services.state().queues.delete(url, &message.receipt);
        }
        true
    }
}

impl AwsFakeHarness {
    /// The services, to let them fail.
    #[must_use]
    pub const fn services(&self) -> &FakeServices {
        &self.services
    }

    /// Puts the message of a row into its queue once more.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub async fn resend(&self, delivery: &Delivery) {
        let sent = queue(&self.clients, 1).send(delivery, &self.clock.new_id()).await;
        sent.unwrap_or_else(|error| panic!("{error:?}"));
    }
}

impl StoreHarness for AwsFakeHarness {
    const RELEASES_EARLY: bool = false;

    async fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let dyn_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let services = FakeServices::new(Arc::default(), dyn_clock).without_latency();
        let clients = services.clients();
        let intake = ContactLedger::new(queue(&clients, 1), ledger(&clients), Arc::<ManualClock>::clone(&clock));
        let (queue, accounts) = (queue(&clients, 0), ledger(&clients));
        let webhook_usage = BatchedWebhookLedger::new(table(&clients));
        Self { clock, services, clients, queue, intake, accounts, webhook_usage, receive_count: None }
    }

    fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    fn queue(&self) -> &impl Queue {
        &self.queue
    }

    fn intake(&self) -> &impl RowIntake {
        &self.intake
    }

    fn accounts(&self) -> &impl AccountLedger {
        &self.accounts
    }

    fn statuses(&self) -> &impl DeliveryStatusSource {
        &self.accounts
    }

    fn webhook_usage(&self) -> &impl WebhookLedger {
        &self.webhook_usage
    }

    async fn work(&mut self, destination: &ScriptedDestination) {
        drain_batches(self, destination).await;
    }

    async fn crash_during_work(&mut self, destination: &ScriptedDestination, crash_point: CrashPoint) {
        crash_in_batch(self, destination, crash_point).await;
    }

    async fn advance(&mut self, duration: SignedDuration) {
        self.clock.advance(duration);
        self.services.state().table.delete_expired(self.clock.now());
    }

    async fn snapshot(&self, id: &DeliveryId) -> Option<DeliverySnapshot> {
        let get = self.clients.dynamodb().get_item().table_name("ledger").consistent_read(true);
        let output = get.key("pk", AttributeValue::S(format!("delivery#{id}"))).send().await;
        snapshot_from_item(&output.unwrap_or_else(|error| panic!("{error:?}")).item?)
    }

    async fn dead_letters(&self) -> Vec<DeadLetterSnapshot> {
        let state = self.services.state();
        let dead = QUEUES.iter().flat_map(|(_, dead)| state.queues.messages(dead));
        let snapshots = dead.map(|message| {
            dead_letter_from_message(&message.body, |name| {
                message.attributes[name]["StringValue"].as_str().map(str::to_owned)
            })
        });
        snapshots.collect()
    }

    async fn redrive(&mut self, id: &DeliveryId) {
        let (now, token) = (self.clock.now(), self.clock.new_id());
        let mut state = self.services.state();
        for (queue, dead_letter_queue) in QUEUES {
            let is_wanted =
                |message: &&Message| message::decode(&message.body).is_ok_and(|delivery| delivery.id == *id);
            let Some(dead_letter) = state.queues.messages(dead_letter_queue).find(is_wanted).cloned() else { continue };
            state.queues.remove_by_id(dead_letter_queue, &dead_letter.id);
            state.queues.enqueue(queue, dead_letter, token, now);
            return;
        }
        panic!("{id} is no dead letter");
    }

    /// Waits until their leases have ended.
    async fn kill_callers(&mut self) {
        self.advance(SignedDuration::from_secs(61)).await;
    }
}
