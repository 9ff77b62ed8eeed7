//! Killed at any moment: nothing that was acknowledged is lost, nothing that is known as delivered goes out again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::http::{send, try_send, try_send_with};
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::{RELAY_TOKEN, Relay};
use relay_testkit::{eventually, webhook};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

const WEBHOOKS: usize = 500;

/// How often each contact's row arrived at the far end.
fn arrivals(clay: &MockDestination) -> BTreeMap<String, usize> {
    let mut arrivals = BTreeMap::new();
    for got in clay.received() {
        let row: Value = serde_json::from_slice(&got.body).unwrap();
        *arrivals.entry(row["contactIdentity"]["email"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    arrivals
}

/// Posts the webhooks, thirty at a time, and kills the relay when so many of them are answered; gives those that were.
async fn post_and_kill(
    relay: Relay,
    clay: &MockDestination,
    kill_after: usize,
) -> (relay_testkit::relay_process::DataFolder, BTreeSet<String>) {
    let answered = Arc::new(AtomicUsize::new(0));
    let client = relay::destination::http_client::build().unwrap();
    let senders = Arc::new(Semaphore::new(30));
    let posts: Vec<_> = (0..WEBHOOKS)
        .map(|number| {
            let url = format!("{}/webhooks/loops", relay.base());
            let (client, answered, senders) = (client.clone(), Arc::clone(&answered), Arc::clone(&senders));
            tokio::spawn(async move {
                let _sender = senders.acquire_owned().await.ok()?;
                let email = format!("n{number}@example.com");
                let body = webhook::contact_created(&email);
                let headers = webhook::headers(&format!("msg_{number}"), webhook::now(), &body);
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let answer = try_send_with(&client, "POST", &url, &headers, body).await?;
                assert_eq!(answer.status, 200, "{}", answer.text());
                answered.fetch_add(1, Ordering::SeqCst);
                Some(email)
            })
        })
        .collect();
    // Eight are under way at once, so one of nine that arrived is on record.
    let enough = || answered.load(Ordering::SeqCst) >= kill_after && clay.received().len() > 8;
    eventually("enough answers and rows", async || enough().then_some(())).await;
    let folder = relay.kill().await;
    let mut acknowledged = BTreeSet::new();
    for post in posts {
        acknowledged.extend(post.await.unwrap());
    }
    (folder, acknowledged)
}

/// The addresses whose rows the store of a killed relay knows as delivered.
fn known_as_delivered(folder: &std::path::Path) -> BTreeSet<String> {
    let connection = rusqlite::Connection::open(folder.join("relay.db")).unwrap();
    let mut ids = connection.prepare("SELECT webhook_id FROM deliveries WHERE state = 'delivered'").unwrap();
    let ids = ids.query_map([], |row| row.get::<_, String>(0)).unwrap();
    ids.map(|id| format!("n{}@example.com", id.unwrap().trim_start_matches("msg_"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_with_500_webhooks_in_flight_every_acknowledged_one_arrives_and_no_delivered_one_again() {
    let clay = MockDestination::start(Reply::status(200)).await;
    let url = clay.url("/v3/sources/webhook/contacts");
    let settings = [("CLAY_WEBHOOK_URL", url.as_str()), ("CLAY_RATE_PER_SECOND", "200")];
    let kill_after = rand::random_range(50..WEBHOOKS - 50);
    println!("killed after {kill_after} answers");
    let (folder, acknowledged) = post_and_kill(Relay::start(&settings).await, &clay, kill_after).await;
    let delivered = known_as_delivered(folder.path());
    assert!(acknowledged.len() >= kill_after && !delivered.is_empty());

    let relay = Relay::start_in(folder, &settings).await;
    eventually("every acknowledged webhook at Clay", async || {
        let arrived = arrivals(&clay);
        acknowledged.iter().all(|email| arrived.contains_key(email)).then_some(())
    })
    .await;
    eventually("an empty queue", async || {
        relay.deliveries().await.iter().all(|delivery| delivery["state"] == "delivered").then_some(())
    })
    .await;
    let arrived = arrivals(&clay);
    for email in &delivered {
        assert_eq!(arrived.get(email), Some(&1), "{email} was known as delivered");
    }
    // What was sent and not yet recorded when the power went is sent again; nobody can know of it.
    let doubled = arrived.values().filter(|count| **count > 1).count();
    assert!(doubled <= 8, "{doubled} doubled, and only 8 are under way at once");
}

#[tokio::test]
async fn rows_that_were_answered_202_arrive_after_a_kill_in_their_order() {
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
        let bodies: Vec<Value> =
            loops.received().iter().skip(before).map(|got| serde_json::from_slice(&got.body).unwrap()).collect();
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
async fn a_caller_who_hangs_up_leaves_nothing_half_done() {
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
async fn a_stop_brings_what_is_under_way_to_its_end() {
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
    eventually("all ten rows", async || (arrivals(&clay).len() == 10).then_some(())).await;
    eventually("an empty queue", async || {
        relay.deliveries().await.iter().all(|delivery| delivery["state"] == "delivered").then_some(())
    })
    .await;
    assert!(arrivals(&clay).values().all(|count| *count == 1));
}
