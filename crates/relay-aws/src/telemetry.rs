//! The log: one JSON line per event, as CloudWatch reads it.
//!
//! `RUST_LOG` sets how much the relay itself says. Libraries are heard from warnings up only: at their most talkative
//! they print requests, and with them addresses and keys.

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// Starts the log.
pub fn start() {
    let level = level(std::env::var("RUST_LOG").ok().as_deref());
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

/// The least that is heard. A plain level: what filters by target and field brings along an engine of regular expressions.
fn level(text: Option<&str>) -> LevelFilter {
    text.map(str::trim).filter(|text| !text.is_empty()).and_then(|text| text.parse().ok()).unwrap_or(LevelFilter::INFO)
}

fn may_be_heard(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("relay") || *metadata.level() <= Level::WARN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_the_least_that_is_heard() {
        for (text, heard) in [(" WARN ", LevelFilter::WARN), ("debug", LevelFilter::DEBUG), ("off", LevelFilter::OFF)] {
            assert_eq!(level(Some(text)), heard);
        }
    }

    #[test]
    fn what_is_not_set_or_no_level_is_info() {
        for text in [None, Some(""), Some(" "), Some("loud"), Some("relay=debug")] {
            assert_eq!(level(text), LevelFilter::INFO, "{text:?}");
        }
    }
}
