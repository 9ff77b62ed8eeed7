//! What is counted and measured since the start, as Prometheus reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
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

/// The names and values of a metric's labels.
type Labels = Vec<(&'static str, String)>;
type HistogramFamily = Family<Labels, Histogram, fn() -> Histogram>;

/// The bounds of times, in seconds: from a far end on this machine to a delivery that waited for days.
const DURATION_BUCKETS_SECS: [f64; 14] =
    [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3_600.0, 86_400.0, 259_200.0];

/// The label of a refusal's code.
const CODE_LABEL: &str = "code";

/// What is counted for each direction.
const DIRECTION_COUNTERS: [&str; 6] =
    [metric::ACCEPTED, metric::DELIVERED, metric::DUPLICATE, metric::RETRIED, metric::DEAD, metric::HELD];

/// What is counted, and its help.
const COUNTERS: [(&str, &str); 8] = [
    (metric::ACCEPTED, "Requests that were taken: each is delivered, or waits to be"),
    (metric::REFUSED, "Requests that were refused, by whose matter it is and by code"),
    (metric::DELIVERED, "Deliveries that the far end took"),
    (metric::DUPLICATE, "Deliveries that the far end had before"),
    (metric::RETRIED, "Attempts after which another one follows"),
    (metric::DEAD, "Deliveries that were given up, and are kept as dead letters"),
    (metric::HELD, "Attempts that found that a person has to mend something"),
    (metric::LOOPS_KEY_REFUSED, "Calls under a key that Loops refuses"),
];

/// The counts of a process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    counters: Arc<BTreeMap<&'static str, Family<Labels, Counter>>>,
    delivery_age: HistogramFamily,
    destination_time: HistogramFamily,
    pool_used: Family<Labels, Gauge<f64, AtomicU64>>,
    submissions: Family<Labels, Gauge>,
    queue_waiting: Family<Labels, Gauge>,
    queue_oldest: Family<Labels, Gauge<f64, AtomicU64>>,
}

/// A queue as it stands when it is asked about.
#[derive(Debug, Clone, Copy)]
pub struct QueueSample {
    /// Its direction.
    pub direction: &'static str,
    /// How many deliveries wait.
    pub waiting: u32,
    /// For how many seconds the oldest has waited.
    pub oldest_seconds: f64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Counts that begin now.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("relay");
        let mut counters = BTreeMap::new();
        for (name, help) in COUNTERS {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            counters.insert(name, family);
        }
        let histogram: fn() -> Histogram = || Histogram::new(DURATION_BUCKETS_SECS);
        let (delivery_age, destination_time) =
            (HistogramFamily::new_with_constructor(histogram), HistogramFamily::new_with_constructor(histogram));
        registry.register_with_unit(
            "delivery_age",
            "How long ago a delivery came that was tried",
            Unit::Seconds,
            delivery_age.clone(),
        );
        registry.register_with_unit(
            "destination",
            "How long the destination took to respond",
            Unit::Seconds,
            destination_time.clone(),
        );
        let (pool_used, submissions) = (Family::default(), Family::default());
        registry.register("clay_pool_used", "How much of a pool of Clay webhooks is used", pool_used.clone());
        registry.register("clay_webhook_submissions", "Rows that a Clay webhook has taken", submissions.clone());
        let (queue_waiting, queue_oldest) = (Family::default(), Family::default());
        registry.register("queue_waiting", "Deliveries that wait", queue_waiting.clone());
        registry.register_with_unit(
            "queue_oldest",
            "How long the oldest has waited",
            Unit::Seconds,
            queue_oldest.clone(),
        );
        let (registry, counters) = (Arc::new(registry), Arc::new(counters));
        let metrics = Self {
            registry,
            counters,
            delivery_age,
            destination_time,
            pool_used,
            submissions,
            queue_waiting,
            queue_oldest,
        };
        metrics.register_zero();
        metrics
    }

    /// Makes every series that is known beforehand: one that begins with its first event hides that event from a rate
    /// (Prometheus, "Instrumentation": avoid missing metrics). What a webhook has taken is known with its first row only.
    fn register_zero(&self) {
        for direction in [Direction::LoopsToClay, Direction::ClayToLoops] {
            let labels = vec![(metric::DIRECTION, direction.as_str().to_owned())];
            for name in DIRECTION_COUNTERS {
                self.register_counter(name, &labels);
            }
            drop(self.delivery_age.get_or_create(&labels));
            drop(self.destination_time.get_or_create(&labels));
        }
        let direction_label = (metric::DIRECTION, Direction::ClayToLoops.as_str().to_owned());
        self.register_counter(metric::LOOPS_KEY_REFUSED, &vec![direction_label]);
        for code in ErrorCode::ALL {
            let labels =
                vec![(metric::CAUSE, metric::refusal_cause(*code).to_owned()), (CODE_LABEL, code.as_str().to_owned())];
            self.register_counter(metric::REFUSED, &labels);
        }
    }

    fn register_counter(&self, name: &str, labels: &Labels) {
        if let Some(counter) = self.counters.get(name) {
            drop(counter.get_or_create(labels));
        }
    }

    /// Counts a signal.
    pub fn record(&self, event: &DeliveryEvent<'_>) {
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
                    // At most a hundred.
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
                    if let Some(counter) = self.counters.get(name) {
                        counter.get_or_create(&labels).inc_by(value);
                    }
                }
            }
        }
    }

    /// Everything as text (OpenMetrics 1.0), with the queues as they stand.
    #[must_use]
    pub fn to_openmetrics(&self, queues: &[QueueSample]) -> String {
        for queue in queues {
            let labels = vec![(metric::DIRECTION, queue.direction.to_owned())];
            self.queue_waiting.get_or_create(&labels).set(queue.waiting.into());
            self.queue_oldest.get_or_create(&labels).set(queue.oldest_seconds);
        }
        let mut text = String::new();
        // A text takes whatever is written to it.
        let _ = encode(&mut text, &self.registry);
        text
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
        let text =
            metrics.to_openmetrics(&[QueueSample { direction: "loops-to-clay", waiting: 2, oldest_seconds: 1.5 }]);
        for line in [
            r#"relay_refused_total{cause="token",code="invalid_token"} 1"#,
            r#"relay_queue_waiting{direction="loops-to-clay"} 2"#,
            r#"relay_queue_oldest_seconds{direction="loops-to-clay"} 1.5"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in {text}");
        }
        assert!(text.ends_with(
            "# EOF
"
        ));
    }
}
