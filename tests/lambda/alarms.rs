//! What makes each alarm ring that watches the relay's own metrics, as CloudWatch would find it in the functions' log.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use relay_testkit::eventually;
use relay_testkit::http;
use relay_testkit::lambda_fake::services::ServiceFault;
use relay_testkit::lambda_fake::stack::{Stack, expect_str};
use relay_testkit::mock_destination::Reply;
use relay_testkit::row::{Route, contact, send, send_without_token};
use relay_testkit::webhook::{contact_created, post};
use serde_json::{Value, json};

use crate::Relay;
use crate::contract::rows::{self, contact_row, row_for, start_loops};
use crate::contract::telemetry::{log_lines, run_every_outcome, wait_for_line};
use crate::contract::webhooks::{self, start_clay};

/// The alarms that ring, without the stack's name. `tools/aws-emulator/alarms.py` evaluates them.
fn ringing(relay: &Relay) -> BTreeSet<String> {
    ringing_with(relay, &[])
}

/// The same, with other thresholds by the alarms' names in the template.
fn ringing_with(relay: &Relay, thresholds: &[(&str, u64)]) -> BTreeSet<String> {
    let stack = relay.description();
    let mut alarms = stack["alarms"].clone();
    for (name, threshold) in thresholds {
        alarms[*name]["Threshold"] = (*threshold).into();
    }
    let gateway_lines: Vec<Value> =
        relay.gateway_statuses().iter().map(|status| gateway_line(stack, &status.to_string(), "9")).collect();
    evaluate(stack, &alarms, &log_lines(relay), &gateway_lines)
}

/// A line of the gateway's log. API Gateway writes "-" for what there is not: a request that it turns away has no function's
/// latency.
fn gateway_line(stack: &Value, status: &str, latency: &str) -> Value {
    let format = expect_str(&stack["stages"][0]["access_log"]["format"]);
    let line = format.replace("$context.status", status).replace("$context.integrationLatency", latency);
    serde_json::from_str(&line).unwrap()
}

/// Evaluates alarms of a stack on the lines of the functions' log and of the gateway's.
fn evaluate(stack: &Value, alarms: &Value, lines: &[Value], gateway_lines: &[Value]) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(root.join(".venv/bin/python"));
    command.arg(root.join("tools/aws-emulator/alarms.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = command.spawn().unwrap();
    let filters = &stack["metric_filters"];
    let input = json!({"alarms": alarms, "metric_filters": filters, "lines": lines, "gateway_lines": gateway_lines});
    let input = input.to_string();
    program.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success());
    let prefix = format!("{}-", expect_str(&stack["stack"]));
    let names = String::from_utf8(output.stdout).unwrap();
    names.lines().map(|name| name.strip_prefix(&prefix).unwrap().to_owned()).collect()
}

fn alarms<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[tokio::test]
async fn deliveries_that_arrive_ring_no_alarm() {
    let loops = start_loops().await;
    let relay = rows::start_relay(&loops, &[]).await;
    assert_eq!(contact(relay.base(), contact_row("ada@example.com")).await.status, 200);
    let queued = send(relay.base(), Route::Event, "", &[("prefer", "respond-async")], row_for("bob@example.com")).await;
    let id = &queued.headers["x-relay-delivery-id"];
    wait_for_line(&relay, &[("delivery.id", id), ("outcome", "delivered")]).await;
    assert_eq!(ringing(&relay), alarms([]));
    let clay = start_clay().await;
    let relay = webhooks::start_relay(&clay, &[]).await;
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    wait_for_line(&relay, &[("outcome", "delivered")]).await;
    assert_eq!(ringing(&relay), alarms([]));
}

#[tokio::test]
async fn what_needs_an_operator_rings_its_alarm() {
    let relay = run_every_outcome("info").await;
    let expected = [
        "clay-new-dead-letter",
        "loops-new-dead-letter",
        "clay-held",
        "loops-held",
        "loops-key-refused",
        "clay-pool-nearly-used",
        "clay-pool-used-up",
        "requests-fail",
    ];
    assert_eq!(ringing(&relay), alarms(expected));
}

#[tokio::test]
async fn clay_that_fails_for_long_rings() {
    let clay = start_clay().await;
    clay.set_default_reply(Reply::status(503).with_header("Retry-After", "1"));
    let relay = webhooks::start_relay(&clay, &[]).await;
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    wait_for_retry_after_a_second(&relay).await;
    assert_eq!(ringing(&relay), alarms([]), "not at once");
    assert_eq!(ringing_with(&relay, &[("ClayKeepsFailingAlarm", 0)]), alarms(["clay-keeps-failing"]));
}

#[tokio::test]
async fn loops_that_fails_for_long_rings() {
    let loops = start_loops().await;
    loops.set_default_reply(Reply::status(503).with_header("Retry-After", "1"));
    let relay = rows::start_relay(&loops, &[]).await;
    assert_eq!(contact(relay.base(), contact_row("ada@example.com")).await.status, 202);
    wait_for_retry_after_a_second(&relay).await;
    assert_eq!(ringing_with(&relay, &[("LoopsKeepsFailingAlarm", 0)]), alarms(["loops-keeps-failing"]));
}

#[tokio::test]
async fn ledger_that_fails_a_worker_for_long_rings() {
    let clay = start_clay().await;
    let relay = webhooks::start_relay(&clay, &[]).await;
    relay.services().inject("dynamodb", ServiceFault::InternalError);
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    wait_for_retry_after_a_second(&relay).await;
    assert_eq!(ringing_with(&relay, &[("ClayKeepsFailingAlarm", 0)]), alarms(["clay-keeps-failing"]));
}

/// Waits until a worker has retried something that arrived a second ago.
async fn wait_for_retry_after_a_second(relay: &Relay) {
    let is_late = |line: &Value| line["outcome"] == "retried" && line["age_ms"].as_u64().is_some_and(|age| age >= 1000);
    eventually("a retry after a second", async || log_lines(relay).iter().any(is_late).then_some(())).await;
}

#[tokio::test]
async fn signatures_that_are_all_refused_ring_at_low_volume() {
    let clay = start_clay().await;
    let relay = webhooks::start_relay(&clay, &[]).await;
    let headers = [("webhook-id", "msg_1"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,Rm9yZ2Vk")];
    let forged = http::send("POST", &format!("{}/webhooks/loops", relay.base()), &headers, "{}").await;
    assert_eq!(forged.status, 401);
    assert_eq!(ringing(&relay), alarms(["signatures-refused"]));
    // Among webhooks that are accepted, one is a stranger.
    assert_eq!(post(relay.base(), "msg_2", &contact_created("ada@example.com")).await.status, 200);
    assert_eq!(ringing(&relay), alarms([]));
}

#[tokio::test]
async fn tokens_that_are_all_refused_ring_at_low_volume() {
    let loops = start_loops().await;
    let relay = rows::start_relay(&loops, &[]).await;
    let headers = [("authorization", "Bearer of-yesterday")];
    let refused = send_without_token(relay.base(), Route::Contact, "", &headers, contact_row("ada@example.com")).await;
    assert_eq!(refused.status, 401);
    assert_eq!(ringing(&relay), alarms(["tokens-refused"]));
    assert_eq!(contact(relay.base(), contact_row("ada@example.com")).await.status, 200);
    assert_eq!(ringing(&relay), alarms([]));
    for _ in 0..20 {
        send_without_token(relay.base(), Route::Contact, "", &headers, contact_row("ada@example.com")).await;
    }
    assert_eq!(ringing(&relay), alarms(["tokens-refused"]));
}

#[tokio::test]
async fn queue_that_takes_no_webhook_rings() {
    let clay = start_clay().await;
    let relay = webhooks::start_relay(&clay, &[]).await;
    relay.services().inject("sqs:SendMessage", ServiceFault::InternalError);
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 503);
    assert_eq!(ringing(&relay), alarms(["requests-fail"]));
}

#[tokio::test]
async fn gateway_that_throttles_rings() {
    let stack = Stack::create().await.description().clone();
    let line = |status: &str, latency: &str| gateway_line(&stack, status, latency);
    let ringing = |lines: &[Value]| evaluate(&stack, &stack["alarms"], &[], lines);
    assert_eq!(ringing(&[line("429", "-")]), alarms(["gateway-throttled", "requests-fail"]));
    // A wrong path.
    assert_eq!(ringing(&[line("404", "-"), line("200", "9")]), alarms([]));
}

#[tokio::test]
async fn request_that_nobody_could_serve_rings() {
    let stack = Stack::create().await.description().clone();
    // The relay's own answers, and the gateway's for a function that crashed, is throttled or takes too long.
    for (status, latency) in [("429", "12"), ("502", "12"), ("500", "12"), ("503", "-"), ("504", "29000")] {
        let rings = evaluate(&stack, &stack["alarms"], &[], &[gateway_line(&stack, status, latency)]);
        assert_eq!(rings, alarms(["requests-fail"]), "{status}");
    }
    let refusals = ["400", "401", "413", "422"].map(|status| gateway_line(&stack, status, "9"));
    assert_eq!(evaluate(&stack, &stack["alarms"], &[], &refusals), alarms([]));
}

#[tokio::test]
async fn secret_that_cannot_be_read_rings() {
    let loops = start_loops().await;
    let relay = rows::start_relay(&loops, &[]).await;
    relay.services().inject("secretsmanager", ServiceFault::InternalError);
    assert_eq!(contact(relay.base(), contact_row("ada@example.com")).await.status, 429);
    assert_eq!(ringing(&relay), alarms(["requests-fail", "secret-unreadable"]));
}
