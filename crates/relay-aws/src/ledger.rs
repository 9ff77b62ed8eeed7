//! What is known of deliveries and of Clay's webhooks.

use jiff::Timestamp;
use relay::store::{StoreFault, Submission, WebhookLedger, WebhookUse};
use relay_core::delivery::{BodyHash, Delivery, DeliveryId, Disposition, History, Reason};

use crate::table::{Change, LedgerTable, number, text, time};

/// Where a delivery stands, as the ledger has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Somebody waits while it is sent, until then.
    Direct(Timestamp),
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
}

/// The ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    table: LedgerTable,
}

impl Ledger {
    /// The ledger in this table.
    #[must_use]
    pub const fn new(table: LedgerTable) -> Self {
        Self { table }
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
            Some("direct") => Some(Standing::Direct(time(&item, "lease_until").unwrap_or_default())),
            Some("queued") => Some(Standing::Queued),
            Some("done") => Some(Standing::Done),
            Some("dead") => Some(Standing::Dead),
            _ => None,
        })
    }

    /// Notes that a delivery is on its way, unless it is known as delivered or on its way already; false then.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn set_out(&self, delivery: &Delivery, state: SetOut, now: Timestamp) -> Result<bool, StoreFault> {
        let change = Change::new("SET standing = :standing, lease_until = :lease, body_hash = :hash")
            .text(":dead", "dead")
            .text(":direct", "direct")
            .text(":hash", BodyHash::of(&delivery.body).as_str());
        let change = match state {
            SetOut::Direct(until) => change
                .only_if(
                    "attribute_not_exists(standing) OR standing = :dead OR (standing = :direct AND lease_until < :now)",
                )
                .text(":standing", "direct")
                .number(":lease", until.as_millisecond())
                .number(":now", now.as_millisecond()),
            SetOut::Queued => change
                .only_if("attribute_not_exists(standing) OR standing = :dead OR standing = :direct")
                .text(":standing", "queued")
                .number(":lease", 0),
        };
        Ok(self.table.change(&delivery_key(&delivery.id), change, now).await?.is_some())
    }

    /// Notes that a delivery has ended as delivered.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn done(&self, id: &DeliveryId, now: Timestamp) -> Result<(), StoreFault> {
        let change =
            Change::new("SET standing = :state REMOVE reason, failing_since, held_since").text(":state", "done");
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
            "SET standing = if_not_exists(standing, :queued), body_hash = if_not_exists(body_hash, :hash) ADD attempts :one",
        )
        .text(":queued", "queued")
        .text(":hash", hash.as_str())
        .number(":one", 1);
        let item = self.table.change(&delivery_key(&delivery.id), change, now).await?.unwrap_or_default();
        if text(&item, "body_hash").is_some_and(|known| known != hash.as_str()) {
            return Ok(Begun::Conflict);
        }
        if text(&item, "standing") == Some("done") {
            return Ok(Begun::DoneBefore);
        }
        let attempts = number(&item, "attempts").unwrap_or(1).saturating_sub(1);
        Ok(Begun::Go(History {
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            failing_since: time(&item, "failing_since"),
            held_since: time(&item, "held_since"),
        }))
    }

    /// Notes how an attempt ended.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn end(&self, id: &DeliveryId, end: Disposition, now: Timestamp) -> Result<(), StoreFault> {
        let because = |change: Change, Reason { code, .. }: Reason| change.text(":reason", code.as_str());
        let since = now.as_millisecond();
        let change = match end {
            Disposition::Delivered => return self.done(id, now).await,
            Disposition::Dead(reason) => {
                because(Change::new("SET standing = :dead, reason = :reason").text(":dead", "dead"), reason)
            }
            Disposition::TryLater { reason, .. } => because(
                Change::new(
                    "SET reason = :reason, failing_since = if_not_exists(failing_since, :now) REMOVE held_since",
                )
                .number(":now", since),
                reason,
            ),
            Disposition::Hold { reason, .. } => because(
                Change::new("SET reason = :reason, held_since = if_not_exists(held_since, :now) REMOVE failing_since")
                    .number(":now", since),
                reason,
            ),
        };
        self.table.change(&delivery_key(id), change, now).await.map(drop)
    }
}

/// How a delivery sets out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetOut {
    /// Its caller waits, until then at the longest.
    Direct(Timestamp),
    /// Through the queue.
    Queued,
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
