//! Paths and methods that the relay does not know.

use relay_testkit::http::send;
use relay_testkit::relay_process::Relay;

#[tokio::test]
async fn unknown_paths_and_methods_get_json_errors() {
    let relay = Relay::start(&[]).await;
    for (method, path, allowed) in [
        ("GET", "/webhooks/loops", "POST"),
        ("PUT", "/webhooks/loops", "POST"),
        ("DELETE", "/webhooks/loops?x=1", "POST"),
        ("POST", "/api/v1/contacts/update", "PUT"),
        ("PATCH", "/api/v1/contacts/update", "PUT"),
        ("PUT", "/api/v1/events/send", "POST"),
    ] {
        let response = send(method, &format!("{}{path}", relay.base()), &[], "{}").await;
        response.assert_error_response(405, "method_not_allowed", None);
        assert!(response.headers["x-relay-delivery-id"].starts_with("refused_"), "{method} {path}");
        assert_eq!(response.headers.get("allow").map(String::as_str), Some(allowed), "{method} {path}");
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
        let response = send(method, &format!("{}{path}", relay.base()), &[], "{}").await;
        response.assert_error_response(404, "not_found", None);
        assert!(response.headers["x-relay-delivery-id"].starts_with("refused_"), "{method} {path}");
    }
}
