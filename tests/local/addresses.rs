//! Requests that are for nobody: of another host, or to paths and methods that the relay does not know.

use relay_testkit::http::send;
use relay_testkit::relay_process::{RELAY_TOKEN, Relay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Returns the status and the body of the answer to a request without a body, with these headers.
async fn ask(base: &str, request_line: &str, headers: &[&str]) -> (u16, String) {
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let request = format!("{request_line}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn monitoring_answers_only_to_this_machines_names() {
    let relay = Relay::start(&[]).await;
    let port = relay.base().rsplit_once(':').unwrap().1;
    for path in ["/metrics", "/healthz"] {
        let get = format!("GET {path} HTTP/1.1");
        for host in ["localhost", "127.0.0.1", "[::1]", &format!("localhost:{port}"), &format!("127.0.0.1:{port}")] {
            assert_eq!(ask(relay.base(), &get, &[&format!("Host: {host}")]).await.0, 200, "{path} {host}");
        }
        for host in ["evil.example", &format!("evil.example:{port}"), "127.0.0.1.evil.example", "192.0.2.1"] {
            assert_eq!(ask(relay.base(), &get, &[&format!("Host: {host}")]).await.0, 421, "{path} {host}");
        }
        let target_with_host = format!("GET http://evil.example{path} HTTP/1.1");
        assert_eq!(ask(relay.base(), &target_with_host, &["Host: localhost"]).await.0, 421, "{path}");
        assert_eq!(ask(relay.base(), &get, &[]).await.0, 400, "{path}");
        assert_eq!(ask(relay.base(), &get, &["Host: localhost", "Host: localhost"]).await.0, 400, "{path}");
        assert_eq!(ask(relay.base(), &format!("GET {path} HTTP/1.0"), &[]).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn simulators_answer_only_to_this_machines_names() {
    let relay = Relay::start(&[]).await;
    for (destination, path) in [("Clay", "/rows"), ("Loops", "/contacts"), ("Loops", "/events")] {
        let base = relay.simulator_url(destination);
        let get = format!("GET {path} HTTP/1.1");
        assert_eq!(ask(&base, &get, &["Host: localhost"]).await.0, 200, "{path}");
        assert_eq!(ask(&base, &get, &["Host: evil.example"]).await.0, 421, "{path}");
    }
}

#[tokio::test]
async fn relay_routes_take_any_one_host() {
    let relay = Relay::start(&[]).await;
    let token = format!("Authorization: Bearer {RELAY_TOKEN}");
    for (request_line, code) in [
        ("PUT /api/v1/contacts/update HTTP/1.1", "invalid_json"),
        ("POST /api/v1/events/send HTTP/1.1", "invalid_json"),
        ("POST /webhooks/loops HTTP/1.1", "missing_header"),
    ] {
        let answer = async |hosts: &[&str]| {
            let (status, body) = ask(relay.base(), request_line, &[&[token.as_str()], hosts].concat()).await;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            (status, body["code"].as_str().unwrap().to_owned())
        };
        assert_eq!(answer(&["Host: relay.example"]).await, (400, code.to_owned()), "{request_line}");
        for hosts in [&[][..], &["Host: relay.example", "Host: relay.example"], &["Host: a b"]] {
            assert_eq!(answer(hosts).await, (400, "malformed_header".to_owned()), "{request_line} {hosts:?}");
        }
    }
}

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
        ("PUT", "/api/v1/transactional", "GET, POST"),
        ("POST", "/api/v1/lists", "GET"),
        ("DELETE", "/api/v1/deliveries/event_1", "GET"),
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
        ("POST", "/api/v1/campaigns"),
        ("GET", "/api/v1/deliveries"),
        ("GET", "/api/v1/transactional-emails"),
    ] {
        let response = send(method, &format!("{}{path}", relay.base()), &[], "{}").await;
        response.assert_error_response(404, "not_found", None);
        assert!(response.headers["x-relay-delivery-id"].starts_with("refused_"), "{method} {path}");
    }
}
