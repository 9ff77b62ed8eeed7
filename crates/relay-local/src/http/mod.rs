//! The HTTP server: connections, routes, health and metrics.

pub(crate) mod accept;
pub(crate) mod connections;
pub(crate) mod health;
mod incoming_body;
pub(crate) mod routes;
