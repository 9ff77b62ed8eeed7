//! The client: what it keeps, what it repeats, and what it reads.

mod certificates;
// With a filter that only this kernel has.
#[cfg(target_os = "linux")]
mod dropped_connections;
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use relay::destination::http_client::{DestinationResponse, HttpClient, build};
use relay_core::policy::response::CallOutcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Barrier;

use crate::harness::now;
use server::{Server, Step, respond, truncated_response};

const LONG_TIMEOUT: Duration = Duration::from_secs(20);
const SHORT_TIMEOUT: Duration = Duration::from_millis(300);

async fn post(client: &HttpClient, url: &str, timeout: Duration) -> DestinationResponse {
    let request = client.request(http::Method::POST, url).body(r#"{"a":1}"#);
    client.send(request, timeout, now()).await
}

async fn response_to(step: Step) -> (DestinationResponse, Server) {
    let server = Server::start([vec![step]]).await;
    let response = post(&build().unwrap(), &server.url(), LONG_TIMEOUT).await;
    (response, server)
}

#[tokio::test]
async fn redirect_is_returned_and_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let (response, server) = response_to(respond(status, "Location: /elsewhere\r\n", "")).await;
        assert_eq!(response.outcome, CallOutcome::Responded(status));
        assert_eq!(server.requests(), ["POST /hook HTTP/1.1"]);
    }
}

#[tokio::test]
async fn sequential_requests_share_one_connection() {
    let (server, client) = (Server::start([]).await, build().unwrap());
    for _ in 0..20 {
        assert_eq!(post(&client, &server.url(), LONG_TIMEOUT).await.outcome, CallOutcome::Responded(200));
    }
    assert_eq!((server.connections(), server.requests().len()), (1, 20));
}

#[tokio::test]
async fn dead_pooled_connection_is_replaced_immediately() {
    for disconnect in [Step::Reset, Step::Close] {
        let server = Server::start([vec![respond(200, "", ""), disconnect.clone()]]).await;
        let client = build().unwrap();
        for _ in 0..2 {
            assert_eq!(
                post(&client, &server.url(), LONG_TIMEOUT).await.outcome,
                CallOutcome::Responded(200),
                "{disconnect:?}"
            );
        }
        assert_eq!((server.connections(), server.requests().len()), (2, 3), "{disconnect:?}");
    }
}

#[tokio::test]
async fn dead_pool_is_replaced_for_concurrent_requests() {
    const PARALLEL_REQUESTS: usize = 8;
    let barrier = Arc::new(Barrier::new(PARALLEL_REQUESTS));
    let dying_script = || vec![Step::RespondTogether(Arc::clone(&barrier)), Step::Reset];
    let server = Server::start([(); PARALLEL_REQUESTS].map(|()| dying_script())).await;
    let client = build().unwrap();
    for _ in 0..2 {
        let (client, url) = (client.clone(), server.url());
        let posts = [(); PARALLEL_REQUESTS].map(|()| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move { post(&client, &url, LONG_TIMEOUT).await.outcome })
        });
        for outcome in posts {
            assert_eq!(outcome.await.unwrap(), CallOutcome::Responded(200));
        }
    }
}

#[tokio::test]
async fn dead_connection_is_replaced_by_a_new_one() {
    let barrier = Arc::new(Barrier::new(2));
    let dying_script = || vec![Step::RespondTogether(Arc::clone(&barrier)), Step::Reset];
    let server = Server::start([dying_script(), dying_script()]).await;
    let (client, url) = (build().unwrap(), server.url());
    let (first, second) = tokio::join!(post(&client, &url, LONG_TIMEOUT), post(&client, &url, LONG_TIMEOUT));
    assert_eq!([first.outcome, second.outcome], [CallOutcome::Responded(200); 2]);
    // Two connections are kept, and both have died.
    assert_eq!(post(&client, &url, LONG_TIMEOUT).await.outcome, CallOutcome::Responded(200));
}

#[tokio::test]
async fn replacement_connection_is_not_replaced_again() {
    let server = Server::start([vec![respond(200, "", ""), Step::Reset], vec![Step::Reset]]).await;
    let client = build().unwrap();
    assert_eq!(post(&client, &server.url(), LONG_TIMEOUT).await.outcome, CallOutcome::Responded(200));
    assert_eq!(post(&client, &server.url(), LONG_TIMEOUT).await.outcome, CallOutcome::ConnectionLost);
    assert_eq!((server.connections(), server.requests().len()), (2, 3));
}

#[tokio::test]
async fn reset_new_connection_is_not_replaced() {
    for disconnect in [Step::Reset, Step::Close] {
        let (response, server) = response_to(disconnect.clone()).await;
        assert_eq!(response.outcome, CallOutcome::ConnectionLost, "{disconnect:?}");
        assert_eq!((server.connections(), server.requests().len()), (1, 1), "{disconnect:?}");
    }
}

#[tokio::test]
async fn request_lost_before_a_refused_reconnect_is_a_lost_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        drop(listener);
        for response in ["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""] {
            let mut request = Vec::new();
            while !request.ends_with(br#"{"a":1}"#) && stream.read_buf(&mut request).await.unwrap() > 0 {}
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    });
    let client = build().unwrap();
    assert_eq!(post(&client, &url, LONG_TIMEOUT).await.outcome, CallOutcome::Responded(200));
    assert_eq!(post(&client, &url, LONG_TIMEOUT).await.outcome, CallOutcome::ConnectionLost);
}

#[tokio::test]
async fn timed_out_request_is_not_resent() {
    let server = Server::start([vec![Step::Hang]]).await;
    let started_at = Instant::now();
    let response = post(&build().unwrap(), &server.url(), SHORT_TIMEOUT).await;
    assert_eq!(response.outcome, CallOutcome::TimedOut);
    assert!(started_at.elapsed() >= SHORT_TIMEOUT);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn timed_out_request_on_pooled_connection_is_not_resent() {
    let server = Server::start([vec![respond(200, "", ""), Step::Hang]]).await;
    let client = build().unwrap();
    assert_eq!(post(&client, &server.url(), LONG_TIMEOUT).await.outcome, CallOutcome::Responded(200));
    assert_eq!(post(&client, &server.url(), SHORT_TIMEOUT).await.outcome, CallOutcome::TimedOut);
    assert_eq!((server.connections(), server.requests().len()), (1, 2));
}

#[tokio::test]
async fn unused_port_is_unreachable() {
    let unused_port = TcpSocket::new_v4().unwrap();
    unused_port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", unused_port.local_addr().unwrap());
    assert_eq!(post(&build().unwrap(), &url, LONG_TIMEOUT).await.outcome, CallOutcome::Unreachable);
}

#[tokio::test]
async fn retry_after_is_parsed_as_seconds_or_date_up_to_an_hour() {
    let date = |seconds: i64| crate::harness::in_seconds(seconds).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let cases = [
        ("7".to_owned(), Some(7)),
        ("0".to_owned(), Some(0)),
        ("3601".to_owned(), Some(3600)),
        (date(90), Some(90)),
        (date(-90), Some(0)),
        (date(86_400), Some(3600)),
        ("soon".to_owned(), None),
        ("-1".to_owned(), None),
        (String::new(), None),
    ];
    for (value, seconds) in cases {
        for status in [429, 503] {
            let (response, _) = response_to(respond(status, &format!("Retry-After: {value}\r\n"), "")).await;
            assert_eq!(response.retry_after, seconds.map(Duration::from_secs), "{value}");
        }
    }
}

#[tokio::test]
async fn response_body_is_truncated_to_64_kib() {
    for (sent, read) in [(0, 0), (65_535, 65_535), (65_536, 65_536), (65_537, 65_536), (5_000_000, 65_536)] {
        let (response, _) = response_to(respond(200, "", &"x".repeat(sent))).await;
        assert_eq!((response.outcome, response.body.len()), (CallOutcome::Responded(200), read));
    }
}

#[tokio::test]
async fn status_with_truncated_body_is_still_a_response() {
    for status in [200, 500] {
        let (response, server) = response_to(Step::RespondThenClose(truncated_response(status))).await;
        assert_eq!(response.outcome, CallOutcome::Responded(status));
        assert_eq!(server.requests().len(), 1);
    }
    let server = Server::start([vec![Step::RespondThenHang(truncated_response(200))]]).await;
    let response = post(&build().unwrap(), &server.url(), SHORT_TIMEOUT).await;
    assert_eq!((response.outcome, server.requests().len()), (CallOutcome::Responded(200), 1));
}

#[tokio::test]
async fn non_http_response_is_a_lost_connection() {
    let (response, server) = response_to(Step::RespondThenClose("SMTP ready\r\n\r\n".to_owned())).await;
    assert_eq!(response.outcome, CallOutcome::ConnectionLost);
    assert_eq!(server.requests().len(), 1);
}
