//! What a caller may ask of the cleaning, in the query of the URL.

use crate::error::{ErrorCode, RequestError};

/// What becomes of a blank value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BlankPolicy {
    /// It is left out: Loops keeps what it has.
    #[default]
    Omit,
    /// It is sent as `null`, which empties the property (Loops docs, "Contact properties": resetting a property).
    Clear,
}

/// What becomes of a text that is longer than Loops takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LongTextPolicy {
    /// The row is refused.
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
    /// Whether an event without a key of its own gets one that follows from what it says; `dedupe=off` turns it off.
    pub dedupe: bool,
}

impl Default for RowOptions {
    fn default() -> Self {
        Self { blank: BlankPolicy::default(), long: LongTextPolicy::default(), dedupe: true }
    }
}

impl RowOptions {
    /// Reads the options of a query. Other parameters are not looked at, and the last of a repeated one counts.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidOption`] where an option has a value that it does not know: a typing mistake that went unnoticed
    /// would wipe data, or e-mail somebody twice.
    pub fn from_query(query: &str) -> Result<Self, RequestError> {
        let mut options = Self::default();
        match last_param(query, "blank").as_deref() {
            None | Some("omit") => {}
            Some("clear") => options.blank = BlankPolicy::Clear,
            Some(_) => return Err(unknown_option("blank", "blank=omit or blank=clear")),
        }
        match last_param(query, "long").as_deref() {
            None | Some("reject") => {}
            Some("truncate") => options.long = LongTextPolicy::Truncate,
            Some(_) => return Err(unknown_option("long", "long=reject or long=truncate")),
        }
        match last_param(query, "dedupe").as_deref() {
            None => {}
            Some("off") => options.dedupe = false,
            Some(_) => return Err(unknown_option("dedupe", "dedupe=off")),
        }
        Ok(options)
    }
}

fn last_param(query: &str, name: &str) -> Option<String> {
    let values = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    values.last().map(|(_, value)| value.into_owned())
}

fn unknown_option(option: &str, allowed: &str) -> RequestError {
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
