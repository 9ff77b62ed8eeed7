//! What was taken for one destination is never given to another: a trial, a real account, the next account.

use std::collections::BTreeMap;
use std::time::Duration;

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::{RELAY_TOKEN, Relay, TempDataDir, command, settings};
use relay_testkit::relayctl::run_relayctl;
use relay_testkit::row::{contact, event};
use relay_testkit::webhook::{contact_created, post};
use relay_testkit::{EVENTUALLY_TIMEOUT, eventually, eventually_within};
use serde_json::{Value, json};

const EVENT: &str = r#"{"email":"ada@example.com","eventName":"signed-up"}"#;

/// Two destinations that accept everything.
struct RealDestinations {
    loops: MockDestination,
    clay: MockDestination,
}

impl RealDestinations {
    async fn start() -> Self {
        let accepting = || MockDestination::start(Reply::json(200, r#"{"success":true}"#));
        Self { loops: accepting().await, clay: accepting().await }
    }

    fn settings(&self) -> BTreeMap<String, String> {
        let (loops, clay) = (self.loops.url("/api"), self.clay.url("/v3/sources/webhook/x"));
        settings(&[("LOOPS_API_URL", &loops), ("LOOPS_API_KEY", "real-key"), ("CLAY_WEBHOOK_URL", &clay)])
    }

    fn name_team(&self, name: &str) {
        self.loops.set_team_reply(Reply::json(200, &json!({"success": true, "teamName": name}).to_string()));
    }
}

async fn start(folder: TempDataDir, settings: &BTreeMap<String, String>, arguments: &[&str]) -> Relay {
    Relay::start_with(folder, settings.clone(), arguments).await
}

/// A trial with the keys of the tests, so that they serve for the real destinations too.
async fn start_trial(folder: TempDataDir) -> Relay {
    start(folder, &settings(&[]), &["--simulate"]).await
}

async fn start_expecting_refusal(folder: &TempDataDir, mut settings: BTreeMap<String, String>) -> String {
    settings.insert("RELAY_DATA".to_owned(), folder.path().display().to_string());
    let output = tokio::time::timeout(EVENTUALLY_TIMEOUT, command(&settings).output()).await;
    let output = output.expect("the relay started, and should not have").unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

async fn relayctl(relay: &Relay, arguments: &[&str]) -> Value {
    let variables = [("RELAY_DATA", relay.folder().display().to_string())];
    let arguments = [&["--local", "--json"], arguments].concat();
    run_relayctl(&variables, &arguments, "").await.json()
}

/// Pauses both directions, so that what is taken waits.
async fn pause(relay: &Relay) {
    for direction in ["loops-to-clay", "clay-to-loops"] {
        relayctl(relay, &["pause", direction]).await;
    }
}

async fn resume(relay: &Relay) {
    for direction in ["loops-to-clay", "clay-to-loops"] {
        relayctl(relay, &["resume", direction]).await;
    }
}

async fn other_destinations(relay: &Relay, count: usize) -> Vec<Value> {
    eventually("dead letters for another destination", async || {
        let mut deliveries = relay.deliveries().await;
        deliveries.retain(|delivery| delivery["reason"] == "other_destination" && delivery["state"] == "dead");
        (deliveries.len() == count).then_some(deliveries)
    })
    .await
}

#[tokio::test]
async fn what_waits_from_a_trial_never_reaches_the_real_destinations() {
    let real = RealDestinations::start().await;
    let trial = start_trial(TempDataDir::new()).await;
    pause(&trial).await;
    assert_eq!(post(trial.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    assert_eq!(contact(trial.base(), r#"{"email":"ada@example.com","plan":"trial"}"#).await.status, 202);
    let (folder, _) = trial.stop().await;
    let relay = start(folder, &real.settings(), &[]).await;
    resume(&relay).await;
    for delivery in other_destinations(&relay, 2).await {
        assert_eq!(delivery["destination"], "simulated", "{delivery}");
    }
    // A new row of the same contact is not held up.
    assert_eq!(contact(relay.base(), r#"{"email":"ada@example.com","plan":"real"}"#).await.status, 200);
    assert_eq!(post(relay.base(), "msg_2", &contact_created("ada@example.com")).await.status, 200);
    eventually("the real webhook", async || (real.clay.received().len() == 1).then_some(())).await;
    let bodies: Vec<String> = real.loops.received().iter().map(|request| request.text()).collect();
    assert!(bodies.len() == 1 && bodies[0].contains("real"), "{bodies:?}");
}

#[tokio::test]
async fn event_and_webhook_of_a_trial_are_no_duplicates_for_the_real_destinations() {
    let real = RealDestinations::start().await;
    let trial = start_trial(TempDataDir::new()).await;
    let send = async |relay: &Relay| {
        assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
        event(relay.base(), EVENT).await.json()
    };
    assert_eq!(send(&trial).await["duplicate"], Value::Null);
    assert_eq!(send(&trial).await["duplicate"], true);
    eventually("its end", async || {
        trial.deliveries().await.iter().all(|one| one["state"] == "delivered").then_some(())
    })
    .await;
    let (folder, _) = trial.stop().await;
    let relay = start(folder, &real.settings(), &[]).await;
    assert_eq!(send(&relay).await["duplicate"], Value::Null);
    assert_eq!(send(&relay).await["duplicate"], true);
    eventually("the real webhook", async || (real.clay.received().len() == 1).then_some(())).await;
    assert_eq!(real.loops.received().len(), 1);
}

#[tokio::test]
async fn start_without_the_variable_of_a_real_destination_is_refused() {
    let real = RealDestinations::start().await;
    let relay = start(TempDataDir::new(), &real.settings(), &[]).await;
    let (folder, _) = relay.stop().await;
    for (missing, also, misspelled) in
        [("LOOPS_API_KEY", "LOOPS_API_URL", "LOOPS_APIKEY"), ("CLAY_WEBHOOK_URL", "", "CLAY_WEBHOOK_URLS")]
    {
        let mut settings = real.settings();
        settings.retain(|name, _| name != missing && name != also);
        let message = start_expecting_refusal(&folder, settings.clone()).await;
        assert!(message.contains(&format!("{missing} is not set")) && message.contains("--simulate"), "{message}");
        settings.insert(misspelled.to_owned(), "value".to_owned());
        let message = start_expecting_refusal(&folder, settings).await;
        assert!(message.contains(misspelled) && message.lines().count() == 1, "{message}");
    }
}

#[tokio::test]
async fn real_rows_wait_for_the_real_destinations_while_simulated() {
    let real = RealDestinations::start().await;
    let relay = start(TempDataDir::new(), &real.settings(), &[]).await;
    pause(&relay).await;
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    assert_eq!(contact(relay.base(), r#"{"email":"ada@example.com"}"#).await.status, 202);
    let (folder, _) = relay.stop().await;
    let relay = start_trial(folder).await;
    resume(&relay).await;
    for delivery in other_destinations(&relay, 2).await {
        assert_eq!(delivery.get("destination"), None, "{delivery}");
    }
    let log = relay.log();
    for name in ["LOOPS_API_KEY", "CLAY_WEBHOOK_URL"] {
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains(name)), "{name}: {log}");
    }
    let (folder, _) = relay.stop().await;
    let relay = start(folder, &real.settings(), &[]).await;
    let retried = relayctl(&relay, &["dead-letters", "retry", "--reason", "other_destination", "--yes"]).await;
    assert_eq!(retried["letters"].as_array().map(Vec::len), Some(2), "{retried}");
    eventually("both", async || (real.clay.received().len() == 1 && real.loops.received().len() == 1).then_some(()))
        .await;
}

#[tokio::test]
async fn row_of_one_account_goes_to_another_only_with_redirect() {
    let real = RealDestinations::start().await;
    real.name_team("Acme");
    let relay = start(TempDataDir::new(), &real.settings(), &[]).await;
    relayctl(&relay, &["pause", "clay-to-loops"]).await;
    assert_eq!(contact(relay.base(), r#"{"email":"ada@example.com"}"#).await.status, 202);
    assert_eq!(event(relay.base(), EVENT).await.status, 202);
    let (folder, _) = relay.stop().await;
    real.name_team("Acme staging");
    let mut settings = real.settings();
    settings.insert("LOOPS_API_KEY".to_owned(), "staging-key".to_owned());
    let relay = start(folder, &settings, &[]).await;
    relayctl(&relay, &["resume", "clay-to-loops"]).await;
    other_destinations(&relay, 2).await;
    let retry = ["dead-letters", "retry", "--all", "--yes"];
    for letter in relayctl(&relay, &retry).await["letters"].as_array().unwrap() {
        assert_eq!(letter["outcome"], "other_destination", "{letter}");
    }
    assert!(real.loops.received().is_empty());
    for letter in relayctl(&relay, &[&retry[..], &["--redirect"]].concat()).await["letters"].as_array().unwrap() {
        assert_eq!(letter["outcome"], "sent", "{letter}");
    }
    eventually("both", async || (real.loops.received().len() == 2).then_some(())).await;
    assert!(real.loops.received().iter().all(|request| request.header("authorization") == "Bearer staging-key"));
}

#[tokio::test]
async fn event_is_a_duplicate_only_for_the_account_that_has_it() {
    let real = RealDestinations::start().await;
    real.name_team("Acme");
    let mut folder = TempDataDir::new();
    for (team, key, is_duplicate) in [
        ("Acme", "key", false),
        ("Acme staging", "staging-key", false),
        ("Acme", "rotated-key", true),
        ("Acme staging", "staging-key", true),
    ] {
        real.name_team(team);
        let mut settings = real.settings();
        settings.insert("LOOPS_API_KEY".to_owned(), key.to_owned());
        let relay = start(folder, &settings, &[]).await;
        assert_eq!(event(relay.base(), EVENT).await.json()["duplicate"] == true, is_duplicate, "{key}");
        folder = relay.stop().await.0;
    }
    // The staging key was known the second time.
    assert_eq!(real.loops.team_requests().len(), 3);
}

#[tokio::test]
async fn rows_wait_while_the_account_of_a_new_key_cannot_be_asked_for() {
    let real = RealDestinations::start().await;
    real.name_team("Acme");
    let (folder, _) = start(TempDataDir::new(), &real.settings(), &[]).await.stop().await;
    real.loops.set_team_reply(Reply::status(503));
    let mut settings = real.settings();
    settings.insert("LOOPS_API_KEY".to_owned(), "rotated-key".to_owned());
    let relay = start(folder, &settings, &[]).await;
    assert_eq!(contact(relay.base(), r#"{"email":"ada@example.com"}"#).await.status, 202);
    eventually("an attempt", async || {
        relay.deliveries().await.iter().any(|one| one["reason"] == "unreachable").then_some(())
    })
    .await;
    assert!(real.loops.received().is_empty());
    real.name_team("Acme");
    // Loops is asked again after ten seconds, with the first attempt that is due then.
    eventually_within(Duration::from_secs(90), "the row", async || (real.loops.received().len() == 1).then_some(()))
        .await;
}

#[tokio::test]
async fn secret_of_a_direction_closes_the_destination_that_is_not_set() {
    let relay = start(TempDataDir::new(), &settings(&[]), &[]).await;
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let row = contact(relay.base(), r#"{"email":"ada@example.com"}"#).await;
    assert_eq!((row.status, &row.json()["code"]), (502, &json!("not_configured")));
    eventually("the webhook is held", async || {
        let deliveries = relay.deliveries().await;
        (deliveries.len() == 1 && deliveries[0]["reason"] == "no_webhook").then_some(())
    })
    .await;
    let (log, banner) = (relay.log(), relay.banner().to_owned());
    for (missing, set) in [("LOOPS_API_KEY", "RELAY_TOKEN"), ("CLAY_WEBHOOK_URL", "LOOPS_SIGNING_SECRET")] {
        let names = |line: &str| line.contains(missing) && line.contains(set);
        assert!(log.lines().any(|line| line.contains("WARN") && names(line)), "{missing}: {log}");
        assert!(banner.lines().any(|line| line.contains("closed") && names(line)), "{missing}: {banner}");
    }
    // The webhook goes to the real Clay as soon as there is one.
    let real = RealDestinations::start().await;
    let (folder, _) = relay.stop().await;
    let _relay = start(folder, &real.settings(), &[]).await;
    eventually("the webhook", async || (real.clay.received().len() == 1).then_some(())).await;
}

#[tokio::test]
async fn trial_without_any_setting_is_simulated_without_a_warning() {
    let listen = BTreeMap::from([("RELAY_LISTEN".to_owned(), "127.0.0.1:0".to_owned())]);
    let relay = start(TempDataDir::new(), &listen, &[]).await;
    assert!(relay.simulator_url("Loops").starts_with("http://") && relay.simulator_url("Clay").starts_with("http://"));
    assert!(!relay.log().contains("WARN"), "{}", relay.log());
}

#[tokio::test]
async fn doctor_says_how_many_dead_letters_are_for_another_account() {
    let real = RealDestinations::start().await;
    let trial = start_trial(TempDataDir::new()).await;
    pause(&trial).await;
    assert_eq!(contact(trial.base(), r#"{"email":"ada@example.com"}"#).await.status, 202);
    let (folder, _) = trial.stop().await;
    let relay = start(folder, &real.settings(), &[]).await;
    resume(&relay).await;
    other_destinations(&relay, 1).await;
    let variables = [("RELAY_DATA", relay.folder().display().to_string()), ("RELAY_TOKEN", RELAY_TOKEN.to_owned())];
    let output = run_relayctl(&variables, &["--local", "--json", "doctor"], "").await;
    let dead_letters = output.worst_finding("dead-letters").observed;
    assert!(dead_letters.contains("1 of them") && dead_letters.contains("another account"), "{dead_letters}");
    assert!(output.worst_finding("store").observed.contains("the first account"), "{output:?}");
}
