//! The HTTP server: connections, routes, health and metrics.

pub mod accept;
pub mod health;
pub mod routes;
