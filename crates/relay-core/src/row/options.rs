//! The options of a request, from the query of its URL.

use std::str::FromStr;

use strum::EnumString;

use crate::error::{ErrorCode, RequestError};

/// What happens to a blank value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum BlankPolicy {
    /// It is left out: Loops keeps the value that it has.
    #[default]
    Omit,
    /// It is sent as `null`, which empties the property (Loops docs, "Contact properties": resetting a property).
    Clear,
}

/// What happens to a text that is longer than Loops accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum LongTextPolicy {
    /// The row is rejected.
    #[default]
    Reject,
    /// The text is cut, and ends in `…`.
    Truncate,
}

/// The options of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowOptions {
    /// `blank=omit|clear`.
    pub blank: BlankPolicy,
    /// `long=reject|truncate`.
    pub long: LongTextPolicy,
    /// Whether an event without a key of its own gets one derived from its content; `dedupe=off` turns it off.
    pub dedupe: bool,
}

impl Default for RowOptions {
    fn default() -> Self {
        Self { blank: BlankPolicy::default(), long: LongTextPolicy::default(), dedupe: true }
    }
}

impl RowOptions {
    /// Parses the options in a query. Other parameters are ignored, and the last of a repeated one counts.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidOption`] if an option has an unknown value: a typing mistake that went unnoticed would wipe
    /// data, or send an e-mail twice.
    pub fn from_query(query: &str) -> Result<Self, RequestError> {
        Ok(Self {
            blank: parse_option(query, "blank", "blank=omit or blank=clear")?,
            long: parse_option(query, "long", "long=reject or long=truncate")?,
            dedupe: match last_param(query, "dedupe").as_deref() {
                None => true,
                Some("off") => false,
                Some(_) => return Err(unknown_value("dedupe", "dedupe=off")),
            },
        })
    }
}

fn parse_option<T: FromStr + Default>(query: &str, option: &str, allowed: &str) -> Result<T, RequestError> {
    let parse = |value: String| value.parse().map_err(|_| unknown_value(option, allowed));
    last_param(query, option).map_or_else(|| Ok(T::default()), parse)
}

fn last_param(query: &str, name: &str) -> Option<String> {
    let values = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    values.last().map(|(_, value)| value.into_owned())
}

fn unknown_value(option: &str, allowed: &str) -> RequestError {
    let message = format!(
        "The option {option} in the URL has a value that the relay does not know: write {allowed} in the endpoint of the \
         Clay column, or leave the option out."
    );
    RequestError::new(ErrorCode::InvalidOption, message).with_field(option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_options_omit_blank_reject_long_and_deduplicate() {
        let expected = RowOptions { blank: BlankPolicy::Omit, long: LongTextPolicy::Reject, dedupe: true };
        assert_eq!(RowOptions::from_query("").unwrap(), expected);
        assert_eq!(RowOptions::from_query("blank=omit&long=reject").unwrap(), expected);
        assert_eq!(RowOptions::default(), expected);
    }

    #[test]
    fn all_query_options_are_parsed() {
        let options = RowOptions::from_query("blank=clear&long=truncate&dedupe=off").unwrap();
        assert_eq!(options, RowOptions { blank: BlankPolicy::Clear, long: LongTextPolicy::Truncate, dedupe: false });
        assert_eq!(RowOptions::from_query("bl%61nk=cle%61r").unwrap().blank, BlankPolicy::Clear);
    }

    #[test]
    fn unknown_query_parameters_are_ignored() {
        assert_eq!(RowOptions::from_query("utm=x&Blank=clear&&=&dedupes=on").unwrap(), RowOptions::default());
    }

    #[test]
    fn repeated_option_uses_last_value() {
        assert_eq!(RowOptions::from_query("blank=clear&blank=omit").unwrap().blank, BlankPolicy::Omit);
        assert_eq!(RowOptions::from_query("blank=typo&blank=clear").unwrap().blank, BlankPolicy::Clear);
        assert!(RowOptions::from_query("blank=clear&blank=").is_err());
    }

    #[test]
    fn invalid_option_value_is_rejected_naming_option() {
        for (query, option) in [
            ("blank=", "blank"),
            ("blank", "blank"),
            ("blank=Clear", "blank"),
            ("long=cut", "long"),
            ("long=", "long"),
            ("dedupe=on", "dedupe"),
            ("dedupe=", "dedupe"),
        ] {
            let error = RowOptions::from_query(query).unwrap_err();
            assert_eq!((error.code(), error.field()), (ErrorCode::InvalidOption, Some(option)), "{query}");
            assert!(error.message().contains(option), "{query}");
        }
    }
}
