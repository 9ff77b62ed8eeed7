//! The counters and measurements since the start, in Prometheus' format.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use relay::telemetry::event::DeliveryEvent;
use relay::telemetry::metric::{self, Metric};
use relay_core::delivery::Direction;
use relay_core::error::ErrorCode;

type Labels = Vec<(&'static str, String)>;
type HistogramFamily = Family<Labels, Histogram, fn() -> Histogram>;

/// Bounds in seconds: from a call to a destination on this machine to a delivery that waited for days.
const DURATION_BUCKETS_SECS: [f64; 14] =
    [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3_600.0, 86_400.0, 259_200.0];

const DIRECTIONS: [Direction; 2] = [Direction::LoopsToClay, Direction::ClayToLoops];

const CODE_LABEL: &str = "code";

/// The counters and their help texts.
const COUNTERS: [(&str, &str); 9] = [
    (metric::ACCEPTED, "Requests that were taken: each is delivered, or waits to be"),
    (metric::ANSWERED, "Calls that only read, and were answered"),
    (metric::REFUSED, "Requests that were refused, by whose matter it is and by code"),
    (metric::DELIVERED, "Deliveries that the destination accepted"),
    (metric::DUPLICATE, "Deliveries that the destination had before"),
    (metric::RETRIED, "Attempts after which another one follows"),
    (metric::DEAD, "Deliveries that were given up, and are kept as dead letters"),
    (metric::HELD, "Attempts that found that an operator has to mend something"),
    (metric::LOOPS_KEY_REFUSED, "Calls under a key that Loops refuses"),
];

pub(crate) struct Metrics {
    registry: Registry,
    counters: BTreeMap<&'static str, Family<Labels, Counter>>,
    delivery_age: HistogramFamily,
    destination_time: HistogramFamily,
    pool_used: Family<Labels, Gauge<f64, AtomicU64>>,
    submissions: Family<Labels, Gauge>,
    queue_waiting: Family<Labels, Gauge>,
    queue_oldest: Family<Labels, Gauge<f64, AtomicU64>>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("relay");
        let mut counters = BTreeMap::new();
        for (name, help) in COUNTERS {
            let family = Family::<Labels, Counter>::default();
            for labels in initial_labels(name) {
                drop(family.get_or_create(&labels));
            }
            registry.register(name, help, family.clone());
            counters.insert(name, family);
        }
        let mut histogram = |name, help| {
            let family = HistogramFamily::new_with_constructor(|| Histogram::new(DURATION_BUCKETS_SECS));
            for direction in DIRECTIONS {
                drop(family.get_or_create(&direction_label(direction)));
            }
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
            family
        };
        let delivery_age = histogram("delivery_age", "How long ago a delivery came that was tried");
        let destination_time = histogram("destination", "How long the destination took to respond");
        let (pool_used, submissions) = (Family::default(), Family::default());
        registry.register("clay_pool_used", "How much of a pool of Clay webhooks is used", pool_used.clone());
        registry.register("clay_webhook_submissions", "Rows that a Clay webhook has taken", submissions.clone());
        let (queue_waiting, queue_oldest) = (Family::default(), Family::default());
        registry.register("queue_waiting", "Deliveries that wait", queue_waiting.clone());
        let help = "How long the oldest has waited";
        registry.register_with_unit("queue_oldest", help, Unit::Seconds, queue_oldest.clone());
        Self { registry, counters, delivery_age, destination_time, pool_used, submissions, queue_waiting, queue_oldest }
    }

    pub(crate) fn record(&self, event: &DeliveryEvent<'_>) {
        for Metric { name, value, dimension: (label, label_value), .. } in metric::metrics_of(event) {
            let mut labels: Labels = vec![(label, label_value.to_owned())];
            match name {
                metric::AGE_MS => {
                    self.delivery_age.get_or_create(&labels).observe(event.age.unwrap_or_default().as_secs_f64());
                }
                metric::DESTINATION_MS => {
                    let duration = event.stats.last_call_duration.unwrap_or_default();
                    self.destination_time.get_or_create(&labels).observe(duration.as_secs_f64());
                }
                metric::POOL_USED => {
                    let percent = f64::from(u32::try_from(value).unwrap_or(100));
                    self.pool_used.get_or_create(&labels).set(percent / 100.0);
                }
                metric::SUBMISSIONS => {
                    self.submissions.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
                }
                _ => {
                    if let Some(code) = event.code.filter(|_| name == metric::REFUSED) {
                        labels.push((CODE_LABEL, code.as_str().to_owned()));
                    }
                    // A metric that only alarms of a stack look at has no counter.
                    if let Some(counter) = self.counters.get(name) {
                        counter.get_or_create(&labels).inc_by(value);
                    }
                }
            }
        }
    }

    pub(crate) fn record_queue(&self, direction: Direction, waiting: u32, oldest_seconds: f64) {
        let labels = direction_label(direction);
        self.queue_waiting.get_or_create(&labels).set(waiting.into());
        self.queue_oldest.get_or_create(&labels).set(oldest_seconds);
    }

    /// Returns all metrics as text (OpenMetrics 1.0).
    pub(crate) fn to_openmetrics(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn direction_label(direction: Direction) -> Labels {
    vec![(metric::DIRECTION, direction.as_str().to_owned())]
}

/// Labels of a counter's series, which begin at zero: a series that begins with its first event hides that event from a rate
/// (Prometheus, "Instrumentation": avoid missing metrics).
fn initial_labels(counter: &str) -> Vec<Labels> {
    match counter {
        metric::REFUSED => ErrorCode::ALL
            .iter()
            .map(|code| {
                vec![(metric::CAUSE, metric::refusal_cause(*code).to_owned()), (CODE_LABEL, code.as_str().to_owned())]
            })
            .collect(),
        metric::LOOPS_KEY_REFUSED | metric::ANSWERED => vec![direction_label(Direction::ClayToLoops)],
        _ => DIRECTIONS.map(direction_label).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use relay::telemetry::event::{EventOutcome, Stage};

    use super::*;

    #[test]
    fn rejected_request_is_counted_by_cause_and_code() {
        let metrics = Metrics::new();
        let event = DeliveryEvent::new(Direction::ClayToLoops, Stage::Request, EventOutcome::Refused, "refused_1");
        metrics.record(&DeliveryEvent { code: Some(ErrorCode::InvalidToken), ..event });
        metrics.record_queue(Direction::LoopsToClay, 2, 1.5);
        let text = metrics.to_openmetrics();
        for line in [
            r#"relay_refused_total{cause="token",code="invalid_token"} 1"#,
            r#"relay_queue_waiting{direction="loops-to-clay"} 2"#,
            r#"relay_queue_oldest_seconds{direction="loops-to-clay"} 1.5"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
