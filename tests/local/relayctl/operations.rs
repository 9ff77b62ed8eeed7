//! `relayctl` on a data folder: deliveries, dead letters and pauses, beside a running relay and without one.

use std::process::Stdio;

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::{Relay, TempDataDir};
use relay_testkit::relayctl::{CliOutput, relayctl_path, run_relayctl};
use relay_testkit::row::{Route, contact, send};
use relay_testkit::webhook::{contact_created, post};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

const ACCEPTED_BODY: &str = r#"{"success":true,"id":"c1"}"#;
const RESPOND_ASYNC: [(&str, &str); 1] = [("prefer", "respond-async")];

/// A relay between two destinations, and its operator.
pub(crate) struct OperatorHarness {
    pub(crate) relay: Relay,
    pub(crate) loops: MockDestination,
    pub(crate) clay: MockDestination,
}

impl OperatorHarness {
    pub(crate) async fn start() -> Self {
        let (loops, clay) = (
            MockDestination::start(Reply::json(200, ACCEPTED_BODY)).await,
            MockDestination::start(Reply::status(200)).await,
        );
        let relay = Self::start_relay(TempDataDir::new(), &loops, &clay).await;
        Self { relay, loops, clay }
    }

    async fn start_relay(folder: TempDataDir, loops: &MockDestination, clay: &MockDestination) -> Relay {
        let (api, webhook) = (loops.url("/api"), clay.url("/v3/sources/webhook/x"));
        let settings = [
            ("LOOPS_API_URL", api.as_str()),
            ("LOOPS_API_KEY", "key"),
            ("CLAY_WEBHOOK_URL", webhook.as_str()),
            ("CLAY_RATE_PER_SECOND", "200"),
            ("LOOPS_RATE_PER_SECOND", "200"),
        ];
        Relay::start_in(folder, &settings).await
    }

    async fn relayctl(&self, arguments: &[&str]) -> CliOutput {
        relayctl(self.relay.folder(), arguments).await
    }

    /// What the command printed as JSON; it ended well.
    async fn relayctl_json(&self, arguments: &[&str]) -> Value {
        let output = self.relayctl(&[arguments, &["--json"]].concat()).await;
        assert_eq!(output.code, 0, "{output:?}");
        output.json()
    }

    /// Creates one dead letter for each of three reasons.
    pub(crate) async fn create_three_dead_letters(&self) {
        let oversized = json!({"eventName": "contact.created", "note": "x".repeat(120_000)}).to_string();
        assert_eq!(post(self.relay.base(), "msg_big", oversized.as_bytes()).await.json()["status"], "rejected");
        self.clay.enqueue_replies([Reply::status(400)]);
        assert_eq!(post(self.relay.base(), "msg_row", &contact_created("ada@example.com")).await.status, 200);
        self.loops.enqueue_replies([Reply::json(400, r#"{"success":false,"message":"no"}"#)]);
        let row = r#"{"email":"eve@example.com","plan":"pro"}"#;
        assert_eq!(send(self.relay.base(), Route::Contact, "", &RESPOND_ASYNC, row).await.status, 202);
        eventually("three dead letters", async || (self.dead_letters(&[]).await.len() == 3).then_some(())).await;
    }

    async fn dead_letters(&self, options: &[&str]) -> Vec<Value> {
        self.relayctl_json(&[&["dead-letters", "list"], options].concat()).await["letters"].as_array().unwrap().clone()
    }

    async fn states(&self) -> Vec<(String, String)> {
        let string_field = |delivery: &Value, field: &str| delivery[field].as_str().unwrap_or_default().to_owned();
        let all = self.relay.deliveries().await;
        all.iter().map(|delivery| (string_field(delivery, "state"), string_field(delivery, "reason"))).collect()
    }
}

async fn relayctl(folder: &std::path::Path, arguments: &[&str]) -> CliOutput {
    let local = format!("--local={}", folder.display());
    run_relayctl(&[], &[&[local.as_str()], arguments].concat(), "").await
}

#[tokio::test]
async fn dead_letters_are_listed_and_filtered_by_reason() {
    let harness = OperatorHarness::start().await;
    harness.create_three_dead_letters().await;
    let reasons: Vec<_> =
        harness.dead_letters(&[]).await.iter().map(|dead_letter| dead_letter["reason"].clone()).collect();
    assert_eq!(reasons, ["too_large", "clay_rejected", "loops_rejected"]);
    let filtered = harness.dead_letters(&["--reason", "clay_rejected"]).await;
    assert_eq!(filtered.len(), 1);
    assert_eq!((&filtered[0]["status"], &filtered[0]["webhookId"]), (&json!(400), &json!("msg_row")));
    assert_eq!(harness.dead_letters(&["--direction", "clay-to-loops"]).await.len(), 1);
    let table = harness.relayctl(&["dead-letters", "list"]).await.stdout;
    for part in ["too_large", "clay_rejected (400)", "loops_rejected (400)"] {
        assert!(table.contains(part), "{table}");
    }
    assert!(!table.contains("example.com"), "{table}");
}

#[tokio::test]
async fn dry_run_changes_nothing_and_retry_delivers_once() {
    let harness = OperatorHarness::start().await;
    harness.create_three_dead_letters().await;
    let (before, calls) = (harness.states().await, harness.clay.received().len());
    let dry_run = harness.relayctl_json(&["dead-letters", "retry", "--reason", "clay_rejected"]).await;
    assert_eq!((&dry_run["dryRun"], &dry_run["letters"][0]["outcome"]), (&json!(true), &json!("would_send")));
    assert_eq!(harness.states().await, before);
    let output = harness.relayctl(&["dead-letters", "retry", "--reason", "clay_rejected", "--yes"]).await;
    assert!(output.code == 0 && output.stdout.contains("1 of 1 is done"), "{output:?}");
    eventually("its row", async || (harness.clay.received().len() == calls + 1).then_some(())).await;
    assert_eq!(harness.dead_letters(&[]).await.len(), 2);
    let second_retry = harness.relayctl_json(&["dead-letters", "retry", "--reason", "clay_rejected", "--yes"]).await;
    assert_eq!(second_retry["letters"], json!([]));
    assert_eq!(harness.clay.received().len(), calls + 1);
    let output = harness.relayctl(&["dead-letters", "retry", "--reason", "too_large", "--yes", "--json"]).await;
    assert_eq!((output.code, &output.json()["letters"][0]["outcome"]), (1, &json!("too_large")));
}

#[tokio::test]
async fn concurrent_retries_send_each_dead_letter_once() {
    let harness = OperatorHarness::start().await;
    harness.create_three_dead_letters().await;
    let calls = harness.clay.received().len();
    let retry = ["dead-letters", "retry", "--reason", "clay_rejected", "--yes", "--json"];
    let (first, second) = tokio::join!(harness.relayctl(&retry), harness.relayctl(&retry));
    eventually("its row", async || (harness.clay.received().len() > calls).then_some(())).await;
    eventually("its end", async || (harness.dead_letters(&[]).await.len() == 2).then_some(())).await;
    let sent = |output: &CliOutput| {
        output.json()["letters"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dead_letter| dead_letter["outcome"] == "sent")
            .count()
    };
    assert_eq!((sent(&first) + sent(&second), harness.clay.received().len()), (1, calls + 1), "{first:?} {second:?}");
    // A command that redrove none has done nothing, and reports that.
    let codes =
        [&first, &second].map(|output| (sent(output), output.json()["letters"].as_array().unwrap().len(), output.code));
    for (sent, found_count, code) in codes {
        let found_none = found_count == 0 && code == 0;
        assert!((sent == 1 && code == 0) || (sent == 0 && code == 1) || found_none, "{first:?} {second:?}");
    }
}

#[tokio::test]
async fn retry_without_running_relay_is_delivered_by_the_next() {
    let harness = OperatorHarness::start().await;
    harness.create_three_dead_letters().await;
    let OperatorHarness { relay, loops, clay } = harness;
    let folder = relay.kill().await;
    let output = relayctl(folder.path(), &["dead-letters", "retry", "--reason", "loops_rejected", "--yes"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    let calls = loops.received().len();
    let harness = OperatorHarness { relay: OperatorHarness::start_relay(folder, &loops, &clay).await, loops, clay };
    eventually("its call", async || (harness.loops.received().len() == calls + 1).then_some(())).await;
    eventually("its end", async || (harness.dead_letters(&[]).await.len() == 2).then_some(())).await;
}

#[tokio::test]
async fn outdated_update_is_retried_only_with_even_if_older() {
    let harness = OperatorHarness::start().await;
    harness.loops.enqueue_replies([Reply::json(400, r#"{"success":false,"message":"no"}"#)]);
    let row = |step: u32| json!({"email": "ada@example.com", "step": step}).to_string();
    assert_eq!(send(harness.relay.base(), Route::Contact, "", &RESPOND_ASYNC, row(1)).await.status, 202);
    eventually("a dead letter", async || (harness.dead_letters(&[]).await.len() == 1).then_some(())).await;
    assert_eq!(contact(harness.relay.base(), row(2)).await.status, 200);
    let output = harness.relayctl(&["dead-letters", "retry", "--all", "--yes", "--json"]).await;
    assert_eq!((output.code, &output.json()["letters"][0]["outcome"]), (1, &json!("outdated")));
    assert_eq!((harness.dead_letters(&[]).await.len(), harness.loops.received().len()), (1, 2));
    let output = harness.relayctl(&["dead-letters", "retry", "--all", "--yes", "--even-if-older"]).await;
    assert_eq!(output.code, 0, "{output:?}");
    eventually("its call", async || (harness.loops.received().len() == 3).then_some(())).await;
}

#[tokio::test]
async fn dropped_dead_letter_is_removed_with_its_body() {
    let harness = OperatorHarness::start().await;
    harness.create_three_dead_letters().await;
    let dry_run = harness.relayctl(&["dead-letters", "drop", "--reason", "loops_rejected"]).await;
    assert!(dry_run.code == 0 && dry_run.stdout.contains("Nothing was changed"), "{dry_run:?}");
    assert_eq!(harness.dead_letters(&[]).await.len(), 3);
    assert_eq!(harness.relayctl(&["dead-letters", "drop", "--reason", "loops_rejected", "--yes"]).await.code, 0);
    assert_eq!(harness.dead_letters(&[]).await.len(), 2);
    let OperatorHarness { relay, .. } = harness;
    let (folder, _) = relay.stop().await;
    let stored = std::fs::read(folder.path().join("relay.db")).unwrap();
    assert!(!stored.windows(15).any(|part| part == b"eve@example.com"));
}

#[tokio::test]
async fn paused_direction_stores_deliveries_until_resumed() {
    let harness = OperatorHarness::start().await;
    for (pause, changed) in [("pause", true), ("pause", false)] {
        let output = harness.relayctl_json(&[pause, "loops-to-clay"]).await;
        assert_eq!(output, json!({"direction": "loops-to-clay", "paused": true, "changed": changed}));
    }
    harness.relayctl_json(&["pause", "clay-to-loops"]).await;
    assert_eq!(
        post(harness.relay.base(), "msg_1", &contact_created("ada@example.com")).await.json()["status"],
        "queued"
    );
    let row = contact(harness.relay.base(), r#"{"email":"ada@example.com"}"#).await;
    assert_eq!((row.status, row.json()["status"].clone()), (202, json!("queued")));
    let queues = harness.relayctl_json(&["deliveries"]).await["queues"].clone();
    for queue in queues.as_array().unwrap() {
        assert_eq!((&queue["paused"], &queue["waiting"]), (&json!(true), &json!(1)), "{queue}");
    }
    assert!(harness.relayctl(&["deliveries"]).await.stdout.contains("paused since"));
    // A restart does not end the pause: when a new row is answered, the relay has finished its start.
    let OperatorHarness { relay, loops, clay } = harness;
    let (folder, _) = relay.stop().await;
    let harness = OperatorHarness { relay: OperatorHarness::start_relay(folder, &loops, &clay).await, loops, clay };
    assert_eq!(contact(harness.relay.base(), r#"{"email":"eve@example.com"}"#).await.status, 202);
    assert_eq!((harness.clay.received().len(), harness.loops.received().len()), (0, 0));
    assert_eq!(harness.relayctl_json(&["resume", "loops-to-clay"]).await["changed"], true);
    harness.relayctl_json(&["resume", "clay-to-loops"]).await;
    eventually("both ways drained", async || {
        (harness.clay.received().len() == 1 && harness.loops.received().len() == 2).then_some(())
    })
    .await;
    let output = harness.relayctl(&["resume", "loops-to-clay"]).await;
    assert!(output.code == 0 && output.stdout.contains("was not paused"), "{output:?}");
    assert_eq!(contact(harness.relay.base(), r#"{"email":"joe@example.com"}"#).await.status, 200);
}

#[tokio::test]
async fn deliveries_filter_by_state_direction_contact_and_webhook() {
    let harness = OperatorHarness::start().await;
    harness.create_three_dead_letters().await;
    assert_eq!(post(harness.relay.base(), "msg_ok", &contact_created("ada@example.com")).await.status, 200);
    eventually("its end", async || harness.states().await.iter().any(|(state, _)| state == "delivered").then_some(()))
        .await;
    let count = async |options: &[&str]| {
        let found = harness.relayctl_json(&[&["deliveries"], options].concat()).await;
        found["deliveries"].as_array().unwrap().len()
    };
    assert_eq!(count(&[]).await, 4);
    assert_eq!(count(&["--state", "dead"]).await, 3);
    assert_eq!(count(&["--direction", "clay-to-loops"]).await, 1);
    assert_eq!(count(&["--contact", "ADA@example.com"]).await, 2);
    assert_eq!(count(&["--contact", "ADA@example.com", "--state", "delivered"]).await, 1);
    assert_eq!(count(&["--webhook-id", "msg_ok"]).await, 1);
    assert_eq!(count(&["--limit", "2"]).await, 2);
    let hash =
        harness.relayctl_json(&["deliveries", "--webhook-id", "msg_ok"]).await["deliveries"][0]["contactHash"].clone();
    assert_eq!(count(&["--contact", hash.as_str().unwrap()]).await, 2);
    assert_eq!(count(&["--contact", "0123456789abcdef"]).await, 0);
}

#[tokio::test]
async fn show_omits_the_body_unless_requested() {
    let harness = OperatorHarness::start().await;
    harness.create_three_dead_letters().await;
    let dead_letter = harness.dead_letters(&["--reason", "loops_rejected"]).await[0].clone();
    let id = dead_letter["id"].as_str().unwrap();
    let show_output = harness.relayctl(&["show", id]).await;
    for part in [id, "dead", "loops_rejected (400)", "clay-to-loops"] {
        assert!(show_output.stdout.contains(part), "{show_output:?}");
    }
    assert!(!show_output.stdout.contains("eve@example.com"), "{show_output:?}");
    let body = harness.relayctl_json(&["dead-letters", "show", id, "--body"]).await["body"].clone();
    assert_eq!(serde_json::from_str::<Value>(body.as_str().unwrap()).unwrap()["email"], "eve@example.com");
    let file = harness.relay.folder().join("body.json");
    let to_file = ["show", id, "--body-to", file.to_str().unwrap()];
    let output = harness.relayctl(&to_file).await;
    assert!(output.code == 0 && !output.stdout.contains("eve@example.com"), "{output:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), body.as_str().unwrap());
    assert_eq!(harness.relayctl(&to_file).await.code, 2, "it writes over a file");
}

#[tokio::test]
async fn tail_follows_deliveries_and_exits_cleanly_on_interrupt() {
    let harness = OperatorHarness::start().await;
    let local = format!("--local={}", harness.relay.folder().display());
    let mut child = Command::new(relayctl_path())
        .args([&local, "--json", "tail"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Each post is another delivery: one of them comes after the first poll.
    let base = harness.relay.base().to_owned();
    let posting = tokio::spawn(async move {
        for number in 0.. {
            post(&base, &format!("msg_{number}"), &contact_created("ada@example.com")).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    });
    let delivered_line = tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, async {
        loop {
            let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
            if line["state"] == "delivered" {
                return line;
            }
        }
    });
    let delivered_line = delivered_line.await.unwrap();
    posting.abort();
    assert_eq!((&delivered_line["direction"], &delivered_line["attempts"]), (&json!("loops-to-clay"), &json!(1)));
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    let status = tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn invalid_command_fails_without_side_effects() {
    let harness = OperatorHarness::start().await;
    harness.create_three_dead_letters().await;
    let before = harness.states().await;
    let existing_id = harness.dead_letters(&[]).await[0]["id"].as_str().unwrap().to_owned();
    let cases: [(&[&str], i32, &str); 12] = [
        (&["show", "clay_nothing"], 2, "no delivery clay_nothing"),
        (&["dead-letters", "show", "clay_nothing", "--body"], 2, "no delivery clay_nothing"),
        (&["dead-letters", "retry", "--id", "clay_nothing", "--yes"], 2, "no dead letter clay_nothing"),
        (&["dead-letters", "retry", "--id", &existing_id, "clay_nothing", "--yes"], 2, "no dead letter clay_nothing"),
        (&["dead-letters", "retry", "--reason", "bad_luck", "--yes"], 2, "no dead letter has such a reason"),
        (&["dead-letters", "retry", "--yes"], 2, "--all"),
        (&["dead-letters", "drop", "--yes"], 2, "--all"),
        (&["dead-letters", "drop", "--all", "--id", &existing_id, "--yes"], 2, "cannot be used with"),
        (&["dead-letters", "retry", "--all", "--per-second", "0"], 2, "--per-second"),
        (&["deliveries", "--state", "lost"], 2, "lost"),
        (&["deliveries", "--route", "contacts"], 2, "--webhook-id"),
        (&["pause", "sideways"], 2, "sideways"),
    ];
    for (arguments, code, part) in cases {
        let output = harness.relayctl(arguments).await;
        assert_eq!(output.code, code, "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(part), "{arguments:?}: {output:?}");
    }
    assert_eq!(harness.states().await, before);
}

#[tokio::test]
async fn missing_folder_or_newer_store_version_is_reported() {
    let folder = TempDataDir::new();
    let missing_folder = folder.path().join("nowhere");
    for arguments in [&["deliveries"][..], &["pause", "loops-to-clay"], &["dead-letters", "list"], &["tail"]] {
        for path in [&missing_folder, folder.path()] {
            let output = relayctl(path, arguments).await;
            assert!(output.code == 3 && output.stderr.contains("is not a data folder"), "{arguments:?}: {output:?}");
        }
    }
    let relay = Relay::start_in(folder, &[]).await;
    let (folder, _) = relay.stop().await;
    let store = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    store.pragma_update(None, "user_version", 99).unwrap();
    for arguments in [&["deliveries"][..], &["resume", "clay-to-loops"], &["dead-letters", "retry", "--all", "--yes"]] {
        let output = relayctl(folder.path(), arguments).await;
        assert!(output.code == 3 && output.stderr.contains("written by a newer relay"), "{arguments:?}: {output:?}");
    }
}

#[tokio::test]
async fn suggested_command_targets_the_same_folder() {
    let harness = OperatorHarness::start().await;
    harness.create_three_dead_letters().await;
    let command_prefix = format!("`relayctl --local={}", harness.relay.folder().display());
    let output = harness.relayctl(&["pause", "loops-to-clay"]).await;
    assert!(
        output.code == 0 && output.stdout.contains(&format!("{command_prefix} resume loops-to-clay`")),
        "{output:?}"
    );
    let output = harness.relayctl(&["doctor"]).await;
    for command in ["resume loops-to-clay`", "dead-letters list`"] {
        assert!(output.stdout.contains(&format!("{command_prefix} {command}")), "{output:?}");
    }
    let output = harness.relayctl(&["show", "clay_nothing"]).await;
    assert!(output.stderr.contains(&format!("{command_prefix} deliveries`")), "{output:?}");
}

#[tokio::test]
async fn tail_prints_its_source_and_how_to_stop() {
    let harness = OperatorHarness::start().await;
    let folder = harness.relay.folder().display().to_string();
    let mut child = Command::new(relayctl_path())
        .args([&format!("--local={folder}"), "tail"])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first_line =
        tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert_eq!(first_line, format!("following {folder}; Ctrl-C ends"));
}
