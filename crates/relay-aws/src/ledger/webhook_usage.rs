//! The usage of Clay's webhooks in the ledger.

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay::ports::webhook_usage::{Submission, WebhookLedger, WebhookUsage};

use crate::ledger::deliveries::Ledger;
use crate::ledger::items::{REFUSED_AT, REFUSED_STATUS, TAKEN};
use crate::ledger::table::{LedgerTable, Update, number_attr, time_attr};
use crate::sdk::error::AwsError;

impl WebhookLedger for Ledger {
    async fn usage(&self, webhook: &str) -> Result<WebhookUsage, StoreError> {
        Ok(read_usage(self.table(), webhook).await?)
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
        self.table().update(&webhook_key(webhook), update.no_ttl(), now).await?;
        Ok(())
    }
}

/// Returns the usage of a webhook.
///
/// # Errors
/// When the table cannot be read.
pub async fn read_usage(table: &LedgerTable, webhook: &str) -> Result<WebhookUsage, AwsError> {
    let item = table.get(&webhook_key(webhook)).await?;
    let accepted = number_attr(&item, TAKEN).unwrap_or_default();
    let status = number_attr(&item, REFUSED_STATUS).and_then(|status| u16::try_from(status).ok());
    Ok(WebhookUsage {
        accepted: u64::try_from(accepted).unwrap_or_default(),
        rejected: time_attr(&item, REFUSED_AT).zip(status),
    })
}

fn webhook_key(webhook: &str) -> String {
    format!("webhook#{webhook}")
}
