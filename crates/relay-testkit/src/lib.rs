//! Shared harness of the end-to-end tests: relays as processes and in process, faulty destinations and services, an
//! HTTP client.

pub mod aws_fake;
pub mod chaos;
pub mod console;
pub mod cost;
pub mod deliveries;
pub mod fake_clock;
pub mod flaky_proxy;
pub mod function_harness;
pub mod http;
pub mod http_server;
pub mod lambda_fake;
pub mod mock_destination;
pub mod relay_process;
pub mod relayctl;
pub mod row;
pub mod row_cases;
pub mod row_table;
pub mod simulation;
pub mod store_harness;
pub mod webhook;

use std::future::Future;
use std::time::{Duration, Instant};

/// Maximum wait for an expected event.
pub const EVENTUALLY_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum length of a message that a Clay cell shows.
pub const MAX_MESSAGE_CHARS: usize = 300;

/// Polls until there is a result.
///
/// # Panics
/// When there is none within [`EVENTUALLY_TIMEOUT`].
pub async fn eventually<T, F>(description: &str, poll: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    eventually_within(EVENTUALLY_TIMEOUT, description, poll).await
}

/// Polls until there is a result, for a time that the test chooses.
///
/// # Panics
/// When there is none in time.
pub async fn eventually_within<T, F>(timeout: Duration, description: &str, mut poll: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let started_at = Instant::now();
    loop {
        if let Some(found) = poll().await {
            return found;
        }
        assert!(started_at.elapsed() < timeout, "did not come within {timeout:?}: {description}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
