//! The bodies of docs/clay-columns.md are pasted as they stand: each of them is a row that Loops takes.

use relay_testkit::row::{Route, send};
use serde_json::Value;

use super::{loops, relay_to};

/// What a column of the page holds in this test.
fn column(name: &str) -> &'static str {
    match name {
        "/Email" => "ada@example.com",
        "/Seats" => "5",
        "/Wants Product News" => "true",
        "/List Ids" => r#"["cm06f5v0e45nf0ml5754o9cix"]"#,
        _ => "a text of\ntwo \"lines\"",
    }
}

/// The body as Clay sends it: each column is its value, as a JSON text.
fn filled_in(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with('/') => *text = column(text).to_owned(),
        Value::Object(fields) => fields.values_mut().for_each(filled_in),
        _ => {}
    }
}

#[tokio::test]
async fn every_body_to_paste_is_a_row_that_loops_takes() {
    let page = include_str!("../../../docs/clay-columns.md");
    let bodies: Vec<&str> = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for body in &bodies {
        let mut body: Value = serde_json::from_str(body).unwrap();
        filled_in(&mut body);
        let route = if body.get("eventName").is_some() { Route::Event } else { Route::Contact };
        let answer = send(relay.base(), route, "", &[], body.to_string()).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
        let sent: Value = serde_json::from_slice(&loops.received().last().unwrap().body).unwrap();
        let lists = sent["mailingLists"].as_object();
        assert!(lists.is_none_or(|lists| !lists.is_empty() && lists.values().all(Value::is_boolean)), "{sent}");
    }
    assert_eq!((bodies.len(), loops.received().len()), (6, 6));
}

#[test]
fn every_status_and_code_that_a_cell_may_show_is_explained() {
    let page = include_str!("../../../docs/clay-columns.md");
    for shown in [
        "column_not_inserted",
        "invalid_json",
        "invalid_field",
        "invalid_option",
        "missing_field",
        "value_too_long",
        "too_large",
        "loops_rejected",
        "invalid_token",
        "unavailable",
        "not_configured",
        "loops_key_rejected",
        "\"queued\"",
        "\"duplicate\":true",
        "\"adjusted\"",
    ] {
        assert!(page.contains(shown), "{shown}");
    }
}
