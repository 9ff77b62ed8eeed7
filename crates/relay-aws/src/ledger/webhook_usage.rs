//! The usage of Clay's webhooks in the ledger.
//!
//! A worker reads a webhook's item once for a batch, and counts the rows of the batch in one write at its end, because DynamoDB
//! charges by the call. What a killed worker has not counted is lost: the count only warns that a webhook is nearly used up,
//! and Clay's own 403 says that it is.
//!
//! See docs/adr/0017-cost-on-aws.md.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay::ports::webhook_usage::{Submission, WebhookLedger, WebhookUsage};

use crate::ledger::items::{REFUSED_AT, REFUSED_STATUS, TAKEN};
use crate::ledger::table::{Item, LedgerTable, Update, number_attr, time_attr};
use crate::sdk::error::AwsError;

/// The usage of webhooks, as one worker counts it.
#[derive(Debug)]
pub struct BatchedWebhookLedger {
    table: LedgerTable,
    webhooks: Mutex<HashMap<String, KnownWebhook>>,
}

/// What a worker knows of a webhook.
#[derive(Debug, Clone, Copy, Default)]
struct KnownWebhook {
    /// What its item said when it was read for this batch.
    stored: Option<WebhookUsage>,
    /// Number of accepted rows that are not in the item yet.
    uncounted: u32,
}

impl BatchedWebhookLedger {
    /// Creates the usage counts in a table.
    pub fn new(table: LedgerTable) -> Self {
        Self { table, webhooks: Mutex::default() }
    }

    /// Writes a change of a webhook's item, and with it the rows that are not counted yet.
    async fn write(&self, webhook: &str, update: Update, now: Timestamp) -> Result<(), StoreError> {
        let uncounted = std::mem::take(&mut self.known().entry(webhook.to_owned()).or_default().uncounted);
        let update = if uncounted > 0 { update.add(TAKEN, i64::from(uncounted)) } else { update };
        let written = self.table.update(&webhook_key(webhook), update.no_ttl(), now).await;
        let mut webhooks = self.known();
        let known = webhooks.entry(webhook.to_owned()).or_default();
        match written {
            Ok(item) => {
                known.stored = item.as_ref().map(usage_of);
                Ok(())
            }
            Err(error) => {
                // The next write counts them.
                known.uncounted = known.uncounted.saturating_add(uncounted);
                Err(error.into())
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, KnownWebhook>> {
        self.webhooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WebhookLedger for BatchedWebhookLedger {
    async fn usage(&self, webhook: &str) -> Result<WebhookUsage, StoreError> {
        let known = self.known().get(webhook).and_then(|known| known.stored);
        let stored = match known {
            Some(stored) => stored,
            None => {
                let stored = read_usage(&self.table, webhook).await?;
                self.known().entry(webhook.to_owned()).or_default().stored = Some(stored);
                stored
            }
        };
        // Rows are accepted while the item is read.
        let uncounted = self.known().get(webhook).map_or(0, |known| known.uncounted);
        let rejected = stored.rejected.filter(|_| uncounted == 0);
        Ok(WebhookUsage { accepted: stored.accepted.saturating_add(u64::from(uncounted)), rejected })
    }

    async fn record(&self, webhook: &str, submission: Submission, now: Timestamp) -> Result<(), StoreError> {
        match submission {
            Submission::Accepted => {
                let mut webhooks = self.known();
                let known = webhooks.entry(webhook.to_owned()).or_default();
                known.uncounted = known.uncounted.saturating_add(1);
                Ok(())
            }
            Submission::Rejected(status) => {
                let update = Update::default().set(REFUSED_AT, now).set(REFUSED_STATUS, i64::from(status));
                self.write(webhook, update, now).await
            }
        }
    }

    async fn flush(&self, now: Timestamp) -> Result<(), StoreError> {
        let uncounted = |(name, known): (&String, &KnownWebhook)| (known.uncounted > 0).then(|| name.clone());
        let webhooks: Vec<String> = self.known().iter().filter_map(uncounted).collect();
        let mut result = Ok(());
        for webhook in webhooks {
            // An accepted row shows that an earlier rejection no longer holds.
            result =
                result.and(self.write(&webhook, Update::default().remove(&[REFUSED_AT, REFUSED_STATUS]), now).await);
        }
        // The next batch reads anew what other workers have found out.
        self.known().retain(|_, known| {
            known.stored = None;
            known.uncounted > 0
        });
        result
    }
}

/// Returns the usage of a webhook.
///
/// # Errors
/// When the table cannot be read.
pub async fn read_usage(table: &LedgerTable, webhook: &str) -> Result<WebhookUsage, AwsError> {
    Ok(usage_of(&table.get(&webhook_key(webhook)).await?))
}

fn usage_of(item: &Item) -> WebhookUsage {
    let accepted = number_attr(item, TAKEN).unwrap_or_default();
    let status = number_attr(item, REFUSED_STATUS).and_then(|status| u16::try_from(status).ok());
    WebhookUsage {
        accepted: u64::try_from(accepted).unwrap_or_default(),
        rejected: time_attr(item, REFUSED_AT).zip(status),
    }
}

fn webhook_key(webhook: &str) -> String {
    format!("webhook#{webhook}")
}
