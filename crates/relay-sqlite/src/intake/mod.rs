//! How deliveries arrive.

pub(crate) mod contact_locks;
mod delivery_status;
mod queue;
pub(crate) mod row_intake;
mod stored_event;
