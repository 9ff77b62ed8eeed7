//! What a monitor asks of the relay on one machine: its metrics, and whether it is well.

use std::collections::BTreeMap;

use prometheus_parse::{Scrape, Value};
use relay_core::error::ErrorCode;
use relay_testkit::eventually;
use relay_testkit::http::send;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::Relay;
use relay_testkit::row::{self, Route, contact};
use relay_testkit::webhook::{contact_created, post};

use crate::contract::rows::{loops, relay_to, row_of};
use crate::contract::signals::{HIDDEN, after_everything};

/// What `/metrics` says: every sample, by name and labels.
async fn samples(relay: &Relay) -> BTreeMap<String, f64> {
    let answer = send("GET", &format!("{}/metrics", relay.base()), &[], "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers["content-type"].starts_with("application/openmetrics-text; version=1.0.0"));
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let scraped = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    // A line that cannot be read is left out by the parser, and not by this.
    let told = text.lines().filter(|line| !line.starts_with('#')).count();
    let (mut samples, mut read) = (BTreeMap::new(), 0);
    for sample in scraped.samples {
        let labels: BTreeMap<&String, &String> = sample.labels.iter().collect();
        let labels: Vec<String> = labels.into_iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let name = format!("{}{{{}}}", sample.metric, labels.join(","));
        match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => {
                samples.insert(name, value);
                read += 1;
            }
            Value::Histogram(buckets) => read += buckets.len(),
            Value::Summary(_) => panic!("{name} is none of the relay's"),
        }
    }
    assert_eq!(read, told, "{text}");
    samples
}

#[tokio::test]
async fn metrics_count_what_was_sent() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for number in 0..3 {
        assert_eq!(contact(relay.base(), row_of(&format!("n{number}@example.com"))).await.status, 200);
    }
    row::send_without_token(relay.base(), Route::Contact, "", &[], row_of("ada@example.com")).await;
    assert_eq!(contact(relay.base(), "{}").await.status, 400);
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let samples = eventually("a row at Clay", async || {
        Some(samples(&relay).await).filter(|all| all[r#"relay_delivered_total{direction="loops-to-clay"}"#] > 0.0)
    })
    .await;
    for (sample, value) in [
        (r#"relay_accepted_total{direction="clay-to-loops"}"#, 3.0),
        (r#"relay_delivered_total{direction="clay-to-loops"}"#, 3.0),
        (r#"relay_refused_total{cause="token",code="invalid_token"}"#, 1.0),
        (r#"relay_refused_total{cause="request",code="missing_field"}"#, 1.0),
        (r#"relay_accepted_total{direction="loops-to-clay"}"#, 1.0),
        (r#"relay_delivered_total{direction="loops-to-clay"}"#, 1.0),
        (r#"relay_destination_seconds_count{direction="clay-to-loops"}"#, 3.0),
        (r#"relay_delivery_age_seconds_count{direction="loops-to-clay"}"#, 1.0),
        (r#"relay_clay_pool_used{direction="loops-to-clay"}"#, 0.0),
    ] {
        assert_eq!(samples.get(sample), Some(&value), "{sample}: {samples:#?}");
    }
    let submissions = samples.iter().find(|(name, _)| name.starts_with("relay_clay_webhook_submissions{"));
    assert_eq!(submissions.map(|(_, value)| *value), Some(1.0));
}

#[tokio::test]
async fn metrics_have_every_series_before_anything_happens() {
    let relay = Relay::start(&[]).await;
    let samples = samples(&relay).await;
    let counted = samples.iter().filter(|(name, _)| name.contains("_total{"));
    assert!(counted.clone().all(|(_, value)| *value == 0.0), "{samples:#?}");
    assert_eq!(counted.count(), 6 * 2 + 1 + ErrorCode::ALL.len());
    for name in ["accepted", "delivered", "duplicate", "retried", "dead", "held"] {
        for direction in ["loops-to-clay", "clay-to-loops"] {
            let name = format!("relay_{name}_total{{direction=\"{direction}\"}}");
            assert!(samples.contains_key(&name), "{name}: {samples:#?}");
        }
    }
    for name in [
        r#"relay_loops_key_refused_total{direction="clay-to-loops"}"#,
        r#"relay_refused_total{cause="signature",code="invalid_signature"}"#,
        r#"relay_destination_seconds_count{direction="loops-to-clay"}"#,
        r#"relay_delivery_age_seconds_count{direction="clay-to-loops"}"#,
    ] {
        assert_eq!(samples.get(name), Some(&0.0), "{name}: {samples:#?}");
    }
}

#[tokio::test]
async fn what_happens_makes_no_series_that_was_not_there() {
    let before = samples(&Relay::start(&[]).await).await;
    let after = samples(&after_everything("info").await).await;
    let new: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert!(new.iter().all(|name| name.starts_with("relay_clay_")), "{new:?}");
}

#[tokio::test]
async fn metrics_tell_how_much_waits_and_for_how_long() {
    let loops = MockDestination::start(Reply::status(503).with_header("Retry-After", "3600")).await;
    let relay = relay_to(&loops, &[]).await;
    assert_eq!(contact(relay.base(), row_of("ada@example.com")).await.status, 202);
    let waiting = r#"relay_queue_waiting{direction="clay-to-loops"}"#;
    let oldest = r#"relay_queue_oldest_seconds{direction="clay-to-loops"}"#;
    let first = samples(&relay).await;
    assert_eq!((first[waiting], first[r#"relay_queue_waiting{direction="loops-to-clay"}"#]), (1.0, 0.0));
    eventually("a queue that grows older", async || (samples(&relay).await[oldest] > first[oldest]).then_some(()))
        .await;
}

#[tokio::test]
async fn metrics_tell_nothing_of_anybody() {
    let relay = after_everything("info").await;
    let answer = send("GET", &format!("{}/metrics", relay.base()), &[], "").await;
    let text = answer.text().to_lowercase();
    assert!(text.contains(r#"code="loops_key_rejected""#) && text.contains("relay_held_total"), "{text}");
    for (what, value) in HIDDEN {
        assert!(!text.contains(&value.to_lowercase()), "{what} in {text}");
    }
}

#[tokio::test]
async fn a_relay_is_well_until_its_store_is_gone() {
    let relay = Relay::start(&[]).await;
    let health = async || send("GET", &format!("{}/healthz", relay.base()), &[], "").await;
    let well = health().await;
    assert_eq!((well.status, well.text().as_str()), (200, r#"{"success":true}"#));
    let store = relay_sqlite::store::open_existing(relay.folder()).unwrap().unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(health().await.status, 503, "another program has it");
    store.execute_batch("ROLLBACK").unwrap();
    assert_eq!(health().await.status, 200);
    drop(store);
    for file in ["relay.db", "relay.db-wal", "relay.db-shm"] {
        let _ = std::fs::remove_file(relay.folder().join(file));
    }
    let gone = health().await;
    assert_eq!((gone.status, gone.json()["success"].as_bool()), (503, Some(false)));
}
