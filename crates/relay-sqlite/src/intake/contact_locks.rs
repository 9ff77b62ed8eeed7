//! The contact locks of callers on the fast path.
//!
//! One process serves a data folder, so the locks are in its memory: they hold whether or not the file can be written, and
//! as long as the caller waits, whatever the clock says. A `direct` row without a lock is left of a caller that is gone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId};

/// The delivery that holds the lock of each locked contact. Each acquisition has an `Arc` of its own, which tells it from a
/// later one by the same event.
#[derive(Debug, Default)]
pub(crate) struct ContactLocks(Mutex<HashMap<ContactKey, Arc<DeliveryId>>>);

/// The contact lock of a delivery, until this is dropped.
#[derive(Debug)]
pub struct ContactLockGuard {
    locks: Arc<ContactLocks>,
    /// None if the guard has no lock to release.
    owned: Option<(ContactKey, Arc<DeliveryId>)>,
}

impl ContactLockGuard {
    /// Leaves the contact locked: the caller that was told to send releases the lock.
    pub(crate) fn release_ownership(mut self) {
        self.owned = None;
    }
}

impl Drop for ContactLockGuard {
    fn drop(&mut self) {
        let Some((contact, id)) = self.owned.take() else { return };
        let mut holders = self.locks.holders();
        if holders.get(&contact).is_some_and(|holder| Arc::ptr_eq(holder, &id)) {
            holders.remove(&contact);
        }
    }
}

impl ContactLocks {
    /// Locks the contact of a delivery. None if it is locked.
    pub(crate) fn try_lock(self: &Arc<Self>, delivery: &Delivery) -> Option<ContactLockGuard> {
        let mut holders = self.holders();
        let Entry::Vacant(entry) = holders.entry(delivery.contact.clone()) else { return None };
        let id = Arc::clone(entry.insert(Arc::new(delivery.id.clone())));
        Some(ContactLockGuard { locks: Arc::clone(self), owned: Some((delivery.contact.clone(), id)) })
    }

    /// Returns a guard of the lock that a delivery holds, which guards nothing if it holds none.
    pub(crate) fn guard(self: &Arc<Self>, delivery: &Delivery) -> ContactLockGuard {
        let holder = self.holders().get(&delivery.contact).filter(|id| ***id == delivery.id).map(Arc::clone);
        ContactLockGuard { locks: Arc::clone(self), owned: holder.map(|id| (delivery.contact.clone(), id)) }
    }

    pub(crate) fn is_locked_by(&self, delivery: &Delivery) -> bool {
        self.holders().get(&delivery.contact).is_some_and(|id| **id == delivery.id)
    }

    /// Whether another caller holds a lock for a delivery with this id, of whatever contact. `has_lock`: the lock of the
    /// delivery's own contact is its caller's.
    pub(crate) fn is_sent_for_another(&self, delivery: &Delivery, has_lock: bool) -> bool {
        let is_other = |(contact, id): (&ContactKey, &Arc<DeliveryId>)| {
            **id == delivery.id && !(has_lock && *contact == delivery.contact)
        };
        self.holders().iter().any(is_other)
    }

    /// Returns the locked contacts as a JSON array.
    pub(crate) fn locked_contacts(&self) -> String {
        serde_json::Value::from_iter(self.holders().keys().map(ContactKey::as_str)).to_string()
    }

    /// Returns the ids of the deliveries that hold a lock, as a JSON array.
    pub(crate) fn locked_deliveries(&self) -> String {
        serde_json::Value::from_iter(self.holders().values().map(|id| id.as_str())).to_string()
    }

    fn holders(&self) -> MutexGuard<'_, HashMap<ContactKey, Arc<DeliveryId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
