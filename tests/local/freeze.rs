//! A computer that sleeps: its connections die, its clock goes on, its timers stand still.

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually;
use relay_testkit::fake_clock::{FakeClock, TimerBehavior};
use relay_testkit::flaky_proxy::{Disconnect, FlakyProxy};
use relay_testkit::http::Response;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::Relay;
use relay_testkit::row::{Route, send};
use relay_testkit::webhook;
use serde_json::json;

const TAKEN: &str = r#"{"success":true,"id":"c1"}"#;
/// For so long it sleeps, by the clock.
const TEN_MINUTES: i64 = 600;

/// A relay whose every connection goes through a wire.
struct Laptop {
    loops: MockDestination,
    clay: MockDestination,
    wires: [FlakyProxy; 2],
    relay: Relay,
    clock: FakeClock,
}

impl Laptop {
    async fn start(timers: TimerBehavior) -> Self {
        let (loops, clay) =
            (MockDestination::start(Reply::json(200, TAKEN)).await, MockDestination::start(Reply::status(200)).await);
        let wires = [FlakyProxy::start(&loops.url("")).await, FlakyProxy::start(&clay.url("")).await];
        let [to_loops, to_clay] = &wires;
        let clock = FakeClock::new(timers);
        let mut settings = clock.environment();
        let given = [
            ("LOOPS_API_URL", to_loops.url("/api")),
            ("LOOPS_API_KEY", "key".to_owned()),
            ("CLAY_WEBHOOK_URL", to_clay.url("/v3/sources/webhook/x")),
        ];
        settings.extend(given.map(|(name, value)| (name.to_owned(), value)));
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let relay = Relay::start(&settings).await;
        Self { loops, clay, wires, relay, clock }
    }

    async fn row(&self, route: Route, step: u32) -> Response {
        let email = format!("n{step}@example.com");
        let row = match route {
            Route::Contact => json!({"email": email, "step": step}),
            Route::Event => json!({"email": email, "eventName": "stepped", "eventProperties": {"step": step}}),
        };
        send(self.relay.base(), route, "", &[], row.to_string()).await
    }

    /// Sends one of everything at that time, and waits until all of it has arrived.
    async fn once_at(&self, time: i64, step: u32) {
        let body = webhook::contact_created(&format!("n{step}@example.com"));
        let answer = webhook::post_at(self.relay.base(), &format!("msg_{step}"), time, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        for route in [Route::Contact, Route::Event] {
            let answer = self.row(route, step).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, TAKEN));
        }
        eventually("everything delivered", async || {
            self.relay.deliveries().await.iter().all(|one| one["state"] == "delivered").then_some(())
        })
        .await;
    }

    fn sleep(&self, cut: Disconnect) {
        self.relay.freeze();
        for wire in &self.wires {
            assert!(wire.disconnect(cut) > 0, "no connection was kept, so nothing is tried");
        }
    }

    fn assert_each_arrived_once(&self, steps: usize) {
        assert_eq!((self.clay.received().len(), self.loops.received().len()), (steps, 2 * steps));
    }
}

#[tokio::test]
async fn connections_that_died_while_the_computer_slept_harm_nothing() {
    for cut in [Disconnect::Closed, Disconnect::Reset, Disconnect::PacketsDropped] {
        let laptop = Laptop::start(TimerBehavior::Unaffected).await;
        laptop.once_at(webhook::now(), 1).await;
        laptop.sleep(cut);
        laptop.relay.thaw();
        laptop.once_at(webhook::now(), 2).await;
        laptop.assert_each_arrived_once(2);
    }
}

#[tokio::test]
async fn after_a_sleep_of_ten_minutes_no_connection_is_used_that_was_kept() {
    for timers in [TimerBehavior::Unaffected, TimerBehavior::Shifted] {
        let laptop = Laptop::start(timers).await;
        laptop.once_at(webhook::now(), 1).await;
        laptop.sleep(Disconnect::Blackholed);
        laptop.clock.set_offset(TEN_MINUTES);
        laptop.relay.thaw();
        laptop.once_at(webhook::now() + TEN_MINUTES, 2).await;
        laptop.assert_each_arrived_once(2);
        let swallowed = laptop.wires.each_ref().map(FlakyProxy::blackholed_bytes);
        assert_eq!(swallowed, [0; 2], "{timers:?}: something was sent into a connection that is ten minutes old");
    }
}

#[tokio::test]
async fn an_answer_that_came_while_the_computer_slept_is_not_too_late() {
    let laptop = Laptop::start(TimerBehavior::Shifted).await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    laptop.clay.enqueue_replies([Reply::Gated(std::sync::Arc::clone(&gate))]);
    let body = webhook::contact_created("ada@example.com");
    assert_eq!(webhook::post(laptop.relay.base(), "msg_1", &body).await.status, 200);
    eventually("the row at Clay", async || (laptop.clay.received().len() == 1).then_some(())).await;
    laptop.relay.freeze();
    let answered = laptop.wires[1].response_bytes();
    gate.add_permits(1);
    eventually("the answer on its way", async || (laptop.wires[1].response_bytes() > answered).then_some(())).await;
    laptop.clock.set_offset(TEN_MINUTES);
    laptop.relay.thaw();
    let delivery = laptop.relay.wait_for_state("delivered").await;
    assert_eq!((laptop.clay.received().len(), delivery["attempts"].as_i64()), (1, Some(1)), "{}", laptop.relay.log());
}

#[tokio::test]
async fn a_clock_that_is_set_back_at_waking_loses_and_doubles_nothing() {
    let laptop = Laptop::start(TimerBehavior::Unaffected).await;
    laptop.clock.set_offset(10);
    laptop.once_at(webhook::now(), 1).await;
    laptop.relay.freeze();
    laptop.clock.set_offset(0);
    laptop.relay.thaw();
    let body = webhook::contact_created("n1@example.com");
    assert_eq!(webhook::post(laptop.relay.base(), "msg_1", &body).await.status, 200);
    laptop.once_at(webhook::now(), 2).await;
    laptop.assert_each_arrived_once(2);
}

#[tokio::test]
async fn a_row_that_is_being_sent_keeps_its_place_however_far_the_clock_is_set() {
    let laptop = Laptop::start(TimerBehavior::Unaffected).await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    laptop.loops.enqueue_replies([Reply::Gated(std::sync::Arc::clone(&gate))]);
    let row = |step: u32| json!({"email": "ada@example.com", "step": step}).to_string();
    let base = laptop.relay.base().to_owned();
    let older = tokio::spawn(async move { send(&base, Route::Contact, "", &[], row(1)).await });
    eventually("the older row at Loops", async || (laptop.loops.received().len() == 1).then_some(())).await;
    laptop.clock.set_offset(TEN_MINUTES);
    let newer = send(laptop.relay.base(), Route::Contact, "", &[], row(2)).await;
    assert_eq!(newer.status, 202, "{}", newer.text());
    assert_eq!(laptop.row(Route::Contact, 3).await.status, 200, "another contact is sent");
    gate.add_permits(1);
    assert_eq!(older.await.unwrap().status, 200);
    eventually("all three on record as delivered", async || {
        let all = laptop.relay.deliveries().await;
        (all.len() == 3 && all.iter().all(|one| one["state"] == "delivered")).then_some(())
    })
    .await;
    let got: Vec<String> =
        laptop.loops.received().iter().map(relay_testkit::mock_destination::ReceivedRequest::text).collect();
    let steps: Vec<bool> =
        [1, 3, 2].iter().zip(&got).map(|(step, got)| got.contains(&format!("\"step\":{step}"))).collect();
    assert_eq!(steps, [true; 3], "{got:?}");
}
