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

use crate::contract::rows::{contact_row, start_loops, start_relay};
use crate::contract::telemetry::{PRIVATE_VALUES, run_every_outcome};

/// Returns every sample of `/metrics`, by name and labels.
async fn scrape_metrics(relay: &Relay) -> BTreeMap<String, f64> {
    let response = send("GET", &format!("{}/metrics", relay.base()), &[], "").await;
    assert_eq!(response.status, 200);
    assert!(response.headers["content-type"].starts_with("application/openmetrics-text; version=1.0.0"));
    let text = response.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let scraped = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    // A line that cannot be read is left out by the parser, and not by this.
    let sample_line_count = text.lines().filter(|line| !line.starts_with('#')).count();
    let (mut samples, mut parsed_count) = (BTreeMap::new(), 0);
    for sample in scraped.samples {
        let labels: BTreeMap<&String, &String> = sample.labels.iter().collect();
        let labels: Vec<String> = labels.into_iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let name = format!("{}{{{}}}", sample.metric, labels.join(","));
        match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => {
                samples.insert(name, value);
                parsed_count += 1;
            }
            Value::Histogram(buckets) => parsed_count += buckets.len(),
            Value::Summary(_) => panic!("{name} is none of the relay's"),
        }
    }
    assert_eq!(parsed_count, sample_line_count, "{text}");
    samples
}

#[tokio::test]
async fn metrics_count_requests_and_deliveries() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    for number in 0..3 {
        assert_eq!(contact(relay.base(), contact_row(&format!("n{number}@example.com"))).await.status, 200);
    }
    row::send_without_token(relay.base(), Route::Contact, "", &[], contact_row("ada@example.com")).await;
    assert_eq!(contact(relay.base(), "{}").await.status, 400);
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let samples = eventually("a row at Clay", async || {
        Some(scrape_metrics(&relay).await)
            .filter(|all| all[r#"relay_delivered_total{direction="loops-to-clay"}"#] > 0.0)
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
async fn metrics_export_every_series_at_start() {
    let relay = Relay::start(&[]).await;
    let samples = scrape_metrics(&relay).await;
    let counters = samples.iter().filter(|(name, _)| name.contains("_total{"));
    assert!(counters.clone().all(|(_, value)| *value == 0.0), "{samples:#?}");
    assert_eq!(counters.count(), 6 * 2 + 2 + ErrorCode::ALL.len());
    for name in ["accepted", "delivered", "duplicate", "retried", "dead", "held"] {
        for direction in ["loops-to-clay", "clay-to-loops"] {
            let name = format!("relay_{name}_total{{direction=\"{direction}\"}}");
            assert!(samples.contains_key(&name), "{name}: {samples:#?}");
        }
    }
    for name in [
        r#"relay_answered_total{direction="clay-to-loops"}"#,
        r#"relay_loops_key_refused_total{direction="clay-to-loops"}"#,
        r#"relay_refused_total{cause="signature",code="invalid_signature"}"#,
        r#"relay_destination_seconds_count{direction="loops-to-clay"}"#,
        r#"relay_delivery_age_seconds_count{direction="clay-to-loops"}"#,
    ] {
        assert_eq!(samples.get(name), Some(&0.0), "{name}: {samples:#?}");
    }
}

#[tokio::test]
async fn deliveries_add_only_pool_series_to_metrics() {
    let before = scrape_metrics(&Relay::start(&[]).await).await;
    let after = scrape_metrics(&run_every_outcome("info").await).await;
    let new: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert!(new.iter().all(|name| name.starts_with("relay_clay_")), "{new:?}");
}

#[tokio::test]
async fn metrics_report_queue_length_and_oldest_age() {
    let loops = MockDestination::start(Reply::status(503).with_header("Retry-After", "3600")).await;
    let relay = start_relay(&loops, &[]).await;
    assert_eq!(contact(relay.base(), contact_row("ada@example.com")).await.status, 202);
    let waiting = r#"relay_queue_waiting{direction="clay-to-loops"}"#;
    let oldest = r#"relay_queue_oldest_seconds{direction="clay-to-loops"}"#;
    let first = scrape_metrics(&relay).await;
    assert_eq!((first[waiting], first[r#"relay_queue_waiting{direction="loops-to-clay"}"#]), (1.0, 0.0));
    eventually("a queue that grows older", async || {
        (scrape_metrics(&relay).await[oldest] > first[oldest]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn metrics_contain_no_personal_data_or_secrets() {
    let relay = run_every_outcome("info").await;
    let response = send("GET", &format!("{}/metrics", relay.base()), &[], "").await;
    let text = response.text().to_lowercase();
    assert!(text.contains(r#"code="loops_key_rejected""#) && text.contains("relay_held_total"), "{text}");
    for (label, value) in PRIVATE_VALUES {
        assert!(!text.contains(&value.to_lowercase()), "{label} in {text}");
    }
}

#[tokio::test]
async fn healthz_fails_once_the_store_is_unavailable() {
    let relay = Relay::start(&[]).await;
    let health = async || send("GET", &format!("{}/healthz", relay.base()), &[], "").await;
    let healthy = health().await;
    assert_eq!((healthy.status, healthy.text().as_str()), (200, r#"{"success":true}"#));
    let store = relay_sqlite::open_existing(relay.folder()).unwrap().unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    // A result counts for a second.
    let becomes = async |status| eventually("that", async || (health().await.status == status).then_some(())).await;
    becomes(503).await;
    store.execute_batch("ROLLBACK").unwrap();
    becomes(200).await;
    drop(store);
    for file in ["relay.db", "relay.db-wal", "relay.db-shm"] {
        let _ = std::fs::remove_file(relay.folder().join(file));
    }
    becomes(503).await;
    assert_eq!(health().await.json()["success"].as_bool(), Some(false));
}

#[tokio::test]
async fn healthz_writes_to_the_disk_once_a_second_at_most() {
    let relay = Relay::start(&[]).await;
    let written_bytes = || std::fs::metadata(relay.folder().join("relay.db-wal")).unwrap().len();
    let (before, started_at) = (written_bytes(), std::time::Instant::now());
    for _ in 0..100 {
        assert_eq!(send("GET", &format!("{}/healthz", relay.base()), &[], "").await.status, 200);
    }
    let checks = 1 + started_at.elapsed().as_secs();
    assert!(written_bytes() - before <= checks * 10_000, "{checks}");
}

#[tokio::test]
async fn repeated_refusals_are_folded_in_the_log_and_counted() {
    const REFUSALS: u32 = 200;
    let relay = Relay::start(&[]).await;
    let url = format!("{}/elsewhere", relay.base());
    for _ in 0..REFUSALS {
        assert_eq!(send("GET", &url, &[], "").await.status, 404);
    }
    eventually("every refusal in the log", async || {
        let log = relay.log();
        let folded =
            log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?["folded"].as_u64());
        let lines = log.lines().filter(|line| line.contains(r#""outcome":"refused""#)).count() as u64;
        (lines < u64::from(REFUSALS) && lines + folded.sum::<u64>() == u64::from(REFUSALS)).then_some(())
    })
    .await;
    let refused = scrape_metrics(&relay).await[r#"relay_refused_total{cause="request",code="not_found"}"#];
    assert_eq!(refused, f64::from(REFUSALS));
}
