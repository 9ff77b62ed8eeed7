//! The AWS deployment without Lambda: the functions' code, composed as they compose it, on the in-process services.
//! Each direction has two sandboxes of its worker, each with its own rate limiter and breaker; an event source mapping
//! invokes them with batches, with the template's settings.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use jiff::Timestamp;
use relay::delivery::Deliver;
use relay::delivery::clay::ClayDeliverer;
use relay::delivery::loops::LoopsDeliverer;
use relay::ingress::clay_row::ClayRowHandler;
use relay::ingress::loops_webhook::LoopsWebhookHandler;
use relay::ingress::schema_cache::SchemaCache;
use relay::ports::clock::SharedClock;
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret, SecretField};
use relay_aws::lambda::contact_order::{ContactOrder, QueueOrderOnly};
use relay_aws::lambda::worker::QueueWorker;
use relay_aws::ledger::contacts::ContactLedger;
use relay_aws::ledger::deliveries::Ledger;
use relay_aws::ledger::limiter_item::DynamoLimiterStore;
use relay_aws::ledger::rate_limiter::DistributedRateLimiter;
use relay_aws::ledger::webhook_usage::BatchedWebhookLedger;
use relay_aws::sqs::queue::SqsQueue;
use relay_core::row::RowKind;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{RelayUnderTest, SimulatedClock, keys, settings};
use crate::aws_fake::{
    FakeServices, MAX_BATCH_SIZE, Message, QUEUES, ServiceState, WORKER_TIMEOUT, invoke_worker, queue, table,
};
use crate::simulation::simulated_destination::{DestinationState, SimulatedDestination};
use crate::simulation::static_secret::StaticSecret;

/// How many batches are worked on at once (the template's `MaximumConcurrency`).
const SANDBOXES_PER_QUEUE: usize = 2;
/// The longest that the mapping waits in an empty queue.
const LONG_POLL_WAIT: Duration = Duration::from_secs(20);

/// A sandbox of the function for rows.
type RowHandler =
    ClayRowHandler<StaticSecret<ClayToLoopsSecret>, SimulatedDestination, ContactLedger, DistributedRateLimiter>;

/// A relay between simulated destinations.
pub struct AwsUnderTest {
    clock: Arc<SimulatedClock>,
    webhooks: LoopsWebhookHandler<StaticSecret<LoopsToClaySecret>, SqsQueue>,
    new_sandbox: Box<dyn Fn() -> RowHandler + Send + Sync>,
    /// The sandboxes for rows that have nothing to do. As many are made as have something to do at the same time.
    idle: Mutex<Vec<RowHandler>>,
    stop: watch::Sender<bool>,
    sandboxes: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for AwsUnderTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Aws")
    }
}

/// What outlives the functions.
#[derive(Debug)]
pub struct AwsState {
    services: Arc<Mutex<ServiceState>>,
    measure_heap: Option<fn() -> usize>,
}

impl RelayUnderTest for AwsUnderTest {
    type PersistentState = AwsState;

    const NAME: &str = "AWS";
    /// Two sandboxes of a worker, and the function for rows.
    const PROBING_PROCESSES: u64 = 3;
    /// The request for the delivery's own item.
    const RECORD_LATENCY: Duration = Duration::from_millis(10);

    fn empty_state(measure_heap: Option<fn() -> usize>) -> AwsState {
        AwsState { services: Arc::default(), measure_heap }
    }

    fn store_heap_bytes(state: &AwsState) -> usize {
        state.services.lock().unwrap_or_else(PoisonError::into_inner).heap_bytes
    }

    fn start(
        state: &AwsState,
        simulated_clock: &Arc<SimulatedClock>,
        loops: &Arc<Mutex<DestinationState>>,
        clay: &Arc<Mutex<DestinationState>>,
    ) -> Self {
        let clock: SharedClock = Arc::<SimulatedClock>::clone(simulated_clock);
        let services =
            FakeServices::new(Arc::clone(&state.services), Arc::clone(&clock)).with_heap_measure(state.measure_heap);
        let shared = settings();
        let keys = keys(&shared);
        let to_clay =
            StaticSecret::new(Arc::unwrap_or_clone(keys.loops_to_clay), field_name as fn(SecretField) -> &'static str);
        let to_loops =
            StaticSecret::new(Arc::unwrap_or_clone(keys.clay_to_loops), field_name as fn(SecretField) -> &'static str);
        let destination = |state: &Arc<Mutex<DestinationState>>| {
            SimulatedDestination::new(Arc::clone(simulated_clock), Arc::clone(state))
        };
        let clients = services.clients();
        let queue = |direction: usize| queue(&clients, direction);
        let table = || table(&clients);
        let ledger = || Ledger::new(table());
        let rate_limiter = |item, rate| Arc::new(DistributedRateLimiter::new(item, rate, Arc::clone(&clock)));
        let (stop, stopping) = watch::channel(false);
        let mut sandboxes = Vec::new();
        for _ in 0..SANDBOXES_PER_QUEUE {
            let deliverer = ClayDeliverer {
                secrets: to_clay.clone(),
                clay: destination(clay),
                ledger: BatchedWebhookLedger::new(table()),
                limiter: rate_limiter(DynamoLimiterStore::for_clay(table()), shared.clay_rate),
                clock: Arc::clone(&clock),
                payload: shared.clay_payload,
                queue: queue(0),
            };
            let worker = QueueWorker {
                deliverer,
                ledger: ledger(),
                order: QueueOrderOnly,
                queue: queue(0),
                clock: Arc::clone(&clock),
            };
            let mapping = EventSourceMapping { services: services.clone(), direction: 0, clock: Arc::clone(&clock) };
            sandboxes.push(tokio::spawn(mapping.run(worker, stopping.clone())));

            let deliverer = LoopsDeliverer {
                secrets: to_loops.clone(),
                loops: destination(loops),
                limiter: rate_limiter(DynamoLimiterStore::for_loops(table()), shared.loops_rate),
                clock: Arc::clone(&clock),
            };
            let intake = ContactLedger::new(queue(1), ledger(), Arc::clone(&clock));
            let worker =
                QueueWorker { deliverer, ledger: ledger(), order: intake, queue: queue(1), clock: Arc::clone(&clock) };
            let mapping = EventSourceMapping { services: services.clone(), direction: 1, clock: Arc::clone(&clock) };
            sandboxes.push(tokio::spawn(mapping.run(worker, stopping.clone())));
        }
        let webhooks = LoopsWebhookHandler {
            secrets: to_clay,
            queue: queue(0),
            clock: Arc::clone(&clock),
            selection: shared.relayed_events.clone(),
            tolerance: shared.signature_tolerance,
            contact_source: shared.contact_source.clone(),
        };
        let (intake, table) = (ContactLedger::new(queue(1), ledger(), Arc::clone(&clock)), table());
        let (loops, handler_clock, rate) = (destination(loops), Arc::clone(&clock), shared.loops_rate);
        let new_sandbox = Box::new(move || ClayRowHandler {
            secrets: to_loops.clone(),
            loops: loops.clone(),
            intake: intake.clone(),
            limiter: Arc::new(DistributedRateLimiter::new(
                DynamoLimiterStore::for_loops(table.clone()),
                rate,
                Arc::clone(&handler_clock),
            )),
            clock: Arc::clone(&handler_clock),
            contact_source: shared.contact_source.clone(),
            schema: SchemaCache::new(shared.typed_properties),
        });
        Self { clock: Arc::clone(simulated_clock), webhooks, new_sandbox, idle: Mutex::default(), stop, sandboxes }
    }

    async fn handle_webhook(&self, request: Request<Bytes>) -> u16 {
        self.webhooks.handle(request).await.status().as_u16()
    }

    async fn handle_event(&self, request: Request<Bytes>) -> u16 {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let idle_sandbox = idle().pop();
        let sandbox = idle_sandbox.unwrap_or_else(|| (self.new_sandbox)());
        let status = sandbox.handle(RowKind::Event, request).await.status().as_u16();
        idle().push(sandbox);
        status
    }

    fn clock(&self) -> &SimulatedClock {
        &self.clock
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        for sandbox in self.sandboxes {
            let _ = sandbox.await;
        }
    }
}

fn field_name(_: SecretField) -> &'static str {
    "a secret"
}

/// What hands batches of one queue to one sandbox.
struct EventSourceMapping {
    services: FakeServices,
    direction: usize,
    clock: SharedClock,
}

impl EventSourceMapping {
    async fn run<D, O>(self, worker: QueueWorker<D, O>, stopping: watch::Receiver<bool>)
    where
        D: Deliver,
        O: ContactOrder,
    {
        let (url, _) = QUEUES[self.direction];
        while !*stopping.borrow() {
            let (batch, next) = self.receive(url);
            if batch.is_empty() {
                let until = |at: Timestamp| Duration::try_from(at.duration_since(self.clock.now())).unwrap_or_default();
                let wait = next.map_or(LONG_POLL_WAIT, until).clamp(Duration::from_millis(1), LONG_POLL_WAIT);
                self.services.wait_for_message(wait).await;
                continue;
            }
            self.hand_over(&batch, &worker).await;
        }
    }

    /// Receives a batch, and returns when the next hidden message becomes visible.
    fn receive(&self, url: &str) -> (Vec<Message>, Option<Timestamp>) {
        let receive = |state: &mut ServiceState, now| {
            (state.queues.receive(url, MAX_BATCH_SIZE, now), state.queues.next_visible_at(url))
        };
        self.services.change(receive, |(batch, _)| {
            batch.iter().map(Message::heap_bytes).sum::<usize>() + batch.capacity() * size_of::<Message>()
        })
    }

    /// One invocation: messages that did not fail are deleted. After a timeout, all become visible again.
    async fn hand_over<D, O>(&self, batch: &[Message], worker: &QueueWorker<D, O>)
    where
        D: Deliver,
        O: ContactOrder,
    {
        let invoked = invoke_worker(worker, batch);
        let Ok(failed_ids) = tokio::time::timeout(WORKER_TIMEOUT, invoked).await else { return };
        let done = batch.iter().filter(|message| !failed_ids.contains(&message.id));
        self.services.change(
            |state, _| done.for_each(|message| state.queues.delete(QUEUES[self.direction].0, &message.receipt)),
            |()| 0,
        );
        // Its groups are open again.
        self.services.notify_message_available();
    }
}
