//! What each Clay webhook has taken.

use jiff::Timestamp;
use relay::ports::queue::StoreError;
use relay::ports::webhook_usage::{Submission, WebhookLedger, WebhookUsage};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::delivery_row;
use crate::store::SqliteStore;

impl WebhookLedger for SqliteStore {
    async fn usage(&self, webhook: &str) -> Result<WebhookUsage, StoreError> {
        let webhook = webhook.to_owned();
        self.read(move |connection| webhook_usage(connection, &webhook)).await
    }

    async fn record(&self, webhook: &str, submission: Submission, now: Timestamp) -> Result<(), StoreError> {
        let (webhook, now) = (webhook.to_owned(), now.as_millisecond());
        self.write(move |transaction| {
            transaction.prepare_cached("INSERT OR IGNORE INTO clay_webhooks (key) VALUES (?1)")?.execute([&webhook])?;
            match submission {
                // A webhook that takes a row takes rows: what it answered before no longer holds.
                Submission::Accepted => transaction
                    .prepare_cached(
                        "UPDATE clay_webhooks SET taken = taken + 1, refused_at = NULL, refused_status = NULL WHERE key = ?1",
                    )?
                    .execute([&webhook])?,
                Submission::Rejected(status) => transaction
                    .prepare_cached("UPDATE clay_webhooks SET refused_at = ?2, refused_status = ?3 WHERE key = ?1")?
                    .execute(params![webhook, now, status])?,
            };
            Ok(())
        })
        .await
    }
}

/// How a Clay webhook has been used, by its key.
///
/// # Errors
/// When the store cannot be read.
pub fn webhook_usage(connection: &Connection, key: &str) -> rusqlite::Result<WebhookUsage> {
    connection
        .prepare_cached("SELECT taken, refused_at, refused_status FROM clay_webhooks WHERE key = ?1")?
        .query_row([key], |row| {
            let rejected_at: Option<i64> = row.get(1)?;
            let rejected_status: Option<u16> = row.get(2)?;
            let accepted = u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default();
            Ok(WebhookUsage { accepted, rejected: rejected_at.map(delivery_row::timestamp).zip(rejected_status) })
        })
        .optional()
        .map(Option::unwrap_or_default)
}
