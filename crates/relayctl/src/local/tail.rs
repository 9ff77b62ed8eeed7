//! Changes of the deliveries of a data folder, read from its store.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use relay::ports::admin::DeliveryRecord;
use relay_doctor::local_error::LocalError;
use relay_sqlite::admin::SqliteAdmin;
use relay_sqlite::data_dir::DataDir;

use crate::delivery_change::DeliveryChange;

/// Time that two polls share, so that no change falls between them.
const OVERLAP: SignedDuration = SignedDuration::from_secs(5);

/// A poll of the store that goes on where the last one ended.
#[derive(Debug)]
pub(crate) struct StoreTail {
    admin: SqliteAdmin,
    last_poll: Timestamp,
    /// `seq` of the delivery that had arrived last.
    last_seq: i64,
    /// The deliveries of the last poll, by `seq`.
    previous: BTreeMap<i64, DeliveryRecord>,
}

impl StoreTail {
    /// Follows the store from a time on.
    pub(crate) fn open(data_dir: &DataDir, since: Timestamp) -> Result<Self, LocalError> {
        let admin = SqliteAdmin::open(data_dir.path())?;
        let last_seq = admin.last_seq()?;
        let mut tail = Self { admin, last_poll: since, last_seq, previous: BTreeMap::new() };
        // What was so before is no change.
        tail.poll()?;
        Ok(tail)
    }

    /// Returns the changes since the last poll.
    pub(crate) fn poll(&mut self) -> Result<Vec<DeliveryChange>, LocalError> {
        let now = Timestamp::now();
        let since = self.last_poll.checked_sub(OVERLAP).unwrap_or(Timestamp::MIN);
        let records = self.admin.changed(self.last_seq, since)?;
        let changed = records
            .iter()
            .filter(|(seq, record)| self.previous.get(seq).is_none_or(|previous| !is_unchanged(previous, record)));
        let mut changes: Vec<DeliveryChange> = changed.map(|(_, record)| to_change(record, now)).collect();
        self.last_seq = records.keys().next_back().map_or(self.last_seq, |latest| self.last_seq.max(*latest));
        self.previous = records;
        self.last_poll = now;
        changes.sort_by_key(|change| change.at);
        Ok(changes)
    }
}

fn is_unchanged(previous: &DeliveryRecord, record: &DeliveryRecord) -> bool {
    let shown = |record: &DeliveryRecord| (record.state, record.attempts, record.status);
    shown(previous) == shown(record) && previous.reason == record.reason
}

fn to_change(record: &DeliveryRecord, now: Timestamp) -> DeliveryChange {
    DeliveryChange {
        at: record.settled_at.unwrap_or(now),
        direction: record.direction.as_str().to_owned(),
        id: record.id.clone(),
        state: record.state,
        reason: record.reason.clone(),
        status: record.status,
        attempts: Some(record.attempts),
        webhook_id: record.webhook_id.clone(),
    }
}
