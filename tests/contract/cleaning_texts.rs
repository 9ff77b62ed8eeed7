//! Clay rows beyond one line: long texts, and what is said of a row that cannot be sent.

use relay_tests::row::{Route, contact, send};
use serde_json::{Value, json};

use super::rows::{loops, relay_to};

/// The message of a refusal of a contact's row.
async fn message(base: &str, body: &str, code: &str, field: Option<&str>) -> String {
    let answer = contact(base, body).await;
    answer.assert_refused(400, code, field);
    answer.json()["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn broken_json_is_told_with_line_column_and_the_nearest_field() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for (body, line, column, field) in [
        (r#"{"email":x}"#, 1, 10, Some("email")),
        ("{\"email\":\"a@x.co\",\n \"bio\":\"He said \"hi\"\"}", 2, 18, Some("bio")),
        ("{\n\t\"email\": \"a@x.co\",\n\t\"näme\": \"é\", \"size\": 10 people\n}", 3, 26, Some("size")),
        ("{\"bio\":\"one\ntwo\",\r\n\"email\": a@x.co}", 3, 10, Some("email")),
        ("{\"email\":\"a@x.co\"\n \"name\":\"Ada\"}", 2, 2, Some("email")),
        (r#""{\"email\": x}""#, 1, 14, Some("email")),
        ("hello", 1, 1, None),
    ] {
        let told = message(relay.base(), body, "invalid_json", field).await;
        assert!(told.contains(&format!("line {line}, column {column}")), "{body}: {told}");
        assert!(field.is_none_or(|field| told.contains(&format!("\"{field}\""))), "{told}");
    }
    let latin1 = contact(relay.base(), b"{\"email\":\"a@x.co\",\"city\":\"Z\xfcrich\"}").await;
    latin1.assert_refused(400, "invalid_json", Some("city"));
    assert!(latin1.text().contains("line 1, column 28"), "{}", latin1.text());
    assert!(loops.got().is_empty());
}

#[tokio::test]
async fn a_text_of_498_characters_is_sent_and_one_of_499_is_refused_with_its_length() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for (number, letter) in ["x", "é", "✓", "😀", "\"", "\\"].into_iter().enumerate() {
        let row = |count: usize| json!({"email": format!("n{number}@x.co"), "bio": letter.repeat(count)}).to_string();
        assert_eq!(contact(relay.base(), row(498)).await.status, 200, "{letter}");
        assert_eq!(loops.got().last().unwrap().text(), row(498));
        let told = message(relay.base(), &row(499), "value_too_long", Some("bio")).await;
        assert!(told.contains("bio") && told.contains("499"), "{told}");
    }
    let event = json!({"email": "a@x.co", "eventName": "x", "eventProperties": {"note": "é".repeat(499)}}).to_string();
    send(relay.base(), Route::Event, "long=reject", &[], event).await.assert_refused(
        400,
        "value_too_long",
        Some("eventProperties.note"),
    );
    assert_eq!(loops.got().len(), 6);
}

#[tokio::test]
async fn with_long_truncate_a_text_is_cut_to_exactly_498_characters() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for (length, letter) in [(499, "é"), (500, "x"), (5000, "😀")] {
        let text = letter.repeat(length);
        let row = json!({"email": "a@x.co", "eventName": length.to_string(), "bio": text,
                         "short": letter.repeat(498), "eventProperties": {"note": text, "n": 7}});
        let answer = send(relay.base(), Route::Event, "long=truncate", &[], row.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let got: Value = serde_json::from_slice(&loops.got().last().unwrap().body).unwrap();
        let cut = format!("{}…", letter.repeat(497));
        let mut expected = row.clone();
        expected["bio"] = json!(cut);
        expected["eventProperties"]["note"] = json!(cut);
        assert_eq!(got, expected);
    }
}

#[tokio::test]
async fn what_tells_contacts_and_events_apart_is_never_cut() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let long = "x".repeat(499);
    for (field, row) in [
        ("email", json!({"email": format!("{long}@x.co"), "eventName": "x"})),
        ("userId", json!({"userId": long, "eventName": "x"})),
        ("eventName", json!({"email": "a@x.co", "eventName": long})),
    ] {
        let answer = send(relay.base(), Route::Event, "long=truncate", &[], row.to_string()).await;
        answer.assert_refused(400, "value_too_long", Some(field));
    }
    let digits = format!("{{\"userId\":{},\"eventName\":\"x\"}}", "7".repeat(499));
    let answer = send(relay.base(), Route::Event, "long=truncate", &[], digits).await;
    answer.assert_refused(400, "value_too_long", Some("userId"));
    assert!(loops.got().is_empty());
}

#[tokio::test]
async fn every_fault_of_a_row_is_told_at_once_and_no_value() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let row = r#"{"email":"ada lovelace","company":"{{Company}}","tags":["secret-tag"],"subscribed":"maybe-so"}"#;
    let told = message(relay.base(), row, "invalid_field", Some("email")).await;
    assert!(["email", "company", "tags", "subscribed"].iter().all(|field| told.contains(field)), "{told}");
    assert!(!["lovelace", "{{Company}}", "secret-tag", "maybe-so"].iter().any(|value| told.contains(value)), "{told}");
}

#[tokio::test]
async fn a_row_with_500_fields_is_passed_on_untouched_and_one_with_more_is_refused() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let row = |count: usize| {
        let fields: String = (1..count).map(|number| format!(r#","f{number}":{number}"#)).collect();
        format!(r#"{{"email":"a@x.co"{fields}}}"#)
    };
    let answer = contact(relay.base(), row(500)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(loops.got()[0].text(), row(500));
    let answer = contact(relay.base(), row(501)).await;
    assert_eq!(answer.refusal(), (400, "invalid_field".to_owned()));
    assert_eq!(answer.json()["field"], "f500");
}
