//! Sandboxes that were frozen between two events, and what died meanwhile.

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

use crate::faults::ends;
use crate::{settings, to_loops};

/// How long deliveries that came to no answer may take, with one wait behind it.
const PATIENCE: Duration = Duration::from_secs(45);

/// A stack whose every connection goes through a wire.
struct Stack {
    loops: MockDestination,
    clay: MockDestination,
    to_loops: FlakyProxy,
    to_clay: FlakyProxy,
    cloud: FakeStack,
}

impl Stack {
    async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    async fn start_with(environment: Vec<(String, String)>) -> Self {
        let (loops, clay) = ends().await;
        let (to_loops_wire, to_clay_wire) =
            (FlakyProxy::start(&loops.url("")).await, FlakyProxy::start(&clay.url("")).await);
        let webhook = json!({"url": to_clay_wire.url("/v3/sources/webhook/x")});
        let route = json!({"name": "contacts", "events": ["contact.*"], "webhooks": [webhook]});
        let document = json!({"loops_signing_secrets": [SIGNING_SECRET], "clay_routes": [route]});
        let mut settings = settings(&loops);
        settings.retain(|(name, _)| name != "LOOPS_API_URL");
        settings.push(("LOOPS_API_URL".to_owned(), to_loops_wire.url("/api")));
        let setup = Setup { loops_to_clay: Some(document), clay_to_loops: Some(to_loops()), settings, environment };
        let cloud = FakeStack::start(setup).await;
        Self { loops, clay, to_loops: to_loops_wire, to_clay: to_clay_wire, cloud }
    }

    /// Sends one of everything, and waits until all of it is where it belongs. Every sandbox is frozen then.
    async fn once(&self, step: u32) {
        self.once_at(webhook::now(), step).await;
    }

    /// The same, Loops' clock being there.
    async fn once_at(&self, time: i64, step: u32) {
        let webhook = self.webhook(time, step).await;
        assert_eq!(webhook.status, 200, "{}", webhook.text());
        for route in [Route::Contact, Route::Event] {
            let row = self.row(route, step, &[]).await;
            assert!([200, 202].contains(&row.status), "{}: {}", row.status, row.text());
        }
        let later = self.row(Route::Event, step + 1000, &[("prefer", "respond-async")]).await;
        assert_eq!(later.status, 202, "{}", later.text());
        self.all_arrived().await;
    }

    async fn webhook(&self, time: i64, step: u32) -> Response {
        let body = contact_created(&format!("n{step}@example.com"));
        webhook::post_at(&self.cloud.base(), &format!("msg_{step}"), time, &body).await
    }

    async fn row(&self, route: Route, step: u32, headers: &[(&str, &str)]) -> Response {
        let email = format!("n{step}@example.com");
        let row = match route {
            Route::Contact => json!({"email": email, "step": step}),
            Route::Event => json!({"email": email, "eventName": "stepped", "eventProperties": {"step": step}}),
        };
        send(&self.cloud.base(), route, "", headers, row.to_string()).await
    }

    async fn all_arrived(&self) {
        eventually_within(PATIENCE, "empty queues", async || {
            let waiting = self.cloud.queue_length("ClayQueue").await + self.cloud.queue_length("LoopsQueue").await;
            if waiting > 0 {
                self.cloud.make_idle_visible().await;
            }
            (waiting == 0).then_some(())
        })
        .await;
    }

    /// What both ends were sent so far: each once.
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

fn emails(got: &[ReceivedRequest], email: impl Fn(&Value) -> Value) -> Vec<String> {
    let bodies = got.iter().map(|got| serde_json::from_slice::<Value>(&got.body).unwrap());
    let mut emails: Vec<String> = bodies.map(|body| email(&body).as_str().unwrap().to_owned()).collect();
    emails.sort();
    emails
}

/// Every connection dies while the sandboxes are frozen.
async fn wakes_well(cut: Disconnect) {
    let stack = Stack::start().await;
    stack.once(1).await;
    for wire in [&stack.to_loops, &stack.to_clay, stack.cloud.services().proxy()] {
        assert!(wire.disconnect(cut) > 0, "no connection was kept, so nothing is tried");
    }
    let woke = Instant::now();
    stack.once(2).await;
    println!("{cut:?}: all of it arrived {:?} after waking", woke.elapsed());
    stack.assert_each_arrived_once(&[1, 2]);
    if cut == Disconnect::Blackholed {
        assert!(
            stack.cloud.services().proxy().blackholed_bytes() > 0,
            "no dead connection was used, so nothing is tried"
        );
    }
}

#[tokio::test]
async fn connections_that_were_closed_while_a_sandbox_was_frozen_harm_nothing() {
    wakes_well(Disconnect::Closed).await;
}

#[tokio::test]
async fn connections_that_were_reset_while_a_sandbox_was_frozen_harm_nothing() {
    wakes_well(Disconnect::Reset).await;
}

#[tokio::test]
async fn connections_that_answer_nothing_after_a_freeze_harm_nothing() {
    wakes_well(Disconnect::Blackholed).await;
}

#[tokio::test]
async fn connections_that_were_forgotten_while_a_sandbox_was_frozen_harm_nothing() {
    wakes_well(Disconnect::PacketsDropped).await;
}

#[tokio::test]
async fn deliveries_on_connections_that_were_forgotten_are_no_failures_and_no_end_counts_as_down() {
    let stack = Stack::start().await;
    let together = async |first: u32| {
        let webhooks = (first..first + 5).map(|step| stack.webhook(webhook::now(), step));
        for answer in join_all(webhooks).await {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        stack.all_arrived().await;
    };
    together(1).await;
    assert!(stack.to_clay.disconnect(Disconnect::PacketsDropped) > 0, "no connection was kept, so nothing is tried");
    together(11).await;
    let all = deliveries::list(&stack.cloud).await;
    let attempts: Vec<i64> = all.iter().filter_map(|delivery| delivery["attempts"].as_i64()).collect();
    assert_eq!(attempts, [1; 10], "a delivery was tried again that only its connection had failed");
    assert_eq!(stack.clay.received().len(), 10);
}

/// For so long sandboxes are frozen, by the clock.
const TEN_MINUTES: i64 = 600;

async fn uses_no_old_connection(timers: TimerBehavior) {
    let clock = FakeClock::new(timers);
    let stack = Stack::start_with(clock.environment()).await;
    stack.once(1).await;
    let wires = [&stack.to_loops, &stack.to_clay, stack.cloud.services().proxy()];
    for wire in wires {
        assert!(wire.disconnect(Disconnect::Blackholed) > 0, "no connection was kept, so nothing is tried");
    }
    clock.set_offset(TEN_MINUTES);
    stack.once_at(webhook::now() + TEN_MINUTES, 2).await;
    stack.assert_each_arrived_once(&[1, 2]);
    assert_eq!(
        wires.map(FlakyProxy::blackholed_bytes),
        [0; 3],
        "something was sent into a connection that is ten minutes old"
    );
}

#[tokio::test]
async fn after_ten_minutes_no_connection_is_used_that_was_kept() {
    uses_no_old_connection(TimerBehavior::Shifted).await;
}

#[tokio::test]
async fn after_ten_minutes_in_which_no_timer_went_on_no_connection_is_used_that_was_kept() {
    uses_no_old_connection(TimerBehavior::Unaffected).await;
}

#[tokio::test]
async fn a_webhook_is_judged_by_the_time_at_waking() {
    let clock = FakeClock::new(TimerBehavior::Unaffected);
    let stack = Stack::start_with(clock.environment()).await;
    stack.once(1).await;
    clock.set_offset(TEN_MINUTES);
    let then = webhook::now();
    assert_eq!(stack.webhook(then + TEN_MINUTES, 2).await.status, 200);
    stack.webhook(then, 3).await.assert_error_response(401, "timestamp_out_of_range", None);
}

#[tokio::test]
async fn a_clock_that_is_ahead_of_lambdas_takes_no_function_its_time() {
    let clock = FakeClock::new(TimerBehavior::Unaffected);
    let stack = Stack::start_with(clock.environment()).await;
    stack.once(1).await;
    // Nearly as much as the front door has, and as a worker has.
    for (step, ahead) in [(2, 19), (3, 45)] {
        clock.set_offset(ahead);
        stack.once(step).await;
    }
    stack.assert_each_arrived_once(&[1, 2, 3]);
}

#[tokio::test]
async fn a_clock_that_is_set_back_at_waking_loses_and_doubles_nothing() {
    let clock = FakeClock::new(TimerBehavior::Unaffected);
    let stack = Stack::start_with(clock.environment()).await;
    clock.set_offset(10);
    stack.once(1).await;
    clock.set_offset(0);
    // The same once more, as Loops and Clay repeat what they are not sure of; and something new for the same contact.
    assert_eq!(stack.webhook(webhook::now(), 1).await.status, 200);
    assert!([200, 202, 409].contains(&stack.row(Route::Event, 1, &[]).await.status));
    stack.once(2).await;
    stack.assert_each_arrived_once(&[1, 2]);
}

/// A worker waits for Clay's answer to a row, which comes when the gate opens.
async fn held_at_clay(clock: &FakeClock) -> (Stack, Arc<Semaphore>) {
    let stack = Stack::start_with(clock.environment()).await;
    let gate = Arc::new(Semaphore::new(0));
    stack.clay.enqueue_replies([Reply::Gated(Arc::clone(&gate))]);
    assert_eq!(stack.webhook(webhook::now(), 1).await.status, 200);
    eventually("the row at Clay", async || (stack.clay.received().len() == 1).then_some(())).await;
    (stack, gate)
}

#[tokio::test]
async fn a_worker_that_wakes_up_behind_its_deadline_deletes_nothing_that_is_not_on_record() {
    let clock = FakeClock::new(TimerBehavior::Shifted);
    let (stack, gate) = held_at_clay(&clock).await;
    let worker = stack.cloud.function("clay-delivery");
    let frozen = worker.freeze();
    assert_eq!(frozen.len(), 1, "no worker was in the middle of it");
    clock.set_offset(70);
    worker.thaw(&frozen);
    eventually("a worker that has ended", async || (stack.cloud.in_progress_count("ClayQueue") == 0).then_some(()))
        .await;
    assert_eq!(stack.cloud.queue_length("ClayQueue").await, 1, "the message is gone");
    assert_eq!(stack.clay.received().len(), 1, "it was sent again behind the deadline");
    // Clay has it, and could not say so: like any row that was not on record, it is sent again.
    gate.add_permits(1);
    stack.all_arrived().await;
    let all = deliveries::list(&stack.cloud).await;
    assert_eq!((stack.clay.received().len(), all[0]["state"].as_str()), (2, Some("delivered")));
}

#[tokio::test]
async fn an_answer_that_came_while_a_worker_was_frozen_is_not_too_late() {
    let clock = FakeClock::new(TimerBehavior::Shifted);
    let (stack, gate) = held_at_clay(&clock).await;
    let worker = stack.cloud.function("clay-delivery");
    let frozen = worker.freeze();
    let answered = stack.to_clay.response_bytes();
    gate.add_permits(1);
    eventually("the answer on its way", async || (stack.to_clay.response_bytes() > answered).then_some(())).await;
    // Behind the time of the call, and not yet behind the worker's.
    clock.set_offset(20);
    worker.thaw(&frozen);
    stack.all_arrived().await;
    let all = deliveries::list(&stack.cloud).await;
    assert_eq!((stack.clay.received().len(), all[0]["attempts"].as_i64()), (1, Some(1)));
}
