//! The bodies in docs/clay-columns.md are pasted verbatim: Loops accepts each of them.

use relay_core::token::Scope;
use relay_testkit::http::send;
use serde_json::{Value, json};

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

/// The call that the page has this body for.
fn call_for(body: &Value) -> (&'static str, &'static str) {
    let fields = body.as_object().unwrap();
    if fields.contains_key("transactionalId") {
        ("POST", "/api/v1/transactional")
    } else if fields.contains_key("eventName") {
        ("POST", "/api/v1/events/send")
    } else if fields.keys().eq(["email"]) {
        ("POST", "/api/v1/contacts/delete")
    } else {
        ("PUT", "/api/v1/contacts/update")
    }
}

#[tokio::test]
async fn every_documented_body_is_accepted_by_loops() {
    let page = include_str!("../../../docs/clay-columns.md");
    let bodies: Vec<&str> = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let loops = start_loops().await;
    let token = "token-with-every-scope";
    let scopes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let tokens = json!([{"token": token, "scopes": scopes}]).to_string();
    let relay = start_relay(&loops, &[("RELAY_TOKEN", &tokens)]).await;
    let authorization = format!("Bearer {token}");
    for body in &bodies {
        let mut body: Value = serde_json::from_str(body).unwrap();
        fill_in_columns(&mut body);
        let (method, path) = call_for(&body);
        let headers = [("authorization", authorization.as_str())];
        let response = send(method, &format!("{}{path}", relay.base()), &headers, body.to_string()).await;
        assert_eq!(response.status, 200, "{body}: {}", response.text());
        let sent: Value = serde_json::from_slice(&loops.received().last().unwrap().body).unwrap();
        let lists = sent["mailingLists"].as_object();
        assert!(lists.is_none_or(|lists| !lists.is_empty() && lists.values().all(Value::is_boolean)), "{sent}");
    }
    assert_eq!((bodies.len(), loops.received().len()), (8, 8));
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
        "not_found",
        "outcome_unknown",
        "unavailable",
        "not_configured",
        "loops_key_rejected",
        "\"queued\"",
        "\"dry-run\"",
        "\"duplicate\":true",
        "\"adjusted\"",
    ] {
        assert!(page.contains(code), "{code}");
    }
}
