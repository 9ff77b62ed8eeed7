//! `relayctl dead-letters` on a stack, with the functions running beside it.

use std::process::Stdio;

use relay_testkit::eventually;
use relay_testkit::lambda_fake::operator::{CliOutput, relayctl_path, sdk_config};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::row::{Route, contact, event, send};
use relay_testkit::webhook::{contact_created, post};
use serde_json::json;
use tokio::process::Command;

use crate::relayctl::operations::{LATER, NO, drained, letters, ok, operated};

/// How often a far end got what has this in its body.
fn got(far: &MockDestination, part: &str) -> usize {
    far.received().iter().filter(|got| got.text().contains(part)).count()
}

#[tokio::test]
async fn three_reasons_are_listed_and_everything_is_given_back() {
    let operated = operated().await;
    operated.create_three_dead_letters().await;
    for _ in 0..2 {
        let mut reasons: Vec<_> =
            letters(&operated, &[]).await.iter().map(|letter| letter["reason"].to_string()).collect();
        reasons.sort();
        assert_eq!(reasons, [r#""clay_rejected""#, r#""loops_rejected""#, r#""too_large""#]);
    }
    let picked = letters(&operated, &["--reason", "clay_rejected"]).await;
    assert_eq!((picked.len(), &picked[0]["status"], &picked[0]["webhookId"]), (1, &json!(400), &json!("msg_row")));
    assert_eq!(letters(&operated, &["--direction", "clay-to-loops"]).await.len(), 1);
    let table = operated.relayctl(&["dead-letters", "list"], "").await.stdout;
    assert!(table.contains("clay_rejected (400)") && !table.contains("example.com"), "{table}");
    assert_eq!(operated.fake_stack.messages("ClayDeadLetters").await.len(), 2, "some are still hidden");
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_a_retry_delivers_once() {
    let operated = operated().await;
    operated.create_three_dead_letters().await;
    let calls = got(&operated.clay, "ada@example.com");
    let dry = ok(&operated, &["dead-letters", "retry", "--reason", "clay_rejected"]).await;
    assert_eq!((&dry["dryRun"], &dry["letters"][0]["outcome"]), (&json!(true), &json!("would_send")));
    let writes = ["SendMessage", "DeleteMessage", "UpdateItem"];
    assert!(!operated.permission_proxy.calls().iter().any(|call| writes.contains(&call.as_str())));
    assert_eq!(got(&operated.clay, "ada@example.com"), calls);
    let said = operated.relayctl(&["dead-letters", "retry", "--reason", "clay_rejected", "--yes"], "").await;
    assert!(said.code == 0 && said.stdout.contains("1 of 1 is done"), "{said:?}");
    operated.wait_for_dead_letters(1, 1).await;
    drained(&operated, "ClayQueue").await;
    assert_eq!(got(&operated.clay, "ada@example.com"), calls + 1);
    let again = ok(&operated, &["dead-letters", "retry", "--reason", "clay_rejected", "--yes"]).await;
    assert_eq!(again["letters"], json!([]));
}

#[tokio::test]
async fn a_retry_that_is_killed_between_sending_and_deleting_sends_nothing_twice() {
    let operated = operated().await;
    // An event, a contact and a row: each letter is sent, and not deleted.
    operated.loops.enqueue_replies([Reply::json(400, NO), Reply::json(400, NO)]);
    let base = operated.fake_stack.base();
    assert_eq!(send(&base, Route::Contact, "", &LATER, r#"{"email":"eve@example.com"}"#).await.status, 202);
    let signup = r#"{"email":"joe@example.com","eventName":"signup"}"#;
    assert_eq!(send(&base, Route::Event, "", &LATER, signup).await.status, 202);
    operated.clay.enqueue_replies([Reply::status(400)]);
    assert_eq!(post(&base, "msg_row", &contact_created("ada@example.com")).await.status, 200);
    operated.wait_for_dead_letters(1, 2).await;
    let retry = ["dead-letters", "retry", "--all", "--yes"];
    // It ends after the letter was sent and noted; and, with another letter, after it was sent only: the one change that is
    // let through closes the lane of its contact.
    for (refused, allowed) in [("DeleteMessage", 0), ("UpdateItem", 1)] {
        let sent = operated.permission_proxy.calls().iter().filter(|call| *call == "SendMessage").count();
        operated.permission_proxy.deny_after(refused, "AccessDeniedException", allowed);
        let said = operated.relayctl(&retry, "").await;
        assert!(said.code == 3 && said.stderr.contains(refused) && !said.stderr.contains("hidden"), "{said:?}");
        assert_eq!(operated.permission_proxy.calls().iter().filter(|call| *call == "SendMessage").count(), sent + 1);
        operated.permission_proxy.allow_all();
    }
    let said = operated.relayctl(&retry, "").await;
    assert_eq!(said.code, 0, "{said:?}");
    operated.wait_for_dead_letters(0, 0).await;
    drained(&operated, "ClayQueue").await;
    drained(&operated, "LoopsQueue").await;
    // Once refused, once taken.
    for (far, part) in [(&operated.loops, "eve@"), (&operated.loops, "joe@"), (&operated.clay, "ada@")] {
        assert_eq!(got(far, part), 2, "{part}");
    }
}

#[tokio::test]
async fn a_letter_that_was_delivered_after_all_is_only_taken_away() {
    let operated = operated().await;
    operated.loops.enqueue_replies([Reply::json(400, NO)]);
    let base = operated.fake_stack.base();
    let signup = r#"{"email":"joe@example.com","eventName":"signup"}"#;
    assert_eq!(send(&base, Route::Event, "", &LATER, signup).await.status, 202);
    operated.wait_for_dead_letters(0, 1).await;
    // Somebody has run the row again, and Loops has taken it.
    assert_eq!(event(&base, signup).await.status, 200);
    let said = ok(&operated, &["dead-letters", "retry", "--all", "--yes"]).await;
    assert_eq!(said["letters"][0]["outcome"], "delivered_before");
    operated.wait_for_dead_letters(0, 0).await;
    assert_eq!(got(&operated.loops, "joe@"), 2);
}

#[tokio::test]
async fn two_retries_at_once_send_each_letter_once() {
    let operated = operated().await;
    operated.create_three_dead_letters().await;
    let calls = (operated.clay.received().len(), operated.loops.received().len());
    let retry = ["dead-letters", "retry", "--all", "--yes", "--json"];
    let (one, other) = tokio::join!(operated.relayctl(&retry, ""), operated.relayctl(&retry, ""));
    // Whoever finds nothing, because the other has it, has nothing to do.
    for said in [&one, &other] {
        assert!([0, 1].contains(&said.code), "{said:?}");
    }
    let rest = operated.relayctl(&retry, "").await;
    let sent = |said: &CliOutput| -> usize {
        said.json()["letters"].as_array().unwrap().iter().filter(|letter| letter["outcome"] == "sent").count()
    };
    assert_eq!(sent(&one) + sent(&other) + sent(&rest), 2, "{one:?} {other:?} {rest:?}");
    // The third is larger than Clay takes: it stays.
    assert!(rest.code == 1 && rest.stdout.contains("\"outcome\": \"too_large\""), "{rest:?}");
    operated.wait_for_dead_letters(1, 0).await;
    drained(&operated, "ClayQueue").await;
    drained(&operated, "LoopsQueue").await;
    assert_eq!((operated.clay.received().len(), operated.loops.received().len()), (calls.0 + 1, calls.1 + 1));
}

#[tokio::test]
async fn a_retry_that_is_interrupted_gives_everything_back_and_goes_on_the_next_time() {
    let operated = operated().await;
    let base = operated.fake_stack.base();
    operated.loops.enqueue_replies((0..6).map(|_| Reply::json(400, NO)));
    for number in 0..6 {
        let row = json!({"email": format!("p{number}@example.com")}).to_string();
        assert_eq!(send(&base, Route::Contact, "", &LATER, row).await.status, 202);
    }
    operated.wait_for_dead_letters(0, 6).await;
    let mut child = Command::new(relayctl_path())
        .env_clear()
        .envs(operated.variables())
        .args(["--stack", operated.name(), "dead-letters", "retry", "--all", "--yes", "--per-second", "1"])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("the first letter", async || {
        operated.permission_proxy.calls().iter().any(|call| call == "DeleteMessage").then_some(())
    })
    .await;
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    let status = tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(1));
    let left = operated.fake_stack.queue_length("LoopsDeadLetters").await;
    assert!((1..6).contains(&left), "{left}");
    assert_eq!(letters(&operated, &[]).await.len(), usize::try_from(left).unwrap(), "some are still hidden");
    let said = operated.relayctl(&["dead-letters", "retry", "--all", "--yes"], "").await;
    assert_eq!(said.code, 0, "{said:?}");
    operated.wait_for_dead_letters(0, 0).await;
    drained(&operated, "LoopsQueue").await;
    for number in 0..6 {
        assert_eq!(got(&operated.loops, &format!("p{number}@")), 2, "{number}");
    }
}

#[tokio::test]
async fn many_letters_of_one_contact_come_one_page_after_the_other() {
    let operated = operated().await;
    let base = operated.fake_stack.base();
    operated.loops.set_default_reply(Reply::json(400, NO));
    for step in 0..12 {
        let row = json!({"email": "ada@example.com", "step": step}).to_string();
        assert_eq!(send(&base, Route::Contact, "", &LATER, row).await.status, 202);
    }
    operated.wait_for_dead_letters(0, 12).await;
    let listed = ok(&operated, &["dead-letters", "list"]).await;
    let found = u64::try_from(listed["letters"].as_array().unwrap().len()).unwrap();
    assert_eq!(found + listed["behind"].as_u64().unwrap(), 12);
    eventually("all of them dropped", async || {
        let said = operated.relayctl(&["dead-letters", "drop", "--all", "--yes", "--per-second", "100"], "").await;
        assert!([0, 1].contains(&said.code), "{said:?}");
        (operated.fake_stack.queue_length("LoopsDeadLetters").await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_update_that_is_older_than_what_was_delivered_is_left() {
    let operated = operated().await;
    operated.loops.enqueue_replies([Reply::json(400, NO)]);
    let row = |step: u32| json!({"email": "ada@example.com", "step": step}).to_string();
    let base = operated.fake_stack.base();
    assert_eq!(send(&base, Route::Contact, "", &LATER, row(1)).await.status, 202);
    operated.wait_for_dead_letters(0, 1).await;
    drained(&operated, "LoopsQueue").await;
    // One goes directly, one through the queue: either is newer.
    assert_eq!(contact(&base, row(2)).await.status, 200);
    assert_eq!(send(&base, Route::Contact, "", &LATER, row(3)).await.status, 202);
    drained(&operated, "LoopsQueue").await;
    let said = operated.relayctl(&["dead-letters", "retry", "--all", "--yes", "--json"], "").await;
    assert_eq!((said.code, &said.json()["letters"][0]["outcome"]), (1, &json!("outdated")), "{said:?}");
    assert_eq!(operated.loops.received().len(), 3);
    let said = operated.relayctl(&["dead-letters", "retry", "--all", "--yes", "--even-if-older"], "").await;
    assert_eq!(said.code, 0, "{said:?}");
    eventually("its call", async || (operated.loops.received().len() == 4).then_some(())).await;
}

#[tokio::test]
async fn what_is_dropped_is_gone_and_on_record_as_such() {
    let operated = operated().await;
    operated.create_three_dead_letters().await;
    let id = letters(&operated, &["--reason", "loops_rejected"]).await[0]["id"].as_str().unwrap().to_owned();
    let dry = operated.relayctl(&["dead-letters", "drop", "--id", &id], "").await;
    assert!(dry.code == 0 && dry.stdout.contains("Nothing was changed"), "{dry:?}");
    operated.wait_for_dead_letters(2, 1).await;
    assert_eq!(operated.relayctl(&["dead-letters", "drop", "--id", &id, "--yes"], "").await.code, 0);
    operated.wait_for_dead_letters(2, 0).await;
    let shown = operated.relayctl(&["show", &id], "").await;
    assert!(shown.code == 0 && shown.stdout.contains("dropped"), "{shown:?}");
    let said = operated.relayctl(&["show", &id, "--body"], "").await;
    assert!(said.code == 2 && said.stderr.contains("no body"), "{said:?}");
}

#[tokio::test]
async fn a_letter_that_is_no_delivery_is_shown_and_dropped_by_its_messages_id() {
    let operated = operated().await;
    operated.create_three_dead_letters().await;
    let url = operated.stack().description()["outputs"]["ClayDeadLetterUrl"].as_str().unwrap().to_owned();
    let odd = aws_sdk_sqs::Client::new(&sdk_config()).send_message().queue_url(url).message_body("what is this?");
    let odd = odd.message_group_id("odd").message_deduplication_id("odd").send().await.unwrap();
    let id = odd.message_id().unwrap();
    let listed = letters(&operated, &["--reason", "none"]).await;
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(id)), "{listed:?}");
    let shown = operated.relayctl(&["dead-letters", "show", id, "--body"], "").await;
    assert!(shown.code == 0 && shown.stdout.contains("what is this?"), "{shown:?}");
    let retried = operated.relayctl(&["dead-letters", "retry", "--id", id, "--yes"], "").await;
    assert!(retried.code == 1 && retried.stdout.contains("no delivery of this relay"), "{retried:?}");
    let dry = operated.relayctl(&["dead-letters", "drop", "--id", id], "").await;
    assert!(dry.stdout.contains("drop") && !dry.stdout.contains("dropped"), "{dry:?}");
    let dropped = operated.relayctl(&["dead-letters", "drop", "--id", id, "--yes"], "").await;
    assert!(dropped.code == 0 && dropped.stdout.contains("dropped"), "{dropped:?}");
    operated.wait_for_dead_letters(2, 1).await;
}
