//! What remembers, as fakes: a ledger, a queue and a lane, each of which may be out of order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use relay::ports::queue::{
    Admission, DeliveryMode, Enqueued, FastPath, FastPathResult, Queue, StoreError, Submission, WebhookLedger,
    WebhookUsage,
};
use relay_core::delivery::{Delivery, Reason};

fn error() -> StoreError {
    StoreError("out of order".to_owned())
}

/// The ledger of webhooks.
#[derive(Debug, Default)]
pub(crate) struct FakeLedger {
    known: Mutex<BTreeMap<String, WebhookUsage>>,
    broken: bool,
}

impl FakeLedger {
    /// One that knows this already.
    pub(crate) fn knowing(known: impl IntoIterator<Item = (String, WebhookUsage)>) -> Self {
        Self { known: Mutex::new(known.into_iter().collect()), broken: false }
    }

    /// One that can be neither read nor written.
    pub(crate) fn broken() -> Self {
        Self { broken: true, ..Self::default() }
    }

    /// What is known of a webhook.
    pub(crate) fn of(&self, webhook: &str) -> WebhookUsage {
        self.known.lock().unwrap().get(webhook).copied().unwrap_or_default()
    }
}

impl WebhookLedger for FakeLedger {
    async fn usage(&self, webhook: &str) -> Result<WebhookUsage, StoreError> {
        if self.broken { Err(error()) } else { Ok(self.of(webhook)) }
    }

    async fn record(&self, webhook: &str, submission: Submission, now: Timestamp) -> Result<(), StoreError> {
        if self.broken {
            return Err(error());
        }
        let mut known = self.known.lock().unwrap();
        let usage = known.entry(webhook.to_owned()).or_default();
        match submission {
            Submission::Taken => *usage = WebhookUsage { taken: usage.taken + 1, refused: None },
            Submission::Refused(status) => usage.refused = Some((now, status)),
        }
        Ok(())
    }
}

/// The queue towards Clay.
#[derive(Debug, Default)]
pub(crate) struct FakeQueue {
    pub(crate) broken: bool,
    /// What it knows: another body under the same id is a conflict.
    known: Mutex<Vec<Delivery>>,
    dead: Mutex<Vec<(Delivery, Reason)>>,
}

impl FakeQueue {
    /// One that can be written, or not.
    pub(crate) fn new(broken: bool) -> Self {
        Self { broken, ..Self::default() }
    }

    /// What was stored.
    pub(crate) fn stored(&self) -> Vec<Delivery> {
        self.known.lock().unwrap().clone()
    }

    /// What was stored as a dead letter.
    pub(crate) fn dead(&self) -> Vec<(Delivery, Reason)> {
        self.dead.lock().unwrap().clone()
    }
}

impl Queue for FakeQueue {
    async fn enqueue(&self, delivery: &Delivery) -> Result<Enqueued, StoreError> {
        if self.broken {
            return Err(error());
        }
        let mut known = self.known.lock().unwrap();
        match known.iter().find(|known| known.id == delivery.id) {
            Some(known) if known.body == delivery.body => Ok(Enqueued::Duplicate),
            Some(_) => Ok(Enqueued::Conflict),
            None => {
                known.push(delivery.clone());
                Ok(Enqueued::New)
            }
        }
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: Reason) -> Result<(), StoreError> {
        if self.broken {
            return Err(error());
        }
        self.dead.lock().unwrap().push((delivery.clone(), reason));
        Ok(())
    }
}

/// The lane past the queue towards Loops, and what of it works.
#[derive(Debug)]
pub(crate) struct FakeLane {
    /// Who is admitted; nothing where that cannot be written.
    admission: Option<Admission>,
    /// Who is admitted that cannot be stored; nothing where that cannot be told.
    unstored: Option<Admission>,
    /// Whether the end can be written.
    settles: bool,
    /// How long an admission takes.
    pub(crate) takes: Duration,
    ends: Mutex<Vec<FastPathResult>>,
    wishes: Mutex<Vec<DeliveryMode>>,
}

impl FakeLane {
    /// One that works and admits so.
    pub(crate) fn admitting(admission: Admission) -> Self {
        Self {
            admission: Some(admission),
            unstored: Some(Admission::Direct),
            settles: true,
            takes: Duration::ZERO,
            ends: Mutex::default(),
            wishes: Mutex::default(),
        }
    }

    /// One that cannot store anything, and that admits so what is not stored.
    pub(crate) fn unwritable(unstored: Option<Admission>) -> Self {
        Self { admission: None, unstored, settles: false, ..Self::admitting(Admission::Direct) }
    }

    /// One that admits, and breaks after that.
    pub(crate) fn breaking() -> Self {
        Self { settles: false, ..Self::admitting(Admission::Direct) }
    }

    /// How direct attempts ended.
    pub(crate) fn ends(&self) -> Vec<FastPathResult> {
        self.ends.lock().unwrap().clone()
    }

    /// What was wished for.
    pub(crate) fn wishes(&self) -> Vec<DeliveryMode> {
        self.wishes.lock().unwrap().clone()
    }
}

impl FastPath for FakeLane {
    type Guard = ();

    async fn admit(&self, _: &Delivery, wish: DeliveryMode) -> Result<Admission, StoreError> {
        tokio::time::sleep(self.takes).await;
        self.wishes.lock().unwrap().push(wish);
        self.admission.ok_or_else(error)
    }

    async fn complete(&self, _: &Delivery, end: FastPathResult) -> Result<(), StoreError> {
        self.ends.lock().unwrap().push(end);
        if self.settles { Ok(()) } else { Err(error()) }
    }

    async fn admit_without_record(&self, _: &Delivery) -> Result<Admission, StoreError> {
        self.unstored.ok_or_else(error)
    }

    fn guard(&self, _: &Delivery) {}
}
