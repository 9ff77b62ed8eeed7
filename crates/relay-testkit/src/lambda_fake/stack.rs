//! A stack in an emulated account, created and described by `tools/aws-emulator/provision_stack.py`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use relay::config::env::EnvReader;
use relay_aws::sdk::clients::AwsClients;
use serde_json::Value;

/// The variable with the emulator's address.
const EMULATOR_VAR: &str = "RELAY_EMULATOR";
/// The variable with the folder of the functions' binaries.
const FUNCTIONS_VAR: &str = "RELAY_FUNCTIONS";
/// The variable with the translated template.
const TEMPLATE_VAR: &str = "RELAY_TEMPLATE";
/// The region of the tests.
const REGION: &str = "us-east-1";

/// A stack.
#[derive(Debug)]
pub struct Stack {
    description: Value,
    clients: AwsClients,
}

impl Stack {
    /// Makes a stack of its own.
    ///
    /// # Panics
    /// When there is no emulator: `make test-lambda` starts one.
    pub async fn create() -> Self {
        Self::create_named(format!("t{:012x}", rand::random::<u64>() >> 16)).await
    }

    /// Makes a stack of this name, which there is not yet in this emulator.
    ///
    /// # Panics
    /// When there is no emulator.
    pub async fn create_named(name: String) -> Self {
        let description = tokio::task::spawn_blocking(move || Provisioner::get().create(&name)).await;
        let description = description.unwrap_or_else(|error| panic!("{error}"));
        Self { description, clients: clients_at(&endpoint(), "test") }
    }

    /// Returns the description of the stack.
    #[must_use]
    pub const fn description(&self) -> &Value {
        &self.description
    }

    /// The account that it is in.
    #[must_use]
    pub const fn clients(&self) -> &AwsClients {
        &self.clients
    }

    /// A queue's URL, by its name in the template.
    #[must_use]
    pub fn queue(&self, name: &str) -> &str {
        expect_str(&self.description["queues"][name]["url"])
    }

    /// The ledger's name.
    #[must_use]
    pub fn table(&self) -> &str {
        expect_str(&self.description["tables"]["Ledger"]["name"])
    }

    /// Writes a secret, by its logical id.
    ///
    /// # Panics
    /// When the emulator rejects it.
    pub async fn put_secret(&self, name: &str, document: &Value) {
        let put = self.clients.secrets_manager().put_secret_value();
        let put =
            put.secret_id(expect_str(&self.description["secrets"][name]["arn"])).secret_string(document.to_string());
        put.send().await.unwrap_or_else(|error| panic!("{error:?}"));
    }
}

/// The emulator's address.
#[must_use]
pub fn endpoint() -> String {
    required_variable(EMULATOR_VAR)
}

/// Where the functions' binaries are.
#[must_use]
pub fn binaries() -> PathBuf {
    PathBuf::from(required_variable(FUNCTIONS_VAR))
}

/// What Lambda sets for a function, with AWS at this address and this access key.
#[must_use]
pub fn lambda_environment(endpoint: &str, key: &str) -> BTreeMap<String, String> {
    [
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", key),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// The translated template.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn template() -> Value {
    let file = std::fs::read(required_variable(TEMPLATE_VAR)).unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_slice(&file).unwrap_or_else(|error| panic!("{error}"))
}

fn required_variable(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `make test-lambda`, which sets it"))
}

/// The account at this address, with this access key.
///
/// # Panics
/// When there can be no HTTP client.
#[must_use]
pub fn clients_at(endpoint: &str, key: &str) -> AwsClients {
    let variables = lambda_environment(endpoint, key);
    let client = relay::destination::http_client::build().unwrap_or_else(|error| panic!("{error}"));
    let mut reader = EnvReader::new(&variables);
    AwsClients::from_env(&mut reader, client)
}

/// The process that creates stacks, shared by all tests: a name goes in, a description comes out.
struct Provisioner {
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _program: Child,
}

impl Provisioner {
    fn get() -> &'static Self {
        static PROVISIONER: OnceLock<Provisioner> = OnceLock::new();
        PROVISIONER.get_or_init(Self::start)
    }

    fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        // It ends when its input does, with this process.
        let mut child = Command::new(root.join(".venv/bin/python"))
            .arg(root.join("tools/aws-emulator/provision_stack.py"))
            .args([&endpoint(), &required_variable(TEMPLATE_VAR), "--names-from-input", "--region", REGION])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{error}"));
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.unwrap_or_else(|| unreachable!("both are piped"));
        Self { pipes: Mutex::new((input, BufReader::new(output))), _program: child }
    }

    fn create(&self, name: &str) -> Value {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, output) = &mut *pipes;
        let mut line = String::new();
        let line_read = writeln!(input, "{name}").and_then(|()| output.read_line(&mut line));
        line_read.unwrap_or_else(|error| panic!("{error}"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("no stack could be made: {error}"))
    }
}

/// Returns a value of the description as text.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn expect_str(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

/// The items of a list that is described.
pub fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
