//! The row that Clay receives for a webhook, and that no other destination receives it.

use std::path::PathBuf;

use relay_testkit::mock_destination::{MockDestination, ReceivedRequest};
use relay_testkit::webhook::{self, post};
use serde_json::{Value, json};

use super::{assert_accepted, start_clay, start_relay, wait_for_rows};

/// The files of `events/loops`: name and bytes.
fn event_files() -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../events/loops");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.map(|path| (path.file_name().unwrap().display().to_string(), std::fs::read(path).unwrap())).collect()
}

async fn first_row(clay: &MockDestination) -> ReceivedRequest {
    wait_for_rows(clay, 1).await;
    clay.received().remove(0)
}

#[tokio::test]
async fn characters_that_a_queue_refuses_reach_clay_unchanged() {
    let clay = start_clay().await;
    let relay = start_relay(&clay, &[]).await;
    let with_note = |note: String| json!({"eventName": "contact.created", "contact": {"note": note}}).to_string();
    let small = with_note("A\u{fffe}d\u{ffff}a \u{7f}\u{85}".to_owned());
    assert_accepted(&post(relay.base(), "msg_1", small.as_bytes()).await, "queued");
    assert_eq!(wait_for_rows(&clay, 1).await, [small]);
    // As a dead letter as well.
    let large = with_note("\u{ffff}".repeat(40_000));
    assert_accepted(&post(relay.base(), "msg_2", large.as_bytes()).await, "rejected");
}

#[tokio::test]
async fn every_event_except_the_test_event_arrives_byte_for_byte() {
    let clay = start_clay().await;
    let relay = start_relay(&clay, &[("RELAYED_EVENTS", "*")]).await;
    let events = event_files();
    for name in ["contact.created.odd.json", "contact.created.utf8.json", "unknown.event.json", "email.opened.json"] {
        assert!(events.iter().any(|(file, _)| file == name), "{name}");
    }
    assert!(events.len() >= 20, "17 known events and three more");
    let mut sent = Vec::new();
    for (file, body) in events {
        let status = if file == "testing.testEvent.json" { "test" } else { "queued" };
        assert_accepted(&post(relay.base(), &file, &body).await, status);
        if status == "queued" {
            sent.push(body);
        }
    }
    wait_for_rows(&clay, sent.len()).await;
    let mut received: Vec<Vec<u8>> = clay.received().into_iter().map(|request| request.body).collect();
    sent.sort();
    received.sort();
    assert!(sent == received, "some event did not arrive as it was sent");
}

#[tokio::test]
async fn unusual_json_arrives_byte_for_byte() {
    let clay = start_clay().await;
    let relay = start_relay(&clay, &[]).await;
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    let body = format!(
        "\t{{ \"eventName\" :\"contact.created\" , \"half\":\"\\ud83d\", \"\\udc00\":1, \"n\":1E999, \"m\":-0.0,
        \"z\":123456789012345678901.10, \"z\":null, \"eventTime\":\"\", \"contact\":[], \"path\":\"a\\/b\",
        \"nul\":\"\\u0000\", \"deep\":{deep}, \"contactIdentity\":{{\"email\":7}} }}\r\n\n"
    );
    assert_accepted(&post(relay.base(), "msg_1", body.as_bytes()).await, "queued");
    assert_eq!(wait_for_rows(&clay, 1).await, [body]);
}

#[tokio::test]
async fn row_is_posted_as_json_with_the_table_token() {
    let clay = start_clay().await;
    let relay = start_relay(&clay, &[("CLAY_WEBHOOK_AUTH_TOKEN", "clay-token")]).await;
    assert_accepted(&post(relay.base(), "msg_1", &webhook::contact_created("ada@example.com")).await, "queued");
    let row = first_row(&clay).await;
    assert_eq!((row.method.as_str(), row.path.as_str()), ("POST", "/v3/sources/webhook/pull-in-data"));
    assert_eq!((row.header("content-type"), row.header("x-clay-webhook-auth")), ("application/json", "clay-token"));
    assert!(!row.headers.keys().any(|name| name == "authorization" || name == "webhook-signature"), "{row:?}");
}

#[tokio::test]
async fn no_token_header_is_sent_without_a_table_token() {
    for token in [None, Some(""), Some("REPLACE-me")] {
        let clay = start_clay().await;
        let setting = token.map(|token| ("CLAY_WEBHOOK_AUTH_TOKEN", token));
        let relay = start_relay(&clay, setting.as_slice()).await;
        assert_accepted(&post(relay.base(), "msg_1", &webhook::contact_created("ada@example.com")).await, "queued");
        let row = first_row(&clay).await;
        assert!(!row.headers.contains_key("x-clay-webhook-auth"), "{token:?}: {row:?}");
    }
}

#[tokio::test]
async fn with_id_adds_id_and_time_and_nothing_else() {
    let clay = start_clay().await;
    let relay = start_relay(&clay, &[("CLAY_PAYLOAD", "with-id")]).await;
    let body = "{ \"eventName\":\"contact.created\", \"n\":123456789012345678901, \"x\":\"}\" }";
    let before = webhook::now();
    assert_accepted(&post(relay.base(), "msg_\"1", body.as_bytes()).await, "queued");
    let text = first_row(&clay).await.text();
    let row: Value = serde_json::from_str(&text).unwrap();
    let received_at = row["receivedAt"].as_str().unwrap();
    let time = unix_seconds(received_at);
    assert!((before..=webhook::now() + 1).contains(&time), "{received_at}");
    assert_eq!((&row["webhookId"], row.as_object().unwrap().len()), (&json!("msg_\"1"), 5));
    let added = format!(r#","webhookId":"msg_\"1","receivedAt":"{received_at}""#);
    assert_eq!(text.replace(&added, ""), body, "every other byte is as it was: {text}");
}

/// The Unix seconds of a time in RFC 3339, which must be in UTC.
fn unix_seconds(text: &str) -> i64 {
    assert!(text.ends_with('Z') && text.as_bytes()[10] == b'T', "{text}");
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    // Days since 1970 of a date of the proleptic Gregorian calendar, years beginning in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    ((days * 24 + number(11, 13)) * 60 + number(14, 16)) * 60 + number(17, 19)
}

#[tokio::test]
async fn with_id_overwrites_no_existing_field() {
    let clay = start_clay().await;
    let relay = start_relay(&clay, &[("CLAY_PAYLOAD", "with-id")]).await;
    let body = r#"{"eventName":"contact.created","webhookId":null,"receivedAt":7}"#;
    assert_accepted(&post(relay.base(), "msg_1", body.as_bytes()).await, "queued");
    assert_eq!(first_row(&clay).await.text(), body);
    let partial_body = r#"{"eventName":"contact.created","receivedAt":"never"}"#;
    assert_accepted(&post(relay.base(), "msg_2", partial_body.as_bytes()).await, "queued");
    let expected = r#"{"eventName":"contact.created","receivedAt":"never","webhookId":"msg_2"}"#;
    assert_eq!(wait_for_rows(&clay, 2).await[1], expected);
}
