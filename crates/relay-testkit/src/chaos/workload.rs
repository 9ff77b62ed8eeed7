//! The workload: a sender per contact. Half of them send a step when the previous one is acknowledged; the others send
//! two or three steps concurrently.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use relay::destination::http_client::HttpClient;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::chaos::history::{Item, ItemKind, SentItem};
use crate::chaos::kinds::WorkloadSize;
use crate::http::{Response, try_send_with};
use crate::relay_process::RELAY_TOKEN;
use crate::webhook;

/// How long a sender waits before it sends a step again.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// The items of one direction, with their sender's responses.
pub type SentItems = BTreeMap<Item, SentItem>;

/// What all senders know.
#[derive(Debug, Clone)]
pub struct SenderContext {
    /// Where the relay is; empty while it is nowhere.
    pub base: watch::Receiver<String>,
    /// Since when everything is well, if it is.
    pub healthy_since: watch::Receiver<Option<Instant>>,
    /// How much is sent.
    pub size: WorkloadSize,
}

/// Sends the webhooks of all contacts.
pub async fn send_webhooks(context: SenderContext, seed: u64) -> SentItems {
    run_senders(context, seed, "loops", |_| ItemKind::Webhook).await
}

/// Sends the rows of all contacts: updates, and events and e-mails, some of which are sent twice.
pub async fn send_rows(context: SenderContext, seed: u64) -> SentItems {
    let pick_kind = |random: &mut Rng| match random.u32(..4) {
        0 | 1 => ItemKind::Contact,
        2 => ItemKind::Event,
        _ => ItemKind::Email,
    };
    run_senders(context, seed, "clay", pick_kind).await
}

/// The entry of the senders' token among the relay's.
#[must_use]
pub fn relay_token() -> Value {
    json!({"token": RELAY_TOKEN, "scopes": ["contacts:write", "events:send", "email:send"]})
}

async fn run_senders(
    context: SenderContext,
    seed: u64,
    contact_prefix: &str,
    pick_kind: fn(&mut Rng) -> ItemKind,
) -> SentItems {
    let client = relay::destination::http_client::build().unwrap_or_else(|error| panic!("{error}"));
    let (epoch, mut senders) = (Instant::now(), JoinSet::new());
    for number in 0..context.size.contacts {
        let contact = format!("{contact_prefix}{number}@example.com");
        let random = Rng::with_seed(seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let sender = Sender { context: context.clone(), client: client.clone(), epoch };
        let parallel_steps = if number % 2 == 1 { 2..4 } else { 1..2 };
        senders.spawn(sender.send_all_steps(contact, random, parallel_steps, pick_kind));
    }
    senders.join_all().await.into_iter().flatten().collect()
}

/// Now and then not at all.
async fn random_pause(random: &mut Rng, max: Duration) {
    if random.u32(..4) > 0 {
        let max_millis = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_millis(random.u64(..=max_millis))).await;
    }
}

#[derive(Clone)]
struct Sender {
    context: SenderContext,
    client: HttpClient,
    /// Start, to which times are relative.
    epoch: Instant,
}

/// A step of a contact, and how it is sent.
struct Step {
    item: Item,
    /// Whether it asks to be stored.
    respond_async: bool,
    /// Whether it is sent again though it was acknowledged.
    send_twice: bool,
}

impl Sender {
    /// Sends the steps of a contact, so many at a time.
    async fn send_all_steps(
        self,
        contact: String,
        mut random: Rng,
        parallel_steps: std::ops::Range<u32>,
        pick_kind: fn(&mut Rng) -> ItemKind,
    ) -> SentItems {
        let (mut sent, mut step, steps) = (SentItems::new(), 1, self.context.size.steps);
        // Some steps follow each other closely, the others are spread over the fault, within the rate limit of Loops.
        let max_pause = 2 * self.context.size.fault_duration / steps.max(1);
        random_pause(&mut random, max_pause).await;
        while step <= steps && !self.has_timed_out() {
            let mut in_flight = JoinSet::new();
            let batch_size = random.u32(parallel_steps.clone()).min(steps + 1 - step);
            for step in step..step + batch_size {
                let kind = pick_kind(&mut random);
                let item = Item { contact: contact.clone(), step, kind };
                let (respond_async, send_twice) =
                    (random.u32(..4) == 0, random.u32(..3) == 0 && kind != ItemKind::Contact);
                in_flight.spawn(self.clone().send_until_done(Step { item, respond_async, send_twice }));
                if batch_size > 1 {
                    tokio::time::sleep(Duration::from_millis(random.u64(1..200))).await;
                }
            }
            sent.extend(in_flight.join_all().await);
            step += batch_size;
            random_pause(&mut random, max_pause * batch_size).await;
        }
        sent
    }

    async fn send_until_done(mut self, step: Step) -> (Item, SentItem) {
        let mut sent_item = SentItem { started_at: self.epoch.elapsed(), ..SentItem::default() };
        self.retry_until_response(&step, &mut sent_item).await;
        if step.send_twice {
            // Sent again, as a Clay user does who runs the row again.
            self.retry_until_response(&step, &mut sent_item).await;
        }
        sent_item.finished_at = self.epoch.elapsed();
        (step.item, sent_item)
    }

    /// Whether everything has been well for so long that a sender has done enough.
    fn has_timed_out(&self) -> bool {
        self.context.healthy_since.borrow().is_some_and(|since| since.elapsed() > self.context.size.timeout)
    }

    async fn retry_until_response(&mut self, step: &Step, sent_item: &mut SentItem) {
        while !self.send_once(step, sent_item).await && !self.has_timed_out() {
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Sends it once; returns whether it was acknowledged, or rejected by the destination.
    async fn send_once(&mut self, step: &Step, sent_item: &mut SentItem) -> bool {
        let current_base = self.context.base.wait_for(|base| !base.is_empty()).await.map(|base| base.clone());
        let Ok(base) = current_base else { return false };
        sent_item.requests += 1;
        let response = self.send(&base, &step.item, step.respond_async).await;
        let has_code =
            |code: &str| response.as_ref().is_some_and(|response| response.text().contains(&format!("\"{code}\"")));
        let status = response.as_ref().map(|response| response.status);
        sent_item.last_rejected = false;
        match status {
            Some(status @ (200 | 202)) => {
                sent_item.acknowledged += 1;
                sent_item.queued += usize::from(status == 202);
            }
            Some(400..=499) if has_code("loops_rejected") => {
                sent_item.rejected += 1;
                sent_item.last_rejected = true;
            }
            // The outcome is unknown: the function was killed, no response came, or the store may have written despite
            // its error.
            Some(500) | None => sent_item.unanswered += 1,
            Some(_) if has_code("unavailable") => sent_item.unanswered += 1,
            Some(_) => {}
        }
        matches!(status, Some(200 | 202)) || sent_item.last_rejected
    }

    async fn send(&self, base: &str, item: &Item, respond_async: bool) -> Option<Response> {
        let (contact, step) = (&item.contact, item.step);
        match item.kind {
            ItemKind::Webhook => {
                let body = json!({
                    "eventName": "contact.created", "eventTime": 1_734_425_918, "webhookSchemaVersion": "1.0.0",
                    "contactIdentity": {"id": "c1", "email": contact, "userId": null},
                    "contact": {"id": "c1", "email": contact, "step": step},
                });
                let body = body.to_string().into_bytes();
                let headers = webhook::headers(&format!("msg_{contact}_{step}"), webhook::now(), &body);
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                try_send_with(&self.client, "POST", &format!("{base}/webhooks/loops"), &headers, body).await
            }
            ItemKind::Contact => {
                let row = json!({"email": contact, "step": step});
                self.send_row(base, ("PUT", "contacts/update"), row, respond_async).await
            }
            ItemKind::Event => {
                let row = json!({"email": contact, "eventName": "stepped", "eventProperties": {"step": step}});
                self.send_row(base, ("POST", "events/send"), row, respond_async).await
            }
            ItemKind::Email => {
                let row = json!({"transactionalId": "stepped", "email": contact, "dataVariables": {"step": step}});
                self.send_row(base, ("POST", "transactional"), row, respond_async).await
            }
        }
    }

    async fn send_row(
        &self,
        base: &str,
        (method, path): (&str, &str),
        row: Value,
        respond_async: bool,
    ) -> Option<Response> {
        let authorization = format!("Bearer {RELAY_TOKEN}");
        let mut headers = vec![("authorization", authorization.as_str())];
        if respond_async {
            headers.push(("prefer", "respond-async"));
        }
        let url = format!("{base}/api/v1/{path}");
        try_send_with(&self.client, method, &url, &headers, row.to_string().into_bytes()).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::eventually;
    use crate::mock_destination::{MockDestination, Reply, UnusedPort};

    /// Two contacts of two steps each, as fast as they go.
    fn context(base: String, healthy_since: Option<Instant>) -> SenderContext {
        let (fault_duration, max_freeze, timeout) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let size = WorkloadSize { contacts: 2, steps: 2, fault_duration, max_freeze, timeout };
        SenderContext {
            base: watch::Sender::new(base).subscribe(),
            healthy_since: watch::Sender::new(healthy_since).subscribe(),
            size,
        }
    }

    fn items_of_contact(sent: &SentItems, number: u32) -> Vec<SentItem> {
        let contact = format!("clay{number}@example.com");
        sent.iter().filter(|(item, _)| item.contact == contact).map(|(_, sent_item)| *sent_item).collect()
    }

    #[tokio::test]
    async fn every_second_contact_sends_steps_concurrently() {
        let gate = Arc::new(Semaphore::new(0));
        let relay = MockDestination::start(Reply::Gated(Arc::clone(&gate))).await;
        let sent = tokio::spawn(send_rows(context(relay.url(""), None), 1));
        eventually("three requests", async || (relay.received().len() == 3).then_some(())).await;
        gate.add_permits(100);
        let sent = sent.await.unwrap();
        let [first, second] = items_of_contact(&sent, 0)[..] else { panic!("two steps") };
        assert!(first.finished_at < second.started_at, "{first:?} {second:?}");
        let [first, second] = items_of_contact(&sent, 1)[..] else { panic!("two steps") };
        assert!(second.started_at < first.finished_at && first.started_at < second.started_at, "{first:?} {second:?}");
    }

    #[tokio::test]
    async fn sender_retries_until_timeout_after_recovery() {
        let relay = UnusedPort::new();
        let context = context(relay.url(""), None);
        let (healthy_since_sender, healthy_since) = watch::channel(None);
        let sent = tokio::spawn(send_rows(SenderContext { healthy_since, ..context }, 1));
        tokio::time::sleep(3 * RETRY_INTERVAL).await;
        assert!(!sent.is_finished(), "nobody has answered");
        healthy_since_sender.send_replace(Some(Instant::now()));
        let sent = sent.await.unwrap();
        let sent_items = items_of_contact(&sent, 0);
        assert_eq!(
            (sent_items.len(), sent_items[0].acknowledged),
            (1, 0),
            "the next step waits for this one: {sent_items:?}"
        );
        assert!(sent_items[0].unanswered >= 2 && sent_items[0].unanswered == sent_items[0].requests, "{sent_items:?}");
    }

    #[tokio::test]
    async fn rejected_step_is_not_retried() {
        let relay = MockDestination::start(Reply::json(422, r#"{"success":false,"code":"loops_rejected"}"#)).await;
        let sent = send_webhooks(context(relay.url(""), None), 1).await;
        for sent_item in sent.values() {
            assert!((1..=2).contains(&sent_item.requests) && sent_item.rejected == sent_item.requests, "{sent_item:?}");
            assert!(sent_item.last_rejected && sent_item.acknowledged == 0, "{sent_item:?}");
        }
    }
}
