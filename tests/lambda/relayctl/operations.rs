//! `relayctl` on a stack: deliveries and pauses, with the functions running beside it.

use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use relay_testkit::eventually;
use relay_testkit::lambda_fake::Setup;
use relay_testkit::lambda_fake::operator::{OperatorHarness, sdk_config};
use relay_testkit::lambda_fake::stack::array;
use relay_testkit::relayctl::{relayctl_path, run_relayctl};
use relay_testkit::row::contact;
use relay_testkit::webhook::{contact_created, now, post};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::{clay_to_loops_document, loops_to_clay_document};

pub(crate) const RESPOND_ASYNC: [(&str, &str); 1] = [("prefer", "respond-async")];
pub(crate) const REJECTED_BODY: &str = r#"{"success":false,"message":"no"}"#;

pub(crate) async fn start_harness() -> OperatorHarness {
    let rates = ["CLAY_RATE_PER_SECOND", "LOOPS_RATE_PER_SECOND"].map(|name| (name.to_owned(), "200".to_owned()));
    OperatorHarness::with_setup(|_, clay| Setup {
        loops_to_clay: Some(loops_to_clay_document(&[clay])),
        clay_to_loops: Some(clay_to_loops_document()),
        settings: rates.into(),
        ..Setup::default()
    })
    .await
}

/// What a command printed as JSON; it ended well.
pub(crate) async fn relayctl_json(harness: &OperatorHarness, arguments: &[&str]) -> Value {
    let output = harness.relayctl(&[arguments, &["--json"]].concat(), "").await;
    assert_eq!(output.code, 0, "{arguments:?}: {output:?}");
    output.json()
}

pub(crate) async fn list_dead_letters(harness: &OperatorHarness, options: &[&str]) -> Vec<Value> {
    relayctl_json(harness, &[&["dead-letters", "list"], options].concat()).await["letters"].as_array().unwrap().clone()
}

pub(crate) async fn wait_until_drained(harness: &OperatorHarness, queue: &str) {
    eventually(&format!("an empty {queue}"), async || {
        (harness.fake_stack.queue_length(queue).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn paused_direction_stores_deliveries_until_resumed() {
    let harness = start_harness().await;
    harness.fake_stack.respect_disabled_mappings();
    let base = harness.fake_stack.base();
    for direction in ["loops-to-clay", "clay-to-loops"] {
        for changed in [true, false] {
            let output = relayctl_json(&harness, &["pause", direction]).await;
            assert_eq!(output, json!({"direction": direction, "paused": true, "changed": changed}));
        }
    }
    assert_eq!(post(&base, "msg_1", &contact_created("ada@example.com")).await.json()["status"], "queued");
    for row in [r#"{"email":"ada@example.com"}"#, r#"{"email":"eve@example.com"}"#] {
        let row = contact(&base, row).await;
        assert_eq!((row.status, row.json()["status"].clone()), (202, json!("queued")));
    }
    let queues = relayctl_json(&harness, &["deliveries"]).await["queues"].clone();
    assert_eq!((&queues[0]["paused"], &queues[0]["waiting"]), (&json!(true), &json!(1)), "{queues}");
    assert_eq!((&queues[1]["paused"], &queues[1]["waiting"]), (&json!(true), &json!(2)), "{queues}");
    assert!(harness.relayctl(&["deliveries"], "").await.stdout.contains("paused since"));
    assert_eq!((harness.clay.received().len(), harness.loops.received().len()), (0, 0));
    for direction in ["loops-to-clay", "clay-to-loops"] {
        assert_eq!(relayctl_json(&harness, &["resume", direction]).await["changed"], true);
    }
    eventually("both ways drained", async || {
        (harness.clay.received().len() == 1 && harness.loops.received().len() == 2).then_some(())
    })
    .await;
    wait_until_drained(&harness, "LoopsQueue").await;
    let output = harness.relayctl(&["resume", "clay-to-loops"], "").await;
    assert!(output.code == 0 && output.stdout.contains("was not paused"), "{output:?}");
    eventually("a row that goes directly", async || {
        (contact(&base, r#"{"email":"joe@example.com"}"#).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn deliveries_filter_by_state_direction_contact_and_webhook() {
    let harness = start_harness().await;
    harness.create_three_dead_letters().await;
    assert_eq!(post(&harness.fake_stack.base(), "msg_ok", &contact_created("ada@example.com")).await.status, 200);
    wait_until_drained(&harness, "ClayQueue").await;
    let count = async |options: &[&str]| {
        let listed = relayctl_json(&harness, &[&["deliveries"], options].concat()).await;
        listed["deliveries"].as_array().unwrap().len()
    };
    // A rejected request has no record.
    assert_eq!(count(&[]).await, 3);
    assert_eq!(count(&["--state", "dead"]).await, 2);
    assert_eq!(count(&["--state", "delivered", "--direction", "loops-to-clay"]).await, 1);
    assert_eq!(count(&["--direction", "clay-to-loops"]).await, 1);
    assert_eq!(count(&["--contact", "ADA@example.com"]).await, 2);
    assert_eq!(count(&["--webhook-id", "msg_ok"]).await, 1);
    assert_eq!(count(&["--webhook-id", "msg_ok", "--route", "others"]).await, 0);
    assert_eq!(count(&["--limit", "1"]).await, 1);
}

#[tokio::test]
async fn show_finds_a_delivery_that_is_only_a_dead_letter() {
    let harness = start_harness().await;
    harness.create_three_dead_letters().await;
    for dead_letter in list_dead_letters(&harness, &[]).await {
        let id = dead_letter["id"].as_str().unwrap();
        let show_output = harness.relayctl(&["show", id], "").await;
        assert!(
            show_output.code == 0 && show_output.stdout.contains(dead_letter["reason"].as_str().unwrap()),
            "{show_output:?}"
        );
        assert!(!show_output.stdout.contains("example.com"), "{show_output:?}");
        let delivery = relayctl_json(&harness, &["show", id]).await;
        assert_eq!(
            (&delivery["webhookId"], &delivery["route"]),
            (&dead_letter["webhookId"], &dead_letter["route"]),
            "{delivery}"
        );
    }
    let row = relayctl_json(
        &harness,
        &["show", list_dead_letters(&harness, &["--reason", "clay_rejected"]).await[0]["id"].as_str().unwrap()],
    )
    .await;
    assert_eq!((&row["webhookId"], &row["route"]), (&json!("msg_row"), &json!("contacts")), "{row}");
    let dead = relayctl_json(&harness, &["deliveries", "--state", "dead"]).await;
    assert_eq!((array(&dead["deliveries"]).count(), &dead["lettersBeside"]), (2, &json!(1)), "{dead}");
    let id = list_dead_letters(&harness, &["--reason", "loops_rejected"]).await[0]["id"].as_str().unwrap().to_owned();
    let body = relayctl_json(&harness, &["show", &id, "--body"]).await["body"].clone();
    assert!(body.as_str().unwrap().contains("eve@example.com"));
    assert_eq!(list_dead_letters(&harness, &[]).await.len(), 3, "some are still hidden");
}

#[tokio::test]
async fn tail_follows_function_logs_and_exits_cleanly_on_interrupt() {
    let harness = start_harness().await;
    let logs = aws_sdk_cloudwatchlogs::Client::new(&sdk_config());
    let group = format!("/aws/lambda/{}-clay-delivery", harness.name());
    logs.create_log_stream().log_group_name(&group).log_stream_name("s").send().await.unwrap();
    let mut child = Command::new(relayctl_path())
        .env_clear()
        .envs(harness.variables())
        .args(["--stack", harness.name(), "--json", "tail"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    eventually("the first look", async || {
        harness.permission_proxy.calls().iter().any(|call| call == "FilterLogEvents").then_some(())
    })
    .await;
    assert_eq!(post(&harness.fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    // The function's real log line goes to the group where Lambda would write it.
    let line = eventually("its line", async || {
        let log = harness.fake_stack.log();
        let mut lines = log.lines().filter(|line| line.contains("\"outcome\":\"delivered\""));
        lines.next().map(str::to_owned)
    })
    .await;
    let logged = InputLogEvent::builder().timestamp(now() * 1000 + 999).message(line).build().unwrap();
    let put = logs.put_log_events().log_group_name(&group).log_stream_name("s").log_events(logged);
    put.send().await.unwrap();
    let tailed =
        tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, lines.next_line()).await.unwrap().unwrap().unwrap();
    let tailed: Value = serde_json::from_str(&tailed).unwrap();
    let fields = ["direction", "state", "webhookId", "attempts"].map(|field| tailed[field].clone());
    assert_eq!(fields, [json!("loops-to-clay"), json!("delivered"), json!("msg_1"), json!(1)], "{tailed}");
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    let status = tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn invalid_command_fails_without_side_effects() {
    let harness = start_harness().await;
    harness.create_three_dead_letters().await;
    for (arguments, part) in [
        (&["show", "clay_nothing"][..], "no delivery clay_nothing"),
        (&["dead-letters", "retry", "--id", "clay_nothing", "--yes"], "no dead letter clay_nothing"),
        (&["dead-letters", "drop", "--reason", "bad_luck", "--yes"], "no dead letter has such a reason"),
        (&["dead-letters", "drop", "--yes"], "--all"),
    ] {
        let output = harness.relayctl(arguments, "").await;
        assert!(output.code == 2 && output.stderr.contains(part), "{arguments:?}: {output:?}");
    }
    for (action, permission, arguments) in [
        ("Scan", "dynamodb:Scan", &["deliveries"][..]),
        ("GetItem", "dynamodb:GetItem", &["show", "clay_1"]),
        ("GetQueueAttributes", "sqs:GetQueueAttributes", &["dead-letters", "list"]),
        ("ReceiveMessage", "sqs:ReceiveMessage", &["dead-letters", "list"]),
        ("SendMessage", "sqs:SendMessage", &["dead-letters", "retry", "--all", "--yes"]),
        ("ListEventSourceMappings", "lambda:ListEventSourceMappings", &["pause", "loops-to-clay"]),
        ("UpdateEventSourceMapping", "lambda:UpdateEventSourceMapping", &["pause", "loops-to-clay"]),
        ("FilterLogEvents", "logs:FilterLogEvents", &["tail"]),
        ("DescribeStacks", "cloudformation:DescribeStacks", &["resume", "loops-to-clay"]),
    ] {
        harness.permission_proxy.deny(action, "AccessDeniedException");
        let output = harness.relayctl(arguments, "").await;
        assert!(output.code == 3 && output.stderr.contains(permission), "{arguments:?}: {output:?}");
        assert!(!output.stderr.contains("hidden") && output.stderr.chars().count() <= 320, "{output:?}");
        harness.permission_proxy.allow_all();
    }
    harness.permission_proxy.deny("GetItem", "ExpiredTokenException");
    let output = harness.relayctl(&["show", "clay_1"], "").await;
    assert!(output.code == 3 && output.stderr.contains("have expired"), "{output:?}");
    harness.permission_proxy.allow_all();
    let output = run_relayctl(&harness.variables(), &["--stack", "nowhere", "deliveries"], "").await;
    assert!(output.code == 3 && output.stderr.contains("there is no stack nowhere"), "{output:?}");
    // No message was lost, and none is hidden.
    assert_eq!(list_dead_letters(&harness, &[]).await.len(), 3);
}

#[tokio::test]
async fn dead_deliveries_count_unrecorded_and_omit_dropped() {
    let harness = start_harness().await;
    harness.create_three_dead_letters().await;
    let more_hint = format!("1 more: `relayctl --stack {} dead-letters list`", harness.name());
    let output = harness.relayctl(&["deliveries", "--state", "dead"], "").await;
    assert!(output.stdout.contains("clay_rejected") && output.stdout.contains(&more_hint), "{output:?}");
    let drop = ["dead-letters", "drop", "--reason", "clay_rejected", "--yes"];
    assert_eq!(harness.relayctl(&drop, "").await.code, 0);
    let output = harness.relayctl(&["deliveries", "--state", "dead"], "").await;
    assert!(!output.stdout.contains("clay_rejected") && output.stdout.contains("loops_rejected"), "{output:?}");
    assert!(output.stdout.contains(&more_hint), "{output:?}");
    let output = harness.relayctl(&["deliveries", "--state", "dead", "--direction", "clay-to-loops"], "").await;
    assert!(!output.stdout.contains(" more: "), "{output:?}");
}

#[tokio::test]
async fn show_points_to_log_for_contact_on_fast_path() {
    let harness = start_harness().await;
    let response = contact(&harness.fake_stack.base(), r#"{"email":"ada@example.com"}"#).await;
    assert_eq!(response.status, 200);
    let id = response.headers["x-relay-delivery-id"].clone();
    let group = format!("/aws/lambda/{}-clay-to-loops-contact", harness.name());
    let output = harness.relayctl(&["show", &id], "").await;
    assert!(output.code == 2 && output.stderr.contains(&group) && output.stderr.chars().count() <= 320, "{output:?}");
    assert!(output.stderr.contains(&format!("`delivery.id` = \"{id}\"")), "{output:?}");
    let output = harness.relayctl(&["deliveries", "--contact", "ada@example.com"], "").await;
    let hash = output.stdout.split("`contact` = \"").nth(1).and_then(|rest| rest.get(..16)).unwrap_or_default();
    assert!(output.code == 0 && output.stdout.contains(&group), "{output:?}");
    // The log group is found by the lines in it.
    let log = harness.fake_stack.log();
    let mut lines = log.lines().filter(|line| line.contains(&id));
    assert!(lines.any(|line| line.contains(&format!("\"contact\":\"{hash}\""))), "{hash}: {log}");
}

#[tokio::test]
async fn resume_command_of_a_pause_names_the_stack() {
    let harness = start_harness().await;
    harness.fake_stack.respect_disabled_mappings();
    let resume_command = format!("`relayctl --stack {} resume loops-to-clay`", harness.name());
    let output = harness.relayctl(&["pause", "loops-to-clay"], "").await;
    assert!(output.code == 0 && output.stdout.contains(&resume_command), "{output:?}");
    let finding = harness.doctor().await.worst_finding("clay-worker");
    assert!(finding.remedy.contains(&resume_command), "{finding:?}");
}
