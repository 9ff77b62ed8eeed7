//! The port to the usage counts of Clay webhooks.

use std::future::Future;

use jiff::Timestamp;

use crate::ports::queue::StoreError;

/// Usage of a Clay webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WebhookUsage {
    /// Number of rows that it has accepted.
    pub accepted: u64,
    /// Time and status of its last response that it accepts no more rows.
    pub rejected: Option<(Timestamp, u16)>,
}

/// Response of a Clay webhook to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submission {
    /// It accepted the row.
    Accepted,
    /// It accepts no more rows, said with this status.
    Rejected(u16),
}

/// The usage counts of Clay webhooks. A webhook accepts 50,000 rows in its life, and only the relay counts them.
pub trait WebhookLedger: Send + Sync {
    /// Returns the usage of the webhook with this [fingerprint](relay_core::webhook::route::ClayWebhook::fingerprint).
    fn usage(&self, webhook: &str) -> impl Future<Output = Result<WebhookUsage, StoreError>> + Send;

    /// Records a response. A store may count accepted rows later, by the next [`flush`](Self::flush).
    fn record(
        &self,
        webhook: &str,
        submission: Submission,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores what is recorded and not stored yet. After an error it is kept for the next time.
    fn flush(&self, _now: Timestamp) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Ok(()) }
    }
}
