//! The usage of Clay's webhooks in the ledger.
//!
//! A worker counts the rows of a batch in one write at its end, and reads a webhook's item once a minute, because DynamoDB
//! charges by the call. What a killed worker has not counted is lost: the count only warns that a webhook is nearly used up,
//! and Clay's own 403 says that it is.
//!
//! See docs/adr/0017-cost-on-aws.md.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use relay::ports::clock::SharedClock;
use relay::ports::queue::StoreError;
use relay::ports::webhook_usage::{Submission, WebhookLedger, WebhookUsage};

use crate::ledger::items::{REFUSED_AT, REFUSED_STATUS, TAKEN};
use crate::ledger::table::{Item, LedgerTable, Update, number_attr, time_attr};
use crate::sdk::error::AwsError;

/// How long an item that was read is used. Until then, a row may be posted to a webhook that another sandbox has found used up.
const MAX_AGE: SignedDuration = SignedDuration::from_secs(60);

/// The usage of webhooks, as one worker counts it.
#[derive(Debug)]
pub struct BatchedWebhookLedger {
    table: LedgerTable,
    clock: SharedClock,
    webhooks: Mutex<HashMap<String, KnownWebhook>>,
}

/// What a worker knows of a webhook.
#[derive(Debug, Clone, Copy, Default)]
struct KnownWebhook {
    /// When its item was read, and what it said.
    stored: Option<(Timestamp, WebhookUsage)>,
    /// Number of accepted rows that are not in the item yet.
    uncounted: u32,
}

impl BatchedWebhookLedger {
    /// Creates the usage counts in a table.
    pub fn new(table: LedgerTable, clock: SharedClock) -> Self {
        Self { table, clock, webhooks: Mutex::default() }
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
                known.stored = item.map(|item| (self.clock.now(), usage_of(&item)));
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
        let (known, now) = (self.known().get(webhook).copied().unwrap_or_default(), self.clock.now());
        let is_recent = |read_at: Timestamp| now.duration_since(read_at).abs() <= MAX_AGE;
        let stored = match known.stored.filter(|(read_at, _)| is_recent(*read_at)) {
            Some((_, usage)) => usage,
            None => {
                let usage = read_usage(&self.table, webhook).await?;
                self.known().entry(webhook.to_owned()).or_default().stored = Some((now, usage));
                usage
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
        for webhook in webhooks {
            // An accepted row shows that an earlier rejection no longer holds.
            self.write(&webhook, Update::default().remove(&[REFUSED_AT, REFUSED_STATUS]), now).await?;
        }
        Ok(())
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
