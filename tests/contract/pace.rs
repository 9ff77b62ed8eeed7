//! Loops' ten calls a second: kept to, also where somebody else takes part in them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use relay_simulator::{Loops, LoopsOptions};
use relay_testkit::eventually_within;
use relay_testkit::http::{self, try_send_with};
use relay_testkit::relay_process::RELAY_TOKEN;
use serde_json::json;
use tokio::net::TcpListener;

use crate::Relay;

/// What the settings' rate is where they name none.
const RATE: u32 = 8;

async fn loops() -> Loops {
    Loops::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), LoopsOptions::default()).await.unwrap()
}

async fn relay_to(loops: &Loops) -> Relay {
    let api = loops.api_url();
    Relay::start(&[("LOOPS_API_URL", &api), ("LOOPS_API_KEY", "simulated"), ("CLAY_WEBHOOK_URL", "")]).await
}

/// Sends rows as Clay does, a hundred a second, and waits for their answers: how many had each status.
async fn burst(relay: &Relay, rows: usize) -> (usize, usize) {
    let client = relay::destination::http_client::build().unwrap();
    let (url, authorization) = (format!("{}/api/v1/contacts/update", relay.base()), format!("Bearer {RELAY_TOKEN}"));
    let mut sent = Vec::new();
    for number in 0..rows {
        let (url, client, authorization) = (url.clone(), client.clone(), authorization.clone());
        sent.push(tokio::spawn(async move {
            let row = json!({"email": format!("n{number}@example.com")}).to_string();
            let headers = [("authorization", authorization.as_str())];
            try_send_with(&client, "PUT", &url, &headers, row.into_bytes()).await.map(|answer| answer.status)
        }));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut direct, mut stored) = (0, 0);
    for row in sent {
        match row.await.unwrap() {
            Some(200) => direct += 1,
            Some(202) => stored += 1,
            other => panic!("a row was answered with {other:?}"),
        }
    }
    (direct, stored)
}

async fn all_at(loops: &Loops, contacts: usize, within: Duration) {
    eventually_within(within, "every row at Loops", async || (loops.contacts().len() == contacts).then_some(())).await;
}

/// Sends so many rows, checks what a burst must keep to, and tells how long it took, as a part of what it ideally takes.
async fn a_burst_of(rows: usize) -> f64 {
    let loops = loops().await;
    let relay = relay_to(&loops).await;
    let began = Instant::now();
    let (direct, stored) = burst(&relay, rows).await;
    let ideal = Duration::from_secs(1) * u32::try_from(rows).unwrap() / RATE;
    all_at(&loops, rows, ideal * 3).await;
    let took = began.elapsed();
    println!(
        "{rows} rows: {direct} answered 200, {stored} answered 202; all at Loops after {took:.1?}, ideally {ideal:.1?}"
    );
    assert_eq!(loops.refused(), Vec::<u16>::new(), "Loops had to refuse something");
    assert_eq!(loops.calls().iter().filter(|call| call.path.ends_with("/update")).count(), rows, "a row came twice");
    took.as_secs_f64() / ideal.as_secs_f64()
}

#[tokio::test]
async fn a_burst_of_two_hundred_rows_is_answered_200_or_202_and_reaches_loops_without_a_429() {
    a_burst_of(200).await;
}

#[tokio::test]
#[ignore = "it takes two minutes and wants a machine for itself: `make load-test`"]
async fn a_burst_of_a_thousand_rows_is_taken_and_is_at_loops_as_soon_as_the_pace_allows() {
    let took = a_burst_of(1000).await;
    assert!(took <= 1.1, "it took {took} times as long as the pace allows");
}

#[tokio::test]
async fn where_another_client_takes_six_of_the_ten_a_second_a_backlog_drains_with_hardly_a_429() {
    const ROWS: usize = 60;
    let loops = loops().await;
    let relay = relay_to(&loops).await;
    let refused_to_others = Arc::new(AtomicUsize::new(0));
    let others = {
        let (url, refused) = (format!("{}/v1/api-key", loops.api_url()), Arc::clone(&refused_to_others));
        tokio::spawn(async move {
            let mut turn = tokio::time::interval(Duration::from_secs(1) / 6);
            loop {
                turn.tick().await;
                if http::send("GET", &url, &[("authorization", "Bearer simulated")], "").await.status == 429 {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    let began = Instant::now();
    burst(&relay, ROWS).await;
    all_at(&loops, ROWS, Duration::from_secs(90)).await;
    others.abort();
    let all = loops.refused().iter().filter(|status| **status == 429).count();
    let to_others = refused_to_others.load(Ordering::Relaxed);
    println!(
        "{ROWS} rows beside another client took {:.1?}; 429 for {} of the relay's calls and {to_others} of the other's",
        began.elapsed(),
        all - to_others
    );
    // Who leaves no room has four of fourteen refused, seventeen of these rows.
    assert!(all - to_others <= ROWS / 6, "{} of the relay's calls were answered with 429", all - to_others);
}
