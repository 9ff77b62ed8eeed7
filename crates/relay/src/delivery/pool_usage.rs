//! How near a pool of Clay webhooks is to its end.

use relay_core::webhook::route::WEBHOOK_ROW_LIMIT;

use crate::ports::queue::WebhookUsage;
use crate::telemetry::event::PoolUsageSample;

/// What the webhooks of a pool have taken, as far as the ledger tells.
#[derive(Debug, Default)]
pub(crate) struct PoolUsage {
    webhooks: Vec<(String, u64)>,
    unknown: bool,
}

impl PoolUsage {
    /// Adds a webhook; nothing is known of one whose record could not be read.
    pub(crate) fn add(&mut self, webhook: String, usage: Option<WebhookUsage>) {
        self.unknown |= usage.is_none();
        let usage = usage.unwrap_or_default();
        let used_up = matches!(usage.refused, Some((_, 403)));
        self.webhooks.push((webhook, if used_up { usage.taken.max(WEBHOOK_ROW_LIMIT) } else { usage.taken }));
    }

    /// The pool, now that this webhook took a row more.
    pub(crate) fn record_accepted(&mut self, webhook: &str) -> Option<PoolUsageSample> {
        self.update(webhook, |taken| taken.saturating_add(1))
    }

    /// The pool, now that this webhook takes no more: one that answers 403 is used up, whatever was counted.
    pub(crate) fn record_rejected(&mut self, webhook: &str, status: u16) -> Option<PoolUsageSample> {
        self.update(webhook, |taken| if status == 403 { taken.max(WEBHOOK_ROW_LIMIT) } else { taken })
    }

    fn update(&mut self, webhook: &str, change: impl Fn(u64) -> u64) -> Option<PoolUsageSample> {
        let mut submissions = 0;
        for (_, taken) in self.webhooks.iter_mut().filter(|(known, _)| known == webhook) {
            *taken = change(*taken);
            submissions = *taken;
        }
        let all: u64 = self.webhooks.iter().map(|(_, taken)| *taken.min(&WEBHOOK_ROW_LIMIT)).sum();
        let room = WEBHOOK_ROW_LIMIT.saturating_mul(u64::try_from(self.webhooks.len()).ok()?);
        let used_percent = all.saturating_mul(100).checked_div(room)?;
        (!self.unknown).then(|| PoolUsageSample { webhook: webhook.to_owned(), submissions, used_percent })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn usage(taken: u64, status: Option<u16>) -> Option<WebhookUsage> {
        Some(WebhookUsage { taken, refused: status.map(|status| (Timestamp::UNIX_EPOCH, status)) })
    }

    fn pool(webhooks: [Option<WebhookUsage>; 2]) -> PoolUsage {
        let mut count = PoolUsage::default();
        for (name, usage) in ["a", "b"].into_iter().zip(webhooks) {
            count.add(name.to_owned(), usage);
        }
        count
    }

    #[test]
    fn a_pool_is_used_as_far_as_its_webhooks_together() {
        let used = pool([usage(50_000, Some(403)), usage(29_999, None)]).record_accepted("b").unwrap();
        assert_eq!((used.submissions, used.used_percent), (30_000, 80));
    }

    #[test]
    fn a_webhook_that_answers_403_is_used_up_whatever_was_counted() {
        let mut pool = pool([usage(3, Some(403)), usage(49_000, None)]);
        assert_eq!(pool.record_rejected("b", 403).unwrap().used_percent, 100);
    }

    #[test]
    fn one_that_is_gone_is_not_used_up() {
        assert_eq!(pool([usage(0, None), usage(0, Some(404))]).record_rejected("a", 404).unwrap().used_percent, 0);
    }

    #[test]
    fn nothing_is_said_of_a_pool_whose_record_could_not_be_read() {
        assert!(pool([None, usage(1, None)]).record_accepted("b").is_none());
    }
}
