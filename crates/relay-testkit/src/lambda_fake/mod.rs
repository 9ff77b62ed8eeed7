//! The relay on AWS, without AWS: the built functions run as Lambda runs them, with Secrets Manager, SQS and DynamoDB
//! emulated, everything as the template describes it.
//!
//! See docs/adr/0014-testing-without-aws.md.

pub mod deliveries;
pub mod event_source;
pub mod function;
pub mod gateway;
pub mod meter;
pub mod operator;
pub mod operator_guard;
pub mod relay;
pub mod sandbox;
pub mod services;
pub mod stack;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::Message;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Notify;

use event_source::{EventSource, InFlightMessages, Mapping};
use function::{Function, FunctionConfig};
use gateway::Gateway;
use services::Services;
use stack::{Stack, array, expect_str};

/// Maximum number of sandboxes of an HTTP function.
const MAX_HTTP_SANDBOXES: usize = 8;

/// A deployed stack that runs.
#[derive(Debug)]
pub struct FakeStack {
    state: StackState,
    services: Services,
    functions: BTreeMap<String, Arc<Function>>,
    gateway: Gateway,
    sources: Vec<EventSource>,
}

/// What stays when nothing runs: the stack with everything that it has stored, and the log.
#[derive(Debug)]
pub struct StackState {
    stack: Stack,
    in_flight: Arc<InFlightMessages>,
    folder: TempDir,
}

/// Settings of a stack before its first use.
#[derive(Debug, Default)]
pub struct Setup {
    /// Secret of the direction from Loops to Clay; `None` leaves the template's.
    pub loops_to_clay: Option<Value>,
    /// Secret of the direction from Clay to Loops; `None` leaves the template's.
    pub clay_to_loops: Option<Value>,
    /// Settings that differ from the template's parameters.
    pub settings: Vec<(String, String)>,
    /// What stands in the environment of every function, and is no setting.
    pub environment: Vec<(String, String)>,
}

impl FakeStack {
    /// Makes a stack and starts it.
    ///
    /// # Panics
    /// When there is no emulator: `make test-lambda` starts one.
    pub async fn start(setup: Setup) -> Self {
        Self::start_in(StackState::new(Stack::create().await), setup).await
    }

    /// Starts a stack that is there.
    ///
    /// # Panics
    /// When it is not one that can run.
    pub async fn start_in(state: StackState, setup: Setup) -> Self {
        let documents = [("LoopsToClaySecret", &setup.loops_to_clay), ("ClayToLoopsSecret", &setup.clay_to_loops)];
        for (secret, document) in documents {
            if let Some(document) = document {
                state.stack.put_secret(secret, document).await;
            }
        }
        let description = state.stack.description();
        let services = Services::start(stack::endpoint(), description, Arc::clone(&state.in_flight)).await;
        let functions = build_functions(description, &setup, &services.url(), state.folder.path());
        let nudge = Arc::new(Notify::new());
        let routes = array(&description["routes"]).map(|route| {
            assert_eq!(route["permitted"], true, "the gateway may not call {route}");
            let function = Arc::clone(&functions[expect_str(&route["function"])]);
            ((expect_str(&route["method"]).to_owned(), expect_str(&route["path"]).to_owned()), function)
        });
        let gateway = Gateway::start(routes.collect(), Arc::clone(&nudge)).await;
        let sources = array(&description["event_sources"]).map(|source| {
            let mapping = Mapping {
                id: expect_str(&source["id"]).to_owned(),
                queue: expect_str(&source["queue_url"]).to_owned(),
                batch_size: i32::try_from(source["batch_size"].as_i64().unwrap_or(10)).unwrap_or(10),
                concurrency: max_sandboxes(source),
                reports_failures: source["report_batch_item_failures"] == true,
            };
            let function = Arc::clone(&functions[expect_str(&source["function"])]);
            let sqs = state.stack.clients().sqs();
            EventSource::start(sqs, mapping, function, Arc::clone(&state.in_flight), Arc::clone(&nudge))
        });
        let sources = sources.collect();
        Self { state, services, functions, gateway, sources }
    }

    /// Kills every sandbox at once; the stored state remains.
    pub async fn kill(mut self) -> StackState {
        for function in self.functions.values() {
            function.kill().await;
        }
        self.stop_workers().await;
        self.state
    }

    /// Stops after the running invocations; the stored state remains.
    pub async fn stop(mut self) -> StackState {
        self.stop_workers().await;
        self.state
    }

    /// The gateway's address, as `http://…`.
    #[must_use]
    pub fn base(&self) -> String {
        self.gateway.base()
    }

    /// The stack.
    #[must_use]
    pub const fn stack(&self) -> &Stack {
        &self.state.stack
    }

    /// The services, as the functions see them.
    #[must_use]
    pub const fn services(&self) -> &Services {
        &self.services
    }

    /// A function.
    ///
    /// # Panics
    /// When there is no such function.
    #[must_use]
    pub fn function(&self, name: &str) -> &Arc<Function> {
        &self.functions[name]
    }

    /// Stops handing messages to the workers, once they are done with those that they have.
    pub async fn stop_workers(&mut self) {
        for source in std::mem::take(&mut self.sources) {
            source.stop().await;
        }
    }

    /// Sets whether the workers' responses are lost, so that no message is deleted.
    pub fn drop_responses(&self, enabled: bool) {
        self.state.in_flight.drop_responses(enabled);
    }

    /// From now on, a mapping that is disabled in the emulator hands nothing over.
    pub fn respect_disabled_mappings(&self) {
        self.state.in_flight.respect_disabled_mappings();
    }

    /// Ends the visibility timeout of every hidden message.
    pub async fn make_all_visible(&self) {
        self.state.in_flight.make_all_visible(&self.stack().clients().sqs()).await;
    }

    /// Ends the visibility timeout of the messages that no function is processing. If none is processing any, the
    /// attempt leases of killed workers expire, too.
    pub async fn make_idle_visible(&self) {
        if ["ClayQueue", "LoopsQueue"].iter().all(|queue| self.in_progress_count(queue) == 0) {
            self.state.expire_attempt_leases().await;
        }
        self.state.in_flight.make_idle_visible(&self.stack().clients().sqs()).await;
    }

    /// How many messages of a queue a function is working on.
    #[must_use]
    pub fn in_progress_count(&self, queue: &str) -> usize {
        self.state.in_flight.in_progress_count(self.stack().queue(queue))
    }

    /// The bodies of the messages of a queue that a function is working on.
    #[must_use]
    pub fn bodies_in_progress(&self, queue: &str) -> Vec<String> {
        self.state.in_flight.bodies_in_progress(self.stack().queue(queue))
    }

    /// The bodies of the messages of a queue that a function was working on when its time was over and it was ended.
    #[must_use]
    pub fn bodies_timed_out(&self, queue: &str) -> Vec<String> {
        self.state.in_flight.bodies_timed_out(self.stack().queue(queue))
    }

    /// Receives nothing until the returned guard is dropped, so that what is sent meanwhile comes as one batch.
    pub async fn pause_polling(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.state.in_flight.pause_polling().await
    }

    /// The statuses of all responses of the gateway so far.
    #[must_use]
    pub fn gateway_statuses(&self) -> Vec<u16> {
        self.gateway.statuses()
    }

    /// What all functions have logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.state.folder.path().join("log")).unwrap_or_default()
    }

    /// Returns the visible messages of a queue, without removing them.
    ///
    /// # Panics
    /// When the queue cannot be read.
    pub async fn messages(&self, queue: &str) -> Vec<Message> {
        let received = self
            .stack()
            .clients()
            .sqs()
            .receive_message()
            .queue_url(self.stack().queue(queue))
            .max_number_of_messages(10)
            .message_attribute_names("All")
            .visibility_timeout(0)
            .send()
            .await;
        received.unwrap_or_else(|error| panic!("{error:?}")).messages.unwrap_or_default()
    }

    /// Removes and returns the visible messages of a queue.
    ///
    /// # Panics
    /// When the queue cannot be read or changed.
    pub async fn drain_queue(&self, queue: &str) -> Vec<Message> {
        let mut all = Vec::new();
        loop {
            let messages = self.messages(queue).await;
            if messages.is_empty() {
                return all;
            }
            for message in &messages {
                let receipt = message.receipt_handle.clone().unwrap_or_default();
                let delete = self.stack().clients().sqs().delete_message().queue_url(self.stack().queue(queue));
                delete.receipt_handle(receipt).send().await.unwrap_or_else(|error| panic!("{error:?}"));
            }
            all.extend(messages);
        }
    }

    /// Returns the number of messages in a queue, hidden ones included.
    ///
    /// # Panics
    /// When the queue cannot be read.
    pub async fn queue_length(&self, queue: &str) -> u64 {
        self.try_queue_length(queue).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Returns the number of messages in a queue, or the error of a busy emulator.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub async fn try_queue_length(&self, queue: &str) -> Result<u64, aws_sdk_sqs::Error> {
        // The emulator counts visible and hidden messages one after the other, and can miss one that changes in
        // between.
        match self.count_messages(queue).await? {
            0 => self.count_messages(queue).await,
            length => Ok(length),
        }
    }

    async fn count_messages(&self, queue: &str) -> Result<u64, aws_sdk_sqs::Error> {
        use aws_sdk_sqs::types::QueueAttributeName as Name;
        let names = [Name::ApproximateNumberOfMessages, Name::ApproximateNumberOfMessagesNotVisible];
        let request = self.stack().clients().sqs().get_queue_attributes().queue_url(self.stack().queue(queue));
        let response = request.set_attribute_names(Some(names.to_vec())).send().await?;
        let attributes = response.attributes.unwrap_or_default();
        Ok(names.iter().filter_map(|name| attributes.get(name)?.parse::<u64>().ok()).sum())
    }

    /// Returns the reason of each dead letter.
    pub async fn dead_letter_reasons(&self, queue: &str) -> Vec<String> {
        let messages = self.messages(queue).await;
        let reasons = messages.iter().filter_map(|message| message.message_attributes.as_ref()?.get("reason"));
        reasons.filter_map(|reason| reason.string_value.clone()).collect()
    }
}

impl StackState {
    /// Creates a stack in which nothing has run yet.
    ///
    /// # Panics
    /// When its folder cannot be created.
    #[must_use]
    pub fn new(stack: Stack) -> Self {
        Self { stack, in_flight: Arc::default(), folder: TempDir::new().unwrap_or_else(|error| panic!("{error}")) }
    }

    /// Ends the visibility timeout of every hidden message. The attempt leases of killed workers have expired by then.
    pub async fn make_all_visible(&self) {
        self.in_flight.make_all_visible(&self.stack.clients().sqs()).await;
        self.expire_attempt_leases().await;
    }

    /// Expires the leases of attempts, none of which is running any more.
    async fn expire_attempt_leases(&self) {
        let (dynamodb, table) = (self.stack.clients().dynamodb(), self.stack.table());
        let scan = dynamodb.scan().table_name(table).consistent_read(true);
        let leased = scan.filter_expression("attribute_exists(attempt_until)").into_paginator().items().send();
        for item in leased.collect::<Result<Vec<_>, _>>().await.unwrap_or_else(|error| panic!("{error:?}")) {
            let (Some(key), Some(until)) = (item.get("pk"), item.get("attempt_until")) else { continue };
            let update = dynamodb.update_item().table_name(table).key("pk", key.clone());
            let update =
                update.update_expression("REMOVE attempt_until").condition_expression("attempt_until = :until");
            // Another one may have been begun meanwhile.
            let _ = update.expression_attribute_values(":until", until.clone()).send().await;
        }
    }
}

fn build_functions(stack: &Value, setup: &Setup, services_url: &str, folder: &Path) -> BTreeMap<String, Arc<Function>> {
    let binaries = stack::binaries();
    let descriptions = stack["functions"].as_object().into_iter().flatten();
    descriptions
        .map(|(name, description)| {
            // Each function has its own access key, by which its calls are attributed.
            let mut environment = stack::lambda_environment(services_url, name);
            let variables = description["environment"].as_object().into_iter().flatten();
            environment.extend(variables.map(|(name, value)| (name.clone(), expect_str(value).to_owned())));
            environment.extend(setup.environment.iter().cloned());
            for (setting, value) in &setup.settings {
                // A setting that a function does not have is not its own.
                environment.entry(setting.clone()).and_modify(|known| known.clone_from(value));
            }
            let source = array(&stack["event_sources"]).find(|source| source["function"] == name.as_str());
            let sandboxes = source.map_or(MAX_HTTP_SANDBOXES, max_sandboxes);
            let timeout = Duration::from_secs(description["timeout"].as_u64().unwrap_or(3));
            let binary = binaries.join(expect_str(&description["binary"]));
            let config = FunctionConfig { name: name.clone(), environment, timeout };
            (name.clone(), Arc::new(Function::new(config, binary, folder.join("log"), sandboxes)))
        })
        .collect()
}

fn max_sandboxes(source: &Value) -> usize {
    source["maximum_concurrency"].as_u64().and_then(|max| usize::try_from(max).ok()).unwrap_or(2)
}
