//! The ledger: what each Clay webhook has taken, and the last delivery.

use relay::ports::secrets::LoopsToClaySecret;
use relay::ports::webhook_usage::WebhookUsage;
use relay_aws::admin::deliveries::{LatestDelivery, latest_delivery};
use relay_aws::ledger::deliveries::{LedgerState, delivery_state};
use relay_aws::ledger::webhook_usage::read_usage;
use relay_core::delivery::DeliveryId;

use crate::doctor::check::Check;
use crate::doctor::finding::Finding;
use crate::doctor::live_send::SendStatus;
use crate::doctor::webhook_usage;
use crate::error::Error;
use crate::target::StackTarget;

/// `clay-webhook-use`: what each webhook has taken.
pub async fn check_webhook_usage(target: &StackTarget, to_clay: &LoopsToClaySecret) -> Vec<Finding> {
    let mut findings = Vec::new();
    for route in &to_clay.routes {
        let mut usages = Vec::new();
        for webhook in &route.webhooks {
            match usage(target, &webhook.fingerprint()).await {
                Ok(usage) => usages.push(usage),
                Err(error) => return vec![Finding::from_error(webhook_usage::CHECK, &error)],
            }
        }
        findings.extend(webhook_usage::findings_for(route, &usages));
    }
    findings
}

async fn usage(target: &StackTarget, webhook: &str) -> Result<WebhookUsage, Error> {
    Ok(read_usage(&target.ledger()?, webhook).await?)
}

/// `last-delivery`: the ledger is there, and has seen something delivered.
pub async fn check_last_delivery(target: &StackTarget) -> Finding {
    const CHECK: Check = Check::LastDelivery;
    let latest = async { Ok::<_, Error>(latest_delivery(&target.ledger()?).await?) };
    match latest.await {
        Ok(LatestDelivery { received: Some((at, direction)), is_complete }) => {
            let suffix = if is_complete { "" } else { ", as far as was looked" };
            Finding::ok(CHECK, format!("one that came at {at} ({}){suffix}", direction.as_str()))
        }
        Ok(_) => Finding::ok(CHECK, "none is on record yet"),
        Err(error) => Finding::from_error(CHECK, &error),
    }
}

/// Where the deliveries of an event stand that has just been sent: one for each route that takes it.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn delivery_status(
    target: &StackTarget,
    to_clay: &LoopsToClaySecret,
    event: &str,
    id: &str,
) -> Result<SendStatus, Error> {
    let mut status = SendStatus::Delivered;
    for route in to_clay.routes.iter().filter(|route| route.events.selects(event)) {
        match delivery_state(&target.ledger()?, &DeliveryId::for_webhook(&route.name, id)).await? {
            Some(LedgerState::Delivered) => {}
            Some(LedgerState::Dead) => return Ok(SendStatus::Dead),
            Some(LedgerState::Sending | LedgerState::Queued) | None => status = SendStatus::Waiting,
        }
    }
    Ok(status)
}
