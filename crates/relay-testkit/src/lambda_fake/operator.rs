//! An operator's view of a stack: `relayctl` as a process, and the faults it can meet.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::{Mutex, PoisonError};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::SdkConfig;
use aws_types::region::Region;
use relay_aws::sdk::http::SdkHttpConnector;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{FakeStack, Setup, StackState};
use crate::eventually;
use crate::lambda_fake::operator_guard::PermissionProxy;
use crate::lambda_fake::stack::{self, Stack, expect_str};
use crate::mock_destination::{MockDestination, Reply};
use crate::row::{Route, send};
use crate::webhook::{contact_created, post};

/// The region of the tests.
const REGION: &str = "us-east-1";
/// Response of a Loops that accepts the key.
pub const LOOPS_TEAM_BODY: &str = r#"{"success":true,"teamName":"Acme"}"#;

/// A stack with an operator, between destinations that accept everything.
#[derive(Debug)]
pub struct OperatorHarness {
    /// The stack, running.
    pub fake_stack: FakeStack,
    /// AWS as `relayctl` sees it.
    pub permission_proxy: PermissionProxy,
    /// Loops.
    pub loops: MockDestination,
    /// Clay.
    pub clay: MockDestination,
    /// The outputs that were changed.
    changed_outputs: Mutex<BTreeMap<String, String>>,
}

/// Output and exit code of `relayctl`.
#[derive(Debug)]
pub struct CliOutput {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A finding of `doctor`: outcome, observation and remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `ok`, `warn` or `fail`.
    pub outcome: String,
    /// The observation.
    pub observed: String,
    /// What to do.
    pub remedy: String,
}

impl CliOutput {
    fn from_output(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Standard output as a JSON document.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What a check of `doctor --json` found, the worst where there are several of its name.
    ///
    /// # Panics
    /// When there is no such check.
    #[must_use]
    pub fn worst_finding(&self, check: &str) -> Finding {
        let document = self.json();
        let findings = stack::array(&document["findings"]).filter(|finding| finding["check"] == check);
        let rank = |finding: &&Value| ["ok", "warn", "fail"].iter().position(|known| finding["outcome"] == *known);
        let finding = findings.max_by_key(rank).unwrap_or_else(|| panic!("no {check}: {document}"));
        let string_field = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
        Finding { outcome: string_field("outcome"), observed: string_field("observed"), remedy: string_field("remedy") }
    }
}

/// The program, which is built with the workspace.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn relayctl_path() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    let mut programs = test.ancestors().skip(1).take(2).map(|folder| folder.join("relayctl"));
    programs.find(|program| program.exists()).unwrap_or_else(|| panic!("relayctl is not built: build the workspace"))
}

/// Runs the program with these variables and no others, and this standard input.
///
/// # Panics
/// When it cannot be run.
pub async fn run_relayctl(variables: &[(&str, String)], arguments: &[&str], input: &str) -> CliOutput {
    let mut command = Command::new(relayctl_path());
    command.env_clear().envs(variables.iter().map(|(name, value)| (*name, value.as_str()))).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A command that reads no input has closed it.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    CliOutput::from_output(&child.wait_with_output().await.unwrap_or_else(|error| panic!("{error}")))
}

impl OperatorHarness {
    /// Starts a stack without setup.
    pub async fn without_setup() -> Self {
        Self::with_setup(|_, _| Setup::default()).await
    }

    /// Starts a stack with these secrets, built from the destinations.
    pub async fn with_setup(setup: impl FnOnce(&MockDestination, &MockDestination) -> Setup) -> Self {
        Self::on_stack(Stack::create().await, setup).await
    }

    /// The same, on a stack that was made for it.
    pub async fn on_stack(stack: Stack, setup: impl FnOnce(&MockDestination, &MockDestination) -> Setup) -> Self {
        let (loops, clay) = (
            MockDestination::start(Reply::json(200, LOOPS_TEAM_BODY)).await,
            MockDestination::start(Reply::json(200, "{}")).await,
        );
        let mut setup = setup(&loops, &clay);
        let api = loops.url("/api");
        setup.settings.push(("LOOPS_API_URL".to_owned(), api.clone()));
        let fake_stack = FakeStack::start_in(StackState::new(stack), setup).await;
        let permission_proxy = PermissionProxy::start(stack::endpoint()).await;
        let harness = Self { fake_stack, permission_proxy, loops, clay, changed_outputs: Mutex::default() };
        harness.point_outputs_to(&harness.fake_stack.base()).await;
        harness
    }

    /// Runs the program on this stack.
    pub async fn relayctl(&self, arguments: &[&str], input: &str) -> CliOutput {
        let stack = expect_str(&self.fake_stack.stack().description()["stack"]);
        run_relayctl(&self.variables(), &[&["--stack", stack], arguments].concat(), input).await
    }

    /// What the program's environment has: an account, and nothing of the machine's.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.permission_proxy.url()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "operator".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("HOME", "/nonexistent".to_owned()),
        ]
    }

    /// `doctor --json`.
    pub async fn doctor(&self) -> CliOutput {
        self.relayctl(&["doctor", "--json"], "").await
    }

    /// The outputs of the stack lead to this address, and its functions' parameter to this Loops.
    pub async fn point_outputs_to(&self, base: &str) {
        self.update_outputs(&[
            ("ApiUrl", base.to_owned()),
            ("LoopsWebhookUrl", format!("{base}/webhooks/loops")),
            ("ClayContactUrl", format!("{base}/api/v1/contacts/update")),
            ("ClayEventUrl", format!("{base}/api/v1/events/send")),
        ])
        .await;
    }

    /// Changes outputs of the stack; an empty value removes one.
    ///
    /// # Panics
    /// When the emulator rejects it.
    pub async fn update_outputs(&self, changes: &[(&str, String)]) {
        let described = self.fake_stack.stack().description();
        let mut outputs: Map<String, Value> = described["outputs"].as_object().cloned().unwrap_or_default();
        let all = {
            let mut all = self.changed_outputs.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            all.clone()
        };
        for (name, value) in all {
            if value.is_empty() {
                outputs.remove(&name);
            } else {
                outputs.insert(name, json!(value));
            }
        }
        let outputs: Map<String, Value> =
            outputs.into_iter().map(|(name, value)| (name, json!({"Value": value}))).collect();
        let mut parameters: Map<String, Value> = described["parameters"].as_object().cloned().unwrap_or_default();
        parameters.insert("LoopsApiUrl".to_owned(), json!(self.loops.url("/api")));
        let parameters: Map<String, Value> =
            parameters.into_iter().map(|(name, value)| (name, json!({"Type": "String", "Default": value}))).collect();
        let resources = json!({"Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"}});
        let body = json!({"Parameters": parameters, "Resources": resources, "Outputs": outputs});
        let client = aws_sdk_cloudformation::Client::new(&sdk_config());
        let update = client.update_stack().stack_name(expect_str(&described["stack"])).template_body(body.to_string());
        update.send().await.unwrap_or_else(|error| panic!("{error:?}"));
    }

    /// Waits until the dead-letter queues to Clay and to Loops have these numbers of messages.
    ///
    /// # Panics
    /// When they do not in time.
    pub async fn wait_for_dead_letters(&self, clay: u64, loops: u64) {
        eventually(&format!("{clay} and {loops} dead letters"), async || {
            let lengths = (
                self.fake_stack.queue_length("ClayDeadLetters").await,
                self.fake_stack.queue_length("LoopsDeadLetters").await,
            );
            (lengths == (clay, loops)).then_some(())
        })
        .await;
    }

    /// Creates one dead letter for each of three reasons, in order: two to Clay, one to Loops.
    ///
    /// # Panics
    /// When they do not arrive in time.
    pub async fn create_three_dead_letters(&self) {
        let base = self.fake_stack.base();
        let big = json!({"eventName": "contact.created", "note": "x".repeat(120_000)}).to_string();
        assert_eq!(post(&base, "msg_big", big.as_bytes()).await.json()["status"], "rejected");
        self.wait_for_dead_letters(1, 0).await;
        self.clay.enqueue_replies([Reply::status(400)]);
        assert_eq!(post(&base, "msg_row", &contact_created("ada@example.com")).await.status, 200);
        self.wait_for_dead_letters(2, 0).await;
        self.send_rejected_row("eve@example.com").await;
        self.wait_for_dead_letters(2, 1).await;
    }

    /// A row that is stored, and that Loops refuses then.
    ///
    /// # Panics
    /// When it is not stored.
    pub async fn send_rejected_row(&self, email: &str) {
        self.loops.enqueue_replies([Reply::json(400, r#"{"success":false,"message":"no"}"#)]);
        let row = json!({"email": email, "plan": "pro"}).to_string();
        let headers = [("prefer", "respond-async")];
        assert_eq!(send(&self.fake_stack.base(), Route::Contact, "", &headers, row).await.status, 202);
    }

    /// The stack.
    #[must_use]
    pub const fn stack(&self) -> &Stack {
        self.fake_stack.stack()
    }

    /// The stack's name.
    #[must_use]
    pub fn name(&self) -> &str {
        expect_str(&self.stack().description()["stack"])
    }

    /// A secret's document as it is now.
    ///
    /// # Panics
    /// When it cannot be read.
    pub async fn document(&self, secret: &str) -> Value {
        let arn = expect_str(&self.stack().description()["secrets"][secret]["arn"]);
        let output = self.stack().clients().secrets_manager().get_secret_value().secret_id(arn).send().await;
        let output = output.unwrap_or_else(|error| panic!("{error:?}"));
        serde_json::from_str(output.secret_string().unwrap_or_default()).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// An account in the emulator, for services that the relay itself does not use.
///
/// # Panics
/// When there is no emulator.
#[must_use]
pub fn sdk_config() -> SdkConfig {
    let client = relay::destination::http_client::build().unwrap_or_else(|error| panic!("{error}"));
    let credentials = Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
        .region(Region::new(REGION))
        .endpoint_url(stack::endpoint())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(SdkHttpConnector::new(client))
        .build()
}
