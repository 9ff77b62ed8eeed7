//! Requests that are never complete: what they cost the relay, and what they do to honest ones.

use std::time::Duration;

use relay_testkit::http::send;
use relay_testkit::relay_process::{RELAY_TOKEN, Relay};
use relay_testkit::row::contact;
use relay_testkit::webhook::{contact_created, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::contract::rows::contact_row;
use crate::contract::webhooks::assert_accepted;

/// A limit for what takes no time, and would take half a minute if it waited for the half requests.
const PROMPTLY: Duration = Duration::from_secs(10);
/// The most that a stop may take: Docker kills after ten seconds.
const MAX_STOP: Duration = Duration::from_secs(8);

const HALF_HEAD: &str = "POST /webhooks/loops HTTP/1.1\r\nHost: localhost\r\nwebhook-id: msg";

/// The head of a row, and a part of its body.
fn half_row(token: &str) -> String {
    format!(
        "PUT /api/v1/contacts/update HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: 1000\r\n\r\n{{\"email\": \"ada@example.com\""
    )
}

/// The head of a webhook that nobody signed, and a part of its body.
fn half_webhook() -> String {
    let time = jiff::Timestamp::now().as_second();
    format!(
        "POST /webhooks/loops HTTP/1.1\r\nHost: localhost\r\nwebhook-id: msg_1\r\nwebhook-timestamp: {time}\r\n\
         webhook-signature: v1,AAAA\r\nContent-Length: 200000\r\n\r\n{{"
    )
}

async fn connect(relay: &Relay) -> TcpStream {
    TcpStream::connect(relay.base().trim_start_matches("http://")).await.unwrap()
}

/// Opens a connection and sends a part of a request.
async fn open(relay: &Relay, request: &str) -> TcpStream {
    let mut stream = connect(relay).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Returns what is answered until the connection is closed, or nothing if it was reset.
async fn read_to_end(mut stream: TcpStream) -> String {
    let mut response = Vec::new();
    let _ = tokio::time::timeout(PROMPTLY, stream.read_to_end(&mut response)).await.expect("the connection stays open");
    String::from_utf8(response).unwrap()
}

/// Returns what is answered at once.
async fn read_some(stream: &mut TcpStream) -> String {
    let mut response = vec![0; 4096];
    let length =
        tokio::time::timeout(PROMPTLY, stream.read(&mut response)).await.expect("nothing is answered").unwrap();
    String::from_utf8_lossy(&response[..length]).into_owned()
}

#[tokio::test]
async fn stop_does_not_wait_for_half_a_request() {
    for request in ["", HALF_HEAD, &half_row(RELAY_TOKEN), &half_row("wrong"), &half_webhook()] {
        let relay = Relay::start(&[]).await;
        let mut streams = Vec::new();
        for _ in 0..20 {
            streams.push(open(&relay, request).await);
        }
        // An answered request shows that what came before it was accepted, too.
        assert_eq!(contact(relay.base(), contact_row("ada@example.com")).await.status, 200);
        let stopped = tokio::time::timeout(MAX_STOP, relay.stop()).await;
        assert!(stopped.expect(request).1.success(), "{request}");
    }
}

#[tokio::test]
async fn stop_closes_kept_connections() {
    let relay = Relay::start(&[]).await;
    let mut stream = open(&relay, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(read_some(&mut stream).await.starts_with("HTTP/1.1 200 "));
    assert!(tokio::time::timeout(MAX_STOP, relay.stop()).await.unwrap().1.success());
    assert_eq!(read_to_end(stream).await, "");
}

#[tokio::test]
async fn half_body_is_refused_at_a_stop() {
    for (request, status) in [(half_row(RELAY_TOKEN), "429"), (half_webhook(), "503")] {
        let relay = Relay::start(&[]).await;
        let stream = open(&relay, &request).await;
        // An answered request shows that what came before it was accepted, too.
        assert_eq!(send("GET", &format!("{}/healthz", relay.base()), &[], "").await.status, 200);
        drop(relay.stop().await);
        let response = read_to_end(stream).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {response}");
        assert!(response.contains(r#""code":"unavailable""#), "{response}");
    }
}

#[tokio::test]
async fn silent_connections_give_way_to_honest_requests() {
    let relay = Relay::start(&[]).await;
    for request in ["", HALF_HEAD, &half_webhook()] {
        let mut streams = Vec::new();
        for _ in 0..600 {
            streams.push(open(&relay, request).await);
        }
        let honest = async { post(relay.base(), "msg_1", &contact_created("ada@example.com")).await };
        let response = tokio::time::timeout(PROMPTLY, honest).await.expect(request);
        assert_accepted(&response, "queued");
    }
}

#[tokio::test]
async fn no_connection_is_kept_while_there_is_no_room() {
    let relay = Relay::start(&[]).await;
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(!read_some(&mut open(&relay, request).await).await.contains("connection: close"));
    let mut streams = Vec::new();
    for _ in 0..600 {
        streams.push(open(&relay, HALF_HEAD).await);
    }
    assert!(read_some(&mut open(&relay, request).await).await.contains("connection: close"));
}

#[tokio::test]
async fn stranger_is_answered_before_the_body() {
    let relay = Relay::start(&[]).await;
    let without_signature = "POST /webhooks/loops HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{";
    let too_large = "POST /webhooks/loops HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n\r\n{";
    for (request, status) in [(half_row("wrong").as_str(), "401"), (without_signature, "400"), (too_large, "413")] {
        let response = read_some(&mut open(&relay, request).await).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {response}");
    }
}

#[tokio::test]
async fn body_is_asked_for_only_after_the_head_is_checked() {
    let relay = Relay::start(&[]).await;
    let expecting = |request: &str| {
        let (head, _) = request.split_once("\r\n\r\n").unwrap();
        format!("{head}\r\nExpect: 100-continue\r\n\r\n")
    };
    for (request, status) in [
        (half_row(RELAY_TOKEN), "100"),
        (half_webhook(), "100"),
        (half_row("wrong"), "401"),
        (half_row(RELAY_TOKEN).replace("Content-Length: 1000", "Content-Length: 10000000000"), "400"),
        (half_webhook().replace("webhook-signature", "x-signature"), "400"),
    ] {
        let response = read_some(&mut open(&relay, &expecting(&request)).await).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {response}");
    }
}

#[tokio::test]
async fn refused_body_does_not_break_its_response() {
    let relay = Relay::start(&[]).await;
    let row = "x".repeat(250_000);
    for (method, path, status) in [
        ("PUT", "/api/v1/contacts/update", 401),
        ("POST", "/api/v1/contacts/update", 405),
        ("POST", "/webhooks/loops", 400),
        ("POST", "/elsewhere", 404),
    ] {
        let response = send(method, &format!("{}{path}", relay.base()), &[], row.clone()).await;
        assert_eq!(response.status, status, "{method} {path}");
    }
}

#[tokio::test]
async fn oversized_head_is_refused() {
    let relay = Relay::start(&[]).await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nx: {}", "x".repeat(40_000));
    assert!(read_some(&mut open(&relay, &request).await).await.starts_with("HTTP/1.1 431 "));
}
