//! What a built function needs around it to run, with canned answers: AWS, the far end, its environment, its events.
//!
//! For measuring and for guarding, not for judging what a function does: that is done against emulated services.

mod aws;
mod events;
mod template;
pub mod tls;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::lambda_fake::sandbox::Sandbox;
use crate::mock_destination::{MockDestination, Reply};
use aws::CannedAws;
use template::Template;

/// The functions of the HTTP API.
pub const HTTP_FUNCTIONS: [&str; 3] = ["loops-to-clay", "clay-to-loops-contact", "clay-to-loops-event"];
/// The functions of the queues.
pub const QUEUE_FUNCTIONS: [&str; 2] = ["clay-delivery", "loops-delivery"];
/// A function that does nothing, on one thread as those of the relay.
pub const BARE: &str = "bare-function";
/// A function that does nothing, with worker threads as `lambda_http`'s examples.
pub const BARE_THREADED: &str = "bare-threaded";

/// How long an event may take: the longest time that the template gives a function.
const INVOKE_TIMEOUT: Duration = Duration::from_secs(60);

/// What stands around the functions.
#[derive(Debug)]
pub struct FunctionHarness {
    aws: CannedAws,
    destination: MockDestination,
    template: Template,
}

impl FunctionHarness {
    /// Sets up the stage that the translated template in this file describes.
    ///
    /// # Panics
    /// When there is no template in it, or no port.
    pub async fn from_template(template: &Path) -> Self {
        let destination = MockDestination::start(Reply::json(200, r#"{"success":true,"id":"c1"}"#)).await;
        let aws = CannedAws::start(&destination.url("")).await;
        Self { aws, destination, template: Template::load(template) }
    }

    /// The environment that Lambda and the template give a function; what is at the far end is here.
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
            // The pace costs nothing, but what it does not let pass goes another way: here a hundred events may come at once.
            ("LOOPS_RATE_PER_SECOND", "1000".to_owned()),
            ("CLAY_RATE_PER_SECOND", "1000".to_owned()),
        ];
        for (name, value) in overrides {
            environment.entry(name.to_owned()).and_modify(|known| *known = value);
        }
        environment
    }

    /// Starts a function in this environment and freezes it when it asks for its first event.
    ///
    /// # Panics
    /// When it does not start; the log tells why.
    pub async fn start_function(
        &self,
        function: &str,
        binary: &Path,
        environment: &BTreeMap<String, String>,
        log: &Path,
    ) -> Sandbox {
        Sandbox::start(function, binary, environment, log).await
    }

    /// Hands a function an event of the kind that it is for, and sees to it that it does what it is for.
    ///
    /// # Panics
    /// When it does not.
    pub async fn invoke(&self, function: &str, sandbox: &mut Sandbox) {
        let response = sandbox.invoke(events::event(function), INVOKE_TIMEOUT).await;
        let response = response.unwrap_or_else(|error| panic!("{function}: {error:?}"));
        events::check_response(function, &response);
    }

    /// Hands a function of the front door an event that it answers by itself, without asking anybody; whether there is one
    /// for this function.
    ///
    /// # Panics
    /// When it answers otherwise.
    pub async fn invoke_self_contained(&self, function: &str, sandbox: &mut Sandbox) -> bool {
        let Some(event) = events::self_contained_event(function) else { return false };
        let response = sandbox.invoke(event, INVOKE_TIMEOUT).await;
        let response = response.unwrap_or_else(|error| panic!("{function}: {error:?}"));
        events::check_self_contained(function, &response);
        true
    }
}

/// What Lambda itself sets, besides what the sandbox says.
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
