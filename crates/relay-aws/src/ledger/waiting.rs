//! The deliveries of a contact that are in the queue, as the contact's item lists them.
//!
//! Each has an entry, its [arrival key](arrival_key), in a set. DynamoDB takes items of 400 KB at most and charges each write by
//! the size of the whole item, so the set has [`MAX_LISTED`] entries. Of the deliveries that do not fit, the item has the latest
//! time of arrival (`unlisted_until`): the fast path stays closed until a delivery has ended that arrived long after it. A queue
//! processes a contact's deliveries in their order, so all of them have ended by then.

use std::time::Duration;

use jiff::Timestamp;
use relay_core::delivery::Delivery;

use crate::ledger::items::{DEFERRED_ID, UNLISTED_UNTIL, WAITING};
use crate::ledger::table::{Item, Update, number_attr, string_attr};

/// Most entries of a contact: about 55 bytes each, so that a row of 256 KiB fits into the item as well.
pub(crate) const MAX_LISTED: i64 = 1000;

/// Longest difference between the order of arrival and that of the queue: clocks differ, and sandboxes are frozen.
const REORDER_WINDOW: Duration = Duration::from_secs(600);

/// Entry of a delivery: its time of arrival and its id.
pub(crate) fn arrival_key(delivery: &Delivery) -> String {
    format!("{:015}#{}", delivery.received_at.as_millisecond(), delivery.id)
}

/// Returns the update that lists a delivery, unless the list is full.
pub(crate) fn list(delivery: &Delivery) -> Update {
    Update::default()
        .add(WAITING, vec![arrival_key(delivery)])
        .only_if(format!("attribute_not_exists({WAITING}) OR size({WAITING}) < :max_listed"))
        .bind("max_listed", MAX_LISTED)
}

/// Returns the update for a delivery that the list has no room for, unless a later one is unlisted already.
pub(crate) fn note_unlisted(delivery: &Delivery) -> Update {
    let is_later = format!("attribute_not_exists({UNLISTED_UNTIL}) OR {UNLISTED_UNTIL} < :{UNLISTED_UNTIL}");
    Update::default().set(UNLISTED_UNTIL, delivery.received_at).only_if(is_later)
}

/// Adds the condition that nothing of the contact waits.
pub(crate) fn only_if_none_waits(update: Update) -> Update {
    update.only_if_unchanged(WAITING, None).only_if_unchanged(UNLISTED_UNTIL, None)
}

/// Adds the condition that as much waits as in this item.
pub(crate) fn only_if_unchanged(update: Update, item: &Item) -> Update {
    let update = update.only_if_unchanged(UNLISTED_UNTIL, number_attr(item, UNLISTED_UNTIL));
    match i64::try_from(entries(item).count()) {
        Ok(count @ 1..) => update.only_if(format!("size({WAITING}) = :count")).bind("count", count),
        _ => update.only_if_unchanged(WAITING, None),
    }
}

/// Whether a delivery waits that arrived after this time.
pub(crate) fn has_newer(item: &Item, received_at: Timestamp) -> bool {
    let is_newer = |at: i64| at > received_at.as_millisecond();
    number_attr(item, UNLISTED_UNTIL).is_some_and(is_newer)
        || entries(item).any(|entry| arrival_of(entry).is_some_and(is_newer))
}

/// Whether a delivery is listed.
pub(crate) fn is_listed(item: &Item, delivery: &Delivery) -> bool {
    entries(item).any(|entry| *entry == arrival_key(delivery))
}

/// Returns the updates that remove what is too old to be in the queue still, now that this delivery has ended.
pub(crate) fn remove_stale(item: &Item, ended: &Delivery) -> Vec<Update> {
    let window_ms = REORDER_WINDOW.as_millis().try_into().unwrap_or(i64::MAX);
    let is_stale = |at: &i64| *at < ended.received_at.as_millisecond().saturating_sub(window_ms);
    let deferred_id = string_attr(item, DEFERRED_ID);
    let stale = entries(item).filter(|entry| {
        arrival_of(entry).is_some_and(|at| is_stale(&at)) && deferred_id != entry.split_once('#').map(|(_, id)| id)
    });
    let stale: Vec<String> = stale.cloned().collect();
    let listed = (!stale.is_empty()).then(|| Update::default().delete_from_set(WAITING, stale));
    let unlisted_until = number_attr(item, UNLISTED_UNTIL).filter(is_stale);
    let unlisted = unlisted_until
        .map(|at| Update::default().remove(&[UNLISTED_UNTIL]).only_if_unchanged(UNLISTED_UNTIL, Some(at)));
    listed.into_iter().chain(unlisted).collect()
}

fn arrival_of(entry: &str) -> Option<i64> {
    entry.split_once('#')?.0.parse().ok()
}

fn entries(item: &Item) -> impl Iterator<Item = &String> {
    item.get(WAITING).and_then(|value| value.as_ss().ok()).into_iter().flatten()
}
