//! Values as arguments take them and tables show them.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use relay_core::delivery::Direction;
use relay_core::delivery_state::DeliveryState;

/// What a `--state` selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateFilter {
    /// What waits for an operator.
    Held,
    /// What is in a state.
    In(DeliveryState),
}

/// Parser of a `--state`.
pub(crate) fn state_parser() -> impl TypedValueParser<Value = StateFilter> {
    let values = [
        ("waiting", "It will be sent"),
        ("held", "It waits until somebody has fixed its reason"),
        ("delivered", "The destination has it"),
        ("dead", "It is kept for an operator"),
    ];
    PossibleValuesParser::new(values.map(|(name, help)| PossibleValue::new(name).help(help))).try_map(|name| match name
        .as_str()
    {
        "held" => Ok(StateFilter::Held),
        state => state.parse().map(StateFilter::In).map_err(|error: strum::ParseError| error.to_string()),
    })
}

/// Parser of a direction.
pub(crate) fn direction_parser() -> impl TypedValueParser<Value = Direction> {
    let values = [("loops-to-clay", "Webhooks to Clay tables"), ("clay-to-loops", "Rows to the Loops API")];
    PossibleValuesParser::new(values.map(|(name, help)| PossibleValue::new(name).help(help)))
        .try_map(|name| name.parse::<Direction>().map_err(|error| error.to_string()))
}

/// Returns a reason code with its status.
pub(crate) fn format_reason(reason: Option<&str>, status: Option<u16>) -> String {
    match (reason, status) {
        (Some(reason), Some(status)) => format!("{reason} ({status})"),
        (Some(reason), None) => reason.to_owned(),
        (None, _) => String::new(),
    }
}

/// Returns a time to the second, or nothing.
pub(crate) fn format_time(at: Option<Timestamp>) -> String {
    at.map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default()
}
