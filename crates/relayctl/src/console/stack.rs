//! What a console shows of a stack beside its queues. What cannot be read is not shown, so that an operator without a permission
//! sees the rest.

use relay::destination::loops::HttpLoopsClient;
use relay_aws::ledger::webhook_usage::read_usage;
use relay_console::connect::{Properties, SetUp, steps};
use relay_console::view::{Step, WebhookView};
use relay_core::account::DestinationKind;
use relay_core::delivery::Direction;
use relay_doctor::check::Check;
use relay_doctor::invocation::suggest;

use crate::console::facts::DirectionFacts;
use crate::console::metrics::LastHour;
use crate::doctor::secrets::{LoadedSecrets, check_secrets};
use crate::target::StackTarget;

/// Default of the parameters of the template for the two rates.
const DEFAULT_RATE_PER_SECOND: u32 = 8;

/// The secrets, the use of the webhooks, and the counts of the last hour.
#[derive(Debug)]
pub(super) struct StackFacts {
    secrets: LoadedSecrets,
    pub(super) webhooks: Vec<WebhookView>,
    pub(super) last_hour: Option<LastHour>,
}

impl StackFacts {
    /// Reads them.
    pub(super) async fn read(target: &StackTarget) -> Self {
        let mut secrets = LoadedSecrets::default();
        check_secrets(target, &mut secrets).await;
        let webhooks = webhooks(target, &secrets).await;
        let last_hour = LastHour::read(target).await.ok();
        Self { secrets, webhooks, last_hour }
    }

    pub(super) fn directions(&self, target: &StackTarget) -> [DirectionFacts; 2] {
        let hour = self.last_hour.as_ref();
        Direction::ALL.map(|direction| DirectionFacts {
            destination: if self.is_set(direction) { DestinationKind::Real } else { DestinationKind::Closed },
            accepted: hour.map(|hour| hour.accepted(direction)),
            delivered: hour.map(|hour| hour.delivered(direction)),
            oldest_seconds: hour.and_then(|hour| hour.oldest_seconds(direction)),
            per_second: hour.map(|hour| hour.per_second(direction)),
            rate_limit: rate_limit(target, direction),
        })
    }

    pub(super) async fn properties(&self, target: &StackTarget) -> Properties {
        match self.secrets.skip(Check::LoopsKey, Check::SecretClayToLoops) {
            Some(_) => Properties::Unknown,
            None => {
                let loops = HttpLoopsClient::new(target.session.http().clone(), target.loops_api_url());
                Properties::read(&loops, self.secrets.api_key.as_ref()).await
            }
        }
    }

    pub(super) fn steps(&self, properties: &Properties) -> Vec<Step> {
        let unreadable = |secret| self.secrets.skip(secret, secret).is_some();
        // The last hour says nothing of the time before.
        let has_some = |direction| self.last_hour.as_ref().is_some_and(|hour| hour.accepted(direction) > 0);
        let received = |direction| has_some(direction).then_some(true);
        let set_up = SetUp {
            signing_secret: !self.secrets.signing_secrets.is_empty() || unreadable(Check::SecretLoopsToClay),
            webhook_received: received(Direction::LoopsToClay),
            row_received: received(Direction::ClayToLoops),
            clay_webhooks: self.webhook_count(),
            relay_token: !self.secrets.relay_tokens.is_empty() || unreadable(Check::SecretClayToLoops),
        };
        steps(set_up, properties, &|arguments| suggest(arguments))
    }

    fn webhook_count(&self) -> usize {
        self.secrets.to_clay.routes.iter().map(|route| route.webhooks.len()).sum()
    }

    /// Whether a destination is set. One whose secret cannot be read is taken to be.
    fn is_set(&self, direction: Direction) -> bool {
        let (secret, is_set) = match direction {
            Direction::LoopsToClay => (Check::SecretLoopsToClay, self.webhook_count() > 0),
            Direction::ClayToLoops => (Check::SecretClayToLoops, self.secrets.api_key.is_some()),
        };
        is_set || self.secrets.skip(secret, secret).is_some()
    }
}

async fn webhooks(target: &StackTarget, secrets: &LoadedSecrets) -> Vec<WebhookView> {
    let Ok(ledger) = target.ledger() else { return Vec::new() };
    let mut views = Vec::new();
    for route in &secrets.to_clay.routes {
        for webhook in &route.webhooks {
            let fingerprint = webhook.fingerprint();
            let Ok(usage) = read_usage(&ledger, &fingerprint).await else { continue };
            views.push(WebhookView::new(&route.name, fingerprint, &usage));
        }
    }
    views
}

fn rate_limit(target: &StackTarget, direction: Direction) -> u32 {
    let parameter = match direction {
        Direction::LoopsToClay => "ClayRatePerSecond",
        Direction::ClayToLoops => "LoopsRatePerSecond",
    };
    target.stack.parameter(parameter).and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_RATE_PER_SECOND)
}
