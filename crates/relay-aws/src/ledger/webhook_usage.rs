//! What is known of Clay's webhooks.

use jiff::Timestamp;
use relay::ports::queue::{StoreFault, Submission, WebhookLedger, WebhookUse};

use crate::ledger::deliveries::Ledger;
use crate::ledger::table::{Change, Item, number, time};

impl WebhookLedger for Ledger {
    async fn usage(&self, webhook: &str) -> Result<WebhookUse, StoreFault> {
        Ok(webhook_use(&self.table().get(&webhook_key(webhook)).await?))
    }

    async fn note(&self, webhook: &str, submission: Submission, now: Timestamp) -> Result<(), StoreFault> {
        let change = match submission {
            Submission::Taken => Change::new("REMOVE refused_at, refused_status ADD taken :one").number(":one", 1),
            Submission::Refused(status) => Change::new("SET refused_at = :now, refused_status = :status")
                .number(":now", now.as_millisecond())
                .number(":status", i64::from(status)),
        };
        self.table().change(&webhook_key(webhook), change.forever(), now).await.map(drop)
    }
}

/// What the item of a webhook says.
#[must_use]
pub fn webhook_use(item: &Item) -> WebhookUse {
    let taken = number(item, "taken").unwrap_or_default();
    let status = number(item, "refused_status").and_then(|status| u16::try_from(status).ok());
    WebhookUse { taken: u64::try_from(taken).unwrap_or_default(), refused: time(item, "refused_at").zip(status) }
}

/// The key of a webhook's item.
#[must_use]
pub fn webhook_key(webhook: &str) -> String {
    format!("webhook#{webhook}")
}
