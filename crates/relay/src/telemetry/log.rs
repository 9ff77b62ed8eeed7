//! What all logs of the relay have in common. `RUST_LOG` is a plain level, because filters by target and field would need a
//! regular expression engine.

use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, error};

/// Environment variable with the least level that is logged.
pub const RUST_LOG: &str = "RUST_LOG";
/// Warning for an invalid value, which the message does not show.
pub const INVALID_LEVEL: &str =
    "RUST_LOG is not a level, so info is used: set it to error, warn, info, debug, trace or off";

/// Parses a level. Returns `info` for no text, and `info` and false for an invalid one.
pub fn parse_level(text: Option<&str>) -> (LevelFilter, bool) {
    match text.map(str::trim) {
        None | Some("") => (LevelFilter::INFO, true),
        Some(text) => text.parse().map_or((LevelFilter::INFO, false), |level| (level, true)),
    }
}

/// Whether a line is logged: all of the relay's own, and warnings and errors of libraries. At lower levels libraries print
/// requests, and with them addresses and keys.
pub fn is_enabled(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("relay") || *metadata.level() <= Level::WARN
}

/// Logs each panic with its location, but without its message, which may quote a request.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        error!(place, "a fault of the program: a panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_rust_log_sets_the_level() {
        for (text, level) in [(" WARN ", LevelFilter::WARN), ("debug", LevelFilter::DEBUG), ("off", LevelFilter::OFF)] {
            assert_eq!(parse_level(Some(text)), (level, true));
        }
        for text in [None, Some(""), Some(" ")] {
            assert_eq!(parse_level(text), (LevelFilter::INFO, true), "{text:?}");
        }
    }

    #[test]
    fn invalid_rust_log_falls_back_to_info() {
        for text in ["loud", "relay=debug", "info,hyper=warn", "9"] {
            assert_eq!(parse_level(Some(text)), (LevelFilter::INFO, false), "{text}");
        }
    }
}
