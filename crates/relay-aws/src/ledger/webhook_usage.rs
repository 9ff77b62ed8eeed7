//! The usage of Clay's webhooks in the ledger.

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay::ports::webhook_usage::{Submission, WebhookLedger, WebhookUsage};

use crate::ledger::deliveries::Ledger;
use crate::ledger::items::{REFUSED_AT, REFUSED_STATUS, TAKEN};
use crate::ledger::table::{Item, Update, number_attr, time_attr};

impl WebhookLedger for Ledger {
    async fn usage(&self, webhook: &str) -> Result<WebhookUsage, StoreError> {
        Ok(webhook_usage(&self.table().get(&webhook_key(webhook)).await?))
    }

    async fn record(&self, webhook: &str, submission: Submission, now: Timestamp) -> Result<(), StoreError> {
        let update = match submission {
            Submission::Accepted => {
                Update::new("REMOVE refused_at, refused_status ADD taken :one").number_attr(":one", 1)
            }
            Submission::Rejected(status) => Update::new("SET refused_at = :now, refused_status = :status")
                .number_attr(":now", now.as_millisecond())
                .number_attr(":status", i64::from(status)),
        };
        self.table().update(&webhook_key(webhook), update.no_ttl(), now).await.map(drop)
    }
}

/// Returns the usage in a webhook's item.
#[must_use]
pub fn webhook_usage(item: &Item) -> WebhookUsage {
    let accepted = number_attr(item, TAKEN).unwrap_or_default();
    let status = number_attr(item, REFUSED_STATUS).and_then(|status| u16::try_from(status).ok());
    WebhookUsage {
        accepted: u64::try_from(accepted).unwrap_or_default(),
        rejected: time_attr(item, REFUSED_AT).zip(status),
    }
}

/// Returns the key of a webhook's item.
#[must_use]
pub fn webhook_key(webhook: &str) -> String {
    format!("webhook#{webhook}")
}
