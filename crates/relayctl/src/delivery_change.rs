//! A change of a delivery, as `tail` prints it.

use jiff::Timestamp;
use relay_core::delivery_state::DeliveryState;
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryChange {
    pub(crate) at: Timestamp,
    pub(crate) direction: String,
    pub(crate) id: String,
    pub(crate) state: DeliveryState,
    pub(crate) reason: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) attempts: Option<u32>,
    pub(crate) webhook_id: Option<String>,
}
