//! What is sent while the fault lasts: every contact has a sender of its own, who sends the next step when the one before
//! was acknowledged.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use relay::http_client::HttpClient;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::history::{Item, Kind, Told};
use super::kinds::Size;
use crate::http::{Answer, try_send_by};
use crate::process::TOKEN;
use crate::row::Route;
use crate::webhook;

/// How long a sender goes on with a step that is not acknowledged.
const GIVE_UP_AFTER: Duration = Duration::from_secs(90);
/// How long a sender waits before it sends a step again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// What the senders of one direction were told.
pub type Sent = BTreeMap<Item, Told>;

/// Where the relay is; empty while it is nowhere.
pub type Base = watch::Receiver<String>;

/// Sends the webhooks of all contacts.
pub async fn webhooks(base: Base, size: Size, seed: u64) -> Sent {
    all(base, size, seed, "loops", |_| Kind::Webhook).await
}

/// Sends the rows of all contacts: updates and events, some of which are sent twice.
pub async fn rows(base: Base, size: Size, seed: u64) -> Sent {
    let kind = |random: &mut Rng| if random.bool() { Kind::Contact } else { Kind::Event };
    all(base, size, seed, "clay", kind).await
}

async fn all(base: Base, size: Size, seed: u64, who: &str, kind: fn(&mut Rng) -> Kind) -> Sent {
    let client = relay::http_client::build().unwrap_or_else(|fault| panic!("{fault}"));
    let mut senders = JoinSet::new();
    for number in 0..size.contacts {
        let contact = format!("{who}{number}@example.com");
        let random = Rng::with_seed(seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let sender = Sender { base: base.clone(), client: client.clone(), contact, random, sent: Sent::new() };
        senders.spawn(sender.run(size.steps, size.lasting, kind));
    }
    senders.join_all().await.into_iter().flatten().collect()
}

struct Sender {
    base: Base,
    client: HttpClient,
    contact: String,
    random: Rng,
    sent: Sent,
}

impl Sender {
    async fn run(mut self, steps: u32, lasting: Duration, kind: fn(&mut Rng) -> Kind) -> Sent {
        for step in 1..=steps {
            let kind = kind(&mut self.random);
            let item = Item { contact: self.contact.clone(), step, kind };
            let (later, twice) = (self.random.u32(..4) == 0, self.random.u32(..3) == 0);
            self.until_acknowledged(&item, later).await;
            if twice && kind != Kind::Contact {
                // Loops was not sure, or somebody runs the row again.
                self.once(&item, later).await;
            }
            if self.random.bool() {
                // Some steps come close upon another, the others spread over the time of the fault.
                let longest = lasting.as_millis() / u128::from(steps.max(1));
                let pause = self.random.u64(..u64::try_from(2 * longest).unwrap_or(u64::MAX).max(1));
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
        self.sent
    }

    async fn until_acknowledged(&mut self, item: &Item, later: bool) {
        let began = Instant::now();
        while !self.once(item, later).await && began.elapsed() < GIVE_UP_AFTER {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Sends it once; whether it was acknowledged.
    async fn once(&mut self, item: &Item, later: bool) -> bool {
        let there = self.base.wait_for(|base| !base.is_empty()).await.map(|base| base.clone());
        let Ok(base) = there else { return false };
        let answer = self.send(&base, item, later).await;
        let told = self.sent.entry(item.clone()).or_default();
        let is_unsure = answer.as_ref().is_some_and(|answer| answer.text().contains(r#""unavailable""#));
        let status = answer.map(|answer| answer.status);
        match status {
            Some(200 | 202) => told.acknowledged += 1,
            // A gateway's answer for a function that was killed, or no answer at all; or the relay's own, where a store may have
            // taken it without saying so.
            Some(500) | None => told.unanswered += 1,
            Some(_) if is_unsure => told.unanswered += 1,
            Some(_) => {}
        }
        matches!(status, Some(200 | 202))
    }

    async fn send(&self, base: &str, item: &Item, later: bool) -> Option<Answer> {
        let (contact, step) = (&item.contact, item.step);
        match item.kind {
            Kind::Webhook => {
                let body = json!({
                    "eventName": "contact.created", "eventTime": 1_734_425_918, "webhookSchemaVersion": "1.0.0",
                    "contactIdentity": {"id": "c1", "email": contact, "userId": null},
                    "contact": {"id": "c1", "email": contact, "step": step},
                });
                let body = body.to_string().into_bytes();
                let headers = webhook::headers(&format!("msg_{contact}_{step}"), webhook::now(), &body);
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                try_send_by(&self.client, "POST", &format!("{base}/webhooks/loops"), &headers, body).await
            }
            Kind::Contact => self.row(base, Route::Contact, json!({"email": contact, "step": step}), later).await,
            Kind::Event => {
                let row = json!({"email": contact, "eventName": "stepped", "eventProperties": {"step": step}});
                self.row(base, Route::Event, row, later).await
            }
        }
    }

    async fn row(&self, base: &str, route: Route, row: serde_json::Value, later: bool) -> Option<Answer> {
        let authorization = format!("Bearer {TOKEN}");
        let mut headers = vec![("authorization", authorization.as_str())];
        if later {
            headers.push(("prefer", "respond-async"));
        }
        let url = format!("{base}{}", route.path());
        try_send_by(&self.client, route.method(), &url, &headers, row.to_string().into_bytes()).await
    }
}
