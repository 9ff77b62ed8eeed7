//! The commands besides `serve`, and the files in `events/`, as a user runs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use base64::Engine as _;
use relay_core::token::Scope;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::http::{Response, send};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::{RELAY_TOKEN, Relay, TempDataDir, command, settings};
use relay_testkit::relayctl::run_relayctl;
use relay_testkit::{eventually, webhook};
use serde_json::{Value, json};

fn event_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../events").join(path)
}

async fn run_relay_local(relay: &Relay, arguments: &[&str]) -> Output {
    let listen = relay.base().trim_start_matches("http://").to_owned();
    let mut settings = settings(&[("RELAY_LISTEN", &listen)]);
    settings.insert("RELAY_DATA".to_owned(), relay.folder().display().to_string());
    command(&settings).args(arguments).output().await.unwrap()
}

fn stdout_of(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn send_webhook_signs_posts_and_waits_for_delivery_to_clay() {
    let relay = Relay::start(&[]).await;
    let file = event_path("loops/contact.created.json");
    let output = run_relay_local(&relay, &["send-webhook", file.to_str().unwrap()]).await;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stdout_of(&output), "200 {\"success\":true,\"status\":\"queued\"}\ndelivered to Clay\n");
    let rows = send("GET", &format!("{}/rows", relay.simulator_url("Clay")), &[], "").await.json();
    assert_eq!(rows[0]["body"], serde_json::from_slice::<Value>(&std::fs::read(file).unwrap()).unwrap());
}

#[tokio::test]
async fn send_webhook_accepts_test_event_without_a_delivery() {
    let relay = Relay::start(&[]).await;
    let file = event_path("loops/testing.testEvent.json");
    let output = run_relay_local(&relay, &["send-webhook", file.to_str().unwrap()]).await;
    assert_eq!(stdout_of(&output), "200 {\"success\":true,\"status\":\"test\"}\n");
    assert!(relay.deliveries().await.is_empty());
}

#[tokio::test]
async fn send_webhook_names_missing_relay_file_or_secret() {
    let folder = TempDataDir::new();
    let data = folder.path().display().to_string();
    let file = event_path("loops/contact.created.json");
    let stderr_of = async |overrides: &[(&str, &str)], file: &str| {
        let output = command(&settings(overrides)).args(["send-webhook", file]).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let no_relay = [("RELAY_DATA", data.as_str()), ("RELAY_LISTEN", "127.0.0.1:9")];
    assert!(stderr_of(&no_relay, file.to_str().unwrap()).await.contains("no relay answers at http://127.0.0.1:9"));
    assert!(stderr_of(&no_relay, "no/such/file.json").await.contains("no/such/file.json cannot be read"));
    let no_signing_secret = [("RELAY_DATA", data.as_str()), ("LOOPS_SIGNING_SECRET", "")];
    assert!(stderr_of(&no_signing_secret, file.to_str().unwrap()).await.contains("there is no signing secret"));
}

#[tokio::test]
async fn sign_prints_standard_webhooks_headers_that_the_relay_accepts() {
    let relay = Relay::start(&[]).await;
    let file = event_path("loops/contact.created.utf8.json");
    let body = std::fs::read(&file).unwrap();
    let now = webhook::now();
    let timestamp = now.to_string();
    let output =
        run_relay_local(&relay, &["sign", "--id", "msg_1", "--timestamp", &timestamp, file.to_str().unwrap()]).await;
    let printed = stdout_of(&output);
    let headers: Vec<(&str, &str)> = printed.lines().map(|line| line.split_once(": ").unwrap()).collect();
    let library = standardwebhooks::Webhook::new(webhook::SIGNING_SECRET).unwrap().sign("msg_1", now, &body).unwrap();
    assert_eq!(headers, [("webhook-id", "msg_1"), ("webhook-timestamp", &timestamp), ("webhook-signature", &library)]);
    let response = send("POST", &format!("{}/webhooks/loops", relay.base()), &headers, body).await;
    assert_eq!(response.status, 200, "{}", response.text());
}

#[tokio::test]
async fn deliveries_prints_a_table_with_reasons() {
    let relay = Relay::start(&[("CLAY_WEBHOOK_URL", "")]).await;
    webhook::post(relay.base(), "msg_1", &webhook::contact_created("ada@example.com")).await;
    relay.wait_for_reason("no_webhook").await;
    let table = stdout_of(&run_relay_local(&relay, &["deliveries"]).await);
    assert!(table.contains("waiting") && table.contains("no_webhook") && table.contains("loops-to-clay"), "{table}");
    assert!(!table.contains("ada"), "{table}");
    let none = stdout_of(&run_relay_local(&relay, &["deliveries", "--state", "dead"]).await);
    assert!(none.starts_with("There are no deliveries"), "{none}");
}

#[tokio::test]
async fn dead_letter_listing_has_reason_times_and_attempts() {
    let clay = MockDestination::start(Reply::status(422)).await;
    clay.enqueue_replies([Reply::status(500)]);
    let relay = Relay::start(&[("CLAY_WEBHOOK_URL", &clay.url("/hook"))]).await;
    webhook::post(relay.base(), "msg_1", &webhook::contact_created("ada@example.com")).await;
    let dead = relay.wait_for_state("dead").await;
    assert_eq!(
        (&dead["reason"], &dead["status"], &dead["attempts"]),
        (&"clay_rejected".into(), &422.into(), &2.into())
    );
    let times = ["receivedAt", "firstAttemptAt", "lastAttemptAt", "diedAt"];
    let times = times.map(|name| dead[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
    assert!(times.is_sorted() && times[1] < times[2], "{times:?}");
    let failures: Vec<_> = dead["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| (&each["reason"], &each["status"], &each["count"]))
        .collect();
    let expected = [("clay_rejected", 422), ("destination_failed", 500)]
        .map(|(reason, status)| (Value::from(reason), Value::from(status)));
    let one = Value::from(1);
    assert_eq!(failures, expected.each_ref().map(|(reason, status)| (reason, status, &one)));
}

#[tokio::test]
async fn deliveries_of_a_folder_without_a_store_is_an_empty_list() {
    let folder = TempDataDir::new();
    let data = folder.path().display().to_string();
    let output = command(&settings(&[("RELAY_DATA", &data)])).args(["deliveries", "--json"]).output().await.unwrap();
    assert_eq!(stdout_of(&output).trim(), "[]");
}

/// Reads the ids of a listing's records.
fn ids_of(records: &Value) -> Vec<usize> {
    records.as_array().unwrap().iter().map(|record| record["id"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn deliveries_are_the_latest_50_unless_all_are_wanted() {
    let (folder, _) = Relay::start(&[]).await.stop().await;
    let store = relay_sqlite::open_existing(folder.path()).unwrap().unwrap();
    let sql = "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1099)
               INSERT INTO deliveries (id, direction, state, contact, kind, body_hash, received_at, next_at)
               SELECT n, 'clay-to-loops', 'waiting', n, 'contact', 'h', 1, 1 FROM numbers";
    store.execute(sql, []).unwrap();
    let data = folder.path().display().to_string();
    let (latest, all): (Vec<usize>, Vec<usize>) = ((1050..1100).collect(), (0..1100).rev().collect());
    for (arguments, expected) in [(&["deliveries", "--json"][..], &latest), (&["deliveries", "--json", "--all"], &all)]
    {
        let output = command(&settings(&[("RELAY_DATA", &data)])).args(arguments).output().await.unwrap();
        assert_eq!(ids_of(&serde_json::from_slice(&output.stdout).unwrap()), *expected);
        let local = format!("--local={data}");
        let output = run_relayctl(&[], &[&[local.as_str()], arguments].concat(), "").await;
        assert_eq!(ids_of(&output.json()["deliveries"]), *expected);
    }
    let output = command(&settings(&[("RELAY_DATA", &data)])).arg("deliveries").output().await.unwrap();
    assert!(stdout_of(&output).contains("These are the latest 50; --limit shows more, and --all shows all."));
}

#[tokio::test]
async fn missing_folder_is_an_error_not_an_empty_store() {
    let folder = TempDataDir::new();
    let file = event_path("loops/contact.created.json");
    for (arguments, message) in [
        (vec!["deliveries"], "is not a data folder"),
        (vec!["sign", file.to_str().unwrap()], "there is no signing secret in"),
    ] {
        let data = folder.path().join("mistyped").display().to_string();
        let mut settings = settings(&[("RELAY_DATA", &data)]);
        settings.remove("LOOPS_SIGNING_SECRET");
        let output = command(&settings).args(arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(message), "{output:?}");
    }
}

/// Sends what a gateway's event file holds, as the gateway got it.
async fn replay_gateway_event(relay: &Relay, file: &str) -> Response {
    let event: Value = serde_json::from_slice(&std::fs::read(event_path("api-gateway").join(file)).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let headers: BTreeMap<String, String> = event["headers"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| !["host", "content-length", "x-forwarded-for"].contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), text(value)))
        .collect();
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let body = text(&event["body"]);
    let body = match event["isBase64Encoded"].as_bool() {
        Some(true) => base64::engine::general_purpose::STANDARD.decode(body).unwrap(),
        _ => body.into_bytes(),
    };
    let url = format!("{}{}?{}", relay.base(), text(&event["rawPath"]), text(&event["rawQueryString"]));
    send(&text(&event["requestContext"]["http"]["method"]), &url, &headers, body).await
}

#[tokio::test]
async fn gateway_event_files_of_every_route_are_accepted() {
    let relay = Relay::start(&[("RELAY_TOKEN", RELAY_TOKEN), ("SIGNATURE_TOLERANCE_SECONDS", "0")]).await;
    for file in ["loops-webhook.json", "loops-webhook-base64.json", "contact-update.json", "event-send.json"] {
        let response = replay_gateway_event(&relay, file).await;
        assert_eq!(response.status, 200, "{file}: {}", response.text());
    }
}

#[tokio::test]
async fn every_row_in_the_events_folder_reaches_loops() {
    let scopes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let tokens = json!([{"token": RELAY_TOKEN, "scopes": scopes}]).to_string();
    let relay = Relay::start(&[("RELAY_TOKEN", &tokens)]).await;
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    for (file, method, path) in [
        ("contact.json", "PUT", "contacts/update"),
        ("contact-with-lists.json", "PUT", "contacts/update"),
        ("contact-untidy.json", "PUT", "contacts/update"),
        ("event.json", "POST", "events/send"),
        ("event-with-properties.json", "POST", "events/send"),
        ("email.json", "POST", "transactional"),
        ("deletion.json", "POST", "contacts/delete"),
    ] {
        let row = std::fs::read(event_path("clay").join(file)).unwrap();
        let response = send(method, &format!("{}/api/v1/{path}", relay.base()), &headers, row).await;
        assert!([200, 202].contains(&response.status), "{file}: {}", response.text());
    }
    let loops = relay.simulator_url("Loops");
    let count =
        async |what: &str| Some(send("GET", &format!("{loops}/{what}"), &[], "").await.json().as_array()?.len());
    // The deletion comes last, and takes away the contact of all these rows.
    eventually("both events and the e-mail at Loops, and no contact", async || {
        let counts = (count("events").await?, count("emails").await?, count("contacts").await?);
        (counts == (2, 1, 0)).then_some(())
    })
    .await;
    assert!(relay.deliveries().await.iter().all(|delivery| delivery["state"] != "dead"));
}

#[tokio::test]
async fn simulated_loops_lists_created_properties() {
    let relay = Relay::start(&[]).await;
    let api = relay.simulator_url("Loops");
    let headers = [("authorization", "Bearer simulated"), ("content-type", "application/json")];
    let created =
        send("POST", &format!("{api}/api/v1/contacts/properties"), &headers, r#"{"name":"planSeats","type":"number"}"#)
            .await;
    assert_eq!((created.status, created.text().as_str()), (200, r#"{"success":true}"#));
    let listed = send("GET", &format!("{api}/api/v1/contacts/properties?list=custom"), &headers, "").await;
    assert_eq!(listed.text(), r#"[{"key":"planSeats","label":"Plan seats","type":"number"}]"#);
}
