//! `relayctl dead-letters` on a stack whose functions are running.

use std::process::Stdio;

use relay_testkit::eventually;
use relay_testkit::lambda_fake::operator::sdk_config;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relayctl::{CliOutput, relayctl_path};
use relay_testkit::row::{Route, contact, event, send};
use relay_testkit::webhook::{contact_created, post};
use serde_json::json;
use tokio::process::Command;

use crate::relayctl::operations::{
    REJECTED_BODY, RESPOND_ASYNC, list_dead_letters, relayctl_json, start_harness, wait_until_drained,
};

/// Counts the requests at a destination whose body contains a text.
fn count_requests_with(destination: &MockDestination, part: &str) -> usize {
    destination.received().iter().filter(|request| request.text().contains(part)).count()
}

#[tokio::test]
async fn dead_letters_are_listed_by_reason_and_released() {
    let harness = start_harness().await;
    harness.create_three_dead_letters().await;
    for _ in 0..2 {
        let mut reasons: Vec<_> = list_dead_letters(&harness, &[])
            .await
            .iter()
            .map(|dead_letter| dead_letter["reason"].to_string())
            .collect();
        reasons.sort();
        assert_eq!(reasons, [r#""clay_rejected""#, r#""loops_rejected""#, r#""too_large""#]);
    }
    let filtered = list_dead_letters(&harness, &["--reason", "clay_rejected"]).await;
    assert_eq!(
        (filtered.len(), &filtered[0]["status"], &filtered[0]["webhookId"]),
        (1, &json!(400), &json!("msg_row"))
    );
    assert_eq!(list_dead_letters(&harness, &["--direction", "clay-to-loops"]).await.len(), 1);
    let table = harness.relayctl(&["dead-letters", "list"], "").await.stdout;
    assert!(table.contains("clay_rejected (400)") && !table.contains("example.com"), "{table}");
    assert_eq!(harness.fake_stack.messages("ClayDeadLetters").await.len(), 2, "some are still hidden");
}

#[tokio::test]
async fn dry_run_changes_nothing_and_retry_delivers_once() {
    let harness = start_harness().await;
    harness.create_three_dead_letters().await;
    let calls = count_requests_with(&harness.clay, "ada@example.com");
    let dry_run = relayctl_json(&harness, &["dead-letters", "retry", "--reason", "clay_rejected"]).await;
    assert_eq!((&dry_run["dryRun"], &dry_run["letters"][0]["outcome"]), (&json!(true), &json!("would_send")));
    let writes = ["SendMessage", "DeleteMessage", "UpdateItem"];
    assert!(!harness.permission_proxy.calls().iter().any(|call| writes.contains(&call.as_str())));
    assert_eq!(count_requests_with(&harness.clay, "ada@example.com"), calls);
    let output = harness.relayctl(&["dead-letters", "retry", "--reason", "clay_rejected", "--yes"], "").await;
    assert!(output.code == 0 && output.stdout.contains("1 of 1 is done"), "{output:?}");
    harness.wait_for_dead_letters(1, 1).await;
    wait_until_drained(&harness, "ClayQueue").await;
    assert_eq!(count_requests_with(&harness.clay, "ada@example.com"), calls + 1);
    let second_retry = relayctl_json(&harness, &["dead-letters", "retry", "--reason", "clay_rejected", "--yes"]).await;
    assert_eq!(second_retry["letters"], json!([]));
}

#[tokio::test]
async fn retry_killed_before_delete_sends_nothing_twice() {
    let harness = start_harness().await;
    // An event, a contact and a row: each dead letter is sent, and not deleted.
    harness.loops.enqueue_replies([Reply::json(400, REJECTED_BODY), Reply::json(400, REJECTED_BODY)]);
    let base = harness.fake_stack.base();
    assert_eq!(send(&base, Route::Contact, "", &RESPOND_ASYNC, r#"{"email":"eve@example.com"}"#).await.status, 202);
    let signup = r#"{"email":"joe@example.com","eventName":"signup"}"#;
    assert_eq!(send(&base, Route::Event, "", &RESPOND_ASYNC, signup).await.status, 202);
    harness.clay.enqueue_replies([Reply::status(400)]);
    assert_eq!(post(&base, "msg_row", &contact_created("ada@example.com")).await.status, 200);
    harness.wait_for_dead_letters(1, 2).await;
    let retry = ["dead-letters", "retry", "--all", "--yes"];
    // The first command ends after the dead letter was sent and recorded; the second after it was sent only: the one
    // permitted change locks its contact.
    for (denied, allowed_calls) in [("DeleteMessage", 0), ("UpdateItem", 1)] {
        let sent = harness.permission_proxy.calls().iter().filter(|call| *call == "SendMessage").count();
        harness.permission_proxy.deny_after(denied, "AccessDeniedException", allowed_calls);
        let output = harness.relayctl(&retry, "").await;
        assert!(output.code == 3 && output.stderr.contains(denied) && !output.stderr.contains("hidden"), "{output:?}");
        assert_eq!(harness.permission_proxy.calls().iter().filter(|call| *call == "SendMessage").count(), sent + 1);
        harness.permission_proxy.allow_all();
    }
    let output = harness.relayctl(&retry, "").await;
    assert_eq!(output.code, 0, "{output:?}");
    harness.wait_for_dead_letters(0, 0).await;
    wait_until_drained(&harness, "ClayQueue").await;
    wait_until_drained(&harness, "LoopsQueue").await;
    // One rejection, one acceptance.
    for (destination, part) in [(&harness.loops, "eve@"), (&harness.loops, "joe@"), (&harness.clay, "ada@")] {
        assert_eq!(count_requests_with(destination, part), 2, "{part}");
    }
}

#[tokio::test]
async fn dead_letter_delivered_since_is_only_deleted() {
    let harness = start_harness().await;
    harness.loops.enqueue_replies([Reply::json(400, REJECTED_BODY)]);
    let base = harness.fake_stack.base();
    let signup = r#"{"email":"joe@example.com","eventName":"signup"}"#;
    assert_eq!(send(&base, Route::Event, "", &RESPOND_ASYNC, signup).await.status, 202);
    harness.wait_for_dead_letters(0, 1).await;
    // The row was run again, and Loops has accepted it.
    assert_eq!(event(&base, signup).await.status, 200);
    let output = relayctl_json(&harness, &["dead-letters", "retry", "--all", "--yes"]).await;
    assert_eq!(output["letters"][0]["outcome"], "delivered_before");
    harness.wait_for_dead_letters(0, 0).await;
    assert_eq!(count_requests_with(&harness.loops, "joe@"), 2);
}

#[tokio::test]
async fn concurrent_retries_send_each_dead_letter_once() {
    let harness = start_harness().await;
    harness.create_three_dead_letters().await;
    let calls = (harness.clay.received().len(), harness.loops.received().len());
    let retry = ["dead-letters", "retry", "--all", "--yes", "--json"];
    let (first, second) = tokio::join!(harness.relayctl(&retry, ""), harness.relayctl(&retry, ""));
    // A command that finds none, because the other leased it, has nothing to do.
    for output in [&first, &second] {
        assert!([0, 1].contains(&output.code), "{output:?}");
    }
    let third = harness.relayctl(&retry, "").await;
    let sent = |output: &CliOutput| -> usize {
        output.json()["letters"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dead_letter| dead_letter["outcome"] == "sent")
            .count()
    };
    assert_eq!(sent(&first) + sent(&second) + sent(&third), 2, "{first:?} {second:?} {third:?}");
    // The third is over Clay's size limit: it stays.
    assert!(third.code == 1 && third.stdout.contains("\"outcome\": \"too_large\""), "{third:?}");
    harness.wait_for_dead_letters(1, 0).await;
    wait_until_drained(&harness, "ClayQueue").await;
    wait_until_drained(&harness, "LoopsQueue").await;
    assert_eq!((harness.clay.received().len(), harness.loops.received().len()), (calls.0 + 1, calls.1 + 1));
}

#[tokio::test]
async fn interrupted_retry_releases_the_rest_and_resumes() {
    let harness = start_harness().await;
    let base = harness.fake_stack.base();
    harness.loops.enqueue_replies((0..6).map(|_| Reply::json(400, REJECTED_BODY)));
    for number in 0..6 {
        let row = json!({"email": format!("p{number}@example.com")}).to_string();
        assert_eq!(send(&base, Route::Contact, "", &RESPOND_ASYNC, row).await.status, 202);
    }
    harness.wait_for_dead_letters(0, 6).await;
    let mut child = Command::new(relayctl_path())
        .env_clear()
        .envs(harness.variables())
        .args(["--stack", harness.name(), "dead-letters", "retry", "--all", "--yes", "--per-second", "1"])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("the first dead letter", async || {
        harness.permission_proxy.calls().iter().any(|call| call == "DeleteMessage").then_some(())
    })
    .await;
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    let status = tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(1));
    let remaining = harness.fake_stack.queue_length("LoopsDeadLetters").await;
    assert!((1..6).contains(&remaining), "{remaining}");
    assert_eq!(
        list_dead_letters(&harness, &[]).await.len(),
        usize::try_from(remaining).unwrap(),
        "some are still hidden"
    );
    let output = harness.relayctl(&["dead-letters", "retry", "--all", "--yes"], "").await;
    assert_eq!(output.code, 0, "{output:?}");
    harness.wait_for_dead_letters(0, 0).await;
    wait_until_drained(&harness, "LoopsQueue").await;
    for number in 0..6 {
        assert_eq!(count_requests_with(&harness.loops, &format!("p{number}@")), 2, "{number}");
    }
}

#[tokio::test]
async fn dead_letters_of_one_contact_are_paged() {
    let harness = start_harness().await;
    let base = harness.fake_stack.base();
    harness.loops.set_default_reply(Reply::json(400, REJECTED_BODY));
    for step in 0..12 {
        let row = json!({"email": "ada@example.com", "step": step}).to_string();
        assert_eq!(send(&base, Route::Contact, "", &RESPOND_ASYNC, row).await.status, 202);
    }
    harness.wait_for_dead_letters(0, 12).await;
    let listed = relayctl_json(&harness, &["dead-letters", "list"]).await;
    let found = u64::try_from(listed["letters"].as_array().unwrap().len()).unwrap();
    assert_eq!(found + listed["behind"].as_u64().unwrap(), 12);
    eventually("all of them dropped", async || {
        let output = harness.relayctl(&["dead-letters", "drop", "--all", "--yes", "--per-second", "100"], "").await;
        assert!([0, 1].contains(&output.code), "{output:?}");
        (harness.fake_stack.queue_length("LoopsDeadLetters").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn outdated_update_is_retried_only_with_even_if_older() {
    let harness = start_harness().await;
    harness.loops.enqueue_replies([Reply::json(400, REJECTED_BODY)]);
    let row = |step: u32| json!({"email": "ada@example.com", "step": step}).to_string();
    let base = harness.fake_stack.base();
    assert_eq!(send(&base, Route::Contact, "", &RESPOND_ASYNC, row(1)).await.status, 202);
    harness.wait_for_dead_letters(0, 1).await;
    wait_until_drained(&harness, "LoopsQueue").await;
    // One on the fast path, one through the queue: either is newer.
    assert_eq!(contact(&base, row(2)).await.status, 200);
    assert_eq!(send(&base, Route::Contact, "", &RESPOND_ASYNC, row(3)).await.status, 202);
    wait_until_drained(&harness, "LoopsQueue").await;
    let output = harness.relayctl(&["dead-letters", "retry", "--all", "--yes", "--json"], "").await;
    assert_eq!((output.code, &output.json()["letters"][0]["outcome"]), (1, &json!("outdated")), "{output:?}");
    assert_eq!(harness.loops.received().len(), 3);
    let output = harness.relayctl(&["dead-letters", "retry", "--all", "--yes", "--even-if-older"], "").await;
    assert_eq!(output.code, 0, "{output:?}");
    eventually("its call", async || (harness.loops.received().len() == 4).then_some(())).await;
}

#[tokio::test]
async fn dropped_dead_letter_is_removed_and_recorded() {
    let harness = start_harness().await;
    harness.create_three_dead_letters().await;
    let id = list_dead_letters(&harness, &["--reason", "loops_rejected"]).await[0]["id"].as_str().unwrap().to_owned();
    let dry_run = harness.relayctl(&["dead-letters", "drop", "--id", &id], "").await;
    assert!(dry_run.code == 0 && dry_run.stdout.contains("Nothing was changed"), "{dry_run:?}");
    harness.wait_for_dead_letters(2, 1).await;
    assert_eq!(harness.relayctl(&["dead-letters", "drop", "--id", &id, "--yes"], "").await.code, 0);
    harness.wait_for_dead_letters(2, 0).await;
    let show_output = harness.relayctl(&["show", &id], "").await;
    assert!(show_output.code == 0 && show_output.stdout.contains("dropped"), "{show_output:?}");
    let output = harness.relayctl(&["show", &id, "--body"], "").await;
    assert!(output.code == 2 && output.stderr.contains("no body"), "{output:?}");
}

#[tokio::test]
async fn malformed_dead_letter_is_listed_and_dropped_by_message_id() {
    let harness = start_harness().await;
    harness.create_three_dead_letters().await;
    let url = harness.stack().description()["outputs"]["ClayDeadLetterUrl"].as_str().unwrap().to_owned();
    let malformed = aws_sdk_sqs::Client::new(&sdk_config()).send_message().queue_url(url).message_body("what is this?");
    let malformed = malformed.message_group_id("odd").message_deduplication_id("odd").send().await.unwrap();
    let id = malformed.message_id().unwrap();
    let listed = list_dead_letters(&harness, &["--reason", "none"]).await;
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(id)), "{listed:?}");
    let show_output = harness.relayctl(&["dead-letters", "show", id, "--body"], "").await;
    assert!(show_output.code == 0 && show_output.stdout.contains("what is this?"), "{show_output:?}");
    let retry_output = harness.relayctl(&["dead-letters", "retry", "--id", id, "--yes"], "").await;
    assert!(retry_output.code == 1 && retry_output.stdout.contains("no delivery of this relay"), "{retry_output:?}");
    let dry_run = harness.relayctl(&["dead-letters", "drop", "--id", id], "").await;
    assert!(dry_run.stdout.contains("drop") && !dry_run.stdout.contains("dropped"), "{dry_run:?}");
    let drop_output = harness.relayctl(&["dead-letters", "drop", "--id", id, "--yes"], "").await;
    assert!(drop_output.code == 0 && drop_output.stdout.contains("dropped"), "{drop_output:?}");
    harness.wait_for_dead_letters(2, 1).await;
}
