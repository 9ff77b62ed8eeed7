//! Embedded metric format: an event as one JSON line with its log fields and metrics (CloudWatch user guide, "Embedded metric
//! format specification").
//!
//! The values of a metric and its dimension are fields of the line. `_aws` says which of the fields are metrics.

use std::collections::BTreeMap;

use relay::telemetry::event::DeliveryEvent;
use relay::telemetry::metric::{self, Metric};
use serde::ser::{SerializeMap as _, Serializer as _};
use serde_json::{Value as Json, json};

#[derive(Debug)]
pub(crate) struct EmfOptions<'a> {
    /// CloudWatch namespace. There are no metrics without it.
    pub namespace: Option<&'a str>,
    /// Whether log fields are rendered. Metrics do not depend on it.
    pub log_enabled: bool,
    /// Time in Unix milliseconds.
    pub timestamp: u64,
}

/// Renders the line of an event; empty if it has neither log fields nor metrics.
pub(crate) fn render(event: &DeliveryEvent<'_>, contact: Option<&str>, options: &EmfOptions<'_>) -> Vec<u8> {
    let metrics = if options.namespace.is_some() { metric::metrics_of(event) } else { Vec::new() };
    let mut render = Vec::new();
    if (options.log_enabled || !metrics.is_empty())
        && write_line(event, contact, options, &metrics, &mut render).is_ok()
    {
        render.push(b'\n');
    }
    render
}

fn write_line(
    event: &DeliveryEvent<'_>,
    contact: Option<&str>,
    options: &EmfOptions<'_>,
    metrics: &[Metric<'_>],
    line: &mut Vec<u8>,
) -> serde_json::Result<()> {
    let mut serializer = serde_json::Serializer::new(line);
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("level", event.level().as_str())?;
    let mut dimensions = vec![];
    if options.log_enabled {
        map.serialize_entry("message", event.message())?;
        macro_rules! serialize_entries {
            ($($($name:ident).+ = $value:expr,)*) => {$(
                if let Some(value) = $value {
                    map.serialize_entry(stringify!($($name).+), &value)?;
                }
            )*};
        }
        relay::log_fields!(event, contact, serialize_entries!());
        dimensions.push(metric::DIRECTION);
    }
    for Metric { name, value, dimension: (dimension, dimension_value), .. } in metrics {
        if !dimensions.contains(dimension) {
            dimensions.push(dimension);
            map.serialize_entry(dimension, dimension_value)?;
        }
        map.serialize_entry(name, value)?;
    }
    if let Some(namespace) = options.namespace.filter(|_| !metrics.is_empty()) {
        let mut by_dimension: BTreeMap<&str, Vec<Json>> = BTreeMap::new();
        for Metric { name, unit, dimension: (dimension, _), .. } in metrics {
            by_dimension.entry(dimension).or_default().push(json!({"Name": name, "Unit": unit}));
        }
        let directives = by_dimension.into_iter().map(
            |(dimension, metrics)| json!({"Namespace": namespace, "Dimensions": [[dimension]], "Metrics": metrics}),
        );
        let directives: Vec<Json> = directives.collect();
        map.serialize_entry("_aws", &json!({"Timestamp": options.timestamp, "CloudWatchMetrics": directives}))?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use relay::telemetry::event::{CallStats, EventOutcome, PoolUsageSample, Stage};
    use relay_core::delivery::Direction;

    fn delivered_event() -> DeliveryEvent<'static> {
        let pool = PoolUsageSample { webhook: "ab".to_owned(), submissions: 7, used_percent: 1 };
        let stats = CallStats {
            calls: 1,
            last_call_duration: Some(Duration::from_millis(5)),
            outcome_unknown: false,
            duplicate: false,
            pool: Some(pool),
        };
        let event = DeliveryEvent::new(Direction::LoopsToClay, Stage::Worker, EventOutcome::Delivered, "clay_1");
        DeliveryEvent { webhook_id: Some("msg_1"), attempts: 1, duration: Duration::from_millis(6), stats, ..event }
    }

    fn rendered(namespace: Option<&str>, log_enabled: bool) -> Json {
        let line =
            render(&delivered_event(), Some("0123456789abcdef"), &EmfOptions { namespace, log_enabled, timestamp: 1 });
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn rendered_line_has_log_fields_and_metrics() {
        let metrics = |dimension: &str, metrics: &[(&str, &str)]| {
            let metrics: Vec<Json> = metrics.iter().map(|(name, unit)| json!({"Name": name, "Unit": unit})).collect();
            json!({"Namespace": "stack", "Dimensions": [[dimension]], "Metrics": metrics})
        };
        let by_direction = [("delivered", "Count"), ("destination_ms", "Milliseconds"), ("pool_used", "Percent")];
        let expected = json!({
            "level": "INFO", "message": "delivered", "direction": "loops-to-clay", "outcome": "delivered",
            "delivery.id": "clay_1", "webhook.id": "msg_1", "contact": "0123456789abcdef", "attempts": 1, "ms": 6,
            "delivered": 1, "destination_ms": 5, "pool_used": 1, "webhook": "ab", "submissions": 7,
            "_aws": {"Timestamp": 1, "CloudWatchMetrics": [
                metrics("direction", &by_direction), metrics("webhook", &[("submissions", "Count")])
            ]},
        });
        assert_eq!(rendered(Some("stack"), true), expected);
    }

    #[test]
    fn long_event_name_is_cut_in_the_line() {
        let name = "é".repeat(90_000);
        let event = DeliveryEvent { loops_event: Some(&name), ..delivered_event() };
        let line = render(&event, None, &EmfOptions { namespace: None, log_enabled: true, timestamp: 1 });
        let line: Json = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["loops.event"], "é".repeat(100));
    }

    #[test]
    fn disabled_log_line_still_carries_metrics() {
        let quiet = rendered(Some("stack"), false);
        assert_eq!((quiet["delivered"].as_u64(), quiet["direction"].as_str()), (Some(1), Some("loops-to-clay")));
        assert!(quiet.get("delivery.id").is_none() && quiet.get("contact").is_none(), "{quiet}");
    }

    #[test]
    fn missing_namespace_renders_no_metrics() {
        assert!(rendered(None, true).get("_aws").is_none());
        assert!(
            render(&delivered_event(), None, &EmfOptions { namespace: None, log_enabled: false, timestamp: 1 })
                .is_empty()
        );
    }
}
