//! A relay's listing of its deliveries.

use std::future::Future;

use serde_json::Value;

use crate::eventually;

/// A relay that lists its deliveries.
pub trait ListDeliveries {
    /// Its deliveries in the order of their arrival, each with at least `id`, `direction`, `state`, `attempts`,
    /// `reason`.
    fn deliveries(&self) -> impl Future<Output = Vec<Value>>;

    /// Waits until the only delivery is in a state, and gives it.
    fn wait_for_state(&self, state: &str) -> impl Future<Output = Value> {
        async move { wait_for_first(self, "state", state).await }
    }

    /// Waits until the only delivery has this reason, and gives it.
    fn wait_for_reason(&self, reason: &str) -> impl Future<Output = Value> {
        async move { wait_for_first(self, "reason", reason).await }
    }
}

async fn wait_for_first<L: ListDeliveries + ?Sized>(relay: &L, field: &str, value: &str) -> Value {
    eventually(&format!("one delivery whose {field} is {value}"), async || {
        let deliveries = relay.deliveries().await;
        deliveries.into_iter().next().filter(|delivery| delivery[field] == value)
    })
    .await
}
