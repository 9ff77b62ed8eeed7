//! A pool of Clay webhooks, each of which accepts a limited number of rows in its life.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use relay_simulator::{Clay, ClayOptions};
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually_within;
use serde_json::Value;
use tokio::net::TcpListener;

use super::responses::clay::{clay_settings, post_contact_created};
use crate::Relay;

#[tokio::test]
async fn capped_pool_of_three_takes_each_event_exactly_once() {
    const EVENTS: usize = 140;
    let options = ClayOptions { cap: 50, per_second: 10_000, burst: 10_000, ..ClayOptions::default() };
    let workspace = Clay::start(TcpListener::bind("127.0.0.1:0").await.unwrap(), options).await.unwrap();
    let pool = ["first", "second", "third"].map(|name| workspace.webhook_url(name)).join(",");
    let relay = Relay::start(&clay_settings(&pool)).await;
    for number in 0..EVENTS {
        post_contact_created(&relay, &format!("n{number}")).await;
    }
    eventually_within(Duration::from_secs(60), "every event delivered", async || {
        let deliveries = relay.deliveries().await;
        let delivered = deliveries.iter().filter(|delivery| delivery["state"] == "delivered").count();
        (delivered == EVENTS).then_some(())
    })
    .await;

    let rows = workspace.rows();
    let mut rows_per_webhook = BTreeMap::<&str, usize>::new();
    rows.iter().for_each(|row| *rows_per_webhook.entry(row.webhook.as_str()).or_default() += 1);
    assert_eq!(rows_per_webhook, BTreeMap::from([("first", 50), ("second", 50), ("third", 40)]));
    let email_of = |body: &[u8]| {
        let row: Value = serde_json::from_slice(body).unwrap();
        row["contactIdentity"]["email"].as_str().unwrap_or_default().to_owned()
    };
    let arrived: BTreeSet<String> = rows.iter().map(|row| email_of(&row.body)).collect();
    let sent: BTreeSet<String> = (0..EVENTS).map(|number| format!("n{number}@example.com")).collect();
    assert_eq!((&arrived, rows.len()), (&sent, EVENTS), "something was lost or came twice");
}
