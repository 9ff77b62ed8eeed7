//! What the contract says of the three routes and of what becomes of a delivery: the same for every form of the relay.
//! Who includes this says which form by its `Relay`.

mod clay_columns;
mod correlation;
pub(crate) mod faults;
mod held;
mod pace;
mod pools;
mod privacy;
pub(crate) mod responses_clay;
pub(crate) mod responses_loops;
mod responses_sync;
mod row_response;
mod row_table;
pub(crate) mod rows;
mod rows_async;
mod rows_keys;
mod rows_loops;
pub(crate) mod signals;
mod typed_properties;
pub(crate) mod webhooks;
mod webhooks_clay;
mod webhooks_signed;
