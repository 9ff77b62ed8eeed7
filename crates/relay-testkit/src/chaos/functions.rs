//! The relay as functions, against emulated services, under faults.

use std::time::Duration;

use aws_sdk_sqs::types::Message;
use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Form, KEY, NEW_KEY};
use crate::chaos::end::End;
use crate::chaos::history::{DeadLetter, Item};
use crate::chaos::kinds::{Fault, Size, Strike};
use crate::flaky_proxy::{Cut, Wire};
use crate::lambda_fake::services::Trouble;
use crate::lambda_fake::{Cloud, Setup};
use crate::relay_process::TOKEN;
use crate::webhook::SECRET;

/// The queues, as the template calls them.
const CLAY_QUEUE: &str = "ClayQueue";
const LOOPS_QUEUE: &str = "LoopsQueue";
/// The functions that are killed.
const FUNCTIONS: [&str; 5] =
    ["loops-to-clay", "clay-to-loops-contact", "clay-to-loops-event", "clay-delivery", "loops-delivery"];
/// How a service misbehaves.
const TROUBLES: [Trouble; 5] = [
    Trouble::Fails,
    Trouble::Throttles,
    Trouble::Slow(Duration::from_millis(700)),
    Trouble::Hangs,
    Trouble::LosesAnswers,
];

/// The functions, as the template describes them.
#[derive(Debug)]
pub struct Functions {
    cloud: Cloud,
    /// What is between the functions and the ends.
    wires: [Wire; 2],
    clay_url: String,
    base: watch::Sender<String>,
    size: Size,
    /// What workers had when they were killed, to Clay and to Loops.
    under_way: [Vec<Item>; 2],
    rotated: bool,
}

fn to_clay(url: &str, key: &str) -> Value {
    let route = json!({"name": "contacts", "events": ["contact.*"], "webhooks": [{"url": url, "auth_token": key}]});
    json!({"loops_signing_secrets": [SECRET], "clay_routes": [route]})
}

fn to_loops(key: &str) -> Value {
    json!({"loops_api_key": key, "relay_tokens": [TOKEN]})
}

fn items(bodies: &[String]) -> impl Iterator<Item = Item> {
    bodies.iter().map(|body| item(body))
}

fn item(body: &str) -> Item {
    let item = relay_aws::sqs::message::decode(body).ok().and_then(|delivery| Item::of(&delivery));
    item.unwrap_or_else(|| panic!("nobody sent this: {body}"))
}

fn dead_letter(message: &Message) -> DeadLetter {
    let attribute = |name: &str| message.message_attributes.as_ref()?.get(name)?.string_value.clone();
    let status = attribute("status").and_then(|status| status.parse().ok());
    let reason = attribute("reason").unwrap_or_default();
    DeadLetter { item: item(message.body.as_deref().unwrap_or_default()), reason, status }
}

impl Functions {
    /// Kills the sandboxes of a function that are at work. What the front door had under way, its sender knows to be
    /// unanswered; a worker's messages come back.
    fn kill(&mut self, name: &str) {
        let [to_clay, to_loops] = &mut self.under_way;
        match name {
            "clay-delivery" => to_clay.extend(items(&self.cloud.bodies_at_work(CLAY_QUEUE))),
            "loops-delivery" => to_loops.extend(items(&self.cloud.bodies_at_work(LOOPS_QUEUE))),
            _ => {}
        }
        self.cloud.function(name).crash();
    }
}

impl Form for Functions {
    const NAME: &str = "functions";

    fn faults() -> Vec<Fault> {
        let mut all = Fault::of_any_form();
        all.push(Fault::relay("SQS in trouble", Strike::Service("sqs")));
        all.push(Fault::relay_and_ends("SQS in trouble, all", Strike::Service("sqs")));
        all.push(Fault::relay("DynamoDB in trouble", Strike::Service("dynamodb")));
        all.push(Fault::relay_and_ends("DynamoDB in trouble, all", Strike::Service("dynamodb")));
        all.push(Fault::relay("no Secrets Manager", Strike::Service("secretsmanager")));
        all
    }

    async fn start(clay: &End, loops: &End, _: &Fault, size: Size) -> Self {
        let wires = [Wire::to(&clay.url("")).await, Wire::to(&loops.url("")).await];
        let [to_clay_wire, to_loops_wire] = &wires;
        let clay_url = to_clay_wire.url("/v3/sources/webhook/contacts");
        let settings = [
            ("LOOPS_API_URL", to_loops_wire.url("/api")),
            ("RUST_LOG", "debug".to_owned()),
            // So that Secrets Manager is asked while it is down.
            ("SECRET_TTL_SECONDS", "1".to_owned()),
        ];
        let setup = Setup {
            loops_to_clay: Some(to_clay(&clay_url, KEY)),
            clay_to_loops: Some(to_loops(KEY)),
            settings: settings.map(|(name, value)| (name.to_owned(), value)).into(),
            ..Setup::default()
        };
        let cloud = Cloud::start(setup).await;
        let base = watch::Sender::new(cloud.base());
        Self { cloud, wires, clay_url, base, size, under_way: [Vec::new(), Vec::new()], rotated: false }
    }

    fn base(&self) -> watch::Receiver<String> {
        self.base.subscribe()
    }

    async fn strike(&mut self, strike: Strike, random: &mut Rng, ends: [&End; 2]) -> bool {
        let moment = Duration::from_millis(random.u64(300..1800));
        match strike {
            Strike::Kill => {
                tokio::time::sleep(moment).await;
                for name in FUNCTIONS {
                    if random.bool() {
                        self.kill(name);
                    }
                }
                self.cloud.let_rested_pass().await;
            }
            Strike::Freeze => {
                tokio::time::sleep(moment / 2).await;
                let frozen = FUNCTIONS.map(|name| self.cloud.function(name).freeze());
                let cut = random.choice(Cut::ALL).unwrap_or(Cut::Closed);
                for wire in self.wires.iter().chain([self.cloud.services().wire()]) {
                    wire.cut_idle(cut);
                }
                tokio::time::sleep(self.size.freeze(random)).await;
                for (name, frozen) in FUNCTIONS.iter().zip(&frozen) {
                    self.cloud.function(name).thaw(frozen);
                }
                // As much time as it takes to find out that a connection is dead.
                tokio::time::sleep(moment * 2).await;
            }
            Strike::Service(service) => {
                let trouble = random.choice(TROUBLES).unwrap_or(Trouble::Fails);
                self.cloud.services().trouble(service, trouble);
                if service == "secretsmanager" {
                    // New ones have read no secret yet.
                    for name in FUNCTIONS {
                        self.cloud.function(name).recycle().await;
                    }
                }
                tokio::time::sleep(moment).await;
                self.cloud.services().mend();
                tokio::time::sleep(moment / 2).await;
            }
            Strike::KeysRotate if !self.rotated => {
                self.rotated = true;
                tokio::time::sleep(moment / 2).await;
                for end in ends {
                    end.rotate(NEW_KEY);
                }
                tokio::time::sleep(moment).await;
                let stack = self.cloud.stack();
                stack.put_secret("LoopsToClaySecret", &to_clay(&self.clay_url, NEW_KEY)).await;
                stack.put_secret("ClayToLoopsSecret", &to_loops(NEW_KEY)).await;
            }
            Strike::KeysRotate => {
                tokio::time::sleep(moment).await;
                return false;
            }
            Strike::StoreFails | Strike::StoreSlow => panic!("the store of functions is a service"),
            Strike::ClockMoves => panic!("the clocks of functions are minded by Lambda"),
        }
        true
    }

    async fn mend(&mut self) {
        self.cloud.services().mend();
    }

    async fn waiting(&self) -> usize {
        self.cloud.let_rested_pass().await;
        let mut waiting = 0;
        for queue in [CLAY_QUEUE, LOOPS_QUEUE] {
            // Of a queue that cannot be read now, nobody knows that it is empty.
            waiting += self.cloud.try_length(queue).await.unwrap_or(1);
        }
        usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    fn under_way_at_kills(&self) -> [Vec<Item>; 2] {
        // Who was ended by Lambda, its time being over, was killed as well.
        let [to_clay, to_loops] = &self.under_way;
        let ended = |queue: &str| self.cloud.bodies_ended(queue);
        [(to_clay, ended(CLAY_QUEUE)), (to_loops, ended(LOOPS_QUEUE))]
            .map(|(killed, ended)| killed.iter().cloned().chain(items(&ended)).collect())
    }

    async fn dead_letters(&self) -> [Vec<DeadLetter>; 2] {
        let letters = async |queue: &str| self.cloud.take_all(queue).await.iter().map(dead_letter).collect();
        [letters("ClayDeadLetters").await, letters("LoopsDeadLetters").await]
    }

    fn log(&self) -> String {
        self.cloud.log()
    }
}
