//! Who has the lane past the queue, of which contact.
//!
//! One process serves a data folder, so this is known in its memory, whether or not the file can be written, and for as
//! long as the caller is there: no clock decides it. A `direct` row of the file that nobody here has is what is left of a
//! caller who is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relay_core::contact::ContactKey;
use relay_core::delivery::{Delivery, DeliveryId};

/// The lanes that somebody has.
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
    /// Which taking it was: the same event can have the lane again.
    token: u64,
}

/// The lane of a contact, for as long as this lives.
#[derive(Debug)]
pub struct ContactLockGuard {
    locks: Arc<ContactLocks>,
    /// Nothing where the lane was settled, or passed on to who settles it.
    owned: Option<(ContactKey, u64)>,
}

impl ContactLockGuard {
    /// Leaves the lane taken: who was told so settles it.
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
    /// Takes the lane of the delivery's contact; nothing where somebody has it.
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

    /// The guard of the lane that this delivery has; one of nothing where it has none.
    pub(crate) fn guard(self: &Arc<Self>, delivery: &Delivery) -> ContactLockGuard {
        let table = self.table();
        let holder = table.holders.get(&delivery.contact).filter(|holder| holder.id == delivery.id);
        ContactLockGuard {
            locks: Arc::clone(self),
            owned: holder.map(|holder| (delivery.contact.clone(), holder.token)),
        }
    }

    /// Whether this delivery has the lane of its contact.
    pub(crate) fn is_locked_by(&self, delivery: &Delivery) -> bool {
        self.table().holders.get(&delivery.contact).is_some_and(|holder| holder.id == delivery.id)
    }

    /// The contacts whose lane somebody has, as a JSON array.
    pub(crate) fn locked_contacts(&self) -> String {
        serde_json::Value::from_iter(self.table().holders.keys().map(ContactKey::as_str)).to_string()
    }

    /// The deliveries that have a lane, as a JSON array.
    pub(crate) fn locked_deliveries(&self) -> String {
        serde_json::Value::from_iter(self.table().holders.values().map(|holder| holder.id.as_str())).to_string()
    }

    fn table(&self) -> MutexGuard<'_, LockTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
