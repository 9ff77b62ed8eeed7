//! Sandboxes that were frozen between two events, and connections that died meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use relay_testkit::fake_clock::{FakeClock, TimerBehavior};
use relay_testkit::flaky_proxy::{Disconnect, FlakyProxy};
use relay_testkit::http::Response;
use relay_testkit::lambda_fake::{FakeStack, Setup, deliveries};
use relay_testkit::mock_destination::{MockDestination, ReceivedRequest, Reply};
use relay_testkit::row::{Route, send};
use relay_testkit::webhook::{self, SIGNING_SECRET, contact_created};
use relay_testkit::{eventually, eventually_within};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::faults::start_destinations;
use crate::{clay_to_loops_document, settings};

/// Maximum time for deliveries without a response, with one more wait behind them.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(45);

/// A stack whose every connection has a proxy.
struct ProxiedStack {
    loops: MockDestination,
    clay: MockDestination,
    loops_proxy: FlakyProxy,
    clay_proxy: FlakyProxy,
    fake_stack: FakeStack,
}

impl ProxiedStack {
    async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    async fn start_with(environment: Vec<(String, String)>) -> Self {
        let (loops, clay) = start_destinations().await;
        let (loops_proxy, clay_proxy) =
            (FlakyProxy::start(&loops.url("")).await, FlakyProxy::start(&clay.url("")).await);
        let webhook = json!({"url": clay_proxy.url("/v3/sources/webhook/x")});
        let route = json!({"name": "contacts", "events": ["contact.*"], "webhooks": [webhook]});
        let document = json!({"loops_signing_secrets": [SIGNING_SECRET], "clay_routes": [route]});
        let mut settings = settings(&loops);
        settings.retain(|(name, _)| name != "LOOPS_API_URL");
        settings.push(("LOOPS_API_URL".to_owned(), loops_proxy.url("/api")));
        let setup = Setup {
            loops_to_clay: Some(document),
            clay_to_loops: Some(clay_to_loops_document()),
            settings,
            environment,
        };
        let fake_stack = FakeStack::start(setup).await;
        Self { loops, clay, loops_proxy, clay_proxy, fake_stack }
    }

    /// Sends one of everything, and waits until all of it is where it belongs. Every sandbox is frozen then.
    async fn send_and_deliver_all(&self, step: u32) {
        self.send_and_deliver_all_at(webhook::now(), step).await;
    }

    /// The same, Loops' clock being there.
    async fn send_and_deliver_all_at(&self, time: i64, step: u32) {
        let webhook_response = self.send_webhook(time, step).await;
        assert_eq!(webhook_response.status, 200, "{}", webhook_response.text());
        for route in [Route::Contact, Route::Event] {
            let row_response = self.send_row(route, step, &[]).await;
            assert!([200, 202].contains(&row_response.status), "{}: {}", row_response.status, row_response.text());
        }
        let async_response = self.send_row(Route::Event, step + 1000, &[("prefer", "respond-async")]).await;
        assert_eq!(async_response.status, 202, "{}", async_response.text());
        self.wait_until_delivered().await;
    }

    async fn send_webhook(&self, time: i64, step: u32) -> Response {
        let body = contact_created(&format!("n{step}@example.com"));
        webhook::post_at(&self.fake_stack.base(), &format!("msg_{step}"), time, &body).await
    }

    async fn send_row(&self, route: Route, step: u32, headers: &[(&str, &str)]) -> Response {
        let email = format!("n{step}@example.com");
        let row = match route {
            Route::Contact => json!({"email": email, "step": step}),
            Route::Event => json!({"email": email, "eventName": "stepped", "eventProperties": {"step": step}}),
        };
        send(&self.fake_stack.base(), route, "", headers, row.to_string()).await
    }

    async fn wait_until_delivered(&self) {
        eventually_within(DELIVERY_TIMEOUT, "empty queues", async || {
            let waiting =
                self.fake_stack.queue_length("ClayQueue").await + self.fake_stack.queue_length("LoopsQueue").await;
            if waiting > 0 {
                self.fake_stack.make_idle_visible().await;
            }
            (waiting == 0).then_some(())
        })
        .await;
    }

    /// Checks that each step arrived once at both destinations.
    fn assert_each_arrived_once(&self, steps: &[u32]) {
        let mut expected: Vec<String> = steps.iter().map(|step| format!("n{step}@example.com")).collect();
        expected.sort();
        assert_eq!(emails(&self.clay.received(), |body| body["contactIdentity"]["email"].clone()), expected, "at Clay");
        let mut expected: Vec<String> = steps
            .iter()
            .flat_map(|step| [*step, *step, step + 1000].map(|step| format!("n{step}@example.com")))
            .collect();
        expected.sort();
        assert_eq!(emails(&self.loops.received(), |body| body["email"].clone()), expected, "at Loops");
    }
}

fn emails(requests: &[ReceivedRequest], email: impl Fn(&Value) -> Value) -> Vec<String> {
    let bodies = requests.iter().map(|request| serde_json::from_slice::<Value>(&request.body).unwrap());
    let mut emails: Vec<String> = bodies.map(|body| email(&body).as_str().unwrap().to_owned()).collect();
    emails.sort();
    emails
}

/// Every connection dies while the sandboxes are frozen.
async fn assert_survives_disconnect(kind: Disconnect) {
    let stack = ProxiedStack::start().await;
    stack.send_and_deliver_all(1).await;
    for proxy in [&stack.loops_proxy, &stack.clay_proxy, stack.fake_stack.services().proxy()] {
        assert!(proxy.disconnect(kind) > 0, "no connection was kept, so nothing is tried");
    }
    let thawed_at = Instant::now();
    stack.send_and_deliver_all(2).await;
    println!("{kind:?}: all of it arrived {:?} after waking", thawed_at.elapsed());
    stack.assert_each_arrived_once(&[1, 2]);
    if kind == Disconnect::Blackholed {
        assert!(
            stack.fake_stack.services().proxy().blackholed_bytes() > 0,
            "no dead connection was used, so nothing is tried"
        );
    }
}

#[tokio::test]
async fn connections_closed_during_freeze_harm_no_delivery() {
    assert_survives_disconnect(Disconnect::Closed).await;
}

#[tokio::test]
async fn connections_reset_during_freeze_harm_no_delivery() {
    assert_survives_disconnect(Disconnect::Reset).await;
}

#[tokio::test]
async fn connections_blackholed_by_freeze_harm_no_delivery() {
    assert_survives_disconnect(Disconnect::Blackholed).await;
}

#[tokio::test]
async fn connections_dropped_during_freeze_harm_no_delivery() {
    assert_survives_disconnect(Disconnect::PacketsDropped).await;
}

#[tokio::test]
async fn dead_pooled_connections_do_not_trip_breaker() {
    let stack = ProxiedStack::start().await;
    let send_burst = async |first: u32| {
        let webhooks = (first..first + 5).map(|step| stack.send_webhook(webhook::now(), step));
        for response in join_all(webhooks).await {
            assert_eq!(response.status, 200, "{}", response.text());
        }
        stack.wait_until_delivered().await;
    };
    send_burst(1).await;
    assert!(stack.clay_proxy.disconnect(Disconnect::PacketsDropped) > 0, "no connection was kept, so nothing is tried");
    send_burst(11).await;
    let all = deliveries::list(&stack.fake_stack).await;
    let attempts: Vec<i64> = all.iter().filter_map(|delivery| delivery["attempts"].as_i64()).collect();
    assert_eq!(attempts, [1; 10], "a delivery was tried again that only its connection had failed");
    assert_eq!(stack.clay.received().len(), 10);
}

/// For so long sandboxes are frozen, by the clock.
const TEN_MINUTES_SECS: i64 = 600;

async fn assert_old_connections_unused(timers: TimerBehavior) {
    let clock = FakeClock::new(timers);
    let stack = ProxiedStack::start_with(clock.environment()).await;
    stack.send_and_deliver_all(1).await;
    let proxies = [&stack.loops_proxy, &stack.clay_proxy, stack.fake_stack.services().proxy()];
    for proxy in proxies {
        assert!(proxy.disconnect(Disconnect::Blackholed) > 0, "no connection was kept, so nothing is tried");
    }
    clock.set_offset(TEN_MINUTES_SECS);
    stack.send_and_deliver_all_at(webhook::now() + TEN_MINUTES_SECS, 2).await;
    stack.assert_each_arrived_once(&[1, 2]);
    assert_eq!(
        proxies.map(FlakyProxy::blackholed_bytes),
        [0; 3],
        "something was sent into a connection that is ten minutes old"
    );
}

#[tokio::test]
async fn pooled_connections_are_not_reused_after_ten_minutes() {
    assert_old_connections_unused(TimerBehavior::Shifted).await;
}

#[tokio::test]
async fn pooled_connections_are_not_reused_when_timers_stood_still() {
    assert_old_connections_unused(TimerBehavior::Unaffected).await;
}

#[tokio::test]
async fn webhook_timestamp_is_checked_against_time_after_freeze() {
    let clock = FakeClock::new(TimerBehavior::Unaffected);
    let stack = ProxiedStack::start_with(clock.environment()).await;
    stack.send_and_deliver_all(1).await;
    clock.set_offset(TEN_MINUTES_SECS);
    let sent_at = webhook::now();
    assert_eq!(stack.send_webhook(sent_at + TEN_MINUTES_SECS, 2).await.status, 200);
    stack.send_webhook(sent_at, 3).await.assert_error_response(401, "timestamp_out_of_range", None);
}

#[tokio::test]
async fn clock_ahead_of_lambda_does_not_shorten_timeout() {
    let clock = FakeClock::new(TimerBehavior::Unaffected);
    let stack = ProxiedStack::start_with(clock.environment()).await;
    stack.send_and_deliver_all(1).await;
    // Nearly the timeouts of an HTTP function, and of a worker.
    for (step, offset_secs) in [(2, 19), (3, 45)] {
        clock.set_offset(offset_secs);
        stack.send_and_deliver_all(step).await;
    }
    stack.assert_each_arrived_once(&[1, 2, 3]);
}

#[tokio::test]
async fn clock_set_back_on_thaw_loses_and_duplicates_nothing() {
    let clock = FakeClock::new(TimerBehavior::Unaffected);
    let stack = ProxiedStack::start_with(clock.environment()).await;
    clock.set_offset(10);
    stack.send_and_deliver_all(1).await;
    clock.set_offset(0);
    // The same once more, as Loops and Clay repeat what they are not sure of; and something new for the same contact.
    assert_eq!(stack.send_webhook(webhook::now(), 1).await.status, 200);
    assert!([200, 202, 409].contains(&stack.send_row(Route::Event, 1, &[]).await.status));
    stack.send_and_deliver_all(2).await;
    stack.assert_each_arrived_once(&[1, 2]);
}

/// A worker waits for Clay's response to a row, which comes when the gate opens.
async fn start_with_request_in_flight(clock: &FakeClock) -> (ProxiedStack, Arc<Semaphore>) {
    let stack = ProxiedStack::start_with(clock.environment()).await;
    let gate = Arc::new(Semaphore::new(0));
    stack.clay.enqueue_replies([Reply::Gated(Arc::clone(&gate))]);
    assert_eq!(stack.send_webhook(webhook::now(), 1).await.status, 200);
    eventually("the row at Clay", async || (stack.clay.received().len() == 1).then_some(())).await;
    (stack, gate)
}

#[tokio::test]
async fn worker_thawed_after_deadline_keeps_unrecorded_message() {
    let clock = FakeClock::new(TimerBehavior::Shifted);
    let (stack, gate) = start_with_request_in_flight(&clock).await;
    let worker = stack.fake_stack.function("clay-delivery");
    let frozen_pids = worker.freeze();
    assert_eq!(frozen_pids.len(), 1, "no worker was in the middle of it");
    clock.set_offset(70);
    worker.thaw(&frozen_pids);
    eventually("a worker that has ended", async || {
        (stack.fake_stack.in_progress_count("ClayQueue") == 0).then_some(())
    })
    .await;
    assert_eq!(stack.fake_stack.queue_length("ClayQueue").await, 1, "the message is gone");
    assert_eq!(stack.clay.received().len(), 1, "it was sent again behind the deadline");
    // Clay has accepted it, and the response was lost: like any unrecorded row, it is sent again.
    gate.add_permits(1);
    stack.wait_until_delivered().await;
    let all = deliveries::list(&stack.fake_stack).await;
    assert_eq!((stack.clay.received().len(), all[0]["state"].as_str()), (2, Some("delivered")));
}

#[tokio::test]
async fn response_received_during_freeze_is_not_timed_out() {
    let clock = FakeClock::new(TimerBehavior::Shifted);
    let (stack, gate) = start_with_request_in_flight(&clock).await;
    let worker = stack.fake_stack.function("clay-delivery");
    let frozen_pids = worker.freeze();
    let responded = stack.clay_proxy.response_bytes();
    gate.add_permits(1);
    eventually("the answer on its way", async || (stack.clay_proxy.response_bytes() > responded).then_some(())).await;
    // Behind the time of the call, and not yet behind the worker's.
    clock.set_offset(20);
    worker.thaw(&frozen_pids);
    stack.wait_until_delivered().await;
    let all = deliveries::list(&stack.fake_stack).await;
    assert_eq!((stack.clay.received().len(), all[0]["attempts"].as_i64()), (1, Some(1)));
}
