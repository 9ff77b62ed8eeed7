//! Paths and methods that the relay does not know.

use relay_testkit::http::send;
use relay_testkit::relay_process::Relay;

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_the_same_form() {
    let relay = Relay::start(&[]).await;
    for (method, path, allowed) in [
        ("GET", "/webhooks/loops", "POST"),
        ("PUT", "/webhooks/loops", "POST"),
        ("DELETE", "/webhooks/loops?x=1", "POST"),
        ("POST", "/api/v1/contacts/update", "PUT"),
        ("PATCH", "/api/v1/contacts/update", "PUT"),
        ("PUT", "/api/v1/events/send", "POST"),
    ] {
        let answer = send(method, &format!("{}{path}", relay.base()), &[], "{}").await;
        answer.assert_error_response(405, "method_not_allowed", None);
        assert!(answer.headers["x-relay-delivery-id"].starts_with("refused_"), "{method} {path}");
        assert_eq!(answer.headers.get("allow").map(String::as_str), Some(allowed), "{method} {path}");
    }
    for (method, path) in [
        ("GET", "/webhooks"),
        ("POST", "/webhooks"),
        ("POST", "/webhooks/loops/"),
        ("POST", "/webhooks/loops/x"),
        ("POST", "//webhooks/loops"),
        ("PUT", "/v1/contacts/update"),
        ("POST", "/api/v1/contacts/create"),
    ] {
        let answer = send(method, &format!("{}{path}", relay.base()), &[], "{}").await;
        answer.assert_error_response(404, "not_found", None);
        assert!(answer.headers["x-relay-delivery-id"].starts_with("refused_"), "{method} {path}");
    }
}
