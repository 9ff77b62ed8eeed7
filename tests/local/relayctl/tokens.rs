//! `relayctl --local setup`: relay tokens with names and scopes.

use relay_core::token::Scope;
use relay_testkit::eventually;
use relay_testkit::http;
use relay_testkit::relay_process::Relay;
use serde_json::{Value, json};

use super::*;

/// A trial whose folder has the keys, with nothing of them in its environment.
async fn start_trial() -> Relay {
    Relay::start_without(private_data_dir(), &[], &["RELAY_TOKEN", "LOOPS_SIGNING_SECRET"]).await
}

async fn setup(relay: &Relay, arguments: &[&str]) -> CliOutput {
    relayctl(relay.folder(), &[], &[&["setup"], arguments].concat(), "").await
}

/// Adds a token, and returns it.
async fn add_token(relay: &Relay, name: &str, scopes: &str) -> String {
    let arguments = ["--add-relay-token", "--name", name, "--scopes", scopes, "--show-token", "--json"];
    let output = setup(relay, &arguments).await;
    assert_eq!(output.code, 0, "{output:?}");
    let tokens = output.json()["relayTokens"].as_array().unwrap().clone();
    tokens.last().unwrap()["token"].as_str().unwrap().to_owned()
}

/// The status of a contact's row and of an event's with this token.
async fn row_statuses(relay: &Relay, token: &str) -> [u16; 2] {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let url = |path: &str| format!("{}/api/v1/{path}", relay.base());
    let event = r#"{"email":"ada@example.com","eventName":"enriched"}"#;
    let contact = http::send("PUT", &url("contacts/update"), &headers, r#"{"email":"ada@example.com"}"#).await;
    [contact.status, http::send("POST", &url("events/send"), &headers, event).await.status]
}

fn stored_tokens(relay: &Relay) -> Value {
    let text = std::fs::read_to_string(relay.folder().join("secrets.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["RELAY_TOKEN"].clone()
}

#[tokio::test]
async fn token_with_scopes_is_made_listed_rotated_and_retired() {
    let relay = start_trial().await;
    let first = add_token(&relay, "mailer", "events:send,deliveries:read").await;
    let entry = json!({"token": first, "name": "mailer", "scopes": ["events:send", "deliveries:read"]});
    assert_eq!(stored_tokens(&relay)[1], entry);
    assert_eq!(row_statuses(&relay, &first).await, [403, 200]);
    let listed = setup(&relay, &["--list"]).await;
    assert!(listed.stdout.contains(" mailer  events:send, deliveries:read"), "{listed:?}");
    assert!(!listed.stdout.contains(&first), "{listed:?}");
    let taken = setup(&relay, &["--add-relay-token", "--name", "mailer"]).await;
    assert_eq!((taken.code, taken.stderr.contains("a relay token named mailer")), (2, true), "{taken:?}");
    let second = add_token(&relay, "mailer-2", "events:send").await;
    assert_eq!(row_statuses(&relay, &second).await, [403, 200]);
    assert_eq!(setup(&relay, &["--retire-relay-token", "2"]).await.code, 0);
    eventually("a closed token", async || (row_statuses(&relay, &first).await == [401, 401]).then_some(())).await;
    assert_eq!(row_statuses(&relay, &second).await, [403, 200], "the other one stays");
    let doctor = relayctl(relay.folder(), &listen_variables(&relay), &["doctor", "--json"], "").await;
    let finding = doctor.worst_finding("relay-token");
    assert!(finding.outcome == "ok" && finding.observed.contains("scopes of each of 2"), "{doctor:?}");
}

#[tokio::test]
async fn unknown_scope_is_refused_with_the_known_ones() {
    let relay = start_trial().await;
    for scopes in ["contacts:all", "contacts:write,", "Contacts:Write", "*"] {
        let output = setup(&relay, &["--add-relay-token", "--scopes", scopes]).await;
        assert_eq!(output.code, 2, "{output:?}");
        let names_all = Scope::ALL.iter().all(|scope| output.stderr.contains(scope.as_str()));
        assert!(names_all && !relay.folder().join("secrets.json").exists(), "{output:?}");
    }
}

#[tokio::test]
async fn name_or_scopes_that_no_new_token_gets_are_refused() {
    let relay = start_trial().await;
    for arguments in [
        &["--add-relay-token", "--name", "two words"][..],
        &["--list", "--scopes", "email:send"],
        &["--retire-relay-token", "1", "--name", "mailer"],
        &["--name", "mailer"],
    ] {
        assert_eq!(setup(&relay, arguments).await.code, 2, "{arguments:?}");
    }
}

#[tokio::test]
async fn generated_token_of_a_trial_is_listed_with_all_scopes() {
    let relay = start_trial().await;
    let scopes = async |folder: &std::path::Path, variables: &[(&'static str, String)]| {
        let listed = relayctl(folder, variables, &["setup", "--list", "--json"], "").await.json();
        serde_json::from_value::<Vec<String>>(listed["relayTokens"][0]["scopes"].clone()).unwrap()
    };
    let all: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    assert_eq!(scopes(relay.folder(), &[]).await, all);
    let real = [("LOOPS_API_KEY", "key".to_owned())];
    assert_eq!(scopes(relay.folder(), &real).await, ["contacts:write", "events:send", "deliveries:read"]);
}

#[tokio::test]
async fn token_that_ends_a_trial_says_so() {
    let relay = start_trial().await;
    let listed = setup(&relay, &["--list"]).await;
    assert!(listed.stdout.contains("not stored: Loops is simulated"), "{listed:?}");
    let arguments = ["--add-relay-token", "--name", "finder", "--scopes", "contacts:read", "--show-token"];
    let added = setup(&relay, &arguments).await;
    assert!(added.stdout.contains("The trial is over"), "{added:?}");
    // The columns are shown with a token that they work with.
    let generated = std::fs::read_to_string(relay.folder().join("relay-token")).unwrap();
    assert!(added.stdout.contains(&format!("Bearer {}", generated.trim())), "{added:?}");
}
