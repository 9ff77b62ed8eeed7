//! What became of a delivery, for the caller who has its id.

use relay::ports::delivery_status::{DUPLICATE_STATUS, DeliveryStatus, DeliveryStatusSource, Progress};
use relay::ports::queue::StoreError;
use relay_core::delivery::{DeliveryId, Reason, ReasonCode};
use rusqlite::{OptionalExtension as _, Row};

use crate::delivery_row::timestamp;
use crate::store::SqliteStore;

impl DeliveryStatusSource for SqliteStore {
    async fn delivery_status(&self, id: &DeliveryId) -> Result<Option<DeliveryStatus>, StoreError> {
        let id = id.as_str().to_owned();
        self.read(move |connection| {
            // The caller of a direct one has its answer from there.
            let sql = "SELECT state, received_at, settled_at, held_since, attempts, reason, status, message
                       FROM deliveries WHERE id = ?1 AND state <> 'direct'";
            connection.prepare_cached(sql)?.query_row([id], status).optional()
        })
        .await
    }
}

fn status(row: &Row<'_>) -> rusqlite::Result<DeliveryStatus> {
    let (state, status): (String, Option<u16>) = (row.get("state")?, row.get("status")?);
    let held_since = timestamp(row, "held_since")?;
    let (progress, since) = match state.as_str() {
        "delivered" if status == Some(DUPLICATE_STATUS) => (Progress::Duplicate, timestamp(row, "settled_at")?),
        "delivered" => (Progress::Delivered, timestamp(row, "settled_at")?),
        "dead" => (Progress::Dead, timestamp(row, "settled_at")?),
        _ if held_since.is_some() => (Progress::Held, held_since),
        _ => (Progress::Queued, None),
    };
    let code = row.get::<_, Option<String>>("reason")?.as_deref().and_then(ReasonCode::parse);
    Ok(DeliveryStatus {
        progress,
        since: since.or(timestamp(row, "received_at")?).unwrap_or_default(),
        attempts: row.get("attempts")?,
        reason: code.map(|code| Reason { code, status }),
        message: row.get("message")?,
    })
}
