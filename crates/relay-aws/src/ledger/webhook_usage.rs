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
            Submission::Accepted => Update::default().remove(&[REFUSED_AT, REFUSED_STATUS]).add(TAKEN, 1),
            Submission::Rejected(status) => {
                Update::default().set(REFUSED_AT, now).set(REFUSED_STATUS, i64::from(status))
            }
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
