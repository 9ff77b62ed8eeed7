//! Runs a built function between a fake AWS and a mock destination, with the template's environment and example events.
//!
//! It serves measurements and checks of the binaries. What a function does is tested on emulated services.

mod aws;
pub mod callgrind;
mod events;
mod template;
pub mod tls;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::lambda_fake::sandbox::Sandbox;
use crate::mock_destination::{MockDestination, Reply};
use aws::AwsServer;
use template::Template;

/// The functions of the HTTP API.
pub const HTTP_FUNCTIONS: [&str; 4] =
    ["loops-to-clay", "clay-to-loops-contact", "clay-to-loops-event", "clay-to-loops-api"];
/// The functions of the queues.
pub const QUEUE_FUNCTIONS: [&str; 2] = ["clay-delivery", "loops-delivery"];
/// A function that does nothing, on one thread as those of the relay.
pub const BARE: &str = "bare-function";
/// A function that does nothing, with worker threads as `lambda_http`'s examples.
pub const BARE_THREADED: &str = "bare-threaded";

/// Maximum duration of an event: the longest timeout of the template.
const INVOKE_TIMEOUT: Duration = Duration::from_secs(60);

/// What stands around the functions.
#[derive(Debug)]
pub struct FunctionHarness {
    aws: AwsServer,
    destination: MockDestination,
    template: Template,
}

impl FunctionHarness {
    /// Sets up the harness for the translated template in this file.
    ///
    /// # Panics
    /// When the file has no template, or no port is free.
    pub async fn from_template(template: &Path) -> Self {
        let destination = MockDestination::start(Reply::json(200, r#"{"success":true,"id":"c1"}"#)).await;
        let aws = AwsServer::start(&destination.url("")).await;
        Self { aws, destination, template: Template::load(template) }
    }

    /// Returns a function's environment, as Lambda and the template set it, with local destinations.
    #[must_use]
    pub fn environment(&self, function: &str) -> BTreeMap<String, String> {
        let mut environment = lambda_environment();
        if [BARE, BARE_THREADED].contains(&function) {
            return environment;
        }
        environment.insert("AWS_ENDPOINT_URL".to_owned(), self.aws.url());
        environment.extend(self.template.environment(function, &self.aws.url()));
        let overrides = [
            ("LOOPS_API_URL", self.destination.url("/api")),
            // The limiter itself is cheap, but rows over the rate are queued: here a hundred events may come at once.
            ("LOOPS_RATE_PER_SECOND", "1000".to_owned()),
            ("CLAY_RATE_PER_SECOND", "1000".to_owned()),
        ];
        for (name, value) in overrides {
            environment.entry(name.to_owned()).and_modify(|known| *known = value);
        }
        environment
    }

    /// How many connections to AWS and to the destination were opened.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.aws.connections() + self.destination.connections()
    }

    /// How often a secret was read.
    #[must_use]
    pub fn secret_reads(&self) -> u64 {
        self.aws.secret_reads()
    }

    /// Starts a function in this environment, and freezes it when it asks for its first event.
    ///
    /// # Panics
    /// When it does not start; its log has the cause.
    pub async fn start_function(
        &self,
        function: &str,
        binary: &Path,
        environment: &BTreeMap<String, String>,
        log: &Path,
    ) -> Sandbox {
        Sandbox::start(function, binary, environment, log).await
    }

    /// Invokes a function with an event of its kind, and checks the response.
    ///
    /// # Panics
    /// When the check fails.
    pub async fn invoke(&self, function: &str, sandbox: &mut Sandbox) {
        self.aws.forget_deliveries();
        let response = sandbox.invoke(events::event(function), INVOKE_TIMEOUT).await;
        let response = response.unwrap_or_else(|error| panic!("{function}: {error:?}"));
        events::check_response(function, &response);
    }

    /// Invokes an HTTP function with an event that it answers without any call. False if there is none for this
    /// function.
    ///
    /// # Panics
    /// When the response is another one.
    pub async fn invoke_self_contained(&self, function: &str, sandbox: &mut Sandbox) -> bool {
        let Some(event) = events::self_contained_event(function) else { return false };
        let response = sandbox.invoke(event, INVOKE_TIMEOUT).await;
        let response = response.unwrap_or_else(|error| panic!("{function}: {error:?}"));
        events::check_self_contained(function, &response);
        true
    }
}

/// Returns the variables that Lambda itself sets, besides those of the sandbox.
fn lambda_environment() -> BTreeMap<String, String> {
    [
        ("AWS_REGION", template::REGION),
        ("AWS_DEFAULT_REGION", template::REGION),
        ("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "example"),
        ("AWS_SESSION_TOKEN", "example"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
