//! An operator's view of a stack: `relayctl` against it, and the faults it can meet.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::SdkConfig;
use aws_types::region::Region;
use relay_aws::sdk::http::SdkHttpConnector;
use serde_json::{Map, Value, json};

use super::{FakeStack, Setup, StackState};
use crate::eventually;
use crate::lambda_fake::operator_guard::PermissionProxy;
use crate::lambda_fake::stack::{self, Stack, expect_str};
use crate::mock_destination::{MockDestination, Reply};
use crate::relayctl::{CliOutput, LOOPS_TEAM_BODY, run_relayctl};
use crate::row::{Route, send};
use crate::webhook::{contact_created, post};

/// The region of the tests.
const REGION: &str = "us-east-1";
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
