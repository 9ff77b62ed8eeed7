//! The rate limit of Loops, ten calls a second: kept, even if other clients use the same account.

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
const RATE_PER_SECOND: u32 = 8;

async fn start_simulated_loops() -> Loops {
    Loops::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), LoopsOptions::default()).await.unwrap()
}

async fn start_relay(loops: &Loops) -> Relay {
    let api = loops.api_url();
    Relay::start(&[("LOOPS_API_URL", &api), ("LOOPS_API_KEY", "simulated"), ("CLAY_WEBHOOK_URL", "")]).await
}

/// Sends rows as Clay does, a hundred a second, and counts the responses by status.
async fn burst(relay: &Relay, rows: usize) -> (usize, usize) {
    let client = relay::destination::http_client::build().unwrap();
    let (url, authorization) = (format!("{}/api/v1/contacts/update", relay.base()), format!("Bearer {RELAY_TOKEN}"));
    let mut requests = Vec::new();
    for number in 0..rows {
        let (url, client, authorization) = (url.clone(), client.clone(), authorization.clone());
        requests.push(tokio::spawn(async move {
            let row = json!({"email": format!("n{number}@example.com")}).to_string();
            let headers = [("authorization", authorization.as_str())];
            try_send_with(&client, "PUT", &url, &headers, row.into_bytes()).await.map(|response| response.status)
        }));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut delivered, mut queued) = (0, 0);
    for row in requests {
        match row.await.unwrap() {
            Some(200) => delivered += 1,
            Some(202) => queued += 1,
            other => panic!("a row was answered with {other:?}"),
        }
    }
    (delivered, queued)
}

async fn wait_for_contacts(loops: &Loops, contacts: usize, timeout: Duration) {
    eventually_within(timeout, "every row at Loops", async || (loops.contacts().len() == contacts).then_some(())).await;
}

/// Sends a burst of rows, checks the rules for bursts, and returns the duration relative to the ideal one.
async fn run_burst(rows: usize) -> f64 {
    let loops = start_simulated_loops().await;
    let relay = start_relay(&loops).await;
    let started_at = Instant::now();
    let (delivered, queued) = burst(&relay, rows).await;
    let ideal = Duration::from_secs(1) * u32::try_from(rows).unwrap() / RATE_PER_SECOND;
    wait_for_contacts(&loops, rows, ideal * 3).await;
    let elapsed = started_at.elapsed();
    println!(
        "{rows} rows: {delivered} answered 200, {queued} answered 202; all at Loops after {elapsed:.1?}, ideally {ideal:.1?}"
    );
    assert_eq!(loops.rejected_statuses(), Vec::<u16>::new(), "Loops had to refuse something");
    assert_eq!(loops.calls().iter().filter(|call| call.path.ends_with("/update")).count(), rows, "a row came twice");
    elapsed.as_secs_f64() / ideal.as_secs_f64()
}

#[tokio::test]
async fn burst_of_200_rows_reaches_loops_without_a_429() {
    run_burst(200).await;
}

#[tokio::test]
#[ignore = "it takes two minutes and wants a machine for itself: `make load-test`"]
async fn burst_of_1000_rows_reaches_loops_at_the_rate_limit() {
    let time_ratio = run_burst(1000).await;
    assert!(time_ratio <= 1.1, "it took {time_ratio} times as long as the pace allows");
}

#[tokio::test]
async fn backlog_drains_with_few_429_beside_another_client() {
    const ROWS: usize = 60;
    let loops = start_simulated_loops().await;
    let relay = start_relay(&loops).await;
    let throttled_other_calls = Arc::new(AtomicUsize::new(0));
    let other_client = {
        let (url, throttled) = (format!("{}/v1/api-key", loops.api_url()), Arc::clone(&throttled_other_calls));
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(Duration::from_secs(1) / 6);
            loop {
                interval.tick().await;
                if http::send("GET", &url, &[("authorization", "Bearer simulated")], "").await.status == 429 {
                    throttled.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    let started_at = Instant::now();
    burst(&relay, ROWS).await;
    wait_for_contacts(&loops, ROWS, Duration::from_secs(90)).await;
    other_client.abort();
    let throttled_calls = loops.rejected_statuses().iter().filter(|status| **status == 429).count();
    let other_throttled = throttled_other_calls.load(Ordering::Relaxed);
    println!(
        "{ROWS} rows beside another client took {:.1?}; 429 for {} of the relay's calls and {other_throttled} of the other's",
        started_at.elapsed(),
        throttled_calls - other_throttled
    );
    // Without remaining quota, four of fourteen calls were rejected: seventeen of these rows.
    assert!(
        throttled_calls - other_throttled <= ROWS / 6,
        "{} of the relay's calls were answered with 429",
        throttled_calls - other_throttled
    );
}
