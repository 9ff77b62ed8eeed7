//! `relayctl` on a data folder: deliveries, dead letters and pauses, beside a running relay and without one.

use std::process::Stdio;

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually;
use relay_testkit::lambda_fake::operator::{CliOutput, relayctl_path, run_relayctl};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::{DataFolder, Relay};
use relay_testkit::row::{Route, contact, send};
use relay_testkit::webhook::{contact_created, post};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

const TAKEN: &str = r#"{"success":true,"id":"c1"}"#;
const LATER: [(&str, &str); 1] = [("prefer", "respond-async")];

/// A relay between two far ends, and its operator.
struct Operated {
    relay: Relay,
    loops: MockDestination,
    clay: MockDestination,
}

impl Operated {
    async fn start() -> Self {
        let (loops, clay) =
            (MockDestination::start(Reply::json(200, TAKEN)).await, MockDestination::start(Reply::status(200)).await);
        let relay = Self::relay(DataFolder::new(), &loops, &clay).await;
        Self { relay, loops, clay }
    }

    async fn relay(folder: DataFolder, loops: &MockDestination, clay: &MockDestination) -> Relay {
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

    async fn ctl(&self, arguments: &[&str]) -> CliOutput {
        ctl(self.relay.folder(), arguments).await
    }

    /// What the command printed as JSON; it ended well.
    async fn json(&self, arguments: &[&str]) -> Value {
        let said = self.ctl(&[arguments, &["--json"]].concat()).await;
        assert_eq!(said.code, 0, "{said:?}");
        said.json()
    }

    /// One dead letter of each of three reasons.
    async fn three_letters(&self) {
        let big = json!({"eventName": "contact.created", "note": "x".repeat(120_000)}).to_string();
        assert_eq!(post(self.relay.base(), "msg_big", big.as_bytes()).await.json()["status"], "rejected");
        self.clay.enqueue_replies([Reply::status(400)]);
        assert_eq!(post(self.relay.base(), "msg_row", &contact_created("ada@example.com")).await.status, 200);
        self.loops.enqueue_replies([Reply::json(400, r#"{"success":false,"message":"no"}"#)]);
        let row = r#"{"email":"eve@example.com","plan":"pro"}"#;
        assert_eq!(send(self.relay.base(), Route::Contact, "", &LATER, row).await.status, 202);
        eventually("three dead letters", async || (self.letters(&[]).await.len() == 3).then_some(())).await;
    }

    async fn letters(&self, options: &[&str]) -> Vec<Value> {
        self.json(&[&["dead-letters", "list"], options].concat()).await["letters"].as_array().unwrap().clone()
    }

    async fn states(&self) -> Vec<(String, String)> {
        let word = |delivery: &Value, field: &str| delivery[field].as_str().unwrap_or_default().to_owned();
        let all = self.relay.deliveries().await;
        all.iter().map(|delivery| (word(delivery, "state"), word(delivery, "reason"))).collect()
    }
}

async fn ctl(folder: &std::path::Path, arguments: &[&str]) -> CliOutput {
    let local = format!("--local={}", folder.display());
    run_relayctl(&[], &[&[local.as_str()], arguments].concat(), "").await
}

#[tokio::test]
async fn three_reasons_are_listed_and_each_can_be_picked() {
    let operated = Operated::start().await;
    operated.three_letters().await;
    let reasons: Vec<_> = operated.letters(&[]).await.iter().map(|letter| letter["reason"].clone()).collect();
    assert_eq!(reasons, ["too_large", "clay_rejected", "loops_rejected"]);
    let picked = operated.letters(&["--reason", "clay_rejected"]).await;
    assert_eq!(picked.len(), 1);
    assert_eq!((&picked[0]["status"], &picked[0]["webhookId"]), (&json!(400), &json!("msg_row")));
    assert_eq!(operated.letters(&["--direction", "clay-to-loops"]).await.len(), 1);
    let table = operated.ctl(&["dead-letters", "list"]).await.stdout;
    for part in ["too_large", "clay_rejected (400)", "loops_rejected (400)"] {
        assert!(table.contains(part), "{table}");
    }
    assert!(!table.contains("example.com"), "{table}");
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_a_retry_delivers_once() {
    let operated = Operated::start().await;
    operated.three_letters().await;
    let (before, calls) = (operated.states().await, operated.clay.received().len());
    let dry = operated.json(&["dead-letters", "retry", "--reason", "clay_rejected"]).await;
    assert_eq!((&dry["dryRun"], &dry["letters"][0]["outcome"]), (&json!(true), &json!("would_send")));
    assert_eq!(operated.states().await, before);
    let said = operated.ctl(&["dead-letters", "retry", "--reason", "clay_rejected", "--yes"]).await;
    assert!(said.code == 0 && said.stdout.contains("1 of 1 is done"), "{said:?}");
    eventually("its row", async || (operated.clay.received().len() == calls + 1).then_some(())).await;
    assert_eq!(operated.letters(&[]).await.len(), 2);
    let again = operated.json(&["dead-letters", "retry", "--reason", "clay_rejected", "--yes"]).await;
    assert_eq!(again["letters"], json!([]));
    assert_eq!(operated.clay.received().len(), calls + 1);
    let said = operated.ctl(&["dead-letters", "retry", "--reason", "too_large", "--yes", "--json"]).await;
    assert_eq!((said.code, &said.json()["letters"][0]["outcome"]), (1, &json!("too_large")));
}

#[tokio::test]
async fn two_retries_at_once_send_each_letter_once() {
    let operated = Operated::start().await;
    operated.three_letters().await;
    let calls = operated.clay.received().len();
    let retry = ["dead-letters", "retry", "--reason", "clay_rejected", "--yes", "--json"];
    let (one, other) = tokio::join!(operated.ctl(&retry), operated.ctl(&retry));
    eventually("its row", async || (operated.clay.received().len() > calls).then_some(())).await;
    eventually("its end", async || (operated.letters(&[]).await.len() == 2).then_some(())).await;
    let sent = |said: &CliOutput| {
        said.json()["letters"].as_array().unwrap().iter().filter(|one| one["outcome"] == "sent").count()
    };
    assert_eq!((sent(&one) + sent(&other), operated.clay.received().len()), (1, calls + 1), "{one:?} {other:?}");
    // Who has sent none has done nothing, and says so.
    let codes = [&one, &other].map(|said| (sent(said), said.json()["letters"].as_array().unwrap().len(), said.code));
    for (sent, letters, code) in codes {
        let found_none = letters == 0 && code == 0;
        assert!((sent == 1 && code == 0) || (sent == 0 && code == 1) || found_none, "{one:?} {other:?}");
    }
}

#[tokio::test]
async fn what_is_retried_while_no_relay_runs_is_delivered_by_the_next() {
    let operated = Operated::start().await;
    operated.three_letters().await;
    let Operated { relay, loops, clay } = operated;
    let folder = relay.kill().await;
    let said = ctl(folder.path(), &["dead-letters", "retry", "--reason", "loops_rejected", "--yes"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let calls = loops.received().len();
    let operated = Operated { relay: Operated::relay(folder, &loops, &clay).await, loops, clay };
    eventually("its call", async || (operated.loops.received().len() == calls + 1).then_some(())).await;
    eventually("its end", async || (operated.letters(&[]).await.len() == 2).then_some(())).await;
}

#[tokio::test]
async fn an_update_that_is_older_than_what_was_delivered_is_left() {
    let operated = Operated::start().await;
    operated.loops.enqueue_replies([Reply::json(400, r#"{"success":false,"message":"no"}"#)]);
    let row = |step: u32| json!({"email": "ada@example.com", "step": step}).to_string();
    assert_eq!(send(operated.relay.base(), Route::Contact, "", &LATER, row(1)).await.status, 202);
    eventually("a dead letter", async || (operated.letters(&[]).await.len() == 1).then_some(())).await;
    assert_eq!(contact(operated.relay.base(), row(2)).await.status, 200);
    let said = operated.ctl(&["dead-letters", "retry", "--all", "--yes", "--json"]).await;
    assert_eq!((said.code, &said.json()["letters"][0]["outcome"]), (1, &json!("outdated")));
    assert_eq!((operated.letters(&[]).await.len(), operated.loops.received().len()), (1, 2));
    let said = operated.ctl(&["dead-letters", "retry", "--all", "--yes", "--even-if-older"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    eventually("its call", async || (operated.loops.received().len() == 3).then_some(())).await;
}

#[tokio::test]
async fn what_is_dropped_is_gone_with_its_body() {
    let operated = Operated::start().await;
    operated.three_letters().await;
    let dry = operated.ctl(&["dead-letters", "drop", "--reason", "loops_rejected"]).await;
    assert!(dry.code == 0 && dry.stdout.contains("Nothing was changed"), "{dry:?}");
    assert_eq!(operated.letters(&[]).await.len(), 3);
    assert_eq!(operated.ctl(&["dead-letters", "drop", "--reason", "loops_rejected", "--yes"]).await.code, 0);
    assert_eq!(operated.letters(&[]).await.len(), 2);
    let Operated { relay, .. } = operated;
    let (folder, _) = relay.stop().await;
    let kept = std::fs::read(folder.path().join("relay.db")).unwrap();
    assert!(!kept.windows(15).any(|part| part == b"eve@example.com"));
}

#[tokio::test]
async fn a_paused_direction_stores_what_comes_and_delivers_it_when_it_goes_on() {
    let operated = Operated::start().await;
    for (pause, changed) in [("pause", true), ("pause", false)] {
        let said = operated.json(&[pause, "loops-to-clay"]).await;
        assert_eq!(said, json!({"direction": "loops-to-clay", "paused": true, "changed": changed}));
    }
    operated.json(&["pause", "clay-to-loops"]).await;
    assert_eq!(
        post(operated.relay.base(), "msg_1", &contact_created("ada@example.com")).await.json()["status"],
        "queued"
    );
    let row = contact(operated.relay.base(), r#"{"email":"ada@example.com"}"#).await;
    assert_eq!((row.status, row.json()["status"].clone()), (202, json!("queued")));
    let queues = operated.json(&["deliveries"]).await["queues"].clone();
    for queue in queues.as_array().unwrap() {
        assert_eq!((&queue["paused"], &queue["waiting"]), (&json!(true), &json!(1)), "{queue}");
    }
    assert!(operated.ctl(&["deliveries"]).await.stdout.contains("paused since"));
    // A restart does not end it: whatever the relay would do at its start, it has done when a new row is answered.
    let Operated { relay, loops, clay } = operated;
    let (folder, _) = relay.stop().await;
    let operated = Operated { relay: Operated::relay(folder, &loops, &clay).await, loops, clay };
    assert_eq!(contact(operated.relay.base(), r#"{"email":"eve@example.com"}"#).await.status, 202);
    assert_eq!((operated.clay.received().len(), operated.loops.received().len()), (0, 0));
    assert_eq!(operated.json(&["resume", "loops-to-clay"]).await["changed"], true);
    operated.json(&["resume", "clay-to-loops"]).await;
    eventually("both ways drained", async || {
        (operated.clay.received().len() == 1 && operated.loops.received().len() == 2).then_some(())
    })
    .await;
    let said = operated.ctl(&["resume", "loops-to-clay"]).await;
    assert!(said.code == 0 && said.stdout.contains("was not paused"), "{said:?}");
    assert_eq!(contact(operated.relay.base(), r#"{"email":"joe@example.com"}"#).await.status, 200);
}

#[tokio::test]
async fn deliveries_are_found_by_state_direction_contact_and_webhook() {
    let operated = Operated::start().await;
    operated.three_letters().await;
    assert_eq!(post(operated.relay.base(), "msg_ok", &contact_created("ada@example.com")).await.status, 200);
    eventually("its end", async || operated.states().await.iter().any(|(state, _)| state == "delivered").then_some(()))
        .await;
    let count = async |options: &[&str]| {
        let found = operated.json(&[&["deliveries"], options].concat()).await;
        found["deliveries"].as_array().unwrap().len()
    };
    assert_eq!(count(&[]).await, 4);
    assert_eq!(count(&["--state", "dead"]).await, 3);
    assert_eq!(count(&["--direction", "clay-to-loops"]).await, 1);
    assert_eq!(count(&["--contact", "ADA@example.com"]).await, 2);
    assert_eq!(count(&["--contact", "ADA@example.com", "--state", "delivered"]).await, 1);
    assert_eq!(count(&["--webhook-id", "msg_ok"]).await, 1);
    assert_eq!(count(&["--limit", "2"]).await, 2);
    let hash = operated.json(&["deliveries", "--webhook-id", "msg_ok"]).await["deliveries"][0]["contactHash"].clone();
    assert_eq!(count(&["--contact", hash.as_str().unwrap()]).await, 2);
    assert_eq!(count(&["--contact", "0123456789abcdef"]).await, 0);
}

#[tokio::test]
async fn one_delivery_is_shown_and_its_body_only_where_it_is_asked_for() {
    let operated = Operated::start().await;
    operated.three_letters().await;
    let letter = operated.letters(&["--reason", "loops_rejected"]).await[0].clone();
    let id = letter["id"].as_str().unwrap();
    let shown = operated.ctl(&["show", id]).await;
    for part in [id, "dead", "loops_rejected (400)", "clay-to-loops"] {
        assert!(shown.stdout.contains(part), "{shown:?}");
    }
    assert!(!shown.stdout.contains("eve@example.com"), "{shown:?}");
    let body = operated.json(&["dead-letters", "show", id, "--body"]).await["body"].clone();
    assert_eq!(serde_json::from_str::<Value>(body.as_str().unwrap()).unwrap()["email"], "eve@example.com");
    let file = operated.relay.folder().join("body.json");
    let to_file = ["show", id, "--body-to", file.to_str().unwrap()];
    let said = operated.ctl(&to_file).await;
    assert!(said.code == 0 && !said.stdout.contains("eve@example.com"), "{said:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), body.as_str().unwrap());
    assert_eq!(operated.ctl(&to_file).await.code, 2, "it writes over a file");
}

#[tokio::test]
async fn tail_tells_what_happens_and_ends_well_when_it_is_stopped() {
    let operated = Operated::start().await;
    let local = format!("--local={}", operated.relay.folder().display());
    let mut child = Command::new(relayctl_path())
        .args([&local, "--json", "tail"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Each post is another delivery: one of them comes after the first look.
    let base = operated.relay.base().to_owned();
    let posting = tokio::spawn(async move {
        for number in 0.. {
            post(&base, &format!("msg_{number}"), &contact_created("ada@example.com")).await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    });
    let told = tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, async {
        loop {
            let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
            if line["state"] == "delivered" {
                return line;
            }
        }
    });
    let told = told.await.unwrap();
    posting.abort();
    assert_eq!((&told["direction"], &told["attempts"]), (&json!("loops-to-clay"), &json!(1)));
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    let status = tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn what_cannot_be_done_is_told_in_a_sentence_and_changes_nothing() {
    let operated = Operated::start().await;
    operated.three_letters().await;
    let before = operated.states().await;
    let one = operated.letters(&[]).await[0]["id"].as_str().unwrap().to_owned();
    let cases: [(&[&str], i32, &str); 12] = [
        (&["show", "clay_nothing"], 2, "no delivery clay_nothing"),
        (&["dead-letters", "show", "clay_nothing", "--body"], 2, "no delivery clay_nothing"),
        (&["dead-letters", "retry", "--id", "clay_nothing", "--yes"], 2, "no dead letter clay_nothing"),
        (&["dead-letters", "retry", "--id", &one, "clay_nothing", "--yes"], 2, "no dead letter clay_nothing"),
        (&["dead-letters", "retry", "--reason", "bad_luck", "--yes"], 2, "no dead letter has such a reason"),
        (&["dead-letters", "retry", "--yes"], 2, "--all"),
        (&["dead-letters", "drop", "--yes"], 2, "--all"),
        (&["dead-letters", "drop", "--all", "--id", &one, "--yes"], 2, "cannot be used with"),
        (&["dead-letters", "retry", "--all", "--per-second", "0"], 2, "--per-second"),
        (&["deliveries", "--state", "lost"], 2, "lost"),
        (&["deliveries", "--route", "contacts"], 2, "--webhook-id"),
        (&["pause", "sideways"], 2, "sideways"),
    ];
    for (arguments, code, part) in cases {
        let said = operated.ctl(arguments).await;
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
        assert!(said.stderr.contains(part), "{arguments:?}: {said:?}");
    }
    assert_eq!(operated.states().await, before);
}

#[tokio::test]
async fn a_folder_that_is_none_or_of_a_newer_version_is_told() {
    let folder = DataFolder::new();
    let nowhere = folder.path().join("nowhere");
    for arguments in [&["deliveries"][..], &["pause", "loops-to-clay"], &["dead-letters", "list"], &["tail"]] {
        for place in [&nowhere, folder.path()] {
            let said = ctl(place, arguments).await;
            assert!(said.code == 3 && said.stderr.contains("is not a data folder"), "{arguments:?}: {said:?}");
        }
    }
    let relay = Relay::start_in(folder, &[]).await;
    let (folder, _) = relay.stop().await;
    let store = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    store.pragma_update(None, "user_version", 99).unwrap();
    for arguments in [&["deliveries"][..], &["resume", "clay-to-loops"], &["dead-letters", "retry", "--all", "--yes"]] {
        let said = ctl(folder.path(), arguments).await;
        assert!(said.code == 3 && said.stderr.contains("written by a newer relay"), "{arguments:?}: {said:?}");
    }
}

#[tokio::test]
async fn a_command_that_is_suggested_acts_on_the_same_folder() {
    let operated = Operated::start().await;
    operated.three_letters().await;
    let ctl = format!("`relayctl --local={}", operated.relay.folder().display());
    let said = operated.ctl(&["pause", "loops-to-clay"]).await;
    assert!(said.code == 0 && said.stdout.contains(&format!("{ctl} resume loops-to-clay`")), "{said:?}");
    let said = operated.ctl(&["doctor"]).await;
    for command in ["resume loops-to-clay`", "dead-letters list`"] {
        assert!(said.stdout.contains(&format!("{ctl} {command}")), "{said:?}");
    }
    let said = operated.ctl(&["show", "clay_nothing"]).await;
    assert!(said.stderr.contains(&format!("{ctl} deliveries`")), "{said:?}");
}

#[tokio::test]
async fn tail_says_first_what_it_follows_and_how_it_ends() {
    let operated = Operated::start().await;
    let folder = operated.relay.folder().display().to_string();
    let mut child = Command::new(relayctl_path())
        .args([&format!("--local={folder}"), "tail"])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told =
        tokio::time::timeout(relay_testkit::EVENTUALLY_TIMEOUT, lines.next_line()).await.unwrap().unwrap().unwrap();
    assert_eq!(told, format!("following {folder}; Ctrl-C ends"));
}
