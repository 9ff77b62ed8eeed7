//! A relay as a console shows and operates it.

use std::sync::Arc;

use jiff::Timestamp;
use relay::operate::action::DEFAULT_REDRIVES_PER_SECOND;
use relay::ports::admin::Admin as _;
use relay::ports::clock::SystemClock;
use relay_console::backend::ConsoleBackend;
use relay_console::connect::Properties;
use relay_console::error::ConsoleError;
use relay_console::view::{Connect, DESTINATION_LIMIT, DirectionView, Overview};
use relay_core::delivery::Direction;
use relay_doctor::finding::Finding;
use relay_doctor::invocation::suggest;
use relay_doctor::local::examine_local;
use relay_doctor::local_relay::LocalRelay;
use relay_doctor::urls::EndpointUrls;
use relay_sqlite::admin::{SqliteAdmin, SqliteDeadLetters};
use tokio::sync::watch;

use crate::aws::pause as stack_pause;
use crate::commands::dead_letters::default_rate;
use crate::commands::deliveries::resolve_contact_hash;
use crate::commands::pause::pause_state;
use crate::console::cache::Cached;
use crate::console::facts::DirectionFacts;
use crate::console::local;
use crate::console::metrics::LastHour;
use crate::console::stack::StackFacts;
use crate::console::stores::{AnyAdmin, AnyDeadLetters, to_console_error};
use crate::doctor::aws;
use crate::target::Target;

/// Seconds between two polls of a page: of a folder, and of a stack.
const POLL_SECONDS: [u32; 2] = [2, 10];

/// A stack, or a data folder.
#[derive(Debug)]
pub(crate) struct Backend {
    target: Target,
    stack_facts: Cached<StackFacts>,
    properties: Cached<Properties>,
}

impl Backend {
    pub(crate) fn new(target: Target) -> Self {
        Self { target, stack_facts: Cached::default(), properties: Cached::default() }
    }

    async fn directions(&self, facts: [DirectionFacts; 2]) -> Result<Vec<DirectionView>, ConsoleError> {
        let mut views = Vec::new();
        for (queue, facts) in self.admin()?.queues().await?.into_iter().zip(facts) {
            let (paused, paused_since) = pause_state(&self.target, queue.direction).await.map_err(to_console_error)?;
            let age = |at| Timestamp::now().duration_since(at).as_secs_f64().max(0.0);
            views.push(DirectionView {
                direction: queue.direction,
                destination: facts.destination,
                paused,
                paused_since,
                accepted: facts.accepted,
                delivered: facts.delivered,
                waiting: queue.waiting,
                held: queue.held,
                dead_letters: queue.dead_letters,
                // CloudWatch has an old age for some minutes when a queue is empty again.
                oldest_seconds: queue
                    .oldest_received_at
                    .map(age)
                    .or(facts.oldest_seconds)
                    .filter(|_| queue.waiting > 0),
                per_second: facts.per_second,
                rate_limit: facts.rate_limit,
                destination_limit: DESTINATION_LIMIT,
            });
        }
        Ok(views)
    }
}

impl ConsoleBackend for Backend {
    type Admin = AnyAdmin;
    type DeadLetters = AnyDeadLetters;
    type Finding = Finding;

    fn admin(&self) -> Result<AnyAdmin, ConsoleError> {
        match &self.target {
            Target::Local(data_dir) => {
                let admin = SqliteAdmin::open(data_dir.path()).map_err(to_console_error)?;
                Ok(AnyAdmin::Local(Box::new(admin)))
            }
            Target::Stack(stack) => Ok(AnyAdmin::Stack(Box::new(stack.admin().map_err(to_console_error)?))),
        }
    }

    fn dead_letters(&self, direction: Option<Direction>) -> Result<AnyDeadLetters, ConsoleError> {
        match &self.target {
            Target::Local(data_dir) => {
                let opened = SqliteDeadLetters::open(data_dir.path(), Arc::new(SystemClock));
                Ok(AnyDeadLetters::Local(Box::new(opened.map_err(to_console_error)?)))
            }
            Target::Stack(stack) => {
                let opened = stack.dead_letters(direction).map_err(to_console_error)?;
                Ok(AnyDeadLetters::Stack(Box::new(opened)))
            }
        }
    }

    async fn overview(&self) -> Result<Overview, ConsoleError> {
        let overview = Overview {
            relay: self.target.title(),
            version: env!("CARGO_PKG_VERSION"),
            trial: false,
            poll_seconds: None,
            at: Timestamp::now(),
            directions: Vec::new(),
            refusals: Vec::new(),
            last_refusals: Vec::new(),
            webhooks: Vec::new(),
            minutes: None,
            counted_since: None,
        };
        let [local_poll, stack_poll] = POLL_SECONDS;
        match &self.target {
            Target::Local(data_dir) => {
                let relay = LocalRelay::open(data_dir.clone()).map_err(to_console_error)?;
                let webhooks = local::webhooks(&relay).map_err(to_console_error)?;
                let directions = self.directions(local::direction_facts(&relay)).await?;
                Ok(Overview { poll_seconds: Some(local_poll), directions, webhooks, ..overview })
            }
            Target::Stack(stack) => {
                let facts = self.stack_facts.get(StackFacts::read(stack)).await;
                let hour = facts.last_hour.as_ref();
                Ok(Overview {
                    poll_seconds: Some(stack_poll),
                    directions: self.directions(facts.directions(stack)).await?,
                    refusals: hour.map(LastHour::refusals).unwrap_or_default(),
                    webhooks: facts.webhooks.clone(),
                    minutes: hour.map(LastHour::minutes),
                    counted_since: hour.and_then(LastHour::since),
                    ..overview
                })
            }
        }
    }

    async fn contact_hash(&self, contact: &str) -> Result<Option<String>, ConsoleError> {
        resolve_contact_hash(&self.target, contact).await.map(Some).map_err(to_console_error)
    }

    async fn route_names(&self) -> Result<Vec<String>, ConsoleError> {
        match &self.target {
            Target::Local(_) => Ok(Vec::new()),
            Target::Stack(stack) => stack.route_names().await.map_err(to_console_error),
        }
    }

    async fn set_paused(&self, direction: Direction, paused: bool) -> Result<bool, ConsoleError> {
        match &self.target {
            Target::Local(data_dir) => SqliteAdmin::open(data_dir.path())
                .and_then(|admin| admin.set_paused(direction, paused, Timestamp::now()))
                .map_err(to_console_error),
            Target::Stack(stack) => stack_pause::set_paused(stack, direction, paused).await.map_err(to_console_error),
        }
    }

    async fn connect(&self) -> Result<Connect, ConsoleError> {
        let (urls, properties, steps) = match &self.target {
            Target::Local(data_dir) => {
                let relay = LocalRelay::open(data_dir.clone()).map_err(to_console_error)?;
                let client = relay::destination::http_client::build().map_err(to_console_error)?;
                let properties = self.properties.get(local::properties(&relay, &client)).await;
                let steps = local::steps(&relay, &properties).map_err(to_console_error)?;
                (relay.urls(), properties, steps)
            }
            Target::Stack(stack) => {
                let facts = self.stack_facts.get(StackFacts::read(stack)).await;
                let properties = self.properties.get(facts.properties(stack)).await;
                let steps = facts.steps(&properties);
                (stack.urls().map_err(to_console_error)?, properties, steps)
            }
        };
        let EndpointUrls { loops_webhook_url, events, clay_contact_url, clay_event_url } = urls;
        Ok(Connect {
            loops_webhook_url,
            loops_events: events,
            clay_contact_url,
            clay_event_url,
            relay_token_hint: format!("{} shows it.", suggest("setup --list --show-token")),
            properties: properties.list(),
            steps,
        })
    }

    async fn examine(&self) -> Result<Vec<Finding>, ConsoleError> {
        match &self.target {
            Target::Local(data_dir) => {
                let relay = LocalRelay::open(data_dir.clone()).map_err(to_console_error)?;
                let client = relay::destination::http_client::build().map_err(to_console_error)?;
                examine_local(&relay, &client, None, &|| ()).await.map_err(to_console_error)
            }
            Target::Stack(stack) => Ok(aws::examine(stack, None, &|| ()).await),
        }
    }

    fn redrives_per_second(&self) -> u32 {
        match &self.target {
            Target::Local(_) => DEFAULT_REDRIVES_PER_SECOND,
            Target::Stack(stack) => default_rate(stack),
        }
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}
