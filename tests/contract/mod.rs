//! The contract of the routes and of a delivery's course: the same for each deployment of the relay. A binary
//! that includes this names its deployment `Relay`.

mod api;
mod correlation;
mod delivery_status;
pub(crate) mod faults;
mod pools;
mod privacy;
mod rate_limit;
pub(crate) mod responses;
pub(crate) mod rows;
mod scopes;
pub(crate) mod telemetry;
pub(crate) mod webhooks;
