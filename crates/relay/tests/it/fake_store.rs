//! Fakes of the stores: a ledger, a queue and the intake of rows, each of which may fail.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use relay::ports::queue::{Enqueued, Queue, StoreError};
use relay::ports::row_intake::{Admission, DeliveryMode, RowIntake, SyncSendResult};
use relay::ports::webhook_usage::{Submission, WebhookLedger, WebhookUsage};
use relay_core::delivery::{Delivery, Reason};

fn error() -> StoreError {
    StoreError::new("out of order")
}

/// The ledger of webhooks.
#[derive(Debug, Default)]
pub(crate) struct FakeLedger {
    usages: Mutex<BTreeMap<String, WebhookUsage>>,
    broken: bool,
}

impl FakeLedger {
    /// One that knows this already.
    pub(crate) fn with_usages(known: impl IntoIterator<Item = (String, WebhookUsage)>) -> Self {
        Self { usages: Mutex::new(known.into_iter().collect()), broken: false }
    }

    /// One that can be neither read nor written.
    pub(crate) fn broken() -> Self {
        Self { broken: true, ..Self::default() }
    }

    /// What is known of a webhook.
    pub(crate) fn usage_of(&self, webhook: &str) -> WebhookUsage {
        self.usages.lock().unwrap().get(webhook).copied().unwrap_or_default()
    }
}

impl WebhookLedger for FakeLedger {
    async fn usage(&self, webhook: &str) -> Result<WebhookUsage, StoreError> {
        if self.broken { Err(error()) } else { Ok(self.usage_of(webhook)) }
    }

    async fn record(&self, webhook: &str, submission: Submission, now: Timestamp) -> Result<(), StoreError> {
        if self.broken {
            return Err(error());
        }
        let mut usages = self.usages.lock().unwrap();
        let usage = usages.entry(webhook.to_owned()).or_default();
        match submission {
            Submission::Accepted => *usage = WebhookUsage { accepted: usage.accepted + 1, rejected: None },
            Submission::Rejected(status) => usage.rejected = Some((now, status)),
        }
        Ok(())
    }
}

/// The queue towards Clay.
#[derive(Debug, Default)]
pub(crate) struct FakeQueue {
    pub(crate) broken: bool,
    /// What it knows: another body under the same id is a conflict.
    stored: Mutex<Vec<Delivery>>,
    dead_letters: Mutex<Vec<(Delivery, Reason)>>,
}

impl FakeQueue {
    /// One that can be written, or not.
    pub(crate) fn new(broken: bool) -> Self {
        Self { broken, ..Self::default() }
    }

    /// What was stored.
    pub(crate) fn stored(&self) -> Vec<Delivery> {
        self.stored.lock().unwrap().clone()
    }

    /// What was stored as a dead letter.
    pub(crate) fn dead_letters(&self) -> Vec<(Delivery, Reason)> {
        self.dead_letters.lock().unwrap().clone()
    }
}

impl Queue for FakeQueue {
    async fn enqueue(&self, delivery: &Delivery) -> Result<Enqueued, StoreError> {
        if self.broken {
            return Err(error());
        }
        let mut stored = self.stored.lock().unwrap();
        match stored.iter().find(|known| known.id == delivery.id) {
            Some(existing) if existing.body == delivery.body => Ok(Enqueued::Duplicate),
            Some(_) => Ok(Enqueued::Conflict),
            None => {
                stored.push(delivery.clone());
                Ok(Enqueued::New)
            }
        }
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: Reason) -> Result<(), StoreError> {
        if self.broken {
            return Err(error());
        }
        self.dead_letters.lock().unwrap().push((delivery.clone(), reason));
        Ok(())
    }
}

/// The intake of rows, and which of its calls work.
#[derive(Debug)]
pub(crate) struct FakeRowIntake {
    /// Who is admitted; nothing where that cannot be written.
    admission: Option<Admission>,
    /// Admission of a delivery that cannot be stored; `None` if the store cannot say.
    unrecorded_admission: Option<Admission>,
    /// Whether the end can be written.
    completes: bool,
    /// How long an admission takes.
    pub(crate) delay: Duration,
    /// What is known under any key.
    preview: Admission,
    results: Mutex<Vec<SyncSendResult>>,
    modes: Mutex<Vec<DeliveryMode>>,
}

impl FakeRowIntake {
    /// One that works and admits so.
    pub(crate) fn admitting(admission: Admission) -> Self {
        Self {
            admission: Some(admission),
            unrecorded_admission: Some(Admission::SendNow),
            completes: true,
            delay: Duration::ZERO,
            preview: Admission::SendNow,
            results: Mutex::default(),
            modes: Mutex::default(),
        }
    }

    /// One that cannot store anything, and that admits so what is not stored.
    pub(crate) fn unwritable(unrecorded_admission: Option<Admission>) -> Self {
        Self { admission: None, unrecorded_admission, completes: false, ..Self::admitting(Admission::SendNow) }
    }

    /// One that admits, and breaks after that.
    pub(crate) fn failing_on_complete() -> Self {
        Self { completes: false, ..Self::admitting(Admission::SendNow) }
    }

    /// One that knows this under any key.
    pub(crate) fn with_preview(self, preview: Admission) -> Self {
        Self { preview, ..self }
    }

    /// How direct attempts ended.
    pub(crate) fn results(&self) -> Vec<SyncSendResult> {
        self.results.lock().unwrap().clone()
    }

    /// What was wished for.
    pub(crate) fn modes(&self) -> Vec<DeliveryMode> {
        self.modes.lock().unwrap().clone()
    }
}

impl RowIntake for FakeRowIntake {
    type Guard = ();

    async fn admit(&self, _: &Delivery, mode: DeliveryMode) -> Result<Admission, StoreError> {
        tokio::time::sleep(self.delay).await;
        self.modes.lock().unwrap().push(mode);
        self.admission.ok_or_else(error)
    }

    async fn complete(&self, _: &Delivery, result: SyncSendResult) -> Result<(), StoreError> {
        self.results.lock().unwrap().push(result);
        if self.completes { Ok(()) } else { Err(error()) }
    }

    async fn admit_without_record(&self, _: &Delivery) -> Result<Admission, StoreError> {
        self.unrecorded_admission.ok_or_else(error)
    }

    async fn preview(&self, _: &Delivery) -> Result<Admission, StoreError> {
        Ok(self.preview)
    }

    fn guard(&self, _: &Delivery) {}
}
