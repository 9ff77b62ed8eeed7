//! What the contract says of the three routes and of what becomes of a delivery: the same for every form of the relay.
//! Who includes this says which form by its `Relay`.

pub(crate) mod answers;
mod answers_direct;
mod answers_holds;
pub(crate) mod answers_loops;
mod clay_columns;
pub(crate) mod faults;
mod privacy;
mod row_answers;
mod row_table;
pub(crate) mod rows;
mod rows_keys;
mod rows_loops;
mod rows_queued;
pub(crate) mod signals;
mod typed_properties;
pub(crate) mod webhooks;
mod webhooks_clay;
mod webhooks_signed;
