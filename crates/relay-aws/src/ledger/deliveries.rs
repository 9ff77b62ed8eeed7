//! What is known of deliveries.

use jiff::Timestamp;
use relay::ports::queue::StoreFault;
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{BodyHash, Delivery, DeliveryId, Reason};

use crate::ledger::failure_counts::counted;
use crate::ledger::table::{Change, Item, LedgerTable, text};

/// Where a delivery stands, as the ledger has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Somebody waits while it is sent.
    Direct,
    /// It is in the queue.
    Queued,
    /// It is delivered.
    Done,
    /// It is a dead letter.
    Dead,
}

/// The ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    table: LedgerTable,
    contact_hash_key: Option<ContactHashKey>,
}

impl Ledger {
    /// The ledger in this table.
    #[must_use]
    pub const fn new(table: LedgerTable) -> Self {
        Self { table, contact_hash_key: None }
    }

    /// The same, and whom a delivery is about is in it as a hash under this key, by which a person can look for it.
    #[must_use]
    pub fn with_contact_hash_key(self, contact_hash_key: Option<ContactHashKey>) -> Self {
        Self { contact_hash_key, ..self }
    }

    /// The table, for what else is kept there.
    pub(crate) const fn table(&self) -> &LedgerTable {
        &self.table
    }

    /// Where a delivery stands, if it is known.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn standing(&self, id: &DeliveryId) -> Result<Option<Standing>, StoreFault> {
        Ok(standing(&self.table.get(&delivery_key(id)).await?))
    }

    /// The same of an event, and whether it is another one that is known under its key: one that says something else to
    /// people.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn standing_of_key(&self, event: &Delivery) -> Result<(Option<Standing>, bool), StoreFault> {
        let item = self.table.get(&delivery_key(&event.id)).await?;
        let known = text(&item, "event_hash").filter(|hash| !hash.is_empty());
        let is_another = known.zip(event.event_hash()).is_some_and(|(known, hash)| known != hash);
        Ok((standing(&item), is_another))
    }

    /// Notes that a delivery is sent while its caller waits, who has a name of his own, until then at the longest; false
    /// where it is known as delivered or on its way already. What was known of an earlier end is forgotten: who runs a row
    /// again means it.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn set_out(
        &self,
        delivery: &Delivery,
        caller: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreFault> {
        let change = Change::new(
            "SET standing = :direct, lease_until = :until, body_hash = :hash, received_at = :received, cargo = :cargo, \
             attempts = :none, caller = :caller, event_hash = :said REMOVE reason, last_status, failing_since, held_since, \
             not_before, first_attempt_at, last_attempt_at",
        )
        .only_if(
            "attribute_not_exists(standing) OR standing = :dead \
             OR (standing = :direct AND (lease_until < :now OR caller = :caller))",
        )
        .text(":caller", caller)
        .text(":dead", "dead")
        .text(":direct", "direct")
        .text(":said", &delivery.event_hash().unwrap_or_default())
        .number(":none", 0)
        .number(":until", until.as_millisecond())
        .number(":now", now.as_millisecond());
        Ok(self.table.change(&delivery_key(&delivery.id), self.describe(change, delivery), now).await?.is_some())
    }

    /// Notes that a delivery is in the queue, which it must be before: what is on record as queued is answered as such.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn queued(&self, delivery: &Delivery, now: Timestamp) -> Result<(), StoreFault> {
        // A worker may have been faster: what it has noted stands.
        let change = Change::new(
            "SET standing = :queued, body_hash = :hash, received_at = :received, cargo = :cargo REMOVE lease_until",
        )
        .only_if("attribute_not_exists(standing) OR standing = :direct")
        .text(":queued", "queued")
        .text(":direct", "direct");
        self.table.change(&delivery_key(&delivery.id), self.describe(change, delivery), now).await.map(drop)
    }

    /// Notes what came of a delivery whose caller has waited and that is to join the queue.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn postpone(&self, delivery: &Delivery, postponed: Postponed, now: Timestamp) -> Result<(), StoreFault> {
        let change = Change::new(
            "SET standing = :direct, body_hash = :hash, received_at = :received, cargo = :cargo, \
             attempts = :attempts, not_before = :at, failing_since = :now, reason = :reason, last_status = :status, \
             first_attempt_at = if_not_exists(first_attempt_at, :now), last_attempt_at = :now ADD #failed :failure",
        )
        .text(":direct", "direct")
        .number(":attempts", i64::from(postponed.attempts))
        .number(":at", postponed.at.as_millisecond())
        .number(":now", now.as_millisecond());
        let change = counted(because(self.describe(change, delivery), postponed.reason), postponed.reason);
        self.table.change(&delivery_key(&delivery.id), change, now).await.map(drop)
    }

    /// Notes that a delivery has ended as delivered while its caller waited.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn done_directly(&self, id: &DeliveryId, now: Timestamp) -> Result<(), StoreFault> {
        let change = Change::new(
            "SET standing = :done, first_attempt_at = if_not_exists(first_attempt_at, :now), last_attempt_at = :now \
             REMOVE reason, last_status, failing_since, held_since, not_before, lease_until, attempt_until \
             ADD attempts :one",
        )
        .text(":done", "done")
        .number(":now", now.as_millisecond())
        .number(":one", 1);
        self.table.change(&delivery_key(id), change, now).await.map(drop)
    }

    /// Forgets a delivery that its caller was refused; not what a worker has, or has ended, because it was stored after all.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn forget(&self, id: &DeliveryId) -> Result<(), StoreFault> {
        let condition =
            "attribute_not_exists(standing) OR (standing = :direct AND attribute_not_exists(attempt_until))";
        self.table.forget(&delivery_key(id), condition, (":direct", "direct")).await
    }

    /// Notes by which receipt the message of a delivery that waits can be shown again before its time.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn park(
        &self,
        delivery: &Delivery,
        place: &str,
        receipt: &str,
        now: Timestamp,
    ) -> Result<(), StoreFault> {
        let change = Change::new(
            "SET parked = :parked, receipt = :receipt, standing = if_not_exists(standing, :queued), \
             body_hash = if_not_exists(body_hash, :hash), received_at = if_not_exists(received_at, :received), \
             cargo = if_not_exists(cargo, :cargo)",
        )
        .text(":parked", place)
        .text(":queued", "queued")
        .text(":receipt", receipt);
        self.table.change(&delivery_key(&delivery.id), self.describe(change, delivery), now).await.map(drop)
    }

    /// The receipts of the deliveries that are parked in this place: a page of them.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn parked(&self, place: &str) -> Result<Vec<String>, StoreFault> {
        let items = self.table.parked(place).await?;
        Ok(items.iter().filter_map(|item| text(item, "receipt")).map(str::to_owned).collect())
    }

    /// The values that say what a delivery is: `:hash`, `:received` and `:cargo`; and whom it is about, which stays when
    /// another body comes under its id.
    pub(crate) fn describe(&self, change: Change, delivery: &Delivery) -> Change {
        let change = change
            .text(":hash", BodyHash::of(&delivery.body).as_str())
            .number(":received", delivery.received_at.as_millisecond())
            .text(":cargo", delivery.cargo.kind());
        match &self.contact_hash_key {
            Some(key) => change
                .also("contact_hash = if_not_exists(contact_hash, :contact_hash)")
                .text(":contact_hash", &delivery.contact.hash(key)),
            None => change,
        }
    }
}

fn standing(item: &Item) -> Option<Standing> {
    match text(item, "standing")? {
        "direct" => Some(Standing::Direct),
        "queued" => Some(Standing::Queued),
        "done" => Some(Standing::Done),
        "dead" => Some(Standing::Dead),
        _ => None,
    }
}

/// The values that say why a delivery was not taken: `:reason` and `:status`, which is 0 where no answer came.
pub(crate) fn because(change: Change, reason: Reason) -> Change {
    change.text(":reason", reason.code.as_str()).number(":status", reason.status.map_or(0, i64::from))
}

/// How a delivery joins the queue whose caller has waited for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postponed {
    /// How many attempts were made.
    pub attempts: u32,
    /// When a worker may try it.
    pub at: Timestamp,
    /// Why it was not delivered.
    pub reason: Reason,
}

/// The key of a delivery's item.
#[must_use]
pub fn delivery_key(id: &DeliveryId) -> String {
    format!("delivery#{id}")
}
