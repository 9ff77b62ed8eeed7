//! The relay on AWS, without Lambda's processes: its functions' code, put together as they put it together, on emulated
//! services. Each direction has two sandboxes of its worker, each with its own pace, breaker and parking; an event source
//! mapping hands them batches as the template says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use jiff::Timestamp;
use relay::delivery::clay::ClayDeliverer;
use relay::delivery::loops::LoopsDeliverer;
use relay::ingress::clay_row::ClayRowHandler;
use relay::ingress::loops_webhook::{LoopsToClaySettings, LoopsWebhookHandler};
use relay::ingress::schema_cache::SchemaCache;
use relay::ports::clock::Clock;
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret, SecretField, StaticSecret};
use relay_aws::lambda::batch::MessageWorker;
use relay_aws::lambda::worker::{ClayWorker, LoopsWorker};
use relay_aws::ledger::contact_lock::ContactFastPath;
use relay_aws::ledger::deliveries::Ledger;
use relay_aws::ledger::limiter_item::DynamoLimiterStore;
use relay_aws::ledger::rate_limiter::DistributedRateLimiter;
use relay_aws::sqs::early_release::EarlyRelease;
use relay_aws::sqs::queue::SqsQueue;
use relay_core::row::RowKind;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Form, Simulated, keys, settings};
use crate::aws_fake::{BATCH, Kept, Message, QUEUES, Services, TIMEOUT, invoke, queue, table};
use crate::simulation::end::{End, State};

type World = Arc<Simulated>;

/// How many batches are worked on at once (the template's `MaximumConcurrency`).
const SANDBOXES: usize = 2;
/// The longest that the mapping waits in an empty queue.
const LONG_POLL: Duration = Duration::from_secs(20);

/// A sandbox of the function that takes rows.
type Rows = ClayRowHandler<
    StaticSecret<ClayToLoopsSecret>,
    End,
    ContactFastPath<World>,
    Arc<DistributedRateLimiter<World>>,
    World,
>;

/// A relay between two ends.
pub struct Aws {
    world: World,
    webhooks: LoopsWebhookHandler<StaticSecret<LoopsToClaySecret>, SqsQueue, World>,
    new_sandbox: Box<dyn Fn() -> Rows + Send + Sync>,
    /// The sandboxes for rows that have nothing to do. As many are made as have something to do at the same time.
    idle: Mutex<Vec<Rows>>,
    stop: watch::Sender<bool>,
    sandboxes: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Aws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Aws")
    }
}

/// What outlives the functions.
#[derive(Debug)]
pub struct Cloud {
    kept: Arc<Mutex<Kept>>,
    count: Option<fn() -> usize>,
}

impl Form for Aws {
    type Kept = Cloud;

    const NAME: &str = "AWS";
    /// Two sandboxes of a worker, and the function that takes rows.
    const ASKING: u64 = 3;
    /// The webhook's count, there and back, and the way to the delivery's own item: 10 ms each at most.
    const RECORD_TAKES: Duration = Duration::from_millis(30);

    fn nothing(count: Option<fn() -> usize>) -> Cloud {
        Cloud { kept: Arc::default(), count }
    }

    fn held_by_store(cloud: &Cloud) -> usize {
        cloud.kept.lock().unwrap_or_else(PoisonError::into_inner).held
    }

    fn start(cloud: &Cloud, world: &World, loops: &Arc<Mutex<State>>, clay: &Arc<Mutex<State>>) -> Self {
        let ambient: Arc<dyn Clock> = Arc::<Simulated>::clone(world);
        let services = Services::new(Arc::clone(&cloud.kept), ambient).counted(cloud.count);
        let (shared, world) = (settings(), Arc::clone(world));
        let keys = keys(&shared);
        let to_clay = StaticSecret::new(keys.loops_to_clay, named as fn(SecretField) -> &'static str);
        let to_loops = StaticSecret::new(keys.clay_to_loops, named as fn(SecretField) -> &'static str);
        let end = |state: &Arc<Mutex<State>>| End::new(Arc::clone(&world), Arc::clone(state));
        let account = services.account();
        let queue = |way: usize| queue(&account, way);
        let table = || table(&account);
        let ledger = || Ledger::new(table());
        let pace = |item, rate| DistributedRateLimiter::new(item, rate, Arc::clone(&world));
        let (stop, stopping) = watch::channel(false);
        let mut sandboxes = Vec::new();
        for _ in 0..SANDBOXES {
            let attempt = ClayDeliverer {
                secrets: to_clay.clone(),
                clay: end(clay),
                ledger: ledger(),
                pace: pace(DynamoLimiterStore::to_clay(table()), shared.clay_rate),
                ambient: Arc::clone(&world),
                payload: shared.clay_payload,
                queue: queue(0),
            };
            let (parking, ambient) = (EarlyRelease::default(), Arc::clone(&world));
            let worker = ClayWorker { attempt, ledger: ledger(), parking, ambient };
            let mapping = Mapping { services: services.clone(), way: 0, world: Arc::clone(&world) };
            sandboxes.push(tokio::spawn(mapping.run(worker, queue(0), stopping.clone())));

            let attempt = LoopsDeliverer {
                secrets: to_loops.clone(),
                loops: end(loops),
                pace: pace(DynamoLimiterStore::to_loops(table()), shared.loops_rate),
                ambient: Arc::clone(&world),
            };
            let lane = ContactFastPath::new(queue(1), ledger(), Arc::clone(&world));
            let (parking, ambient) = (EarlyRelease::default(), Arc::clone(&world));
            let worker = LoopsWorker { attempt, ledger: ledger(), lane, parking, ambient };
            let mapping = Mapping { services: services.clone(), way: 1, world: Arc::clone(&world) };
            sandboxes.push(tokio::spawn(mapping.run(worker, queue(1), stopping.clone())));
        }
        let webhooks = LoopsWebhookHandler {
            secrets: to_clay,
            queue: queue(0),
            ambient: Arc::clone(&world),
            settings: LoopsToClaySettings {
                selection: shared.relayed_events.clone(),
                tolerance: shared.signature_tolerance,
                contact_source: shared.contact_source.clone(),
            },
        };
        let (lane, table) = (ContactFastPath::new(queue(1), ledger(), Arc::clone(&world)), table());
        let (loops, ambient, rate) = (end(loops), Arc::clone(&world), shared.loops_rate);
        let new_sandbox = Box::new(move || ClayRowHandler {
            secrets: to_loops.clone(),
            loops: loops.clone(),
            lane: lane.clone(),
            pace: Arc::new(DistributedRateLimiter::new(
                DynamoLimiterStore::to_loops(table.clone()),
                rate,
                Arc::clone(&ambient),
            )),
            ambient: Arc::clone(&ambient),
            contact_source: shared.contact_source.clone(),
            properties: SchemaCache::new(shared.typed_properties),
        });
        Self { world, webhooks, new_sandbox, idle: Mutex::default(), stop, sandboxes }
    }

    async fn take_webhook(&self, request: Request<Bytes>) -> u16 {
        self.webhooks.handle(request).await.status().as_u16()
    }

    async fn take_event(&self, request: Request<Bytes>) -> u16 {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle().pop();
        let sandbox = waiting.unwrap_or_else(|| (self.new_sandbox)());
        let status = sandbox.handle(RowKind::Event, request).await.status().as_u16();
        idle().push(sandbox);
        status
    }

    fn world(&self) -> &Simulated {
        &self.world
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        for sandbox in self.sandboxes {
            let _ = sandbox.await;
        }
    }
}

fn named(_: SecretField) -> &'static str {
    "a secret"
}

/// What hands batches of one queue to one sandbox.
struct Mapping {
    services: Services,
    way: usize,
    world: World,
}

impl Mapping {
    async fn run<W: MessageWorker>(self, worker: W, queue: SqsQueue, stopping: watch::Receiver<bool>) {
        let (url, _) = QUEUES[self.way];
        while !*stopping.borrow() {
            let (batch, next) = self.receive(url);
            if batch.is_empty() {
                let until = |at: Timestamp| Duration::try_from(at.duration_since(self.world.now())).unwrap_or_default();
                let wait = next.map_or(LONG_POLL, until).clamp(Duration::from_millis(1), LONG_POLL);
                self.services.shown_within(wait).await;
                continue;
            }
            self.hand_over(&batch, &worker, &queue).await;
        }
    }

    /// A batch, and when the next hidden message is shown.
    fn receive(&self, url: &str) -> (Vec<Message>, Option<Timestamp>) {
        let received = |kept: &mut Kept, now| (kept.queues.receive(url, BATCH, now), kept.queues.next_shown(url));
        self.services.change(received, |(batch, _)| {
            batch.iter().map(Message::held).sum::<usize>() + batch.capacity() * size_of::<Message>()
        })
    }

    /// One invocation: what is not given back is deleted. Nothing is where it takes too long: all of it comes back.
    async fn hand_over<W: MessageWorker>(&self, batch: &[Message], worker: &W, queue: &SqsQueue) {
        let invoked = invoke(worker, queue, &self.world, batch);
        let Ok(back) = tokio::time::timeout(TIMEOUT, invoked).await else { return };
        let done = batch.iter().filter(|message| !back.contains(&message.id));
        self.services.change(
            |kept, _| done.for_each(|message| kept.queues.delete(QUEUES[self.way].0, &message.receipt)),
            |()| 0,
        );
        // Its groups are open again.
        self.services.show();
    }
}
