//! The contact locks of callers on the fast path.
//!
//! One process serves a data folder, so the locks are in its memory: they hold whether or not the file can be written, and
//! as long as the caller waits, whatever the clock says. A `direct` row without a lock is left of a caller that is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId};

#[derive(Debug, Default)]
pub(crate) struct ContactLocks(Mutex<LockTable>);

#[derive(Debug, Default)]
struct LockTable {
    holders: HashMap<ContactKey, Holder>,
    next_token: u64,
}

#[derive(Debug)]
struct Holder {
    id: DeliveryId,
    /// Tells this acquisition from a later one by the same event.
    token: u64,
}

/// The contact lock of a delivery, until this is dropped.
#[derive(Debug)]
pub struct ContactLockGuard {
    locks: Arc<ContactLocks>,
    /// None if the guard has no lock to release.
    owned: Option<(ContactKey, u64)>,
}

impl ContactLockGuard {
    /// Leaves the contact locked: the caller that was told to send releases the lock.
    pub(crate) fn release_ownership(mut self) {
        self.owned = None;
    }
}

impl Drop for ContactLockGuard {
    fn drop(&mut self) {
        let Some((contact, token)) = self.owned.take() else { return };
        let mut table = self.locks.table();
        if table.holders.get(&contact).is_some_and(|holder| holder.token == token) {
            table.holders.remove(&contact);
        }
    }
}

impl ContactLocks {
    /// Locks the contact of a delivery. None if it is locked.
    pub(crate) fn try_lock(self: &Arc<Self>, delivery: &Delivery) -> Option<ContactLockGuard> {
        let mut table = self.table();
        if table.holders.contains_key(&delivery.contact) {
            return None;
        }
        let token = table.next_token;
        table.next_token = token.wrapping_add(1);
        table.holders.insert(delivery.contact.clone(), Holder { id: delivery.id.clone(), token });
        Some(ContactLockGuard { locks: Arc::clone(self), owned: Some((delivery.contact.clone(), token)) })
    }

    /// Returns a guard of the lock that a delivery holds, which guards nothing if it holds none.
    pub(crate) fn guard(self: &Arc<Self>, delivery: &Delivery) -> ContactLockGuard {
        let table = self.table();
        let holder = table.holders.get(&delivery.contact).filter(|holder| holder.id == delivery.id);
        ContactLockGuard {
            locks: Arc::clone(self),
            owned: holder.map(|holder| (delivery.contact.clone(), holder.token)),
        }
    }

    pub(crate) fn is_locked_by(&self, delivery: &Delivery) -> bool {
        self.table().holders.get(&delivery.contact).is_some_and(|holder| holder.id == delivery.id)
    }

    /// Returns the locked contacts as a JSON array.
    pub(crate) fn locked_contacts(&self) -> String {
        serde_json::Value::from_iter(self.table().holders.keys().map(ContactKey::as_str)).to_string()
    }

    /// Returns the ids of the deliveries that hold a lock, as a JSON array.
    pub(crate) fn locked_deliveries(&self) -> String {
        serde_json::Value::from_iter(self.table().holders.values().map(|holder| holder.id.as_str())).to_string()
    }

    fn table(&self) -> MutexGuard<'_, LockTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
