//! The client: what it keeps, what it repeats, and what it reads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relay::destination::http_client::{DestinationResponse, HttpClient, build};
use relay_core::policy::response::CallOutcome;
use tokio::net::TcpSocket;
use tokio::sync::Barrier;

use crate::harness::now;
use crate::server::{Server, Step, answer, half};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(300);

async fn post(client: &HttpClient, url: &str, timeout: Duration) -> DestinationResponse {
    let request = client.request(http::Method::POST, url).body(r#"{"a":1}"#);
    client.send(request, timeout, now()).await
}

async fn answer_of(step: Step) -> (DestinationResponse, Server) {
    let server = Server::start([vec![step]]).await;
    let answer = post(&build().unwrap(), &server.url(), LONG).await;
    (answer, server)
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let (answer, server) = answer_of(answer(status, "Location: /elsewhere\r\n", "")).await;
        assert_eq!(answer.outcome, CallOutcome::Answered(status));
        assert_eq!(server.requests(), ["POST /hook HTTP/1.1"]);
    }
}

#[tokio::test]
async fn twenty_requests_one_after_another_share_a_connection() {
    let (server, client) = (Server::start([]).await, build().unwrap());
    for _ in 0..20 {
        assert_eq!(post(&client, &server.url(), LONG).await.outcome, CallOutcome::Answered(200));
    }
    assert_eq!((server.connections(), server.requests().len()), (1, 20));
}

#[tokio::test]
async fn a_connection_that_died_in_the_pool_is_replaced_at_once() {
    for death in [Step::Reset, Step::Close] {
        let server = Server::start([vec![answer(200, "", ""), death.clone()]]).await;
        let client = build().unwrap();
        for _ in 0..2 {
            assert_eq!(post(&client, &server.url(), LONG).await.outcome, CallOutcome::Answered(200), "{death:?}");
        }
        assert_eq!((server.connections(), server.requests().len()), (2, 3), "{death:?}");
    }
}

#[tokio::test]
async fn connections_that_died_in_the_pool_are_replaced_for_requests_that_come_together() {
    const TOGETHER: usize = 8;
    let together = Arc::new(Barrier::new(TOGETHER));
    let dying = || vec![Step::Together(Arc::clone(&together)), Step::Reset];
    let server = Server::start([(); TOGETHER].map(|()| dying())).await;
    let client = build().unwrap();
    for _ in 0..2 {
        let (client, url) = (client.clone(), server.url());
        let posts = [(); TOGETHER].map(|()| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move { post(&client, &url, LONG).await.outcome })
        });
        for outcome in posts {
            assert_eq!(outcome.await.unwrap(), CallOutcome::Answered(200));
        }
    }
}

#[tokio::test]
async fn what_replaces_a_dead_connection_is_a_new_one() {
    let together = Arc::new(Barrier::new(2));
    let dying = || vec![Step::Together(Arc::clone(&together)), Step::Reset];
    let server = Server::start([dying(), dying()]).await;
    let (client, url) = (build().unwrap(), server.url());
    let (one, other) = tokio::join!(post(&client, &url, LONG), post(&client, &url, LONG));
    assert_eq!([one.outcome, other.outcome], [CallOutcome::Answered(200); 2]);
    // Two connections are kept, and both have died.
    assert_eq!(post(&client, &url, LONG).await.outcome, CallOutcome::Answered(200));
}

#[tokio::test]
async fn what_replaces_a_dead_connection_is_not_replaced_again() {
    let server = Server::start([vec![answer(200, "", ""), Step::Reset], vec![Step::Reset]]).await;
    let client = build().unwrap();
    assert_eq!(post(&client, &server.url(), LONG).await.outcome, CallOutcome::Answered(200));
    assert_eq!(post(&client, &server.url(), LONG).await.outcome, CallOutcome::Unreachable);
    assert_eq!((server.connections(), server.requests().len()), (2, 3));
}

#[tokio::test]
async fn a_new_connection_that_is_reset_is_not_replaced() {
    for death in [Step::Reset, Step::Close] {
        let (answer, server) = answer_of(death.clone()).await;
        assert_eq!(answer.outcome, CallOutcome::Unreachable, "{death:?}");
        assert_eq!((server.connections(), server.requests().len()), (1, 1), "{death:?}");
    }
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_not_asked_again() {
    let server = Server::start([vec![Step::Silence]]).await;
    let began = Instant::now();
    let silent = post(&build().unwrap(), &server.url(), SHORT).await;
    assert_eq!(silent.outcome, CallOutcome::TimedOut);
    assert!(began.elapsed() >= SHORT);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn who_does_not_answer_in_time_on_a_kept_connection_is_not_asked_again() {
    let server = Server::start([vec![answer(200, "", ""), Step::Silence]]).await;
    let client = build().unwrap();
    assert_eq!(post(&client, &server.url(), LONG).await.outcome, CallOutcome::Answered(200));
    assert_eq!(post(&client, &server.url(), SHORT).await.outcome, CallOutcome::TimedOut);
    assert_eq!((server.connections(), server.requests().len()), (1, 2));
}

#[tokio::test]
async fn a_port_without_a_server_is_unreachable() {
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", taken.local_addr().unwrap());
    assert_eq!(post(&build().unwrap(), &url, LONG).await.outcome, CallOutcome::Unreachable);
}

#[tokio::test]
async fn retry_after_is_read_in_seconds_and_as_a_date_up_to_an_hour() {
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
            let (answer, _) = answer_of(answer(status, &format!("Retry-After: {value}\r\n"), "")).await;
            assert_eq!(answer.retry_after, seconds.map(Duration::from_secs), "{value}");
        }
    }
}

#[tokio::test]
async fn of_a_body_at_most_64_kib_are_read() {
    for (sent, read) in [(0, 0), (65_535, 65_535), (65_536, 65_536), (65_537, 65_536), (5_000_000, 65_536)] {
        let (answer, _) = answer_of(answer(200, "", &"x".repeat(sent))).await;
        assert_eq!((answer.outcome, answer.body.len()), (CallOutcome::Answered(200), read));
    }
}

#[tokio::test]
async fn a_status_is_an_answer_whatever_becomes_of_the_body() {
    for status in [200, 500] {
        let (answer, server) = answer_of(Step::AnswerThenClose(half(status))).await;
        assert_eq!(answer.outcome, CallOutcome::Answered(status));
        assert_eq!(server.requests().len(), 1);
    }
    let server = Server::start([vec![Step::AnswerThenSilence(half(200))]]).await;
    let answer = post(&build().unwrap(), &server.url(), SHORT).await;
    assert_eq!((answer.outcome, server.requests().len()), (CallOutcome::Answered(200), 1));
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_no_answer() {
    let (answer, server) = answer_of(Step::AnswerThenClose("SMTP ready\r\n\r\n".to_owned())).await;
    assert_eq!(answer.outcome, CallOutcome::Unreachable);
    assert_eq!(server.requests().len(), 1);
}
