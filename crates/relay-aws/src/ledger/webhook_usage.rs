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
    /// What the worker knows of each webhook.
    webhooks: Mutex<BTreeMap<String, KnownUsage>>,
}

/// What a worker knows of a webhook.
#[derive(Debug, Clone, Copy, Default)]
struct KnownUsage {
    /// Number of accepted rows that are not in the item yet.
    uncounted: u32,
    /// The rejection that the item had when it was last read.
    rejected: Option<(Timestamp, u16)>,
    /// A row was accepted after that, so the rejection no longer holds. A newer one of another worker does.
    is_outdated: bool,
}

/// Rows that are being added to a webhook's item. They stay uncounted if the write fails or is broken off.
struct RowsInWrite<'a> {
    ledger: &'a BatchedWebhookLedger,
    webhook: &'a str,
    count: u32,
}

impl Drop for RowsInWrite<'_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.ledger.change(self.webhook, |known| known.uncounted = known.uncounted.saturating_add(self.count));
        }
    }
}

impl BatchedWebhookLedger {
    /// Creates the usage counts in a table.
    pub fn new(table: LedgerTable) -> Self {
        Self { table, webhooks: Mutex::default() }
    }

    /// Writes a change of a webhook's item, and with it the rows that are not counted yet. If that fails, the next write counts
    /// them.
    async fn write(&self, webhook: &str, update: Update, now: Timestamp) -> Result<(), StoreError> {
        let count = self.change(webhook, |known| std::mem::take(&mut known.uncounted));
        let mut rows = RowsInWrite { ledger: self, webhook, count };
        let update = if count > 0 { update.add(TAKEN, i64::from(count)) } else { update };
        self.table.update(&webhook_key(webhook), update.no_ttl(), now).await?;
        rows.count = 0;
        Ok(())
    }

    fn change<T>(&self, webhook: &str, change: impl FnOnce(&mut KnownUsage) -> T) -> T {
        change(self.webhooks().entry(webhook.to_owned()).or_default())
    }

    fn webhooks(&self) -> MutexGuard<'_, BTreeMap<String, KnownUsage>> {
        self.webhooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WebhookLedger for BatchedWebhookLedger {
    async fn usage(&self, webhook: &str) -> Result<WebhookUsage, StoreError> {
        let WebhookUsage { accepted, rejected } = read_usage(&self.table, webhook).await?;
        let known = self.change(webhook, |known| {
            if known.rejected != rejected {
                (known.rejected, known.is_outdated) = (rejected, false);
            }
            *known
        });
        let accepted = accepted.saturating_add(u64::from(known.uncounted));
        Ok(WebhookUsage { accepted, rejected: rejected.filter(|_| !known.is_outdated) })
    }

    async fn record(&self, webhook: &str, submission: Submission, now: Timestamp) -> Result<(), StoreError> {
        match submission {
            Submission::Accepted => {
                self.change(webhook, |known| {
                    known.uncounted = known.uncounted.saturating_add(1);
                    known.is_outdated = known.rejected.is_some();
                });
                Ok(())
            }
            Submission::Rejected(status) => {
                self.change(webhook, |known| (known.rejected, known.is_outdated) = (None, false));
                let update = Update::default().set(REFUSED_AT, now).set(REFUSED_STATUS, i64::from(status));
                self.write(webhook, update, now).await
            }
        }
    }

    async fn flush(&self, now: Timestamp) -> Result<(), StoreError> {
        let uncounted = |(webhook, known): (&String, &KnownUsage)| {
            (known.uncounted > 0).then(|| (webhook.clone(), known.is_outdated))
        };
        let webhooks: Vec<_> = self.webhooks().iter().filter_map(uncounted).collect();
        let mut result = Ok(());
        for (webhook, is_outdated) in webhooks {
            let update = Update::default();
            let update = if is_outdated { update.remove(&[REFUSED_AT, REFUSED_STATUS]) } else { update };
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
