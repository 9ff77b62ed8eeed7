//! The bodies in docs/clay-columns.md are pasted verbatim: Loops accepts each of them.

use relay_testkit::row::{Route, send};
use serde_json::Value;

use super::{start_loops, start_relay};

/// What a column of the page holds in this test.
fn sample_value(name: &str) -> &'static str {
    match name {
        "/Email" => "ada@example.com",
        "/Seats" => "5",
        "/Wants Product News" => "true",
        "/List Ids" => r#"["cm06f5v0e45nf0ml5754o9cix"]"#,
        _ => "a text of\ntwo \"lines\"",
    }
}

/// The body as Clay sends it: each column is its value, as a JSON text.
fn fill_in_columns(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with('/') => *text = sample_value(text).to_owned(),
        Value::Object(fields) => fields.values_mut().for_each(fill_in_columns),
        _ => {}
    }
}

#[tokio::test]
async fn every_documented_body_is_accepted_by_loops() {
    let page = include_str!("../../../docs/clay-columns.md");
    let bodies: Vec<&str> = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    for body in &bodies {
        let mut body: Value = serde_json::from_str(body).unwrap();
        fill_in_columns(&mut body);
        let route = if body.get("eventName").is_some() { Route::Event } else { Route::Contact };
        let response = send(relay.base(), route, "", &[], body.to_string()).await;
        assert_eq!(response.status, 200, "{body}: {}", response.text());
        let sent: Value = serde_json::from_slice(&loops.received().last().unwrap().body).unwrap();
        let lists = sent["mailingLists"].as_object();
        assert!(lists.is_none_or(|lists| !lists.is_empty() && lists.values().all(Value::is_boolean)), "{sent}");
    }
    assert_eq!((bodies.len(), loops.received().len()), (6, 6));
}

#[test]
fn every_documented_status_and_code_is_explained() {
    let page = include_str!("../../../docs/clay-columns.md");
    for code in [
        "column_not_inserted",
        "invalid_json",
        "invalid_field",
        "invalid_option",
        "missing_field",
        "value_too_long",
        "too_large",
        "loops_rejected",
        "invalid_token",
        "missing_scope",
        "unavailable",
        "not_configured",
        "loops_key_rejected",
        "\"queued\"",
        "\"duplicate\":true",
        "\"adjusted\"",
    ] {
        assert!(page.contains(code), "{code}");
    }
}
