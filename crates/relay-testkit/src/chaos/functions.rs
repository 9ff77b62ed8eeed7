//! The functions on emulated services, under faults.

use std::time::Duration;

use aws_sdk_sqs::types::Message;
use fastrand::Rng;
use relay_aws::functions::FUNCTION_NAMES;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{KEY, NEW_KEY, RelayUnderTest, workload};
use crate::chaos::faulty_destination::FaultyDestination;
use crate::chaos::history::{DeadLetter, Item};
use crate::chaos::kinds::{FaultScenario, RelayFault, WorkloadSize};
use crate::flaky_proxy::{Disconnect, FlakyProxy};
use crate::lambda_fake::services::ServiceFault;
use crate::lambda_fake::{FakeStack, Setup};
use crate::webhook::SIGNING_SECRET;

/// The queues, as the template calls them.
const CLAY_QUEUE: &str = "ClayQueue";
const LOOPS_QUEUE: &str = "LoopsQueue";
/// How a service misbehaves.
const SERVICE_FAULTS: [ServiceFault; 5] = [
    ServiceFault::InternalError,
    ServiceFault::Throttle,
    ServiceFault::Delay(Duration::from_millis(700)),
    ServiceFault::Hang,
    ServiceFault::LoseResponse,
];

/// The functions, as the template describes them.
#[derive(Debug)]
pub struct FunctionsUnderTest {
    fake_stack: FakeStack,
    /// Proxies between the functions and the destinations.
    proxies: [FlakyProxy; 2],
    clay_url: String,
    base: watch::Sender<String>,
    size: WorkloadSize,
    /// Items that workers were sending when they were killed, to Clay and to Loops.
    in_flight_at_crash: [Vec<Item>; 2],
    keys_rotated: bool,
}

fn loops_to_clay_document(url: &str, key: &str) -> Value {
    let route = json!({"name": "contacts", "events": ["contact.*"], "webhooks": [{"url": url, "auth_token": key}]});
    json!({"loops_signing_secrets": [SIGNING_SECRET], "clay_routes": [route]})
}

fn clay_to_loops_document(key: &str) -> Value {
    json!({"loops_api_key": key, "relay_tokens": [workload::relay_token()]})
}

fn parse_items(bodies: &[String]) -> impl Iterator<Item = Item> {
    bodies.iter().map(|body| parse_item(body))
}

fn parse_item(body: &str) -> Item {
    let item = relay_aws::sqs::message::decode(body).ok().and_then(|delivery| Item::from_delivery(&delivery));
    item.unwrap_or_else(|| panic!("never sent: {body}"))
}

fn parse_dead_letter(message: &Message) -> DeadLetter {
    let attribute = |name: &str| message.message_attributes.as_ref()?.get(name)?.string_value.clone();
    let status = attribute("status").and_then(|status| status.parse().ok());
    let reason = attribute("reason").unwrap_or_default();
    DeadLetter { item: parse_item(message.body.as_deref().unwrap_or_default()), reason, status }
}

impl FunctionsUnderTest {
    /// Kills the busy sandboxes of a function. The callers of an HTTP function get no response; a worker's messages
    /// become visible again.
    fn kill(&mut self, name: &str) {
        let [to_clay, to_loops] = &mut self.in_flight_at_crash;
        match name {
            "clay-delivery" => to_clay.extend(parse_items(&self.fake_stack.bodies_in_progress(CLAY_QUEUE))),
            "loops-delivery" => to_loops.extend(parse_items(&self.fake_stack.bodies_in_progress(LOOPS_QUEUE))),
            _ => {}
        }
        self.fake_stack.function(name).crash();
    }
}

impl RelayUnderTest for FunctionsUnderTest {
    const NAME: &str = "functions";

    fn scenarios() -> Vec<FaultScenario> {
        let mut all = FaultScenario::common();
        all.push(FaultScenario::relay("SQS in trouble", RelayFault::ServiceOutage("sqs")));
        all.push(FaultScenario::relay_with_faulty_destinations(
            "SQS in trouble, all",
            RelayFault::ServiceOutage("sqs"),
        ));
        all.push(FaultScenario::relay("DynamoDB in trouble", RelayFault::ServiceOutage("dynamodb")));
        all.push(FaultScenario::relay_with_faulty_destinations(
            "DynamoDB in trouble, all",
            RelayFault::ServiceOutage("dynamodb"),
        ));
        all.push(FaultScenario::relay("no Secrets Manager", RelayFault::ServiceOutage("secretsmanager")));
        all
    }

    async fn start(clay: &FaultyDestination, loops: &FaultyDestination, _: &FaultScenario, size: WorkloadSize) -> Self {
        let proxies = [FlakyProxy::start(&clay.url("")).await, FlakyProxy::start(&loops.url("")).await];
        let [clay_proxy, loops_proxy] = &proxies;
        let clay_url = clay_proxy.url("/v3/sources/webhook/contacts");
        let settings = [
            ("LOOPS_API_URL", loops_proxy.url("/api")),
            ("RUST_LOG", "debug".to_owned()),
            // So that Secrets Manager is asked while it is down.
            ("SECRET_TTL_SECONDS", "1".to_owned()),
        ];
        let setup = Setup {
            loops_to_clay: Some(loops_to_clay_document(&clay_url, KEY)),
            clay_to_loops: Some(clay_to_loops_document(KEY)),
            settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
            ..Setup::default()
        };
        let fake_stack = FakeStack::start(setup).await;
        let base = watch::Sender::new(fake_stack.base());
        Self {
            fake_stack,
            proxies,
            clay_url,
            base,
            size,
            in_flight_at_crash: [Vec::new(), Vec::new()],
            keys_rotated: false,
        }
    }

    fn base(&self) -> watch::Receiver<String> {
        self.base.subscribe()
    }

    async fn inject(&mut self, fault: RelayFault, random: &mut Rng, destinations: [&FaultyDestination; 2]) -> bool {
        let delay = Duration::from_millis(random.u64(300..1800));
        match fault {
            RelayFault::Kill => {
                tokio::time::sleep(delay).await;
                for name in FUNCTION_NAMES {
                    if random.bool() {
                        self.kill(name);
                    }
                }
                self.fake_stack.make_idle_visible().await;
            }
            RelayFault::Freeze => {
                tokio::time::sleep(delay / 2).await;
                let frozen = FUNCTION_NAMES.map(|name| self.fake_stack.function(name).freeze());
                let disconnect = random.choice(Disconnect::ALL).unwrap_or(Disconnect::Closed);
                for proxy in self.proxies.iter().chain([self.fake_stack.services().proxy()]) {
                    proxy.disconnect_idle(disconnect);
                }
                tokio::time::sleep(self.size.freeze_duration(random)).await;
                for (name, frozen) in FUNCTION_NAMES.iter().zip(&frozen) {
                    self.fake_stack.function(name).thaw(frozen);
                }
                // Twice the delay, so that the clients notice the dead connections.
                tokio::time::sleep(delay * 2).await;
            }
            RelayFault::ServiceOutage(service) => {
                let service_fault = random.choice(SERVICE_FAULTS).unwrap_or(ServiceFault::InternalError);
                self.fake_stack.services().inject(service, service_fault);
                if service == "secretsmanager" {
                    // New ones have read no secret yet.
                    for name in FUNCTION_NAMES {
                        self.fake_stack.function(name).recycle().await;
                    }
                }
                tokio::time::sleep(delay).await;
                self.fake_stack.services().clear();
                tokio::time::sleep(delay / 2).await;
            }
            RelayFault::KeyRotation if !self.keys_rotated => {
                self.keys_rotated = true;
                tokio::time::sleep(delay / 2).await;
                for destination in destinations {
                    destination.rotate_key(NEW_KEY);
                }
                tokio::time::sleep(delay).await;
                let stack = self.fake_stack.stack();
                stack.put_secret("LoopsToClaySecret", &loops_to_clay_document(&self.clay_url, NEW_KEY)).await;
                stack.put_secret("ClayToLoopsSecret", &clay_to_loops_document(NEW_KEY)).await;
            }
            RelayFault::KeyRotation => {
                tokio::time::sleep(delay).await;
                return false;
            }
            RelayFault::StoreUnwritable | RelayFault::StoreSlow => panic!("the store of functions is a service"),
            RelayFault::ClockJump => panic!("the clocks of functions are minded by Lambda"),
        }
        true
    }

    async fn clear_faults(&mut self) {
        self.fake_stack.services().clear();
    }

    async fn waiting(&self) -> usize {
        self.fake_stack.make_idle_visible().await;
        let mut waiting = 0;
        for queue in [CLAY_QUEUE, LOOPS_QUEUE] {
            // A queue that cannot be read may hold something.
            waiting += self.fake_stack.try_queue_length(queue).await.unwrap_or(1);
        }
        usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    fn in_flight_at_crashes(&self) -> [Vec<Item>; 2] {
        // A sandbox that Lambda timed out was killed as well.
        let [to_clay, to_loops] = &self.in_flight_at_crash;
        let timed_out = |queue: &str| self.fake_stack.bodies_timed_out(queue);
        [(to_clay, timed_out(CLAY_QUEUE)), (to_loops, timed_out(LOOPS_QUEUE))]
            .map(|(killed, timed_out)| killed.iter().cloned().chain(parse_items(&timed_out)).collect())
    }

    async fn dead_letters(&self) -> [Vec<DeadLetter>; 2] {
        let read_dead_letters =
            async |queue: &str| self.fake_stack.drain_queue(queue).await.iter().map(parse_dead_letter).collect();
        [read_dead_letters("ClayDeadLetters").await, read_dead_letters("LoopsDeadLetters").await]
    }

    fn log(&self) -> String {
        self.fake_stack.log()
    }
}
