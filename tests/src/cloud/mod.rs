//! The relay on AWS, without AWS: the built functions run as Lambda runs them, with Secrets Manager, SQS and DynamoDB
//! emulated, everything as the template describes it.

pub mod event_source;
pub mod function;
pub mod gateway;
pub mod sandbox;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::Message;
use relay::settings::SettingReader;
use relay_aws::account::Account;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use event_source::{EventSource, Mapping};
use function::{Described, Function};
use gateway::Gateway;

/// The variable with the emulator's address.
const EMULATOR: &str = "RELAY_EMULATOR";
/// The variable with the folder of the functions' binaries.
const FUNCTIONS: &str = "RELAY_FUNCTIONS";
/// The variable with the translated template.
const TEMPLATE: &str = "RELAY_TEMPLATE";
/// The region of the tests.
const REGION: &str = "us-east-1";
/// How many sandboxes a function of the front door may have.
const FRONT_DOOR_SANDBOXES: usize = 8;

/// A deployed stack.
#[derive(Debug)]
pub struct Cloud {
    stack: Value,
    account: Account,
    functions: BTreeMap<String, Arc<Function>>,
    gateway: Gateway,
    sources: Vec<EventSource>,
    folder: TempDir,
}

/// What is set in a stack before it is used.
#[derive(Debug, Default)]
pub struct Setup {
    /// The document of the direction from Loops to Clay; as the template makes it, if it is not given.
    pub loops_to_clay: Option<Value>,
    /// The document of the direction from Clay to Loops; as the template makes it, if it is not given.
    pub clay_to_loops: Option<Value>,
    /// Settings that differ from the template's parameters.
    pub settings: Vec<(&'static str, String)>,
}

impl Cloud {
    /// Makes a stack and starts it.
    ///
    /// # Panics
    /// When there is no emulator: `make test-aws` starts one.
    pub async fn start(setup: Setup) -> Self {
        let endpoint = needed(EMULATOR);
        let stack = provision(&endpoint).await;
        let account = account(&endpoint);
        for (secret, document) in
            [("LoopsToClaySecret", &setup.loops_to_clay), ("ClayToLoopsSecret", &setup.clay_to_loops)]
        {
            if let Some(document) = document {
                let put =
                    account.secrets_manager().put_secret_value().secret_id(text(&stack["secrets"][secret]["arn"]));
                put.secret_string(document.to_string()).send().await.unwrap_or_else(|fault| panic!("{fault:?}"));
            }
        }
        let folder = TempDir::new().unwrap_or_else(|fault| panic!("{fault}"));
        let functions = functions(&stack, &setup, &endpoint, folder.path());
        let routes = array(&stack["routes"]).map(|route| {
            assert_eq!(route["permitted"], true, "the gateway may not call {route}");
            let function = Arc::clone(&functions[text(&route["function"])]);
            ((text(&route["method"]).to_owned(), text(&route["path"]).to_owned()), function)
        });
        let gateway = Gateway::start(routes.collect()).await;
        let sources = array(&stack["event_sources"])
            .map(|source| {
                let mapping = Mapping {
                    queue: text(&source["queue_url"]).to_owned(),
                    batch_size: i32::try_from(source["batch_size"].as_i64().unwrap_or(10)).unwrap_or(10),
                    concurrency: sandboxes(source),
                    reports_failures: source["report_batch_item_failures"] == true,
                };
                EventSource::start(&account.sqs(), &mapping, &functions[text(&source["function"])])
            })
            .collect();
        Self { stack, account, functions, gateway, sources, folder }
    }

    /// The gateway's address, as `http://…`.
    #[must_use]
    pub fn base(&self) -> String {
        self.gateway.base()
    }

    /// Everything that the template says of the stack.
    #[must_use]
    pub const fn stack(&self) -> &Value {
        &self.stack
    }

    /// The account that the stack is in.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// A function.
    ///
    /// # Panics
    /// When there is no such function.
    #[must_use]
    pub fn function(&self, name: &str) -> &Arc<Function> {
        &self.functions[name]
    }

    /// Stops handing messages to the workers.
    pub fn stop_workers(&mut self) {
        self.sources.clear();
    }

    /// What all functions have logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A queue's URL, by its name in the template.
    #[must_use]
    pub fn queue(&self, name: &str) -> &str {
        text(&self.stack["queues"][name]["url"])
    }

    /// The messages that a queue shows now; they stay there.
    ///
    /// # Panics
    /// When the queue cannot be read.
    pub async fn messages(&self, queue: &str) -> Vec<Message> {
        let received = self
            .account
            .sqs()
            .receive_message()
            .queue_url(self.queue(queue))
            .max_number_of_messages(10)
            .message_attribute_names("All")
            .visibility_timeout(0)
            .send()
            .await;
        received.unwrap_or_else(|fault| panic!("{fault:?}")).messages.unwrap_or_default()
    }

    /// How many messages a queue holds, hidden ones included.
    ///
    /// # Panics
    /// When the queue cannot be read.
    pub async fn length(&self, queue: &str) -> u64 {
        use aws_sdk_sqs::types::QueueAttributeName as Name;
        let names = [Name::ApproximateNumberOfMessages, Name::ApproximateNumberOfMessagesNotVisible];
        let request = self.account.sqs().get_queue_attributes().queue_url(self.queue(queue));
        let answer =
            request.set_attribute_names(Some(names.to_vec())).send().await.unwrap_or_else(|fault| panic!("{fault:?}"));
        let attributes = answer.attributes.unwrap_or_default();
        names.iter().filter_map(|name| attributes.get(name)?.parse::<u64>().ok()).sum()
    }

    /// The reason of each dead letter.
    pub async fn dead_letters(&self, queue: &str) -> Vec<String> {
        let messages = self.messages(queue).await;
        let reasons = messages.iter().filter_map(|message| message.message_attributes.as_ref()?.get("reason"));
        reasons.filter_map(|reason| reason.string_value.clone()).collect()
    }
}

fn needed(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `make test-aws`, which sets it"))
}

fn account(endpoint: &str) -> Account {
    let variables = emulated(endpoint);
    let client = relay::http_client::build().unwrap_or_else(|fault| panic!("{fault}"));
    let mut reader = SettingReader::new(&variables);
    Account::read(&mut reader, client)
}

/// What Lambda would set, for an emulated AWS.
fn emulated(endpoint: &str) -> BTreeMap<String, String> {
    [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

async fn provision(endpoint: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let name = format!("t{:012x}", rand::random::<u64>() >> 16);
    let output = Command::new(root.join(".venv/bin/python"))
        .arg(root.join("tests/aws/provision.py"))
        .args([endpoint, &needed(TEMPLATE), "--stack-name", &name, "--region", REGION])
        .output()
        .await
        .unwrap_or_else(|fault| panic!("{fault}"));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|fault| panic!("{fault}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn functions(stack: &Value, setup: &Setup, endpoint: &str, folder: &Path) -> BTreeMap<String, Arc<Function>> {
    let binaries = PathBuf::from(needed(FUNCTIONS));
    let described = stack["functions"].as_object().into_iter().flatten();
    described
        .map(|(name, described)| {
            let mut environment = emulated(endpoint);
            let given = described["environment"].as_object().into_iter().flatten();
            environment.extend(given.map(|(name, value)| (name.clone(), text(value).to_owned())));
            for (setting, value) in &setup.settings {
                // A setting that a function does not have is not its own.
                environment.entry((*setting).to_owned()).and_modify(|known| known.clone_from(value));
            }
            let sources = array(&stack["event_sources"]).find(|source| source["function"] == name.as_str());
            let sandboxes = sources.map_or(FRONT_DOOR_SANDBOXES, sandboxes);
            let timeout = Duration::from_secs(described["timeout"].as_u64().unwrap_or(3));
            let binary = binaries.join(text(&described["binary"]));
            let described = Described { name: name.clone(), environment, timeout };
            (name.clone(), Arc::new(Function::new(described, binary, folder.join("log"), sandboxes)))
        })
        .collect()
}

fn sandboxes(source: &Value) -> usize {
    source["maximum_concurrency"].as_u64().and_then(|most| usize::try_from(most).ok()).unwrap_or(2)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}
