//! The usage of Clay's webhooks in the ledger.
//!
//! A worker counts the rows of a batch in one write at its end, because DynamoDB charges by the write. What a killed worker has
//! not counted is lost: the count only warns that a webhook is nearly used up, and Clay's own 403 says that it is.
//!
//! See docs/adr/0017-cost-on-aws.md.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay::ports::webhook_usage::{Submission, WebhookLedger, WebhookUsage};

use crate::ledger::items::{REFUSED_AT, REFUSED_STATUS, TAKEN};
use crate::ledger::table::{LedgerTable, Update, number_attr, time_attr};
use crate::sdk::error::AwsError;

/// The usage of webhooks, as one worker counts it.
#[derive(Debug)]
pub struct BatchedWebhookLedger {
    table: LedgerTable,
    /// Number of accepted rows that are not in the item yet, by webhook.
    uncounted: Mutex<BTreeMap<String, u32>>,
}

impl BatchedWebhookLedger {
    /// Creates the usage counts in a table.
    pub fn new(table: LedgerTable) -> Self {
        Self { table, uncounted: Mutex::default() }
    }

    /// Writes a change of a webhook's item, and with it the rows that are not counted yet. If that fails, the next write counts
    /// them.
    async fn write(&self, webhook: &str, update: Update, now: Timestamp) -> Result<(), StoreError> {
        let rows = self.uncounted().remove(webhook).unwrap_or_default();
        let update = if rows > 0 { update.add(TAKEN, i64::from(rows)) } else { update };
        let written = self.table.update(&webhook_key(webhook), update.no_ttl(), now).await;
        if written.is_err() {
            self.add_uncounted(webhook, rows);
        }
        Ok(written.map(drop)?)
    }

    fn add_uncounted(&self, webhook: &str, rows: u32) {
        let mut uncounted = self.uncounted();
        let known = uncounted.entry(webhook.to_owned()).or_default();
        *known = known.saturating_add(rows);
    }

    fn uncounted(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.uncounted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WebhookLedger for BatchedWebhookLedger {
    async fn usage(&self, webhook: &str) -> Result<WebhookUsage, StoreError> {
        let WebhookUsage { accepted, rejected } = read_usage(&self.table, webhook).await?;
        let uncounted = self.uncounted().get(webhook).copied().unwrap_or_default();
        let accepted = accepted.saturating_add(u64::from(uncounted));
        // An accepted row shows that an earlier rejection no longer holds.
        Ok(WebhookUsage { accepted, rejected: rejected.filter(|_| uncounted == 0) })
    }

    async fn record(&self, webhook: &str, submission: Submission, now: Timestamp) -> Result<(), StoreError> {
        match submission {
            Submission::Accepted => {
                self.add_uncounted(webhook, 1);
                Ok(())
            }
            Submission::Rejected(status) => {
                let update = Update::default().set(REFUSED_AT, now).set(REFUSED_STATUS, i64::from(status));
                self.write(webhook, update, now).await
            }
        }
    }

    async fn flush(&self, now: Timestamp) -> Result<(), StoreError> {
        let webhooks: Vec<String> = self.uncounted().keys().cloned().collect();
        let mut result = Ok(());
        for webhook in webhooks {
            let update = Update::default().remove(&[REFUSED_AT, REFUSED_STATUS]);
            result = result.and(self.write(&webhook, update, now).await);
        }
        result
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
