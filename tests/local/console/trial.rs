//! The trial in the console: what a newcomer does with the simulated Loops and Clay, whatever these answer.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use relay_testkit::console::ConsolePage;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::Relay;
use relay_testkit::{eventually, eventually_within};
use serde_json::{Value, json};

/// The longest time from the mending of a destination until all is delivered: that until the next probe of a destination that
/// was down, a try that still waits for its answer, and a slow machine.
const MENDED_TIMEOUT: Duration = Duration::from_secs(90);

/// The trial of a relay, as its page uses it.
struct TrialPage(ConsolePage);

impl TrialPage {
    async fn of(relay: &Relay) -> Self {
        Self(ConsolePage::open(relay.base()).await)
    }

    async fn post(&self, path: &str, document: Value) -> (u16, Value) {
        let response = self.0.post(&format!("trial/{path}"), document).await;
        (response.status, response.json())
    }

    async fn trial(&self) -> Value {
        self.0.get("trial").await
    }

    async fn set_behavior(&self, destination: &str, behavior: &str) {
        let change = json!({"destination": destination, "behavior": behavior});
        assert_eq!(self.post("destination", change).await, (200, json!({"changed": true})));
    }

    async fn create_contact(&self, email: &str) {
        let (status, answer) = self.post("contacts", json!({"email": email, "firstName": "Ada"})).await;
        assert_eq!((status, &answer["status"]), (200, &json!(200)), "{answer}");
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.post("call", json!({"method": method, "path": path, "body": body})).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

/// Starts a trial in which nothing is set.
async fn start() -> (Relay, TrialPage) {
    let unset = ["RELAY_TOKEN", "LOOPS_SIGNING_SECRET"];
    let relay = Relay::start_without(relay_testkit::relay_process::TempDataDir::new(), &[], &unset).await;
    let console = TrialPage::of(&relay).await;
    (relay, console)
}

#[tokio::test]
async fn contact_created_in_loops_is_a_row_in_clay() {
    let (_relay, console) = start().await;
    console.create_contact("ada@example.com").await;
    let row = eventually("a row", async || console.trial().await["clay"]["rows"].get(0).cloned()).await;
    let trial = console.trial().await;
    assert_eq!((&row["webhook"], &trial["clay"]["total"]), (&json!("contacts"), &json!(1)));
    assert_eq!(row["body"]["contact"], trial["loops"]["contacts"][0]);
    assert_eq!(row["body"]["contact"]["email"], "ada@example.com");
}

/// Creates ten contacts while Clay answers in this way, waits until as many tries have failed as open the circuit, mends Clay,
/// and checks that each contact arrives once.
async fn lose_nothing_while_clay_is(behavior: &str) {
    let (relay, console) = start().await;
    console.set_behavior("clay", behavior).await;
    let emails: BTreeSet<String> = (0..10).map(|number| format!("n{number}@example.com")).collect();
    for email in &emails {
        console.create_contact(email).await;
    }
    eventually("three failed tries", async || {
        let deliveries = relay.deliveries().await;
        let failed = deliveries.iter().filter(|delivery| delivery["reason"].is_string());
        (failed.filter_map(|delivery| delivery["attempts"].as_u64()).sum::<u64>() >= 3).then_some(())
    })
    .await;
    assert_eq!(console.trial().await["clay"]["total"], 0);
    console.set_behavior("clay", "normal").await;
    eventually_within(MENDED_TIMEOUT, "all rows", async || {
        relay.deliveries().await.iter().all(|delivery| delivery["state"] == "delivered").then_some(())
    })
    .await;
    let clay = console.trial().await["clay"].clone();
    let arrived = clay["rows"].as_array().unwrap().iter().map(|row| row["body"]["contact"]["email"].as_str().unwrap());
    assert_eq!((arrived.map(str::to_owned).collect::<BTreeSet<_>>(), &clay["total"]), (emails, &json!(10)));
}

#[tokio::test]
async fn nothing_is_lost_while_clay_is_rate_limited() {
    lose_nothing_while_clay_is("rate_limited").await;
}

#[tokio::test]
async fn nothing_is_lost_while_clay_fails() {
    lose_nothing_while_clay_is("failing").await;
}

#[tokio::test]
async fn nothing_is_lost_while_clay_hangs() {
    lose_nothing_while_clay_is("hanging").await;
}

#[tokio::test]
async fn nothing_is_lost_while_clay_is_gone() {
    lose_nothing_while_clay_is("gone").await;
}

#[tokio::test]
async fn row_waits_while_loops_is_rate_limited() {
    let (_relay, console) = start().await;
    console.set_behavior("loops", "rate_limited").await;
    let answer = console.call("PUT", "/api/v1/contacts/update", r#"{"email":"ada@example.com","plan":"pro"}"#).await;
    assert_eq!(answer["status"], 202, "{answer}");
    assert!(answer["headers"]["x-relay-delivery-id"].is_string(), "{answer}");
    assert_eq!(console.trial().await["loops"]["contacts"], json!([]));
    console.set_behavior("loops", "normal").await;
    let contact = eventually_within(MENDED_TIMEOUT, "the contact", async || {
        console.trial().await["loops"]["contacts"].get(0).cloned()
    })
    .await;
    assert_eq!(contact["plan"], "pro");
}

#[tokio::test]
async fn dry_run_of_a_row_sends_nothing() {
    let (_relay, console) = start().await;
    let row = r#"{"email":"ada@example.com","plan":"pro"}"#;
    let answer = console.call("PUT", "/api/v1/contacts/update?dry-run=on", row).await;
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!((&answer["status"], &body["duplicate"]), (&json!(200), &json!(false)), "{answer}");
    assert_eq!(console.trial().await["loops"]["contacts"], json!([]));
    let refused = console.call("PUT", "/api/v1/contacts/update", r#"{"email":"ada"}"#).await;
    assert_eq!(refused["status"], 400, "{refused}");
}

#[tokio::test]
async fn call_to_another_path_or_host_is_refused() {
    let (_relay, console) = start().await;
    for path in ["/metrics", "/api/v1/../../healthz", "//example.com/api/v1/lists", "http://example.com/api/v1/lists"] {
        let (status, answer) = console.post("call", json!({"method": "GET", "path": path})).await;
        assert_eq!((status, &answer["success"]), (400, &json!(false)), "{path}: {answer}");
    }
}

#[tokio::test]
async fn destination_that_became_real_is_no_longer_of_the_trial() {
    let real = MockDestination::start(Reply::json(200, "{}")).await;
    let (relay, console) = start().await;
    let file = relay.folder().join("secrets.json");
    let stored = json!({"CLAY_WEBHOOK_URL": real.url("/v3/sources/webhook/x")});
    std::fs::write(relay.folder().join("new"), stored.to_string()).unwrap();
    std::fs::set_permissions(relay.folder().join("new"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(relay.folder().join("new"), file).unwrap();
    eventually("the real Clay", async || (console.trial().await["clay"]["simulated"] == false).then_some(())).await;
    let (status, answer) = console.post("contacts", json!({"email": "ada@example.com"})).await;
    assert_eq!((status, &answer["success"]), (400, &json!(false)), "{answer}");
    let (status, _) = console.post("destination", json!({"destination": "clay", "behavior": "gone"})).await;
    assert_eq!((status, real.received().len()), (400, 0));
}

#[tokio::test]
async fn hanging_destination_does_not_hold_up_the_stop() {
    let (relay, console) = start().await;
    console.set_behavior("clay", "hanging").await;
    console.create_contact("ada@example.com").await;
    let (_folder, status) = relay.stop().await;
    assert!(status.success());
}
