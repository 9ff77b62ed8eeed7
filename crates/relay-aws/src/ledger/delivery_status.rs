//! What the ledger knows of a delivery, for the caller who has its id.

use jiff::{SignedDuration, Timestamp};
use relay::ports::delivery_status::{DUPLICATE_STATUS, DeliveryStatus, DeliveryStatusSource, Progress};
use relay::ports::queue::StoreError;
use relay_core::delivery::DeliveryId;

use crate::ledger::deliveries::{Ledger, LedgerState, attempt_count, delivery_key, reason_of, state_of};
use crate::ledger::items::{
    DIED_AT, EXPIRES_AT, HELD_SINCE, LAST_ATTEMPT_AT, LAST_STATUS, MESSAGE, RECEIVED_AT, RETRIED_AT,
};
use crate::ledger::table::{Item, TTL, number_attr, string_attr, time_attr};

impl DeliveryStatusSource for Ledger {
    async fn delivery_status(&self, id: &DeliveryId) -> Result<Option<DeliveryStatus>, StoreError> {
        Ok(status_of(&self.table().get(&delivery_key(id)).await?))
    }
}

/// Returns the status in an item. None for one whose caller waits for the answer.
fn status_of(item: &Item) -> Option<DeliveryStatus> {
    let since = |name| time_attr(item, name);
    let (progress, since) = match state_of(item)? {
        LedgerState::Sending => return None,
        LedgerState::Queued if since(HELD_SINCE).is_some() => (Progress::Held, since(HELD_SINCE)),
        LedgerState::Queued => (Progress::Queued, None),
        LedgerState::Delivered if number_attr(item, LAST_STATUS) == Some(DUPLICATE_STATUS.into()) => {
            (Progress::Duplicate, since(LAST_ATTEMPT_AT))
        }
        LedgerState::Delivered => (Progress::Delivered, since(LAST_ATTEMPT_AT)),
        LedgerState::Dead if is_redriven(item) => (Progress::Queued, since(RETRIED_AT)),
        LedgerState::Dead => (Progress::Dead, since(DIED_AT)),
    };
    Some(DeliveryStatus {
        progress,
        since: since.or_else(|| time_attr(item, RECEIVED_AT)).unwrap_or_default(),
        attempts: attempt_count(item),
        reason: reason_of(item),
        message: string_attr(item, MESSAGE).map(str::to_owned),
    })
}

/// Whether an operator has redriven a dead letter, and no worker has changed its item since. The redrive leaves the state and
/// the expiry as they are.
pub(crate) fn is_redriven(item: &Item) -> bool {
    let changed_at = number_attr(item, EXPIRES_AT).and_then(|at| Timestamp::from_second(at).ok()).map(|at| at - TTL);
    time_attr(item, RETRIED_AT).is_some_and(|at| {
        // The expiry is in whole seconds.
        Some(at) > time_attr(item, LAST_ATTEMPT_AT) && Some(at + SignedDuration::from_secs(1)) > changed_at
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;

    fn item(state: &str, numbers: &[(&str, i64)], texts: &[(&str, &str)]) -> Item {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let numbers = numbers.iter().map(|(name, number)| (*name, AttributeValue::N(number.to_string())));
        let texts = texts.iter().map(|(name, value)| (*name, text(value)));
        let all = numbers.chain(texts).chain([("state", text(state))]);
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn progress(item: &Item) -> Option<(Progress, i64)> {
        status_of(item).map(|status| (status.progress, status.since.as_millisecond()))
    }

    #[test]
    fn status_has_the_time_since_when_it_holds() {
        let times = [("received_at", 1_000), ("last_attempt_at", 2_000)];
        let with = |number| [times.as_slice(), &[number]].concat();
        assert_eq!(progress(&item("queued", &times, &[])), Some((Progress::Queued, 1_000)));
        assert_eq!(progress(&item("queued", &with(("held_since", 3_000)), &[])), Some((Progress::Held, 3_000)));
        assert_eq!(progress(&item("delivered", &times, &[])), Some((Progress::Delivered, 2_000)));
        assert_eq!(progress(&item("delivered", &with(("last_status", 409)), &[])), Some((Progress::Duplicate, 2_000)));
        assert_eq!(progress(&item("dead", &with(("died_at", 4_000)), &[])), Some((Progress::Dead, 4_000)));
        assert_eq!(progress(&item("sending", &times, &[])), None);
    }

    #[test]
    fn redriven_dead_letter_is_queued() {
        let redriven = [("last_attempt_at", 2_000), ("died_at", 2_000), ("retried_at", 9_000)];
        assert_eq!(progress(&item("dead", &redriven, &[])), Some((Progress::Queued, 9_000)));
    }

    #[test]
    fn dead_letter_has_reason_attempts_and_message() {
        let texts = [("reason", "loops_rejected"), ("message", "It is no address.")];
        let status =
            status_of(&item("dead", &[("attempts", 2), ("last_status", 400), ("died_at", 1)], &texts)).unwrap();
        let reason = status.reason.map(|reason| (reason.code.as_str(), reason.status));
        assert_eq!((status.attempts, reason), (2, Some(("loops_rejected", Some(400)))));
        assert_eq!(status.message.as_deref(), Some("It is no address."));
    }
}
