//! What is known of deliveries and of Clay's webhooks.

use jiff::{SignedDuration, Timestamp};
use relay::store::{StoreFault, Submission, WebhookLedger, WebhookUse};
use relay_core::contact::ContactHashKey;
use relay_core::delivery::{BodyHash, Cargo, Delivery, DeliveryId, Disposition, History, Reason};

use crate::table::{Change, LedgerTable, number, text, time};

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
             attempts = :none REMOVE reason, last_status, failing_since, held_since, not_before",
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
             attempts = :attempts, not_before = :at, failing_since = :now, reason = :reason, last_status = :status",
        )
        .text(":direct", "direct")
        .number(":attempts", i64::from(postponed.attempts))
        .number(":at", postponed.at.as_millisecond())
        .number(":now", now.as_millisecond());
        let change = because(self.describe(change, delivery), postponed.reason);
        self.table.change(&delivery_key(&delivery.id), change, now).await.map(drop)
    }

    /// Notes that a delivery has ended as delivered, by an attempt that is on record.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn done(&self, id: &DeliveryId, now: Timestamp) -> Result<(), StoreFault> {
        self.delivered(id, 0, now).await
    }

    /// Notes that a delivery has ended as delivered while its caller waited.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn done_directly(&self, id: &DeliveryId, now: Timestamp) -> Result<(), StoreFault> {
        self.delivered(id, 1, now).await
    }

    async fn delivered(&self, id: &DeliveryId, attempts: i64, now: Timestamp) -> Result<(), StoreFault> {
        let change = Change::new(
            "SET standing = :done REMOVE reason, last_status, failing_since, held_since, not_before, lease_until, \
             attempt_until ADD attempts :attempts",
        )
        .text(":done", "done")
        .number(":attempts", attempts);
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
        let hash = BodyHash::of(&delivery.body);
        let change = Change::new(
            "SET standing = if_not_exists(standing, :queued), body_hash = if_not_exists(body_hash, :hash), \
             received_at = if_not_exists(received_at, :received), cargo = if_not_exists(cargo, :cargo), \
             attempt_until = :lease REMOVE not_before, parked, receipt ADD attempts :one",
        )
        .only_if(
            "(attribute_not_exists(not_before) OR not_before <= :now) \
             AND (attribute_not_exists(attempt_until) OR attempt_until <= :now)",
        )
        .number(":lease", now.checked_add(ATTEMPT_LEASE).unwrap_or(now).as_millisecond())
        .text(":queued", "queued")
        .number(":now", now.as_millisecond())
        .number(":one", 1);
        let key = delivery_key(&delivery.id);
        let Some(item) = self.table.change(&key, self.describe(change, delivery), now).await? else {
            let item = self.table.get(&key).await?;
            let not_before = time(&item, "not_before").max(time(&item, "attempt_until"));
            return Ok(Begun::NotBefore(not_before.unwrap_or(now)));
        };
        let other_body = text(&item, "body_hash").is_some_and(|known| known != hash.as_str());
        match text(&item, "standing") {
            // An event that died and was mended has the same key, and another body.
            Some("dead") if other_body && matches!(delivery.cargo, Cargo::LoopsEvent { .. }) => {
                let mended = Change::new("SET body_hash = :hash").text(":hash", hash.as_str());
                self.table.change(&key, mended, now).await?;
                Ok(Begun::Go(History::default()))
            }
            _ if other_body => Ok(Begun::Conflict),
            Some("done") => Ok(Begun::DoneBefore),
            // A person has taken it out of the dead letters.
            Some("dead") => Ok(Begun::Go(History::default())),
            _ => Ok(Begun::Go(History {
                attempts: u32::try_from(number(&item, "attempts").unwrap_or(1).saturating_sub(1)).unwrap_or(u32::MAX),
                failing_since: time(&item, "failing_since"),
                held_since: time(&item, "held_since"),
            })),
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

    /// Notes how an attempt ended.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn end(&self, id: &DeliveryId, end: Disposition, now: Timestamp) -> Result<(), StoreFault> {
        let (update, standing, reason) = match end {
            Disposition::Delivered => return self.done(id, now).await,
            Disposition::Dead(reason) => (
                "SET standing = :standing, reason = :reason, last_status = :status \
                 REMOVE failing_since, held_since, attempt_until",
                "dead",
                reason,
            ),
            Disposition::TryLater { reason, .. } => (
                "SET standing = :standing, reason = :reason, last_status = :status, \
                 failing_since = if_not_exists(failing_since, :now) REMOVE held_since, attempt_until",
                "queued",
                reason,
            ),
            Disposition::Hold { reason, .. } => (
                "SET standing = :standing, reason = :reason, last_status = :status, \
                 held_since = if_not_exists(held_since, :now) REMOVE failing_since, attempt_until",
                "queued",
                reason,
            ),
        };
        let change = because(Change::new(update).text(":standing", standing), reason);
        let change = if update.contains(":now") { change.number(":now", now.as_millisecond()) } else { change };
        self.table.change(&delivery_key(id), change, now).await.map(drop)
    }

    /// The values that say what a delivery is: `:hash`, `:received` and `:cargo`; and whom it is about, which stays when
    /// another body comes under its id.
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
            Some(key) => change.also(
                "contact_hash = if_not_exists(contact_hash, :contact_hash)",
                ":contact_hash",
                &delivery.contact.hash(key),
            ),
            None => change,
        }
    }
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
