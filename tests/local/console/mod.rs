//! The console of a relay on one machine, as its page uses it.

mod access;
mod operations;
mod trial;

use relay_testkit::mock_destination::MockDestination;
use relay_testkit::relay_process::Relay;

/// A relay whose Clay is a mock.
pub(crate) async fn start(clay: &MockDestination) -> Relay {
    let webhook = clay.url("/hook");
    Relay::start(&[("CLAY_WEBHOOK_URL", webhook.as_str()), ("CLAY_RATE_PER_SECOND", "200")]).await
}
