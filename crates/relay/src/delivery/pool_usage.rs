//! Usage of a pool of Clay webhooks.

use relay_core::webhook::route::CLAY_WEBHOOK_ROW_LIMIT;

use crate::ports::webhook_usage::{Submission, WebhookUsage};
use crate::telemetry::event::PoolUsageSample;

/// Rows that the webhooks of a pool have accepted, according to the ledger.
#[derive(Debug, Default)]
pub(crate) struct PoolUsage {
    webhooks: Vec<(String, u64)>,
    incomplete: bool,
}

impl PoolUsage {
    /// Adds a webhook; nothing is known of one whose record could not be read.
    pub(crate) fn add(&mut self, webhook: String, usage: Option<WebhookUsage>) {
        self.incomplete |= usage.is_none();
        let usage = usage.unwrap_or_default();
        let used_up = matches!(usage.rejected, Some((_, 403)));
        self.webhooks
            .push((webhook, if used_up { usage.accepted.max(CLAY_WEBHOOK_ROW_LIMIT) } else { usage.accepted }));
    }

    /// Adds a webhook's response to a row. Returns the usage of the pool, if it is known.
    pub(crate) fn record(&mut self, webhook: &str, submission: Submission) -> Option<PoolUsageSample> {
        let mut submissions = 0;
        for (_, accepted) in self.webhooks.iter_mut().filter(|(fingerprint, _)| fingerprint == webhook) {
            *accepted = match submission {
                Submission::Accepted => accepted.saturating_add(1),
                // Such a webhook is used up, whatever was counted.
                Submission::Rejected(403) => (*accepted).max(CLAY_WEBHOOK_ROW_LIMIT),
                Submission::Rejected(_) => *accepted,
            };
            submissions = *accepted;
        }
        let total: u64 = self.webhooks.iter().map(|(_, accepted)| *accepted.min(&CLAY_WEBHOOK_ROW_LIMIT)).sum();
        let capacity = CLAY_WEBHOOK_ROW_LIMIT.saturating_mul(u64::try_from(self.webhooks.len()).ok()?);
        let used_percent = total.saturating_mul(100).checked_div(capacity)?;
        (!self.incomplete).then(|| PoolUsageSample { webhook: webhook.to_owned(), submissions, used_percent })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn usage(accepted: u64, status: Option<u16>) -> Option<WebhookUsage> {
        Some(WebhookUsage { accepted, rejected: status.map(|status| (Timestamp::UNIX_EPOCH, status)) })
    }

    fn pool(webhooks: [Option<WebhookUsage>; 2]) -> PoolUsage {
        let mut pool_usage = PoolUsage::default();
        for (name, usage) in ["a", "b"].into_iter().zip(webhooks) {
            pool_usage.add(name.to_owned(), usage);
        }
        pool_usage
    }

    #[test]
    fn pool_usage_percent_sums_all_webhooks() {
        let sample = pool([usage(50_000, Some(403)), usage(29_999, None)]).record("b", Submission::Accepted).unwrap();
        assert_eq!((sample.submissions, sample.used_percent), (30_000, 80));
    }

    #[test]
    fn webhook_answering_403_counts_as_exhausted() {
        let mut pool = pool([usage(3, Some(403)), usage(49_000, None)]);
        assert_eq!(pool.record("b", Submission::Rejected(403)).unwrap().used_percent, 100);
    }

    #[test]
    fn webhook_answering_404_does_not_count_as_exhausted() {
        assert_eq!(
            pool([usage(0, None), usage(0, Some(404))]).record("a", Submission::Rejected(404)).unwrap().used_percent,
            0
        );
    }

    #[test]
    fn unreadable_ledger_yields_no_pool_usage() {
        assert!(pool([None, usage(1, None)]).record("b", Submission::Accepted).is_none());
    }
}
