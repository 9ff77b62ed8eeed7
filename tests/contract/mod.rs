//! What the contract says of the three routes and of what becomes of a delivery: the same for each deployment of the relay.
//! The binary that includes this names the deployment by its `Relay`.

mod correlation;
pub(crate) mod faults;
mod pools;
mod privacy;
mod rate_limit;
pub(crate) mod responses;
pub(crate) mod rows;
pub(crate) mod telemetry;
pub(crate) mod webhooks;
