//! What is sent while the fault lasts: every contact has a sender of its own. Some send the next step when the one before
//! was acknowledged; the others send two or three without waiting.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use relay::destination::http_client::HttpClient;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::chaos::history::{Item, Kind, Told};
use crate::chaos::kinds::Size;
use crate::http::{Answer, try_send_by};
use crate::relay_process::TOKEN;
use crate::row::Route;
use crate::webhook;

/// How long a sender waits before it sends a step again.
const AGAIN_AFTER: Duration = Duration::from_millis(250);

/// What the senders of one direction were told.
pub type Sent = BTreeMap<Item, Told>;

/// What all senders know.
#[derive(Debug, Clone)]
pub struct World {
    /// Where the relay is; empty while it is nowhere.
    pub base: watch::Receiver<String>,
    /// Since when everything is well, if it is.
    pub well: watch::Receiver<Option<Instant>>,
    /// How much is sent.
    pub size: Size,
}

/// Sends the webhooks of all contacts.
pub async fn webhooks(world: World, seed: u64) -> Sent {
    all(world, seed, "loops", |_| Kind::Webhook).await
}

/// Sends the rows of all contacts: updates and events, some of which are sent twice.
pub async fn rows(world: World, seed: u64) -> Sent {
    let kind = |random: &mut Rng| if random.bool() { Kind::Contact } else { Kind::Event };
    all(world, seed, "clay", kind).await
}

async fn all(world: World, seed: u64, who: &str, kind: fn(&mut Rng) -> Kind) -> Sent {
    let client = relay::destination::http_client::build().unwrap_or_else(|fault| panic!("{fault}"));
    let (clock, mut senders) = (Instant::now(), JoinSet::new());
    for number in 0..world.size.contacts {
        let contact = format!("{who}{number}@example.com");
        let random = Rng::with_seed(seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let sender = Sender { world: world.clone(), client: client.clone(), clock };
        let at_once = if number % 2 == 1 { 2..4 } else { 1..2 };
        senders.spawn(sender.all_steps_of(contact, random, at_once, kind));
    }
    senders.join_all().await.into_iter().flatten().collect()
}

/// Now and then not at all.
async fn rest(random: &mut Rng, longest: Duration) {
    if random.u32(..4) > 0 {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_millis(random.u64(..=longest))).await;
    }
}

#[derive(Clone)]
struct Sender {
    world: World,
    client: HttpClient,
    /// By which times are told.
    clock: Instant,
}

/// A step of a contact, and how it is sent.
struct Step {
    item: Item,
    /// Whether it asks to be stored.
    later: bool,
    /// Whether it is sent again though it was acknowledged.
    twice: bool,
}

impl Sender {
    /// Sends the steps of a contact, so many at a time.
    async fn all_steps_of(
        self,
        contact: String,
        mut random: Rng,
        at_once: std::ops::Range<u32>,
        kind: fn(&mut Rng) -> Kind,
    ) -> Sent {
        let (mut sent, mut step, steps) = (Sent::new(), 1, self.world.size.steps);
        // Some steps come close upon another, the others are spread over the time of the fault: with room for them at Loops.
        let longest = 2 * self.world.size.lasting / steps.max(1);
        rest(&mut random, longest).await;
        while step <= steps && !self.is_tired() {
            let mut under_way = JoinSet::new();
            let together = random.u32(at_once.clone()).min(steps + 1 - step);
            for step in step..step + together {
                let kind = kind(&mut random);
                let item = Item { contact: contact.clone(), step, kind };
                let (later, twice) = (random.u32(..4) == 0, random.u32(..3) == 0 && kind != Kind::Contact);
                under_way.spawn(self.clone().see_through(Step { item, later, twice }));
                if together > 1 {
                    tokio::time::sleep(Duration::from_millis(random.u64(1..200))).await;
                }
            }
            sent.extend(under_way.join_all().await);
            step += together;
            rest(&mut random, longest * together).await;
        }
        sent
    }

    async fn see_through(mut self, step: Step) -> (Item, Told) {
        let mut told = Told { begun: self.clock.elapsed(), ..Told::default() };
        self.until_answered(&step, &mut told).await;
        if step.twice {
            // Loops was not sure, or somebody runs the row again.
            self.until_answered(&step, &mut told).await;
        }
        told.over = self.clock.elapsed();
        (step.item, told)
    }

    /// Whether everything has been well for so long that a sender has done enough.
    fn is_tired(&self) -> bool {
        self.world.well.borrow().is_some_and(|since| since.elapsed() > self.world.size.patience)
    }

    async fn until_answered(&mut self, step: &Step, told: &mut Told) {
        while !self.once(step, told).await && !self.is_tired() {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Sends it once; whether that was acknowledged, or refused by the far end.
    async fn once(&mut self, step: &Step, told: &mut Told) -> bool {
        let there = self.world.base.wait_for(|base| !base.is_empty()).await.map(|base| base.clone());
        let Ok(base) = there else { return false };
        told.requests += 1;
        let answer = self.send(&base, &step.item, step.later).await;
        let says = |code: &str| answer.as_ref().is_some_and(|answer| answer.text().contains(&format!("\"{code}\"")));
        let status = answer.as_ref().map(|answer| answer.status);
        told.refused_at_last = false;
        match status {
            Some(status @ (200 | 202)) => {
                told.acknowledged += 1;
                told.stored += usize::from(status == 202);
            }
            Some(400..=499) if says("loops_rejected") => {
                told.refused += 1;
                told.refused_at_last = true;
            }
            // A gateway's answer for a function that was killed, or no answer at all; or the relay's own, where a store may have
            // taken it without saying so.
            Some(500) | None => told.unanswered += 1,
            Some(_) if says("unavailable") => told.unanswered += 1,
            Some(_) => {}
        }
        matches!(status, Some(200 | 202)) || told.refused_at_last
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::eventually;
    use crate::mock_destination::{Down, FarEnd, Reply};

    /// Two contacts of two steps each, as fast as they go.
    fn world(base: String, well: Option<Instant>) -> World {
        let (lasting, frozen, patience) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let size = Size { contacts: 2, steps: 2, lasting, frozen, patience };
        World { base: watch::Sender::new(base).subscribe(), well: watch::Sender::new(well).subscribe(), size }
    }

    fn of_contact(sent: &Sent, number: u32) -> Vec<Told> {
        let contact = format!("clay{number}@example.com");
        sent.iter().filter(|(item, _)| item.contact == contact).map(|(_, told)| *told).collect()
    }

    #[tokio::test]
    async fn of_every_second_contact_a_step_is_sent_while_the_one_before_is_unanswered() {
        let gate = Arc::new(Semaphore::new(0));
        let relay = FarEnd::start(Reply::Gated(Arc::clone(&gate))).await;
        let sent = tokio::spawn(rows(world(relay.url(""), None), 1));
        eventually("three requests", async || (relay.got().len() == 3).then_some(())).await;
        gate.add_permits(100);
        let sent = sent.await.unwrap();
        let [first, second] = of_contact(&sent, 0)[..] else { panic!("two steps") };
        assert!(first.over < second.begun, "{first:?} {second:?}");
        let [first, second] = of_contact(&sent, 1)[..] else { panic!("two steps") };
        assert!(second.begun < first.over && first.begun < second.begun, "{first:?} {second:?}");
    }

    #[tokio::test]
    async fn a_sender_goes_on_until_everything_has_been_well_for_long_enough() {
        let relay = Down::new();
        let world = world(relay.url(""), None);
        let (well, is_well) = watch::channel(None);
        let sent = tokio::spawn(rows(World { well: is_well, ..world }, 1));
        tokio::time::sleep(3 * AGAIN_AFTER).await;
        assert!(!sent.is_finished(), "nobody has answered");
        well.send_replace(Some(Instant::now()));
        let sent = sent.await.unwrap();
        let told = of_contact(&sent, 0);
        assert_eq!((told.len(), told[0].acknowledged), (1, 0), "the next step waits for this one: {told:?}");
        assert!(told[0].unanswered >= 2 && told[0].unanswered == told[0].requests, "{told:?}");
    }

    #[tokio::test]
    async fn what_the_end_refuses_for_good_is_not_sent_again() {
        let relay = FarEnd::start(Reply::json(422, r#"{"success":false,"code":"loops_rejected"}"#)).await;
        let sent = webhooks(world(relay.url(""), None), 1).await;
        for told in sent.values() {
            assert!((1..=2).contains(&told.requests) && told.refused == told.requests, "{told:?}");
            assert!(told.refused_at_last && told.acknowledged == 0, "{told:?}");
        }
    }
}
