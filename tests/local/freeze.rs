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

const ACCEPTED_BODY: &str = r#"{"success":true,"id":"c1"}"#;
/// For so long it sleeps, by the clock.
const TEN_MINUTES_SECS: i64 = 600;

/// A relay whose every connection has a proxy.
struct Laptop {
    loops: MockDestination,
    clay: MockDestination,
    proxies: [FlakyProxy; 2],
    relay: Relay,
    clock: FakeClock,
}

impl Laptop {
    async fn start(timers: TimerBehavior) -> Self {
        let (loops, clay) = (
            MockDestination::start(Reply::json(200, ACCEPTED_BODY)).await,
            MockDestination::start(Reply::status(200)).await,
        );
        let proxies = [FlakyProxy::start(&loops.url("")).await, FlakyProxy::start(&clay.url("")).await];
        let [to_loops, to_clay] = &proxies;
        let clock = FakeClock::new(timers);
        let mut settings = clock.environment();
        let urls = [
            ("LOOPS_API_URL", to_loops.url("/api")),
            ("LOOPS_API_KEY", "key".to_owned()),
            ("CLAY_WEBHOOK_URL", to_clay.url("/v3/sources/webhook/x")),
        ];
        settings.extend(urls.map(|(name, value)| (name.to_owned(), value)));
        let settings: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let relay = Relay::start(&settings).await;
        Self { loops, clay, proxies, relay, clock }
    }

    async fn send_row(&self, route: Route, step: u32) -> Response {
        let email = format!("n{step}@example.com");
        let row = match route {
            Route::Contact => json!({"email": email, "step": step}),
            Route::Event => json!({"email": email, "eventName": "stepped", "eventProperties": {"step": step}}),
        };
        send(self.relay.base(), route, "", &[], row.to_string()).await
    }

    /// Sends one of everything at that time, and waits until all of it has arrived.
    async fn send_and_deliver_all_at(&self, time: i64, step: u32) {
        let body = webhook::contact_created(&format!("n{step}@example.com"));
        let response = webhook::post_at(self.relay.base(), &format!("msg_{step}"), time, &body).await;
        assert_eq!(response.status, 200, "{}", response.text());
        for route in [Route::Contact, Route::Event] {
            let response = self.send_row(route, step).await;
            assert_eq!((response.status, response.text().as_str()), (200, ACCEPTED_BODY));
        }
        eventually("everything delivered", async || {
            self.relay.deliveries().await.iter().all(|delivery| delivery["state"] == "delivered").then_some(())
        })
        .await;
    }

    fn sleep(&self, kind: Disconnect) {
        self.relay.freeze();
        for proxy in &self.proxies {
            assert!(proxy.disconnect(kind) > 0, "no connection was kept, so nothing is tried");
        }
    }

    fn assert_each_arrived_once(&self, steps: usize) {
        assert_eq!((self.clay.received().len(), self.loops.received().len()), (steps, 2 * steps));
    }
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "skipped: needs Linux")]
async fn connections_lost_during_sleep_harm_no_delivery() {
    for kind in [Disconnect::Closed, Disconnect::Reset, Disconnect::PacketsDropped] {
        let laptop = Laptop::start(TimerBehavior::Unaffected).await;
        laptop.send_and_deliver_all_at(webhook::now(), 1).await;
        laptop.sleep(kind);
        laptop.relay.thaw();
        laptop.send_and_deliver_all_at(webhook::now(), 2).await;
        laptop.assert_each_arrived_once(2);
    }
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "skipped: needs Linux")]
async fn pooled_connections_are_not_reused_after_ten_minute_sleep() {
    for timers in [TimerBehavior::Unaffected, TimerBehavior::Shifted] {
        let laptop = Laptop::start(timers).await;
        laptop.send_and_deliver_all_at(webhook::now(), 1).await;
        laptop.sleep(Disconnect::Blackholed);
        laptop.clock.set_offset(TEN_MINUTES_SECS);
        laptop.relay.thaw();
        laptop.send_and_deliver_all_at(webhook::now() + TEN_MINUTES_SECS, 2).await;
        laptop.assert_each_arrived_once(2);
        let blackholed = laptop.proxies.each_ref().map(FlakyProxy::blackholed_bytes);
        assert_eq!(blackholed, [0; 2], "{timers:?}: something was sent into a connection that is ten minutes old");
    }
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "skipped: needs Linux")]
async fn response_received_during_sleep_is_not_timed_out() {
    let laptop = Laptop::start(TimerBehavior::Shifted).await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    laptop.clay.enqueue_replies([Reply::Gated(std::sync::Arc::clone(&gate))]);
    let body = webhook::contact_created("ada@example.com");
    assert_eq!(webhook::post(laptop.relay.base(), "msg_1", &body).await.status, 200);
    eventually("the row at Clay", async || (laptop.clay.received().len() == 1).then_some(())).await;
    laptop.relay.freeze();
    let responded = laptop.proxies[1].response_bytes();
    gate.add_permits(1);
    eventually("the answer on its way", async || (laptop.proxies[1].response_bytes() > responded).then_some(())).await;
    laptop.clock.set_offset(TEN_MINUTES_SECS);
    laptop.relay.thaw();
    let delivery = laptop.relay.wait_for_state("delivered").await;
    assert_eq!((laptop.clay.received().len(), delivery["attempts"].as_i64()), (1, Some(1)), "{}", laptop.relay.log());
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "skipped: needs Linux")]
async fn clock_set_back_on_wake_loses_and_duplicates_nothing() {
    let laptop = Laptop::start(TimerBehavior::Unaffected).await;
    laptop.clock.set_offset(10);
    laptop.send_and_deliver_all_at(webhook::now(), 1).await;
    laptop.relay.freeze();
    laptop.clock.set_offset(0);
    laptop.relay.thaw();
    let body = webhook::contact_created("n1@example.com");
    assert_eq!(webhook::post(laptop.relay.base(), "msg_1", &body).await.status, 200);
    laptop.send_and_deliver_all_at(webhook::now(), 2).await;
    laptop.assert_each_arrived_once(2);
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "skipped: needs Linux")]
async fn contact_lock_survives_clock_jump_during_a_send() {
    let laptop = Laptop::start(TimerBehavior::Unaffected).await;
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    laptop.loops.enqueue_replies([Reply::Gated(std::sync::Arc::clone(&gate))]);
    let row = |step: u32| json!({"email": "ada@example.com", "step": step}).to_string();
    let base = laptop.relay.base().to_owned();
    let older = tokio::spawn(async move { send(&base, Route::Contact, "", &[], row(1)).await });
    eventually("the older row at Loops", async || (laptop.loops.received().len() == 1).then_some(())).await;
    laptop.clock.set_offset(TEN_MINUTES_SECS);
    let newer = send(laptop.relay.base(), Route::Contact, "", &[], row(2)).await;
    assert_eq!(newer.status, 202, "{}", newer.text());
    assert_eq!(laptop.send_row(Route::Contact, 3).await.status, 200, "another contact is sent");
    gate.add_permits(1);
    assert_eq!(older.await.unwrap().status, 200);
    eventually("all three on record as delivered", async || {
        let all = laptop.relay.deliveries().await;
        (all.len() == 3 && all.iter().all(|delivery| delivery["state"] == "delivered")).then_some(())
    })
    .await;
    let body: Vec<String> =
        laptop.loops.received().iter().map(relay_testkit::mock_destination::ReceivedRequest::text).collect();
    let steps: Vec<bool> =
        [1, 3, 2].iter().zip(&body).map(|(step, body)| body.contains(&format!("\"step\":{step}"))).collect();
    assert_eq!(steps, [true; 3], "{body:?}");
}
