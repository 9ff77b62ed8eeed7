//! What a console shows of a data folder.

use relay::destination::http_client::HttpClient;
use relay::destination::loops::HttpLoopsClient;
use relay_console::connect::{self, Properties, SetUp};
use relay_console::view::{Step, WebhookView};
use relay_core::account::DestinationKind;
use relay_core::delivery::Direction;
use relay_doctor::invocation::suggest;
use relay_doctor::local::destination_kind;
use relay_doctor::local_error::LocalError;
use relay_doctor::local_relay::LocalRelay;
use relay_sqlite::admin::SqliteAdmin;
use relay_sqlite::data_dir::config::{ROUTE_NAME, Setting};

use crate::console::facts::DirectionFacts;

pub(super) fn direction_facts(relay: &LocalRelay) -> [DirectionFacts; 2] {
    Direction::ALL.map(|direction| DirectionFacts {
        destination: destination(relay, direction),
        // Only the process of the relay counts.
        accepted: None,
        delivered: None,
        oldest_seconds: None,
        per_second: None,
        rate_limit: match direction {
            Direction::LoopsToClay => relay.settings.shared.clay_rate.get(),
            Direction::ClayToLoops => relay.settings.shared.loops_rate.get(),
        },
    })
}

fn destination(relay: &LocalRelay, direction: Direction) -> DestinationKind {
    let kind = destination_kind(relay, direction);
    // A relay that runs may have another environment than this terminal.
    let is_misjudged = kind == DestinationKind::Simulated && relay.is_running() && !serves_simulator(relay, direction);
    if is_misjudged { DestinationKind::Real } else { kind }
}

fn serves_simulator(relay: &LocalRelay, direction: Direction) -> bool {
    let accounts = SqliteAdmin::open(relay.data_dir.path()).and_then(|admin| admin.accounts());
    accounts.is_ok_and(|accounts| accounts.current(direction).is_simulated())
}

pub(super) fn webhooks(relay: &LocalRelay) -> Result<Vec<WebhookView>, LocalError> {
    let Setting::Set(webhooks) = &relay.settings.clay_webhooks else { return Ok(Vec::new()) };
    let admin = SqliteAdmin::open(relay.data_dir.path())?;
    let view = |fingerprint: String| {
        let usage = admin.webhook_usage(&fingerprint)?;
        Ok(WebhookView::new(ROUTE_NAME, fingerprint, &usage))
    };
    webhooks.iter().map(|webhook| view(webhook.fingerprint())).collect()
}

pub(super) async fn properties(relay: &LocalRelay, client: &HttpClient) -> Properties {
    match &relay.settings.loops_api_key {
        Setting::Set(key) => {
            let loops = HttpLoopsClient::new(client.clone(), &relay.settings.shared.loops_api_url);
            Properties::read(&loops, key.as_ref()).await
        }
        Setting::Unset if destination(relay, Direction::ClayToLoops) == DestinationKind::Real => Properties::Unknown,
        Setting::Unset => Properties::NoKey,
    }
}

pub(super) fn steps(relay: &LocalRelay, properties: &Properties) -> Result<Vec<Step>, LocalError> {
    let admin = SqliteAdmin::open(relay.data_dir.path())?;
    let set_up = SetUp {
        // A relay makes a secret and a token when it starts without them.
        signing_secret: true,
        relay_token: true,
        webhook_received: Some(admin.has_any(Direction::LoopsToClay)?),
        row_received: Some(admin.has_any(Direction::ClayToLoops)?),
        clay_webhooks: match &relay.settings.clay_webhooks {
            Setting::Set(webhooks) => webhooks.len(),
            Setting::Unset => usize::from(destination(relay, Direction::LoopsToClay) == DestinationKind::Real),
        },
    };
    Ok(connect::steps(set_up, properties, &|arguments| suggest(arguments)))
}
