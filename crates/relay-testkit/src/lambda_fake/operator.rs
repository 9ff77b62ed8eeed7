//! An operator before a stack: `relayctl` as a person runs it, and what can be broken under it.

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

use super::{Cloud, Kept, Setup};
use crate::eventually;
use crate::lambda_fake::operator_guard::Guard;
use crate::lambda_fake::stack::{self, Stack, text};
use crate::mock_destination::{FarEnd, Reply};
use crate::row::{Route, send};
use crate::webhook::{created, post};

/// The region of the tests.
const REGION: &str = "us-east-1";
/// The team of the Loops that takes the key.
pub const TEAM: &str = r#"{"success":true,"teamName":"Acme"}"#;

/// A stack that an operator works on, between far ends that take everything.
#[derive(Debug)]
pub struct Operated {
    /// The stack, running.
    pub cloud: Cloud,
    /// AWS, as the operator's program sees it.
    pub guard: Guard,
    /// Loops.
    pub loops: FarEnd,
    /// Clay.
    pub clay: FarEnd,
    /// The outputs that were changed.
    changed: Mutex<BTreeMap<String, String>>,
}

/// What the program said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// What a check found: outcome, what was seen and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `ok`, `warn` or `fail`.
    pub outcome: String,
    /// What was seen.
    pub seen: String,
    /// What to do.
    pub to_do: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Standard output as a JSON document.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What a check of `doctor --json` found, the worst where there are several of its name.
    ///
    /// # Panics
    /// When there is no such check.
    #[must_use]
    pub fn found(&self, check: &str) -> Found {
        let document = self.json();
        let findings = stack::array(&document["findings"]).filter(|finding| finding["check"] == check);
        let rank = |finding: &&Value| ["ok", "warn", "fail"].iter().position(|known| finding["outcome"] == *known);
        let finding = findings.max_by_key(rank).unwrap_or_else(|| panic!("no {check}: {document}"));
        let said = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
        Found { outcome: said("outcome"), seen: said("seen"), to_do: said("toDo") }
    }
}

/// The program, which is built with the workspace.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    let mut programs = test.ancestors().skip(1).take(2).map(|folder| folder.join("relayctl"));
    programs.find(|program| program.exists()).unwrap_or_else(|| panic!("relayctl is not built: build the workspace"))
}

/// Runs the program with these variables and no others, and this standard input.
///
/// # Panics
/// When it cannot be run.
pub async fn run(variables: &[(&str, String)], arguments: &[&str], input: &str) -> Said {
    let mut command = Command::new(program());
    command.env_clear().envs(variables.iter().map(|(name, value)| (*name, value.as_str()))).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // Who reads nothing has closed it.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    Said::of(&child.wait_with_output().await.unwrap_or_else(|error| panic!("{error}")))
}

impl Operated {
    /// A stack that nobody has set up yet.
    pub async fn fresh() -> Self {
        Self::with(|_, _| Setup::default()).await
    }

    /// A stack that is set up with these documents, which know the far ends.
    pub async fn with(setup: impl FnOnce(&FarEnd, &FarEnd) -> Setup) -> Self {
        Self::on(Stack::make().await, setup).await
    }

    /// The same, on a stack that was made for it.
    pub async fn on(stack: Stack, setup: impl FnOnce(&FarEnd, &FarEnd) -> Setup) -> Self {
        let (loops, clay) = (FarEnd::start(Reply::json(200, TEAM)).await, FarEnd::start(Reply::json(200, "{}")).await);
        let mut setup = setup(&loops, &clay);
        let api = loops.url("/api");
        setup.settings.push(("LOOPS_API_URL".to_owned(), api.clone()));
        let cloud = Cloud::start_in(Kept::of(stack), setup).await;
        let guard = Guard::start(stack::endpoint()).await;
        let operated = Self { cloud, guard, loops, clay, changed: Mutex::default() };
        operated.lead_to(&operated.cloud.base()).await;
        operated
    }

    /// Runs the program on this stack.
    pub async fn relayctl(&self, arguments: &[&str], input: &str) -> Said {
        let stack = text(&self.cloud.stack().described()["stack"]);
        run(&self.variables(), &[&["--stack", stack], arguments].concat(), input).await
    }

    /// What the program's environment has: an account, and nothing of the machine's.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.guard.url()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "operator".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("HOME", "/nonexistent".to_owned()),
        ]
    }

    /// `doctor --json`.
    pub async fn doctor(&self) -> Said {
        self.relayctl(&["doctor", "--json"], "").await
    }

    /// The outputs of the stack lead to this address, and its functions' parameter to this Loops.
    pub async fn lead_to(&self, base: &str) {
        self.update(&[
            ("ApiUrl", base.to_owned()),
            ("LoopsWebhookUrl", format!("{base}/webhooks/loops")),
            ("ClayContactUrl", format!("{base}/api/v1/contacts/update")),
            ("ClayEventUrl", format!("{base}/api/v1/events/send")),
        ])
        .await;
    }

    /// Changes outputs of the stack; one with an empty value goes.
    ///
    /// # Panics
    /// When the emulator does not take it.
    pub async fn update(&self, changed: &[(&str, String)]) {
        let described = self.cloud.stack().described();
        let mut outputs: Map<String, Value> = described["outputs"].as_object().cloned().unwrap_or_default();
        let all = {
            let mut all = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(changed.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
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
        let client = aws_sdk_cloudformation::Client::new(&config());
        let update = client.update_stack().stack_name(text(&described["stack"])).template_body(body.to_string());
        update.send().await.unwrap_or_else(|error| panic!("{error:?}"));
    }

    /// How many dead letters there are towards Clay and towards Loops comes to this.
    ///
    /// # Panics
    /// When it does not come in time.
    pub async fn letters_are(&self, clay: u64, loops: u64) {
        eventually(&format!("{clay} and {loops} dead letters"), async || {
            let there = (self.cloud.length("ClayDeadLetters").await, self.cloud.length("LoopsDeadLetters").await);
            (there == (clay, loops)).then_some(())
        })
        .await;
    }

    /// One dead letter of each of three reasons, one after the other: two towards Clay, one towards Loops.
    ///
    /// # Panics
    /// When they do not come in time.
    pub async fn three_letters(&self) {
        let base = self.cloud.base();
        let big = json!({"eventName": "contact.created", "note": "x".repeat(120_000)}).to_string();
        assert_eq!(post(&base, "msg_big", big.as_bytes()).await.json()["status"], "rejected");
        self.letters_are(1, 0).await;
        self.clay.then([Reply::status(400)]);
        assert_eq!(post(&base, "msg_row", &created("ada@example.com")).await.status, 200);
        self.letters_are(2, 0).await;
        self.refused_row("eve@example.com").await;
        self.letters_are(2, 1).await;
    }

    /// A row that is stored, and that Loops refuses then.
    ///
    /// # Panics
    /// When it is not stored.
    pub async fn refused_row(&self, email: &str) {
        self.loops.then([Reply::json(400, r#"{"success":false,"message":"no"}"#)]);
        let row = json!({"email": email, "plan": "pro"}).to_string();
        let later = [("prefer", "respond-async")];
        assert_eq!(send(&self.cloud.base(), Route::Contact, "", &later, row).await.status, 202);
    }

    /// The stack.
    #[must_use]
    pub const fn stack(&self) -> &Stack {
        self.cloud.stack()
    }

    /// The stack's name.
    #[must_use]
    pub fn name(&self) -> &str {
        text(&self.stack().described()["stack"])
    }

    /// A secret's document as it is now.
    ///
    /// # Panics
    /// When it cannot be read.
    pub async fn document(&self, secret: &str) -> Value {
        let arn = text(&self.stack().described()["secrets"][secret]["arn"]);
        let got = self.stack().account().secrets_manager().get_secret_value().secret_id(arn).send().await;
        let got = got.unwrap_or_else(|error| panic!("{error:?}"));
        serde_json::from_str(got.secret_string().unwrap_or_default()).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// An account in the emulator, for services that the relay itself does not use.
///
/// # Panics
/// When there is no emulator.
#[must_use]
pub fn config() -> SdkConfig {
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
