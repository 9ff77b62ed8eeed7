//! The log on standard error, one line per event: text on a terminal, else the JSON of the Lambda functions, without the
//! fields that only CloudWatch reads.
//!
//! `RUST_LOG` sets the level of the relay's own lines. Libraries log warnings and errors only: at lower levels they log
//! requests, and with them addresses and keys.

use std::io::IsTerminal as _;
use std::sync::Arc;

use relay::telemetry::event::{self, DeliveryEvent, milliseconds};
use relay::telemetry::log::{self, INVALID_LEVEL, RUST_LOG};
use relay_core::contact::ContactHashKey;
use tracing::{Level, warn};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::metrics::Metrics;

pub(crate) fn start() {
    let (level, is_valid) = log::parse_level(std::env::var(RUST_LOG).ok().as_deref());
    let text = fmt::layer::<Registry>().with_writer(std::io::stderr).with_target(false);
    let format_layer = if std::io::stderr().is_terminal() {
        text.with_ansi(true).boxed()
    } else {
        text.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    };
    let lines = format_layer.with_filter(FilterFn::new(log::is_enabled)).with_filter(level);
    // A second start, as in tests, changes nothing.
    let _ = tracing_subscriber::registry().with(lines).try_init();
    log::log_panics();
    if !is_valid {
        warn!("{INVALID_LEVEL}");
    }
}

/// Has every event counted and logged from now on, its contact as a hash with this key.
pub(crate) fn install_sink(metrics: Arc<Metrics>, contact_hash_key: Option<ContactHashKey>) {
    event::set_sink(move |event| {
        metrics.record(event);
        let contact = event.contact.zip(contact_hash_key.as_ref()).map(|(contact, key)| contact.log_hash(key));
        log_event(event, contact.as_deref());
    });
}

/// Logs an event with the fields of [`DeliveryEvent::fields`], and the measurements.
fn log_event(delivery_event: &DeliveryEvent<'_>, contact: Option<&str>) {
    let DeliveryEvent { delivery_id: delivery, webhook_id, loops_event: event, kind, field, error, stats, .. } =
        delivery_event;
    let (direction, outcome, message) =
        (delivery_event.direction.as_str(), delivery_event.outcome.as_str(), delivery_event.message());
    let (code, reason) = (
        delivery_event.code.map(relay_core::error::ErrorCode::as_str),
        delivery_event.reason.map(|reason| reason.code.as_str()),
    );
    let status = delivery_event.reason.and_then(|reason| reason.status);
    let attempts = (delivery_event.attempts > 0).then_some(delivery_event.attempts);
    let ms = milliseconds(delivery_event.duration);
    let age_ms = delivery_event.age.map(milliseconds);
    let destination_ms = stats.last_call_duration.map(milliseconds);
    let pool = stats.pool.as_ref();
    let (webhook, submissions) = (pool.map(|pool| pool.webhook.as_str()), pool.map(|pool| pool.submissions));
    let pool_used = pool.map(|pool| pool.used_percent);
    macro_rules! line {
        ($level:ident) => {
            tracing::event!(
                Level::$level,
                direction,
                outcome,
                delivery.id = delivery,
                webhook.id = webhook_id,
                loops.event = event,
                row = kind,
                contact,
                code,
                field,
                reason,
                error,
                status,
                attempts,
                ms,
                age_ms,
                destination_ms,
                webhook,
                submissions,
                pool_used,
                "{message}"
            )
        };
    }
    match delivery_event.level() {
        Level::ERROR => line!(ERROR),
        Level::WARN => line!(WARN),
        _ => line!(INFO),
    }
}
