//! The dry run, the calls that create, delete and e-mail, and those that are passed on.

use relay_testkit::mock_destination::{MockDestination, Reply};
use serde_json::json;

use super::delivery_status::{CALLS, call, start};
use super::rows::start_loops;

#[tokio::test]
async fn dry_run_shows_what_the_run_sends_and_sends_nothing() {
    let loops = start_loops().await;
    let relay = start(&loops).await;
    for (index, [method, path, body]) in CALLS.into_iter().enumerate() {
        let tried = call(&relay, [method, &format!("{path}?dry-run=on"), body], &[]).await;
        assert_eq!((tried.status, &tried.json()["duplicate"]), (200, &json!(false)), "{path}: {tried:?}");
        assert_eq!(loops.received().len(), index, "{path}");
        assert_eq!(call(&relay, [method, path, body], &[]).await.status, 200, "{path}");
        let sent = loops.received().pop().unwrap();
        assert!(tried.text().contains(&format!("\"wouldSend\":{}", sent.text())), "{path}: {tried:?}");
        assert_eq!(sent.header("idempotency-key"), tried.json()["idempotencyKey"].as_str().unwrap_or_default());
    }
    for [method, path, body] in CALLS {
        let again = call(&relay, [method, &format!("{path}?dry-run=on"), body], &[]).await;
        let has_key = again.json().get("idempotencyKey").is_some();
        assert_eq!(again.json()["duplicate"], json!(has_key), "{path}: {again:?}");
    }
}

#[tokio::test]
async fn creation_and_deletion_that_are_done_get_the_answer_of_loops() {
    let loops = start_loops().await;
    let relay = start(&loops).await;
    for (path, done) in [("/api/v1/contacts/create", 409), ("/api/v1/contacts/delete", 404)] {
        loops.set_default_reply(Reply::json(done, r#"{"success":false,"message":"Done."}"#));
        let body = r#"{"email":"ada@example.com"}"#;
        let direct = call(&relay, ["POST", path, body], &[]).await;
        assert_eq!((direct.status, &direct.json()["message"]), (done, &json!("Done.")), "{path}");
    }
}

#[tokio::test]
async fn repeated_email_is_sent_once() {
    let loops = start_loops().await;
    let relay = start(&loops).await;
    let [_, _, _, [method, path, _], _] = CALLS;
    let email = |items: &str| {
        format!(r#"{{"transactionalId":"t1","email":"ada@example.com","dataVariables":{{"n":1,"items":{items}}}}}"#)
    };
    let first = call(&relay, [method, path, &email(r#"[{"a":1,"b":"x"}]"#)], &[]).await;
    assert_eq!(first.json(), json!({"success": true}));
    let repeat = call(&relay, [method, path, &email(r#"[{"b":"x","a":1.0}]"#)], &[]).await;
    assert_eq!(repeat.json(), json!({"success": true, "duplicate": true}));
    assert_eq!(call(&relay, [method, path, &email("[]")], &[]).await.json(), json!({"success": true}));
    assert_eq!(loops.received().len(), 2);
}

#[tokio::test]
async fn both_or_no_identity_is_refused_without_a_call() {
    let loops = start_loops().await;
    let relay = start(&loops).await;
    for path in ["find", "find?email=a@b.co&userId=7", "suppression"] {
        let response = call(&relay, ["GET", &format!("/api/v1/contacts/{path}"), ""], &[]).await;
        response.assert_error_response(400, "invalid_option", Some("email"));
    }
    assert!(loops.received().is_empty());
}

#[tokio::test]
async fn call_that_only_reads_is_passed_on_with_its_answer() {
    let loops = MockDestination::start(Reply::json(200, r#"[{"id":"c1", "email":"ada@example.com"}]"#)).await;
    let relay = start(&loops).await;
    let found = call(&relay, ["GET", "/api/v1/contacts/find?email=ada%40example.com&x=1", "ignored"], &[]).await;
    assert_eq!((found.status, found.text().as_str()), (200, r#"[{"id":"c1", "email":"ada@example.com"}]"#));
    let asked = loops.received().pop().unwrap();
    assert_eq!((asked.header("authorization"), asked.text().as_str()), ("Bearer loops-key", ""));
}
