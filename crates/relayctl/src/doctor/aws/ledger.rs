//! The ledger: the usage of each Clay webhook, and the latest delivery.

use relay::ports::secrets::LoopsToClaySecret;
use relay_aws::admin::deliveries::{LatestDelivery, latest_delivery};
use relay_aws::ledger::deliveries::{LedgerState, delivery_state};
use relay_aws::ledger::webhook_usage::read_usage;
use relay_core::delivery::DeliveryId;
use relay_core::delivery_state::DeliveryState;
use relay_doctor::check::Check;
use relay_doctor::finding::Finding;
use relay_doctor::webhook_usage;

use crate::error::Error;
use crate::target::StackTarget;

/// `clay-webhook-use`: the usage of each webhook.
pub(crate) async fn check_webhook_usage(
    target: &StackTarget,
    to_clay: &LoopsToClaySecret,
) -> Result<Vec<Finding>, Error> {
    let ledger = target.ledger()?;
    let mut findings = Vec::new();
    for route in &to_clay.routes {
        let mut usages = Vec::new();
        for webhook in &route.webhooks {
            usages.push(read_usage(&ledger, &webhook.fingerprint()).await?);
        }
        findings.extend(webhook_usage::findings_for(route, &usages));
    }
    Ok(findings)
}

/// `last-delivery`: the ledger is there, and the latest delivery.
pub(crate) async fn check_last_delivery(target: &StackTarget) -> Result<Finding, Error> {
    let LatestDelivery { received, is_complete } = latest_delivery(&target.ledger()?).await?;
    let suffix = if is_complete { "" } else { ", as far as was looked" };
    Ok(Check::LastDelivery.ok(match received {
        Some((at, direction)) => format!("one that came at {at} ({}){suffix}", direction.as_str()),
        None => "none is on record yet".to_owned(),
    }))
}

/// Returns the state of the deliveries of an event that was just sent: one for each route that selects it.
pub(crate) async fn event_state(
    target: &StackTarget,
    to_clay: &LoopsToClaySecret,
    event: &str,
    id: &str,
) -> Result<DeliveryState, Error> {
    let mut state = DeliveryState::Delivered;
    for route in to_clay.routes.iter().filter(|route| route.events.selects(event)) {
        match delivery_state(&target.ledger()?, &DeliveryId::for_webhook(&route.name, id)).await? {
            Some(LedgerState::Delivered) => {}
            Some(LedgerState::Dead) => return Ok(DeliveryState::Dead),
            Some(LedgerState::Sending | LedgerState::Queued) | None => state = DeliveryState::Waiting,
        }
    }
    Ok(state)
}
