//! A relay that is killed at any moment loses no acknowledged delivery, and repeats none that is recorded as delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::http::{send, try_send, try_send_with};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::{RELAY_TOKEN, Relay, TempDataDir};
use relay_testkit::{eventually, webhook};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

const WEBHOOK_COUNT: usize = 500;

/// Counts each contact's rows at the destination.
fn row_counts_by_email(clay: &MockDestination) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in clay.received() {
        let row: Value = serde_json::from_slice(&request.body).unwrap();
        *counts.entry(row["contactIdentity"]["email"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

/// Posts the webhooks, thirty at a time, and kills the relay when that many are acknowledged; returns the acknowledged
/// ones.
async fn post_and_kill(relay: Relay, clay: &MockDestination, kill_after: usize) -> (TempDataDir, BTreeSet<String>) {
    let acknowledged_count = Arc::new(AtomicUsize::new(0));
    let client = relay::destination::http_client::build().unwrap();
    let senders = Arc::new(Semaphore::new(30));
    let posts: Vec<_> = (0..WEBHOOK_COUNT)
        .map(|number| {
            let url = format!("{}/webhooks/loops", relay.base());
            let (client, acknowledged_count, senders) =
                (client.clone(), Arc::clone(&acknowledged_count), Arc::clone(&senders));
            tokio::spawn(async move {
                let _sender = senders.acquire_owned().await.ok()?;
                let email = format!("n{number}@example.com");
                let body = webhook::contact_created(&email);
                let headers = webhook::headers(&format!("msg_{number}"), webhook::now(), &body);
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let response = try_send_with(&client, "POST", &url, &headers, body).await?;
                assert_eq!(response.status, 200, "{}", response.text());
                acknowledged_count.fetch_add(1, Ordering::SeqCst);
                Some(email)
            })
        })
        .collect();
    // Eight are in flight at once, so one of nine that arrived is recorded.
    let has_enough = || acknowledged_count.load(Ordering::SeqCst) >= kill_after && clay.received().len() > 8;
    eventually("enough answers and rows", async || has_enough().then_some(())).await;
    let folder = relay.kill().await;
    let mut acknowledged = BTreeSet::new();
    for post in posts {
        acknowledged.extend(post.await.unwrap());
    }
    (folder, acknowledged)
}

/// Returns the addresses whose rows are recorded as delivered in a killed relay's store.
fn delivered_emails(folder: &std::path::Path) -> BTreeSet<String> {
    let connection = rusqlite::Connection::open(folder.join("relay.db")).unwrap();
    let mut ids = connection.prepare("SELECT webhook_id FROM deliveries WHERE state = 'delivered'").unwrap();
    let ids = ids.query_map([], |row| row.get::<_, String>(0)).unwrap();
    ids.map(|id| format!("n{}@example.com", id.unwrap().trim_start_matches("msg_"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_and_duplicates_no_acknowledged_webhook() {
    let clay = MockDestination::start(Reply::status(200)).await;
    let url = clay.url("/v3/sources/webhook/contacts");
    let settings = [("CLAY_WEBHOOK_URL", url.as_str()), ("CLAY_RATE_PER_SECOND", "200")];
    let kill_after = rand::random_range(50..WEBHOOK_COUNT - 50);
    println!("killed after {kill_after} answers");
    let (folder, acknowledged) = post_and_kill(Relay::start(&settings).await, &clay, kill_after).await;
    let delivered = delivered_emails(folder.path());
    assert!(acknowledged.len() >= kill_after && !delivered.is_empty());

    let relay = Relay::start_in(folder, &settings).await;
    eventually("every acknowledged webhook at Clay", async || {
        let arrived = row_counts_by_email(&clay);
        acknowledged.iter().all(|email| arrived.contains_key(email)).then_some(())
    })
    .await;
    eventually("an empty queue", async || {
        relay.deliveries().await.iter().all(|delivery| delivery["state"] == "delivered").then_some(())
    })
    .await;
    let arrived = row_counts_by_email(&clay);
    for email in &delivered {
        assert_eq!(arrived.get(email), Some(&1), "{email} was known as delivered");
    }
    // A row that was sent and not recorded at the kill is sent again: no store can avoid that.
    let duplicated = arrived.values().filter(|count| **count > 1).count();
    assert!(duplicated <= 8, "{duplicated} doubled, and only 8 are under way at once");
}

/// Posts webhooks one after another until the relay is gone; returns the ids of those that were acknowledged.
async fn post_until_killed(base: String, caller: String) -> Vec<String> {
    let client = relay::destination::http_client::build().unwrap();
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let id = format!("msg_{caller}_{number}");
        let body = webhook::contact_created(&format!("{id}@example.com"));
        let headers = webhook::headers(&id, webhook::now(), &body);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match try_send_with(&client, "POST", &format!("{base}/webhooks/loops"), &headers, body).await {
            Some(response) if response.status == 200 => acknowledged.push(id),
            _ => break,
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_kills_under_64_callers_lose_no_acknowledged_webhook() {
    let clay = MockDestination::start(Reply::status(503)).await;
    let url = clay.url("/v3/sources/webhook/contacts");
    let settings = [("CLAY_WEBHOOK_URL", url.as_str())];
    let (mut folder, mut acknowledged) = (TempDataDir::new(), BTreeSet::new());
    for kill in 0..40 {
        let relay = Relay::start_in(folder, &settings).await;
        let callers: Vec<_> = (0..64)
            .map(|caller| tokio::spawn(post_until_killed(relay.base().to_owned(), format!("{kill}_{caller}"))))
            .collect();
        // The kill has to come at any moment of a commit, so there is no condition to wait for.
        tokio::time::sleep(Duration::from_millis(rand::random_range(20..200))).await;
        folder = relay.kill().await;
        for caller in callers {
            acknowledged.extend(caller.await.unwrap());
        }
    }
    let connection = rusqlite::Connection::open(folder.path().join("relay.db")).unwrap();
    let mut ids = connection.prepare("SELECT webhook_id FROM deliveries").unwrap();
    let stored: BTreeSet<String> = ids.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    println!("{} acknowledged, {} stored", acknowledged.len(), stored.len());
    assert!(acknowledged.len() > 1000, "{}", acknowledged.len());
    assert_eq!(acknowledged.difference(&stored).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[tokio::test]
async fn queued_rows_arrive_in_order_after_a_kill() {
    let loops = MockDestination::start(Reply::status(503)).await;
    let api = loops.url("/api");
    let settings = [("LOOPS_API_URL", api.as_str()), ("LOOPS_API_KEY", "key"), ("LOOPS_RATE_PER_SECOND", "200")];
    let relay = Relay::start(&settings).await;
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("prefer", "respond-async")];
    for number in 0..20 {
        let row = json!({"email": format!("n{}@example.com", number % 4), "step": number});
        let url = format!("{}/api/v1/contacts/update", relay.base());
        assert_eq!(send("PUT", &url, &headers, row.to_string()).await.status, 202);
    }
    let folder = relay.kill().await;
    let before = loops.received().len();
    loops.set_default_reply(Reply::json(200, r#"{"success":true,"id":"c1"}"#));
    let _relay = Relay::start_in(folder, &settings).await;
    let bodies = eventually("all twenty rows at Loops", async || {
        let bodies: Vec<Value> = loops
            .received()
            .iter()
            .skip(before)
            .map(|request| serde_json::from_slice(&request.body).unwrap())
            .collect();
        (bodies.len() >= 20).then_some(bodies)
    })
    .await;
    assert_eq!(bodies.len(), 20);
    for contact in 0..4 {
        let email = format!("n{contact}@example.com");
        let steps: Vec<i64> = bodies
            .iter()
            .filter(|body| body["email"] == email.as_str())
            .map(|body| body["step"].as_i64().unwrap())
            .collect();
        assert_eq!(steps, (0..5).map(|step| step * 4 + contact).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn aborted_request_is_still_delivered() {
    let loops = MockDestination::start(Reply::Hang).await;
    let api = loops.url("/api");
    let relay = Relay::start(&[("LOOPS_API_URL", &api), ("LOOPS_API_KEY", "key")]).await;
    let url = format!("{}/api/v1/contacts/update", relay.base());
    let authorization = format!("Bearer {RELAY_TOKEN}");
    let row = br#"{"email":"ada@example.com"}"#.to_vec();
    let call = tokio::spawn(async move { try_send("PUT", &url, &[("authorization", &authorization)], row).await });
    eventually("the call at Loops", async || (!loops.received().is_empty()).then_some(())).await;
    call.abort();
    loops.set_default_reply(Reply::json(200, r#"{"success":true,"id":"c1"}"#));
    relay.wait_for_state("delivered").await;
}

#[tokio::test]
async fn graceful_stop_completes_deliveries_in_flight() {
    let clay = MockDestination::start(Reply::status(200)).await;
    let url = clay.url("/v3/sources/webhook/contacts");
    let relay = Relay::start(&[("CLAY_WEBHOOK_URL", &url)]).await;
    for number in 0..10 {
        let id = format!("msg_{number}");
        webhook::post(relay.base(), &id, &webhook::contact_created(&format!("n{number}@example.com"))).await;
    }
    let (folder, status) = relay.stop().await;
    assert!(status.success());
    let relay = Relay::start_in(folder, &[("CLAY_WEBHOOK_URL", &url)]).await;
    eventually("all ten rows", async || (row_counts_by_email(&clay).len() == 10).then_some(())).await;
    eventually("an empty queue", async || {
        relay.deliveries().await.iter().all(|delivery| delivery["state"] == "delivered").then_some(())
    })
    .await;
    assert!(row_counts_by_email(&clay).values().all(|count| *count == 1));
}

#[tokio::test]
async fn stop_is_short_while_destinations_hang_and_loses_nothing() {
    let (clay, loops) = (MockDestination::start(Reply::Hang).await, MockDestination::start(Reply::Hang).await);
    let (url, api) = (clay.url("/v3/sources/webhook/contacts"), loops.url("/api"));
    let settings = [("CLAY_WEBHOOK_URL", url.as_str()), ("LOOPS_API_URL", &api), ("LOOPS_API_KEY", "key")];
    let relay = Relay::start(&settings).await;
    let taken = webhook::post(relay.base(), "msg_1", &webhook::contact_created("ada@example.com")).await;
    assert_eq!(taken.status, 200);
    let (url, authorization) = (format!("{}/api/v1/contacts/update", relay.base()), format!("Bearer {RELAY_TOKEN}"));
    let row = br#"{"email":"bob@example.com"}"#.to_vec();
    let call = tokio::spawn(async move { try_send("PUT", &url, &[("authorization", &authorization)], row).await });
    eventually("both calls", async || (!loops.received().is_empty() && !clay.received().is_empty()).then_some(()))
        .await;
    // Docker kills after ten seconds.
    let stopped = tokio::time::timeout(Duration::from_secs(8), relay.stop()).await;
    let (folder, status) = stopped.expect("it takes too long");
    assert!(status.success());
    // Without an answer that says otherwise, the row is not the relay's.
    assert!(call.await.unwrap().is_none_or(|response| response.status == 202));
    clay.set_default_reply(Reply::status(200));
    let relay = Relay::start_in(folder, &settings).await;
    relay.wait_for_state("delivered").await;
}
