//! The log on standard error, one line per event: text on a terminal, else the JSON of the Lambda functions, without the
//! fields that only CloudWatch reads.
//!
//! `RUST_LOG` sets the level of the relay's own lines. Libraries log warnings and errors only: at lower levels they log
//! requests, and with them addresses and keys.

use std::io::IsTerminal as _;
use std::sync::Arc;

use relay::telemetry::event::{self, DeliveryEvent, EventOutcome, milliseconds};
use relay::telemetry::log::{self, INVALID_LEVEL, RUST_LOG};
use relay_core::contact::ContactHashKey;
use tracing::{Level, warn};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::console::statistics::Statistics;
use crate::metrics::Metrics;
use crate::refusal_lines::RefusalLines;

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

/// Has every event counted and logged from now on, its contact as a hash with this key. Of many refused requests in a second
/// some are counted only.
pub(crate) fn install_sink(
    metrics: Arc<Metrics>,
    statistics: Arc<Statistics>,
    contact_hash_key: Option<ContactHashKey>,
) {
    let refusal_lines = RefusalLines::default();
    event::set_sink(move |event| {
        metrics.record(event);
        statistics.record(event);
        if event.outcome == EventOutcome::Refused && event.code.is_some_and(|code| !refusal_lines.admit(code)) {
            return;
        }
        let contact = event.contact.zip(contact_hash_key.as_ref()).map(|(contact, key)| contact.log_hash(key));
        log_event(event, contact.as_deref());
    });
}

fn log_event(event: &DeliveryEvent<'_>, contact: Option<&str>) {
    let (message, pool) = (event.message(), event.stats.pool.as_ref());
    macro_rules! line {
        ($level:ident, $($fields:tt)*) => {
            tracing::event!(
                Level::$level,
                $($fields)*
                age_ms = event.age.map(milliseconds),
                destination_ms = event.stats.last_call_duration.map(milliseconds),
                webhook = pool.map(|pool| pool.webhook.as_str()),
                submissions = pool.map(|pool| pool.submissions),
                pool_used = pool.map(|pool| pool.used_percent),
                "{message}"
            )
        };
    }
    match event.level() {
        Level::ERROR => relay::log_fields!(event, contact, line!(ERROR,)),
        Level::WARN => relay::log_fields!(event, contact, line!(WARN,)),
        _ => relay::log_fields!(event, contact, line!(INFO,)),
    }
}
