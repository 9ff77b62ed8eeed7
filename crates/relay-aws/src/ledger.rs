//! What is known of deliveries and of Clay's webhooks.

use jiff::{SignedDuration, Timestamp};
use relay::store::{StoreFault, Submission, WebhookLedger, WebhookUse};
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{BodyHash, Cargo, Delivery, DeliveryId, Disposition, History, Reason};

use crate::dead_letter::Death;
use crate::failures::counted;
use crate::table::{Change, Item, LedgerTable, number, text, time};

/// How long an attempt keeps others away, should the queue hand out its message twice. A worker that is killed keeps it
/// for no longer, and its message is hidden for longer than that.
const ATTEMPT_LEASE: SignedDuration = SignedDuration::from_secs(15);

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

/// What a worker does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It tries to deliver it; this was tried before.
    Go(History),
    /// It is delivered already: the message is a repeat.
    DoneBefore,
    /// Another body has been delivered, or waits, under its id.
    Conflict,
    /// Its far end asked to be left alone until then, or another worker has it and is to be done by then.
    NotBefore(Timestamp),
}

/// What a delivery that was to die without an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buried {
    /// Dead.
    Dead(Death),
    /// Delivered already.
    DoneBefore,
    /// Another body has been delivered, or waits, under its id.
    Conflict,
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
        let item = self.table.get(&delivery_key(id)).await?;
        Ok(match text(&item, "standing") {
            Some("direct") => Some(Standing::Direct),
            Some("queued") => Some(Standing::Queued),
            Some("done") => Some(Standing::Done),
            Some("dead") => Some(Standing::Dead),
            _ => None,
        })
    }

    /// Notes that a delivery is sent while its caller waits, until then at the longest; false where it is known as
    /// delivered or on its way already. What was known of an earlier end is forgotten: who runs a row again means it.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn set_out(&self, delivery: &Delivery, until: Timestamp, now: Timestamp) -> Result<bool, StoreFault> {
        let change = Change::new(
            "SET standing = :direct, lease_until = :until, body_hash = :hash, received_at = :received, cargo = :cargo, \
             attempts = :none REMOVE reason, last_status, failing_since, held_since, not_before, first_attempt_at, \
             last_attempt_at",
        )
        .only_if("attribute_not_exists(standing) OR standing = :dead OR (standing = :direct AND lease_until < :now)")
        .text(":dead", "dead")
        .text(":direct", "direct")
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

    /// Forgets a delivery that its caller was refused.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn forget(&self, id: &DeliveryId) -> Result<(), StoreFault> {
        self.table.forget(&delivery_key(id)).await
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// When the table cannot be written: nothing may be sent then, because it would not be known.
    pub async fn begin(&self, delivery: &Delivery, now: Timestamp) -> Result<Begun, StoreFault> {
        let change = Change::new(
            "SET standing = if_not_exists(standing, :queued), body_hash = :hash, \
             received_at = if_not_exists(received_at, :received), cargo = if_not_exists(cargo, :cargo), \
             first_attempt_at = if_not_exists(first_attempt_at, :now), last_attempt_at = :now, \
             attempt_until = :lease REMOVE not_before, parked, receipt ADD attempts :one",
        )
        // What is done, or is another body under the id, is no attempt. An event that died and was mended has the same key,
        // and another body.
        .only_if(
            "(attribute_not_exists(not_before) OR not_before <= :now) \
             AND (attribute_not_exists(attempt_until) OR attempt_until <= :now) \
             AND (attribute_not_exists(standing) OR standing <> :done) \
             AND (attribute_not_exists(body_hash) OR body_hash = :hash OR (standing = :dead AND cargo = :event))",
        )
        .text(":done", "done")
        .text(":dead", "dead")
        .text(":event", "event")
        .number(":lease", now.checked_add(ATTEMPT_LEASE).unwrap_or(now).as_millisecond())
        .text(":queued", "queued")
        .number(":now", now.as_millisecond())
        .number(":one", 1);
        let key = delivery_key(&delivery.id);
        let Some(item) = self.table.change(&key, self.describe(change, delivery), now).await? else {
            let item = self.table.get(&key).await?;
            return Ok(if is_conflict(&item, delivery) {
                Begun::Conflict
            } else if text(&item, "standing") == Some("done") {
                Begun::DoneBefore
            } else {
                let not_before = time(&item, "not_before").max(time(&item, "attempt_until"));
                Begun::NotBefore(not_before.unwrap_or(now))
            });
        };
        Ok(Begun::Go(match text(&item, "standing") {
            // A person has taken it out of the dead letters.
            Some("dead") => History::default(),
            _ => History {
                attempts: attempts(&item).saturating_sub(1),
                failing_since: time(&item, "failing_since"),
                held_since: time(&item, "held_since"),
            },
        }))
    }

    /// Notes that a delivery dies without an attempt; what is known of it, where it may not.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn bury(&self, delivery: &Delivery, reason: Reason, now: Timestamp) -> Result<Buried, StoreFault> {
        let change = Change::new(
            "SET standing = :dead, body_hash = :hash, received_at = if_not_exists(received_at, :received), \
             cargo = if_not_exists(cargo, :cargo), reason = :reason, last_status = :status \
             REMOVE failing_since, held_since, not_before, attempt_until, parked, receipt",
        )
        .only_if(
            "(attribute_not_exists(standing) OR standing <> :done) \
             AND (attribute_not_exists(body_hash) OR body_hash = :hash OR (standing = :dead AND cargo = :event))",
        )
        .text(":dead", "dead")
        .text(":done", "done")
        .text(":event", "event");
        let key = delivery_key(&delivery.id);
        match self.table.change(&key, because(self.describe(change, delivery), reason), now).await? {
            Some(item) => Ok(Buried::Dead(Death { reason, attempts: attempts(&item), at: now })),
            None if is_conflict(&self.table.get(&key).await?, delivery) => Ok(Buried::Conflict),
            None => Ok(Buried::DoneBefore),
        }
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

    /// Notes how an attempt ended; gives how many there were.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn end(&self, id: &DeliveryId, end: Disposition, now: Timestamp) -> Result<u32, StoreFault> {
        let (update, standing, reason) = match end {
            Disposition::Delivered => (
                "SET standing = :standing REMOVE reason, last_status, failing_since, held_since, not_before, \
                 lease_until, attempt_until",
                "done",
                None,
            ),
            Disposition::Dead(reason) => (
                "SET standing = :standing, reason = :reason, last_status = :status \
                 REMOVE failing_since, held_since, attempt_until ADD #failed :failure",
                "dead",
                Some(reason),
            ),
            Disposition::TryLater { reason, .. } => (
                "SET standing = :standing, reason = :reason, last_status = :status, \
                 failing_since = if_not_exists(failing_since, :now) REMOVE held_since, attempt_until \
                 ADD #failed :failure",
                "queued",
                Some(reason),
            ),
            Disposition::Hold { reason, .. } => (
                "SET standing = :standing, reason = :reason, last_status = :status, \
                 held_since = if_not_exists(held_since, :now) REMOVE failing_since, attempt_until \
                 ADD #failed :failure",
                "queued",
                Some(reason),
            ),
        };
        let mut change = Change::new(update).text(":standing", standing);
        if let Some(reason) = reason {
            change = counted(because(change, reason), reason);
        }
        if update.contains(":now") {
            change = change.number(":now", now.as_millisecond());
        }
        Ok(self.table.change(&delivery_key(id), change, now).await?.as_ref().map_or(0, attempts))
    }

    /// The values that say what a delivery is: `:hash`, `:received` and `:cargo`, and whom it is about.
    fn describe(&self, change: Change, delivery: &Delivery) -> Change {
        let cargo = match delivery.cargo {
            Cargo::ClayRow { .. } => "row",
            Cargo::LoopsContact => "contact",
            Cargo::LoopsEvent { .. } => "event",
        };
        let change = change
            .text(":hash", BodyHash::of(&delivery.body).as_str())
            .number(":received", delivery.received_at.as_millisecond())
            .text(":cargo", cargo);
        match &self.contact_hash_key {
            Some(key) => change.also("contact_hash = :contact_hash", ":contact_hash", &delivery.contact.hash(key)),
            None => change,
        }
    }
}

/// Whether an item is that of another body, which is not that of an event that died and was mended.
fn is_conflict(item: &Item, delivery: &Delivery) -> bool {
    let other_body = text(item, "body_hash").is_some_and(|known| known != BodyHash::of(&delivery.body).as_str());
    let mended = text(item, "standing") == Some("dead") && matches!(delivery.cargo, Cargo::LoopsEvent { .. });
    other_body && !mended
}

/// How many attempts were begun.
fn attempts(item: &Item) -> u32 {
    u32::try_from(number(item, "attempts").unwrap_or_default()).unwrap_or(u32::MAX)
}

/// The values that say why a delivery was not taken: `:reason` and `:status`, which is 0 where no answer came.
fn because(change: Change, reason: Reason) -> Change {
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

impl WebhookLedger for Ledger {
    async fn usage(&self, webhook: &str) -> Result<WebhookUse, StoreFault> {
        let item = self.table.get(&webhook_key(webhook)).await?;
        let taken = number(&item, "taken").unwrap_or_default();
        let status = number(&item, "refused_status").and_then(|status| u16::try_from(status).ok());
        Ok(WebhookUse {
            taken: u64::try_from(taken).unwrap_or_default(),
            refused: time(&item, "refused_at").zip(status),
        })
    }

    async fn note(&self, webhook: &str, submission: Submission, now: Timestamp) -> Result<(), StoreFault> {
        let change = match submission {
            Submission::Taken => Change::new("REMOVE refused_at, refused_status ADD taken :one").number(":one", 1),
            Submission::Refused(status) => Change::new("SET refused_at = :now, refused_status = :status")
                .number(":now", now.as_millisecond())
                .number(":status", i64::from(status)),
        };
        self.table.change(&webhook_key(webhook), change.forever(), now).await.map(drop)
    }
}

fn delivery_key(id: &DeliveryId) -> String {
    format!("delivery#{id}")
}

fn webhook_key(webhook: &str) -> String {
    format!("webhook#{webhook}")
}
