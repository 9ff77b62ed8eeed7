//! The ledger: what each Clay webhook has taken, and the last delivery.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use relay::secrets::LoopsToClaySecret;
use relay::store::WebhookUse;

use super::clay_use;
use super::finding::Finding;
use crate::fault::Fault;
use crate::stack::Output;
use crate::target::StackTarget;

/// How many pages of the table are looked at for the last delivery: 1 MB each.
const PAGES: usize = 5;

type Item = HashMap<String, AttributeValue>;

/// `clay-webhook-use`: what each webhook has taken.
pub async fn webhook_use(target: &StackTarget, to_clay: &LoopsToClaySecret) -> Vec<Finding> {
    let mut findings = Vec::new();
    for route in &to_clay.routes {
        let mut uses = Vec::new();
        for webhook in &route.webhooks {
            match usage(target, &webhook.key()).await {
                Ok(used) => uses.push(used),
                Err(fault) => return vec![Finding::of(clay_use::CHECK, &fault)],
            }
        }
        findings.extend(clay_use::judge(route, &uses));
    }
    findings
}

/// `last-delivery`: the ledger is there, and has seen something delivered.
pub async fn last_delivery(target: &StackTarget) -> Finding {
    const CHECK: &str = "last-delivery";
    match latest(target).await {
        Ok((Some((at, direction)), whole)) => {
            let of = if whole { "" } else { ", as far as was looked" };
            Finding::ok(CHECK, format!("one that came at {at} ({direction}){of}"))
        }
        Ok((None, _)) => Finding::ok(CHECK, "none is on record yet"),
        Err(fault) => Finding::of(CHECK, &fault),
    }
}

async fn usage(target: &StackTarget, webhook: &str) -> Result<WebhookUse, Fault> {
    let table = target.stack.output(Output::LedgerTableName)?;
    let call = target.session.call("dynamodb:GetItem", table);
    let key = AttributeValue::S(format!("webhook#{webhook}"));
    let answer = target.session.dynamodb().get_item().table_name(table).key("pk", key).send().await;
    let item = answer.map_err(|fault| call.fault(&fault))?.item.unwrap_or_default();
    let refused_at = number(&item, "refused_at").and_then(|at| Timestamp::from_millisecond(at).ok());
    let status = number(&item, "refused_status").and_then(|status| u16::try_from(status).ok());
    let taken = number(&item, "taken").and_then(|taken| u64::try_from(taken).ok());
    Ok(WebhookUse { taken: taken.unwrap_or_default(), refused: refused_at.zip(status) })
}

/// When the youngest of the deliveries that are done came, which way it went, and whether the whole table was looked at.
async fn latest(target: &StackTarget) -> Result<(Option<(Timestamp, &'static str)>, bool), Fault> {
    let table = target.stack.output(Output::LedgerTableName)?;
    let call = target.session.call("dynamodb:Scan", table);
    let (mut latest, mut from) = (None, None);
    for _ in 0..PAGES {
        let scan = target.session.dynamodb().scan().table_name(table).set_exclusive_start_key(from);
        let scan = scan.projection_expression("pk, standing, received_at, cargo");
        let page = scan.send().await.map_err(|fault| call.fault(&fault))?;
        for item in page.items.unwrap_or_default() {
            if text(&item, "standing") != Some("done") {
                continue;
            }
            let direction = if text(&item, "cargo") == Some("row") { "loops-to-clay" } else { "clay-to-loops" };
            let at = number(&item, "received_at").and_then(|at| Timestamp::from_millisecond(at).ok());
            latest = latest.max(at.map(|at| (at, direction)));
        }
        from = page.last_evaluated_key.filter(|key| !key.is_empty());
        if from.is_none() {
            return Ok((latest, true));
        }
    }
    Ok((latest, false))
}

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

fn number(item: &Item, name: &str) -> Option<i64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}
