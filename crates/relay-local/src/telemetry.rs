//! The log: one line per event on standard error.
//!
//! `RUST_LOG` sets how much the relay itself says. Libraries are heard from warnings up only: at their most talkative
//! they print requests, and with them addresses and keys.

use std::io::IsTerminal as _;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// Starts the log.
pub fn start() {
    let level = EnvFilter::builder().with_default_directive(Level::INFO.into()).from_env_lossy();
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_filter(FilterFn::new(may_be_heard))
        .with_filter(level);
    // A second start, as in tests, changes nothing.
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

fn may_be_heard(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("relay") || *metadata.level() <= Level::WARN
}
