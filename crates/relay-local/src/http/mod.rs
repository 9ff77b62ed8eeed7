//! The HTTP server: connections, routes, health and metrics.

pub(crate) mod accept;
pub(crate) mod health;
pub(crate) mod routes;
