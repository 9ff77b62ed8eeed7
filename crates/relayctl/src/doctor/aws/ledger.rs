//! The ledger: what each Clay webhook has taken, and the last delivery.

use jiff::Timestamp;
use relay::ports::secrets::LoopsToClaySecret;
use relay_aws::ledger::deliveries::delivery_key;
use relay_aws::ledger::items::{STATE, STATE_NAME};
use relay_aws::ledger::table::{string_attr, time_attr};
use relay_aws::ledger::webhook_usage::{webhook_key, webhook_usage};
use relay_core::delivery::DeliveryId;
use relay_core::delivery_state::DeliveryState;

use crate::aws::ledger_item::item;
use crate::aws::stack::StackOutput;
use crate::doctor::check::Check;
use crate::doctor::finding::Finding;
use crate::doctor::webhook_usage;
use crate::error::Error;
use crate::target::StackTarget;

/// How many pages of the table are looked at for the last delivery: 1 MB each.
const MAX_SCAN_PAGES: usize = 5;

/// `clay-webhook-use`: what each webhook has taken.
pub(crate) async fn check_webhook_usage(target: &StackTarget, to_clay: &LoopsToClaySecret) -> Vec<Finding> {
    let mut findings = Vec::new();
    for route in &to_clay.routes {
        let mut usages = Vec::new();
        for webhook in &route.webhooks {
            match item(target, webhook_key(&webhook.fingerprint())).await {
                Ok(usage_item) => usages.push(webhook_usage(&usage_item.unwrap_or_default())),
                Err(error) => return vec![Finding::from_error(webhook_usage::CHECK, &error.into())],
            }
        }
        findings.extend(webhook_usage::findings_for(route, &usages));
    }
    findings
}

/// `last-delivery`: the ledger is there, and has seen something delivered.
pub(crate) async fn check_last_delivery(target: &StackTarget) -> Finding {
    const CHECK: Check = Check::LastDelivery;
    match latest_delivery(target).await {
        Ok((Some((at, direction)), is_complete)) => {
            let suffix = if is_complete { "" } else { ", as far as was looked" };
            Finding::ok(CHECK, format!("one that came at {at} ({direction}){suffix}"))
        }
        Ok((None, _)) => Finding::ok(CHECK, "none is on record yet"),
        Err(error) => Finding::from_error(CHECK, &error),
    }
}

/// Where the deliveries of an event stand that has just been sent: one for each route that takes it.
pub(crate) async fn delivery_status(
    target: &StackTarget,
    to_clay: &LoopsToClaySecret,
    event: &str,
    id: &str,
) -> Result<DeliveryState, Error> {
    let mut status = DeliveryState::Delivered;
    for route in to_clay.routes.iter().filter(|route| route.events.selects(event)) {
        let ledger_item =
            item(target, delivery_key(&DeliveryId::for_webhook(&route.name, id))).await?.unwrap_or_default();
        match string_attr(&ledger_item, "state") {
            Some("delivered") => {}
            Some("dead") => return Ok(DeliveryState::Dead),
            _ => status = DeliveryState::Waiting,
        }
    }
    Ok(status)
}

/// When the youngest of the deliveries that are done came, which way it went, and whether the whole table was looked at.
async fn latest_delivery(target: &StackTarget) -> Result<(Option<(Timestamp, &'static str)>, bool), Error> {
    let table = target.stack.output(StackOutput::LedgerTableName)?;
    let call = target.session.call("dynamodb:Scan", table);
    let (mut latest, mut start_key) = (None, None);
    for _ in 0..MAX_SCAN_PAGES {
        let scan = target.session.dynamodb().scan().table_name(table).set_exclusive_start_key(start_key);
        let scan =
            scan.projection_expression("pk, #state, received_at, kind").expression_attribute_names(STATE_NAME, STATE);
        let page = scan.send().await.map_err(|error| call.to_error(&error))?;
        for item in page.items.unwrap_or_default() {
            if string_attr(&item, "state") != Some("delivered") {
                continue;
            }
            let direction = if string_attr(&item, "kind") == Some("row") { "loops-to-clay" } else { "clay-to-loops" };
            latest = latest.max(time_attr(&item, "received_at").map(|at| (at, direction)));
        }
        start_key = page.last_evaluated_key.filter(|key| !key.is_empty());
        if start_key.is_none() {
            return Ok((latest, true));
        }
    }
    Ok((latest, false))
}
