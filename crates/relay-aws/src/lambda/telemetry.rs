//! The log: one JSON line per event, with its metrics in the same line.
//!
//! `RUST_LOG` sets the level of the relay. Libraries log warnings and errors alone: at lower levels they print requests, and
//! with them addresses and keys.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use relay::config::names::CONTACT_HASH_KEY;
use relay::telemetry::event::{self, DeliveryEvent, milliseconds};
use relay::telemetry::log::{self, INVALID_LEVEL, RUST_LOG};
use relay_core::contact::ContactHashKey;
use tracing::level_filters::LevelFilter;
use tracing::warn;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::lambda::emf::{EmfOptions, render};

/// CloudWatch namespace of the metrics. There are none if it is not set.
pub(crate) const METRIC_NAMESPACE: &str = "METRIC_NAMESPACE";

pub(crate) fn init() {
    let (level, is_valid_level) = log::parse_level(variable(RUST_LOG).as_deref());
    let json_layer = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        // Lambda stamps every line.
        .without_time()
        .with_filter(FilterFn::new(log::is_enabled))
        .with_filter(level);
    // A second start changes nothing.
    let _ = tracing_subscriber::registry().with(json_layer).try_init();
    let namespace = variable(METRIC_NAMESPACE).filter(|namespace| !namespace.is_empty());
    let key = variable(CONTACT_HASH_KEY).and_then(|key| ContactHashKey::new(&key));
    event::set_sink(move |signal| write_event(signal, level, namespace.as_deref(), key.as_ref()));
    log::log_panics();
    if !is_valid_level {
        warn!("{INVALID_LEVEL}");
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn write_event(event: &DeliveryEvent<'_>, level: LevelFilter, namespace: Option<&str>, key: Option<&ContactHashKey>) {
    let log_enabled = level >= event.level();
    let contact = if log_enabled { event.contact.zip(key).map(|(contact, key)| contact.log_hash(key)) } else { None };
    let timestamp = milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    let line = render(event, contact.as_deref(), &EmfOptions { namespace, log_enabled, timestamp });
    // Nothing can be done if stdout is closed.
    let _ = std::io::stdout().write_all(&line);
}
