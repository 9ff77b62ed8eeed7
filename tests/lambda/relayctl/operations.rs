//! `relayctl` on a stack: deliveries and pauses, with the functions running beside it.

use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use relay_testkit::eventually;
use relay_testkit::lambda_fake::Setup;
use relay_testkit::lambda_fake::operator::{OperatorHarness, relayctl_path, run_relayctl, sdk_config};
use relay_testkit::lambda_fake::stack::array;
use relay_testkit::row::contact;
use relay_testkit::webhook::{contact_created, now, post};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::{to_clay, to_loops};

pub(crate) const LATER: [(&str, &str); 1] = [("prefer", "respond-async")];
pub(crate) const NO: &str = r#"{"success":false,"message":"no"}"#;

pub(crate) async fn operated() -> OperatorHarness {
    let rates = ["CLAY_RATE_PER_SECOND", "LOOPS_RATE_PER_SECOND"].map(|name| (name.to_owned(), "200".to_owned()));
    OperatorHarness::with_setup(|_, clay| Setup {
        loops_to_clay: Some(to_clay(&[clay])),
        clay_to_loops: Some(to_loops()),
        settings: rates.into(),
        ..Setup::default()
    })
    .await
}

/// What a command printed as JSON; it ended well.
pub(crate) async fn ok(operated: &OperatorHarness, arguments: &[&str]) -> Value {
    let said = operated.relayctl(&[arguments, &["--json"]].concat(), "").await;
    assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
    said.json()
}

pub(crate) async fn letters(operated: &OperatorHarness, options: &[&str]) -> Vec<Value> {
    ok(operated, &[&["dead-letters", "list"], options].concat()).await["letters"].as_array().unwrap().clone()
}

pub(crate) async fn drained(operated: &OperatorHarness, queue: &str) {
    eventually(&format!("an empty {queue}"), async || {
        (operated.fake_stack.queue_length(queue).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_paused_direction_stores_what_comes_and_delivers_it_when_it_goes_on() {
    let operated = operated().await;
    operated.fake_stack.respect_disabled_mappings();
    let base = operated.fake_stack.base();
    for direction in ["loops-to-clay", "clay-to-loops"] {
        for changed in [true, false] {
            let said = ok(&operated, &["pause", direction]).await;
            assert_eq!(said, json!({"direction": direction, "paused": true, "changed": changed}));
        }
    }
    assert_eq!(post(&base, "msg_1", &contact_created("ada@example.com")).await.json()["status"], "queued");
    for row in [r#"{"email":"ada@example.com"}"#, r#"{"email":"eve@example.com"}"#] {
        let row = contact(&base, row).await;
        assert_eq!((row.status, row.json()["status"].clone()), (202, json!("queued")));
    }
    let queues = ok(&operated, &["deliveries"]).await["queues"].clone();
    assert_eq!((&queues[0]["paused"], &queues[0]["waiting"]), (&json!(true), &json!(1)), "{queues}");
    assert_eq!((&queues[1]["paused"], &queues[1]["waiting"]), (&json!(true), &json!(2)), "{queues}");
    assert!(operated.relayctl(&["deliveries"], "").await.stdout.contains("paused since"));
    assert_eq!((operated.clay.received().len(), operated.loops.received().len()), (0, 0));
    for direction in ["loops-to-clay", "clay-to-loops"] {
        assert_eq!(ok(&operated, &["resume", direction]).await["changed"], true);
    }
    eventually("both ways drained", async || {
        (operated.clay.received().len() == 1 && operated.loops.received().len() == 2).then_some(())
    })
    .await;
    drained(&operated, "LoopsQueue").await;
    let said = operated.relayctl(&["resume", "clay-to-loops"], "").await;
    assert!(said.code == 0 && said.stdout.contains("was not paused"), "{said:?}");
    eventually("a row that goes directly", async || {
        (contact(&base, r#"{"email":"joe@example.com"}"#).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn deliveries_are_found_by_state_direction_contact_and_webhook() {
    let operated = operated().await;
    operated.create_three_dead_letters().await;
    assert_eq!(post(&operated.fake_stack.base(), "msg_ok", &contact_created("ada@example.com")).await.status, 200);
    drained(&operated, "ClayQueue").await;
    let count = async |options: &[&str]| {
        let found = ok(&operated, &[&["deliveries"], options].concat()).await;
        found["deliveries"].as_array().unwrap().len()
    };
    // What was refused at the door is on no record.
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
async fn one_delivery_is_shown_also_where_its_letter_is_all_there_is() {
    let operated = operated().await;
    operated.create_three_dead_letters().await;
    for letter in letters(&operated, &[]).await {
        let id = letter["id"].as_str().unwrap();
        let shown = operated.relayctl(&["show", id], "").await;
        assert!(shown.code == 0 && shown.stdout.contains(letter["reason"].as_str().unwrap()), "{shown:?}");
        assert!(!shown.stdout.contains("example.com"), "{shown:?}");
        let told = ok(&operated, &["show", id]).await;
        assert_eq!((&told["webhookId"], &told["route"]), (&letter["webhookId"], &letter["route"]), "{told}");
    }
    let row =
        ok(&operated, &["show", letters(&operated, &["--reason", "clay_rejected"]).await[0]["id"].as_str().unwrap()])
            .await;
    assert_eq!((&row["webhookId"], &row["route"]), (&json!("msg_row"), &json!("contacts")), "{row}");
    let dead = ok(&operated, &["deliveries", "--state", "dead"]).await;
    assert_eq!((array(&dead["deliveries"]).count(), &dead["lettersBeside"]), (2, &json!(1)), "{dead}");
    let id = letters(&operated, &["--reason", "loops_rejected"]).await[0]["id"].as_str().unwrap().to_owned();
    let body = ok(&operated, &["show", &id, "--body"]).await["body"].clone();
    assert!(body.as_str().unwrap().contains("eve@example.com"));
    assert_eq!(letters(&operated, &[]).await.len(), 3, "some are still hidden");
}

#[tokio::test]
async fn tail_tells_what_the_functions_log_and_ends_well_when_it_is_stopped() {
    let operated = operated().await;
    let logs = aws_sdk_cloudwatchlogs::Client::new(&sdk_config());
    let group = format!("/aws/lambda/{}-clay-delivery", operated.name());
    logs.create_log_stream().log_group_name(&group).log_stream_name("s").send().await.unwrap();
    let mut child = Command::new(relayctl_path())
        .env_clear()
        .envs(operated.variables())
        .args(["--stack", operated.name(), "--json", "tail"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    eventually("the first look", async || {
        operated.permission_proxy.calls().iter().any(|call| call == "FilterLogEvents").then_some(())
    })
    .await;
    assert_eq!(post(&operated.fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    // What the function really logs goes where Lambda would put it.
    let line = eventually("its line", async || {
        let log = operated.fake_stack.log();
        let mut lines = log.lines().filter(|line| line.contains("\"outcome\":\"delivered\""));
        lines.next().map(str::to_owned)
    })
    .await;
    let logged = InputLogEvent::builder().timestamp(now() * 1000 + 999).message(line).build().unwrap();
    let put = logs.put_log_events().log_group_name(&group).log_stream_name("s").log_events(logged);
    put.send().await.unwrap();
    let told =
        tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, lines.next_line()).await.unwrap().unwrap().unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    let fields = ["direction", "state", "webhookId", "attempts"].map(|field| told[field].clone());
    assert_eq!(fields, [json!("loops-to-clay"), json!("delivered"), json!("msg_1"), json!(1)], "{told}");
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    let status = tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn what_cannot_be_done_is_told_in_a_sentence_and_changes_nothing() {
    let operated = operated().await;
    operated.create_three_dead_letters().await;
    for (arguments, part) in [
        (&["show", "clay_nothing"][..], "no delivery clay_nothing"),
        (&["dead-letters", "retry", "--id", "clay_nothing", "--yes"], "no dead letter clay_nothing"),
        (&["dead-letters", "drop", "--reason", "bad_luck", "--yes"], "no dead letter has such a reason"),
        (&["dead-letters", "drop", "--yes"], "--all"),
    ] {
        let said = operated.relayctl(arguments, "").await;
        assert!(said.code == 2 && said.stderr.contains(part), "{arguments:?}: {said:?}");
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
        operated.permission_proxy.deny(action, "AccessDeniedException");
        let said = operated.relayctl(arguments, "").await;
        assert!(said.code == 3 && said.stderr.contains(permission), "{arguments:?}: {said:?}");
        assert!(!said.stderr.contains("hidden") && said.stderr.chars().count() <= 320, "{said:?}");
        operated.permission_proxy.allow_all();
    }
    operated.permission_proxy.deny("GetItem", "ExpiredTokenException");
    let said = operated.relayctl(&["show", "clay_1"], "").await;
    assert!(said.code == 3 && said.stderr.contains("have expired"), "{said:?}");
    operated.permission_proxy.allow_all();
    let said = run_relayctl(&operated.variables(), &["--stack", "nowhere", "deliveries"], "").await;
    assert!(said.code == 3 && said.stderr.contains("there is no stack nowhere"), "{said:?}");
    // Nothing was lost, and nothing is hidden.
    assert_eq!(letters(&operated, &[]).await.len(), 3);
}

#[tokio::test]
async fn dead_ones_without_a_record_are_counted_and_dropped_ones_left_out() {
    let operated = operated().await;
    operated.create_three_dead_letters().await;
    let beside = format!("1 more: `relayctl --stack {} dead-letters list`", operated.name());
    let said = operated.relayctl(&["deliveries", "--state", "dead"], "").await;
    assert!(said.stdout.contains("clay_rejected") && said.stdout.contains(&beside), "{said:?}");
    let drop = ["dead-letters", "drop", "--reason", "clay_rejected", "--yes"];
    assert_eq!(operated.relayctl(&drop, "").await.code, 0);
    let said = operated.relayctl(&["deliveries", "--state", "dead"], "").await;
    assert!(!said.stdout.contains("clay_rejected") && said.stdout.contains("loops_rejected"), "{said:?}");
    assert!(said.stdout.contains(&beside), "{said:?}");
    let said = operated.relayctl(&["deliveries", "--state", "dead", "--direction", "clay-to-loops"], "").await;
    assert!(!said.stdout.contains(" more: "), "{said:?}");
}

#[tokio::test]
async fn a_contact_that_was_sent_directly_is_said_to_be_in_the_log_only() {
    let operated = operated().await;
    let answer = contact(&operated.fake_stack.base(), r#"{"email":"ada@example.com"}"#).await;
    assert_eq!(answer.status, 200);
    let id = answer.headers["x-relay-delivery-id"].clone();
    let group = format!("/aws/lambda/{}-clay-to-loops-contact", operated.name());
    let said = operated.relayctl(&["show", &id], "").await;
    assert!(said.code == 2 && said.stderr.contains(&group) && said.stderr.chars().count() <= 320, "{said:?}");
    assert!(said.stderr.contains(&format!("`delivery.id` = \"{id}\"")), "{said:?}");
    let said = operated.relayctl(&["deliveries", "--contact", "ada@example.com"], "").await;
    let hash = said.stdout.split("`contact` = \"").nth(1).and_then(|rest| rest.get(..16)).unwrap_or_default();
    assert!(said.code == 0 && said.stdout.contains(&group), "{said:?}");
    // It is found there by what was said.
    let log = operated.fake_stack.log();
    let mut lines = log.lines().filter(|line| line.contains(&id));
    assert!(lines.any(|line| line.contains(&format!("\"contact\":\"{hash}\""))), "{hash}: {log}");
}

#[tokio::test]
async fn the_command_that_ends_a_pause_names_the_stack() {
    let operated = operated().await;
    operated.fake_stack.respect_disabled_mappings();
    let ends = format!("`relayctl --stack {} resume loops-to-clay`", operated.name());
    let said = operated.relayctl(&["pause", "loops-to-clay"], "").await;
    assert!(said.code == 0 && said.stdout.contains(&ends), "{said:?}");
    let found = operated.doctor().await.worst_finding("clay-worker");
    assert!(found.remedy.contains(&ends), "{found:?}");
}
