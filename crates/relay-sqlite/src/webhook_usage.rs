//! Number of rows that each Clay webhook has accepted, and its last rejection.

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
            match submission {
                // An accepted row shows that an earlier rejection no longer holds.
                Submission::Accepted => transaction
                    .prepare_cached(
                        "INSERT INTO clay_webhooks (key, taken) VALUES (?1, 1)
                         ON CONFLICT DO UPDATE SET taken = taken + 1, refused_at = NULL, refused_status = NULL",
                    )?
                    .execute([webhook]),
                Submission::Rejected(status) => transaction
                    .prepare_cached(
                        "INSERT INTO clay_webhooks (key, refused_at, refused_status) VALUES (?1, ?2, ?3)
                         ON CONFLICT DO UPDATE SET refused_at = ?2, refused_status = ?3",
                    )?
                    .execute(params![webhook, now, status]),
            }
            .map(drop)
        })
        .await
    }
}

/// Returns how a Clay webhook has been used, by its key.
pub(crate) fn webhook_usage(connection: &Connection, key: &str) -> rusqlite::Result<WebhookUsage> {
    let sql = "SELECT taken, refused_at, refused_status FROM clay_webhooks WHERE key = ?1";
    let usage = connection.prepare_cached(sql)?.query_row([key], |row| {
        let rejected_at = delivery_row::timestamp(row, "refused_at")?;
        let rejected_status: Option<u16> = row.get("refused_status")?;
        Ok(WebhookUsage {
            accepted: u64::try_from(row.get::<_, i64>("taken")?).unwrap_or_default(),
            rejected: rejected_at.zip(rejected_status),
        })
    });
    usage.optional().map(Option::unwrap_or_default)
}
