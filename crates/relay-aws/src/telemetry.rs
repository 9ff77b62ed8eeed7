//! The log: one JSON line per event, as CloudWatch reads it.
//!
//! `RUST_LOG` sets how much the relay itself says. Libraries are heard from warnings up only: at their most talkative
//! they print requests, and with them addresses and keys.

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// Starts the log.
pub fn start() {
    let level = EnvFilter::builder().with_default_directive(Level::INFO.into()).from_env_lossy();
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        // Lambda stamps every line.
        .without_time()
        .with_filter(FilterFn::new(may_be_heard))
        .with_filter(level);
    // A second start changes nothing.
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

fn may_be_heard(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("relay") || *metadata.level() <= Level::WARN
}
