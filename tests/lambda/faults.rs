//! What becomes of requests and deliveries while AWS fails, and while sandboxes are killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use relay_testkit::lambda_fake::services::ServiceFault;
use relay_testkit::lambda_fake::{FakeStack, Setup, deliveries};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::{Route, contact, event, send};
use relay_testkit::webhook::{contact_created, post};
use relay_testkit::{eventually, eventually_within};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::contract::rows::{ROUTES, contact_row, row_for, row_on};
use crate::{loops_to_clay_document, settings, start_stack};

const ACCEPTED_BODY: &str = r#"{"success":true,"id":"c1"}"#;
/// How a service fails so that nothing was done.
pub(crate) const SERVICE_FAULTS: [ServiceFault; 3] =
    [ServiceFault::InternalError, ServiceFault::Throttle, ServiceFault::Hang];

pub(crate) async fn start_destinations() -> (MockDestination, MockDestination) {
    (MockDestination::start(Reply::json(200, ACCEPTED_BODY)).await, MockDestination::start(Reply::status(200)).await)
}

async fn wait_until_empty(fake_stack: &FakeStack, queue: &str) {
    eventually(&format!("an empty {queue}"), async || (fake_stack.queue_length(queue).await == 0).then_some(())).await;
}

async fn first_delivery_state(fake_stack: &FakeStack) -> Value {
    deliveries::list(fake_stack).await.into_iter().next().map_or(Value::Null, |delivery| delivery["state"].clone())
}

#[tokio::test]
async fn webhook_gets_503_until_the_queue_accepts_it() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    for fault in SERVICE_FAULTS {
        fake_stack.services().inject("sqs:SendMessage", fault);
        let response = post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await;
        response.assert_error_response(503, "unavailable", None);
        assert!(response.headers["retry-after"].parse::<u32>().is_ok_and(|seconds| seconds > 0), "{fault:?}");
    }
    fake_stack.services().clear();
    assert_eq!(post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    wait_until_empty(&fake_stack, "ClayQueue").await;
    assert_eq!(clay.received().len(), 1);
}

#[tokio::test]
async fn webhook_queued_despite_lost_response_is_one_row() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    fake_stack.services().inject("sqs:SendMessage", ServiceFault::LoseResponse);
    assert_eq!(post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 503);
    fake_stack.services().clear();
    assert_eq!(post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    wait_until_empty(&fake_stack, "ClayQueue").await;
    assert_eq!(clay.received().len(), 1);
}

#[tokio::test]
async fn unstorable_row_is_sent_on_fast_path_or_gets_429() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    fake_stack.services().inject("sqs", ServiceFault::InternalError);
    for route in ROUTES {
        assert_eq!(send(&fake_stack.base(), route, "", &[], row_on(route, "ada@example.com")).await.status, 200);
    }
    loops.set_default_reply(Reply::status(503));
    for route in ROUTES {
        let response = send(&fake_stack.base(), route, "", &[], row_on(route, "bob@example.com")).await;
        response.assert_error_response(429, "unavailable", None);
        assert_eq!(response.headers["retry-after"], "1");
    }
    fake_stack.services().clear();
    loops.set_default_reply(Reply::json(200, ACCEPTED_BODY));
    // A row that may have been queued after all keeps its position: the next row is queued behind it, and arrives.
    let before = loops.received().len();
    assert_eq!(contact(&fake_stack.base(), contact_row("bob@example.com")).await.status, 202);
    eventually("the row at Loops", async || (loops.received().len() > before).then_some(())).await;
}

#[tokio::test]
async fn row_queued_despite_lost_response_is_sent_once() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    let respond_async = [("prefer", "respond-async")];
    for (number, route) in ROUTES.into_iter().enumerate() {
        fake_stack.services().inject("sqs:SendMessage", ServiceFault::LoseResponse);
        let response = send(&fake_stack.base(), route, "", &respond_async, row_on(route, "ada@example.com")).await;
        // The caller gets the row's present outcome: unknown, queued, or delivered.
        assert!([429, 202, 200].contains(&response.status), "{}", response.text());
        fake_stack.services().clear();
        wait_until_empty(&fake_stack, "LoopsQueue").await;
        assert_eq!(loops.received().len(), number + 1, "{route:?}: {}", response.text());
    }
    let repeat = event(&fake_stack.base(), row_for("ada@example.com")).await;
    assert_eq!((repeat.status, repeat.json()), (200, json!({"success": true, "duplicate": true})));
    assert_eq!(loops.received().len(), 2, "what the worker has recorded is not forgotten");
}

#[tokio::test]
async fn row_known_not_stored_does_not_block_its_contact() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    fake_stack.services().inject("sqs", ServiceFault::Throttle);
    loops.set_default_reply(Reply::status(503));
    for route in ROUTES {
        send(&fake_stack.base(), route, "", &[], row_on(route, "bob@example.com")).await.assert_error_response(
            429,
            "unavailable",
            None,
        );
    }
    fake_stack.services().clear();
    loops.set_default_reply(Reply::json(200, ACCEPTED_BODY));
    for route in ROUTES {
        let response = send(&fake_stack.base(), route, "", &[], row_on(route, "bob@example.com")).await;
        assert_eq!((response.status, response.text().as_str()), (200, ACCEPTED_BODY));
    }
}

#[tokio::test]
async fn row_gets_response_within_function_timeout() {
    let (loops, clay) = start_destinations().await;
    loops.set_default_reply(Reply::status(503));
    let fake_stack = start_stack(&loops, &clay).await;
    assert_eq!(event(&fake_stack.base(), row_for("ada@example.com")).await.status, 202);
    fake_stack.services().inject("dynamodb", ServiceFault::Delay(Duration::from_millis(2200)));
    fake_stack.services().inject("sqs", ServiceFault::Hang);
    let response = event(&fake_stack.base(), row_for("bob@example.com")).await;
    response.assert_error_response(429, "unavailable", None);
}

#[tokio::test]
async fn row_gets_429_while_the_ledger_is_unavailable() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    for fault in SERVICE_FAULTS {
        fake_stack.services().inject("dynamodb", fault);
        for route in ROUTES {
            let response = send(&fake_stack.base(), route, "", &[], row_on(route, "ada@example.com")).await;
            response.assert_error_response(429, "unavailable", None);
        }
    }
    assert!(loops.received().is_empty());
    fake_stack.services().clear();
    assert_eq!(event(&fake_stack.base(), row_for("ada@example.com")).await.status, 200);
}

#[tokio::test]
async fn row_gets_200_on_a_slow_ledger() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    fake_stack.services().inject("dynamodb", ServiceFault::Delay(Duration::from_millis(300)));
    let response = event(&fake_stack.base(), row_for("ada@example.com")).await;
    assert_eq!((response.status, response.text().as_str()), (200, ACCEPTED_BODY), "{}", fake_stack.log());
}

#[tokio::test]
async fn workers_send_nothing_while_ledger_is_unwritable() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    for fault in SERVICE_FAULTS {
        let sent = clay.received().len();
        fake_stack.services().inject("dynamodb", fault);
        let id = format!("msg_{fault:?}");
        assert_eq!(post(&fake_stack.base(), &id, &contact_created("ada@example.com")).await.status, 200);
        let log_message = "the ledger cannot be written: nothing is sent";
        let before = fake_stack.log().matches(log_message).count();
        eventually("an attempt", async || (fake_stack.log().matches(log_message).count() > before).then_some(())).await;
        assert_eq!(clay.received().len(), sent, "{fault:?}");
        fake_stack.services().clear();
        wait_until_empty(&fake_stack, "ClayQueue").await;
        assert_eq!(clay.received().len(), sent + 1, "{fault:?}");
    }
}

#[tokio::test]
async fn delivered_but_undeleted_message_is_not_resent() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    fake_stack.drop_responses(true);
    assert_eq!(post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    assert_eq!(
        send(&fake_stack.base(), Route::Contact, "", &[("prefer", "respond-async")], contact_row("ada@example.com"))
            .await
            .status,
        202
    );
    eventually("a row and a contact", async || (clay.received().len() + loops.received().len() == 2).then_some(()))
        .await;
    eventually("both on record", async || {
        let all = deliveries::list(&fake_stack).await;
        (all.iter().filter(|delivery| delivery["state"] == "delivered").count() == 2).then_some(())
    })
    .await;
    assert_eq!(fake_stack.queue_length("ClayQueue").await + fake_stack.queue_length("LoopsQueue").await, 2);
    fake_stack.drop_responses(false);
    eventually("empty queues", async || {
        fake_stack.make_all_visible().await;
        (fake_stack.queue_length("ClayQueue").await + fake_stack.queue_length("LoopsQueue").await == 0).then_some(())
    })
    .await;
    assert_eq!((clay.received().len(), loops.received().len()), (1, 1), "the messages came back, and the ledger knew");
}

#[tokio::test]
async fn worker_killed_before_its_record_resends_row_once() {
    let (loops, clay) = start_destinations().await;
    let gate = Arc::new(Semaphore::new(0));
    clay.enqueue_replies([Reply::Gated(Arc::clone(&gate))]);
    let fake_stack = start_stack(&loops, &clay).await;
    assert_eq!(post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    eventually("the row at Clay", async || (clay.received().len() == 1).then_some(())).await;
    // Clay has accepted it; the outcome cannot be recorded any more.
    fake_stack.services().inject("dynamodb", ServiceFault::Hang);
    gate.add_permits(1);
    let calls = fake_stack.services().calls().len();
    eventually("a record under way", async || (fake_stack.services().calls().len() > calls).then_some(())).await;
    let state = fake_stack.kill().await;
    state.make_all_visible().await;
    let fake_stack = FakeStack::start_in(state, Setup { settings: settings(&loops), ..Setup::default() }).await;
    eventually_within(Duration::from_secs(60), "an empty queue", async || {
        fake_stack.make_all_visible().await;
        (fake_stack.queue_length("ClayQueue").await == 0).then_some(())
    })
    .await;
    assert_eq!(clay.received().len(), 2, "Clay cannot be asked whether it has a row: this window remains");
    assert_eq!(first_delivery_state(&fake_stack).await, "delivered");
}

#[tokio::test]
async fn kills_at_random_moments_lose_no_webhook() {
    let (loops, clay) = start_destinations().await;
    let setup = || Setup { settings: settings(&loops), ..Setup::default() };
    let mut fake_stack = start_stack(&loops, &clay).await;
    let mut acknowledged = Vec::new();
    let mut max_in_flight = 0;
    for round in 0..4 {
        for number in 0..12 {
            let email = format!("n{}@example.com", number % 5);
            let id = format!("msg_{round}_{number}");
            if post(&fake_stack.base(), &id, &contact_created(&email)).await.status == 200 {
                acknowledged.push(id);
            }
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..400))).await;
        let state = fake_stack.kill().await;
        state.make_all_visible().await;
        // Two workers with at most five contacts each.
        max_in_flight += 10;
        fake_stack = FakeStack::start_in(state, setup()).await;
    }
    eventually_within(Duration::from_secs(180), "every webhook delivered", async || {
        fake_stack.make_all_visible().await;
        let all = deliveries::list(&fake_stack).await;
        (all.len() == acknowledged.len() && all.iter().all(|delivery| delivery["state"] == "delivered")).then_some(())
    })
    .await;
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    for request in clay.received() {
        *rows.entry(request.text()).or_default() += 1;
    }
    assert_eq!(rows.len(), 5, "each contact arrived");
    let duplicates = clay.received().len() - acknowledged.len();
    assert!(duplicates <= max_in_flight, "{duplicates} sent once more");
}

#[tokio::test]
async fn malformed_lambda_event_is_rejected_and_function_continues() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    for function in ["loops-to-clay", "clay-to-loops-contact", "clay-to-loops-event", "clay-to-loops-api"] {
        for event in ["{}", "null", r#"{"version":"2.0","body":"ada@private.example"}"#] {
            let response = fake_stack.function(function).invoke(event.into()).await.unwrap();
            let response: Value = serde_json::from_slice(&response).unwrap();
            assert_eq!(response["statusCode"], 400, "{function}: {response}");
        }
    }
    for function in ["clay-delivery", "loops-delivery"] {
        for event in ["null", r#"{"Records":"ada@private.example"}"#] {
            assert!(fake_stack.function(function).invoke(event.into()).await.is_err());
        }
        let empty_batch = fake_stack.function(function).invoke(br#"{"Records":[]}"#.to_vec()).await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&empty_batch).unwrap()["batchItemFailures"], json!([]));
    }
    assert!(!fake_stack.log().contains("private.example"), "{}", fake_stack.log());
    assert_eq!(post(&fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
}

#[tokio::test]
async fn malformed_query_is_400_not_5xx() {
    let (loops, clay) = start_destinations().await;
    let fake_stack = start_stack(&loops, &clay).await;
    let event = include_str!("../../events/api-gateway/contact-update.json");
    let mut event: Value = serde_json::from_str(event).unwrap();
    event["rawQueryString"] = "blank=<none> x".into();
    let response = fake_stack.function("clay-to-loops-contact").invoke(event.to_string().into_bytes()).await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&response).unwrap()["statusCode"], 400);
}

#[tokio::test]
async fn held_deliveries_go_out_with_a_new_webhook() {
    let (loops, clay) = start_destinations().await;
    clay.set_default_reply(Reply::status(403));
    let mut fake_stack = start_stack(&loops, &clay).await;
    for number in 0..6 {
        let email = format!("n{number}@example.com");
        assert_eq!(post(&fake_stack.base(), &format!("msg_{number}"), &contact_created(&email)).await.status, 200);
    }
    let held_count = || async {
        let all = deliveries::list(&fake_stack).await;
        all.iter().filter(|delivery| delivery["reason"] == "clay_webhooks_exhausted").count()
    };
    eventually("six held deliveries", async || (held_count().await == 6).then_some(())).await;
    assert_eq!(fake_stack.queue_length("ClayQueue").await, 6);
    // An operator puts a new webhook into the secret. Each delivery is sent when its message becomes visible.
    let new_webhook = MockDestination::start(Reply::status(200)).await;
    let state = fake_stack.stop().await;
    let setup = Setup {
        loops_to_clay: Some(loops_to_clay_document(&[&clay, &new_webhook])),
        settings: settings(&loops),
        ..Setup::default()
    };
    fake_stack = FakeStack::start_in(state, setup).await;
    fake_stack.make_all_visible().await;
    wait_until_empty(&fake_stack, "ClayQueue").await;
    assert_eq!(new_webhook.received().len(), 6);
}
