//! What the end-to-end tests share: a relay as a process, far ends that misbehave on purpose, and a plain HTTP client.

pub mod aws_fake;
pub mod chaos;
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
pub mod row;
pub mod row_cases;
pub mod row_table;
pub mod simulation;
pub mod store_harness;
pub mod webhook;

use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything that must come is waited for.
pub const EVENTUALLY_TIMEOUT: Duration = Duration::from_secs(20);

/// The most characters of a message that a Clay cell shows.
pub const MAX_MESSAGE_CHARS: usize = 300;

/// Waits until `look` finds something.
///
/// # Panics
/// When it does not come within [`EVENTUALLY_TIMEOUT`].
pub async fn eventually<T, F>(description: &str, poll: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    eventually_within(EVENTUALLY_TIMEOUT, description, poll).await
}

/// Waits until `look` finds something, for a time that the test chooses.
///
/// # Panics
/// When it does not come in time.
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
