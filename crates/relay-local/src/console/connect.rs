//! What is pasted into Loops and Clay, and what is not connected yet.

use relay::ports::rate_limiter::RateLimiter as _;
use relay::ports::secrets::SecretSource as _;
use relay_console::backend::ConsoleBackend as _;
use relay_console::connect::{Properties, SetUp, steps};
use relay_console::error::ConsoleError;
use relay_console::view::Connect;
use relay_core::account::DestinationKind;
use relay_core::delivery::Direction;
use relay_doctor::invocation::suggest;

use crate::console::LocalConsole;

pub(super) async fn connect(console: &LocalConsole) -> Result<Connect, ConsoleError> {
    let local = console.open()?;
    let urls = local.urls();
    let properties = read_properties(console).await?;
    let is_real = |direction| console.secrets.destination(direction) == DestinationKind::Real;
    let real_webhooks = if is_real(Direction::LoopsToClay) { console.webhooks().await?.len() } else { 0 };
    let admin = console.admin()?;
    let has_any = |direction| admin.has_any(direction).map_err(ConsoleError::unavailable);
    let set_up = SetUp {
        // A relay makes a secret and a token when it starts without them.
        signing_secret: true,
        relay_token: true,
        webhook_received: Some(has_any(Direction::LoopsToClay)?),
        row_received: Some(has_any(Direction::ClayToLoops)?),
        clay_webhooks: real_webhooks,
    };
    let real_properties = if is_real(Direction::ClayToLoops) { &properties } else { &Properties::NoKey };
    Ok(Connect {
        loops_webhook_url: urls.loops_webhook_url,
        loops_events: urls.events,
        clay_contact_url: urls.clay_contact_url,
        clay_event_url: urls.clay_event_url,
        relay_token_hint: format!("{} shows the relay token.", suggest("setup --list --show-token")),
        properties: properties.list(),
        steps: steps(set_up, real_properties, &|arguments| suggest(arguments)),
    })
}

/// Asks Loops for the properties, at the pace of the rows.
async fn read_properties(console: &LocalConsole) -> Result<Properties, ConsoleError> {
    let reads = &console.relay.api_handler.reads;
    let secret = reads.secrets.current().await.map_err(ConsoleError::unavailable)?;
    reads.limiter.acquire().await.map_err(ConsoleError::unavailable)?;
    Ok(Properties::read(&reads.loops, secret.api_key.as_ref()).await)
}
