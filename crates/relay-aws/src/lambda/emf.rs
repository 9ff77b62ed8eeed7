//! A signal as one line of JSON: the line of the log, and in it what CloudWatch counts (CloudWatch user guide, "Embedded metric
//! format specification").
//!
//! A metric's value and the value of its dimension stand in the line under their own names, as fields of it. `_aws` says which
//! of the fields are metrics.

use relay::telemetry::event::{DeliveryEvent, Value};
use relay::telemetry::metric::{self, Metric};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer as _};

/// What the fields of a line are to CloudWatch.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct EmfDocument<'a> {
    timestamp: u64,
    cloud_watch_metrics: Vec<Directive<'a>>,
}

/// Metrics with one dimension in common.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive<'a> {
    namespace: &'a str,
    dimensions: [[&'static str; 1]; 1],
    metrics: Vec<Definition>,
}

/// A metric of a line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    name: &'static str,
    unit: &'static str,
}

/// How signals are written.
#[derive(Debug)]
pub struct EmfOptions<'a> {
    /// Where CloudWatch keeps the metrics; nothing is counted without it.
    pub namespace: Option<&'a str>,
    /// Whether the line is to be heard. What is counted does not depend on it.
    pub heard: bool,
    /// The time, in Unix milliseconds.
    pub timestamp: u64,
}

/// The line of a signal; empty where there is nothing to tell.
#[must_use]
pub fn render(signal: &DeliveryEvent<'_>, contact: Option<&str>, form: &EmfOptions<'_>) -> Vec<u8> {
    let metrics = if form.namespace.is_some() { metric::metrics_of(signal) } else { Vec::new() };
    let mut line = Vec::new();
    if (form.heard || !metrics.is_empty()) && write(signal, contact, form, &metrics, &mut line).is_ok() {
        line.push(b'\n');
    }
    line
}

fn write(
    signal: &DeliveryEvent<'_>,
    contact: Option<&str>,
    form: &EmfOptions<'_>,
    metrics: &[Metric<'_>],
    line: &mut Vec<u8>,
) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::new(line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("level", signal.level().as_str())?;
    let mut dimensions = vec![];
    if form.heard {
        map.serialize_entry("message", signal.message())?;
        for (name, value) in signal.fields(contact) {
            match value {
                Value::Text(text) => map.serialize_entry(name, text)?,
                Value::Number(number) => map.serialize_entry(name, &number)?,
            }
        }
        dimensions.push(metric::DIRECTION);
    }
    for Metric { name, value, by: (dimension, of), .. } in metrics {
        if !dimensions.contains(dimension) {
            dimensions.push(dimension);
            map.serialize_entry(dimension, of)?;
        }
        map.serialize_entry(name, value)?;
    }
    if let Some(namespace) = form.namespace.filter(|_| !metrics.is_empty()) {
        let cloud_watch_metrics = directives(namespace, metrics);
        map.serialize_entry("_aws", &EmfDocument { timestamp: form.timestamp, cloud_watch_metrics })?;
    }
    map.end()
}

fn directives<'a>(namespace: &'a str, metrics: &[Metric<'_>]) -> Vec<Directive<'a>> {
    let mut directives: Vec<Directive<'a>> = Vec::new();
    for Metric { name, unit, by: (dimension, _), .. } in metrics {
        let definition = Definition { name, unit: unit.as_str() };
        match directives.iter_mut().find(|known| known.dimensions == [[*dimension]]) {
            Some(directive) => directive.metrics.push(definition),
            None => directives.push(Directive { namespace, dimensions: [[dimension]], metrics: vec![definition] }),
        }
    }
    directives
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use relay::telemetry::event::{CallStats, EventOutcome, PoolUsageSample, Stage};
    use relay_core::delivery::Direction;
    use serde_json::{Value as Json, json};

    use super::*;

    fn delivered() -> DeliveryEvent<'static> {
        let pool = PoolUsageSample { webhook: "ab".to_owned(), submissions: 7, used_percent: 1 };
        let tally = CallStats { calls: 1, far_end: Some(Duration::from_millis(5)), duplicate: false, pool: Some(pool) };
        let signal = DeliveryEvent::new(Direction::LoopsToClay, Stage::Worker, EventOutcome::Delivered, "clay_1");
        DeliveryEvent { webhook_id: Some("msg_1"), attempts: 1, duration: Duration::from_millis(6), tally, ..signal }
    }

    fn told(namespace: Option<&str>, heard: bool) -> Json {
        let line = render(&delivered(), Some("0123456789abcdef"), &EmfOptions { namespace, heard, timestamp: 1 });
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn one_line_tells_a_person_and_is_counted() {
        let metrics = |dimension: &str, metrics: &[(&str, &str)]| {
            let metrics: Vec<Json> = metrics.iter().map(|(name, unit)| json!({"Name": name, "Unit": unit})).collect();
            json!({"Namespace": "stack", "Dimensions": [[dimension]], "Metrics": metrics})
        };
        let by_direction = [("delivered", "Count"), ("far_end_ms", "Milliseconds"), ("pool_used", "Percent")];
        let expected = json!({
            "level": "INFO", "message": "delivered", "direction": "loops-to-clay", "outcome": "delivered",
            "delivery.id": "clay_1", "webhook.id": "msg_1", "contact": "0123456789abcdef", "attempts": 1, "ms": 6,
            "delivered": 1, "far_end_ms": 5, "pool_used": 1, "webhook": "ab", "submissions": 7,
            "_aws": {"Timestamp": 1, "CloudWatchMetrics": [
                metrics("direction", &by_direction), metrics("webhook", &[("submissions", "Count")])
            ]},
        });
        assert_eq!(told(Some("stack"), true), expected);
    }

    #[test]
    fn a_line_that_is_not_to_be_heard_is_counted_all_the_same() {
        let quiet = told(Some("stack"), false);
        assert_eq!((quiet["delivered"].as_u64(), quiet["direction"].as_str()), (Some(1), Some("loops-to-clay")));
        assert!(quiet.get("delivery.id").is_none() && quiet.get("contact").is_none(), "{quiet}");
    }

    #[test]
    fn without_a_namespace_nothing_is_counted() {
        assert!(told(None, true).get("_aws").is_none());
        assert!(render(&delivered(), None, &EmfOptions { namespace: None, heard: false, timestamp: 1 }).is_empty());
    }
}
