//! No destination is called too often, and a burst is accepted all the same.

use std::time::{Duration, Instant};

use relay_testkit::http::{send, try_send_with};
use relay_testkit::relay_process::{RELAY_TOKEN, Relay};
use relay_testkit::{eventually_within, webhook};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_webhooks_are_stored_and_reach_clay_at_its_rate() {
    let relay = Relay::start(&[("RUST_LOG", "warn")]).await;
    let client = relay::destination::http_client::build().unwrap();
    let started_at = Instant::now();
    let posts: Vec<_> = (0..1000)
        .map(|number| {
            let (url, client) = (format!("{}/webhooks/loops", relay.base()), client.clone());
            tokio::spawn(async move {
                let body = webhook::contact_created(&format!("n{number}@example.com"));
                let headers = webhook::headers(&format!("msg_{number}"), webhook::now(), &body);
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                // Loops sends a webhook again that got no answer, where its connection gave way to others.
                for _ in 0..5 {
                    if let Some(response) = try_send_with(&client, "POST", &url, &headers, body.clone()).await {
                        return Some(response.status);
                    }
                }
                None
            })
        })
        .collect();
    for post in posts {
        assert_eq!(post.await.unwrap(), Some(200));
    }
    println!("1,000 webhooks were stored in {:?}", started_at.elapsed());

    let clay = relay.simulator_url("Clay");
    let rows = eventually_within(Duration::from_secs(240), "a thousand rows at Clay", async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let rows = send("GET", &format!("{clay}/rows"), &[], "").await.json();
        rows.as_array().filter(|rows| rows.len() >= 1000).cloned()
    })
    .await;
    println!("they reached Clay in {:?}", started_at.elapsed());
    assert_eq!(rows.len(), 1000);
    assert!(!relay.log().contains("\"status\":429"), "Clay answered 429: {}", relay.log());
    // Clay's limit, over any ten seconds: calls that a busy machine held up come together, after their turn.
    let arrival_times: Vec<f64> = rows.iter().map(seconds_of_day).collect();
    for (index, start) in arrival_times.iter().enumerate() {
        let count = arrival_times.iter().skip(index).take_while(|time| **time < start + 10.0).count();
        assert!(count <= 100, "{count} rows within ten seconds");
    }
}

fn seconds_of_day(row: &Value) -> f64 {
    let text = row["receivedAt"].as_str().unwrap();
    let (_, time) = text.trim_end_matches('Z').split_once('T').unwrap();
    let mut parts = time.split(':').map(|part| part.parse::<f64>().unwrap());
    let (hours, minutes, seconds) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    // A test that runs over midnight sees one jump back, which only splits the windows.
    hours * 3600.0 + minutes * 60.0 + seconds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burst_of_rows_reaches_loops_without_a_429() {
    let relay = Relay::start(&[]).await;
    let client = relay::destination::http_client::build().unwrap();
    let posts: Vec<_> = (0..60)
        .map(|number| {
            let (url, client) = (format!("{}/api/v1/contacts/update", relay.base()), client.clone());
            tokio::spawn(async move {
                let authorization = format!("Bearer {RELAY_TOKEN}");
                let row = json!({"email": format!("n{number}@example.com")}).to_string();
                let headers = [("authorization", authorization.as_str())];
                try_send_with(&client, "PUT", &url, &headers, row.into_bytes()).await.map(|response| response.status)
            })
        })
        .collect();
    for post in posts {
        let status = post.await.unwrap().unwrap();
        assert!(status == 200 || status == 202, "{status}");
    }
    let loops = relay.simulator_url("Loops");
    eventually_within(Duration::from_secs(60), "sixty contacts at Loops", async || {
        let contacts = send("GET", &format!("{loops}/contacts"), &[], "").await.json();
        contacts.as_array().filter(|contacts| contacts.len() == 60).map(|_| ())
    })
    .await;
    assert!(!relay.log().contains("destination_throttled"), "Loops answered 429: {}", relay.log());
}
