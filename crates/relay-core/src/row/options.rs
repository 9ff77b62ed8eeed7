//! What a caller may ask of the cleaning, in the query of the URL.

use crate::error::{ErrorCode, RequestError};

/// What becomes of a blank value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Blank {
    /// It is left out: Loops keeps what it has.
    #[default]
    Omit,
    /// It is sent as `null`, which empties the property (Loops docs, "Contact properties": resetting a property).
    Clear,
}

/// What becomes of a text that is longer than Loops takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Long {
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
    pub blank: Blank,
    /// `long=reject|truncate`.
    pub long: Long,
    /// Whether an event without a key of its own gets one that follows from what it says; `dedupe=off` turns it off.
    pub dedupe: bool,
}

impl Default for RowOptions {
    fn default() -> Self {
        Self { blank: Blank::default(), long: Long::default(), dedupe: true }
    }
}

impl RowOptions {
    /// Reads the options of a query. Other parameters are not looked at, and the last of a repeated one counts.
    ///
    /// # Errors
    /// [`Code::InvalidOption`] where an option has a value that it does not know: a typing mistake that went unnoticed
    /// would wipe data, or e-mail somebody twice.
    pub fn from_query(query: &str) -> Result<Self, RequestError> {
        let mut options = Self::default();
        match last_param(query, "blank").as_deref() {
            None | Some("omit") => {}
            Some("clear") => options.blank = Blank::Clear,
            Some(_) => return Err(unknown_option("blank", "blank=omit or blank=clear")),
        }
        match last_param(query, "long").as_deref() {
            None | Some("reject") => {}
            Some("truncate") => options.long = Long::Truncate,
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

fn unknown_option(option: &str, known: &str) -> RequestError {
    let message = format!(
        "The option {option} in the URL has a value that the relay does not know: write {known} in the endpoint of the \
         Clay column, or leave the option out."
    );
    RequestError::new(ErrorCode::InvalidOption, message).with_field(option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_query_blanks_are_left_out_long_texts_refused_and_repeats_kept_out() {
        let expected = RowOptions { blank: Blank::Omit, long: Long::Reject, dedupe: true };
        assert_eq!(RowOptions::from_query("").unwrap(), expected);
        assert_eq!(RowOptions::from_query("blank=omit&long=reject").unwrap(), expected);
        assert_eq!(RowOptions::default(), expected);
    }

    #[test]
    fn every_option_is_read() {
        let options = RowOptions::from_query("blank=clear&long=truncate&dedupe=off").unwrap();
        assert_eq!(options, RowOptions { blank: Blank::Clear, long: Long::Truncate, dedupe: false });
        assert_eq!(RowOptions::from_query("bl%61nk=cle%61r").unwrap().blank, Blank::Clear);
    }

    #[test]
    fn unknown_parameters_are_not_looked_at() {
        assert_eq!(RowOptions::from_query("utm=x&Blank=clear&&=&dedupes=on").unwrap(), RowOptions::default());
    }

    #[test]
    fn the_last_of_a_repeated_option_counts() {
        assert_eq!(RowOptions::from_query("blank=clear&blank=omit").unwrap().blank, Blank::Omit);
        assert_eq!(RowOptions::from_query("blank=typo&blank=clear").unwrap().blank, Blank::Clear);
        assert!(RowOptions::from_query("blank=clear&blank=").is_err());
    }

    #[test]
    fn any_other_value_is_refused_naming_the_option() {
        for (query, option) in [
            ("blank=", "blank"),
            ("blank", "blank"),
            ("blank=Clear", "blank"),
            ("long=cut", "long"),
            ("long=", "long"),
            ("dedupe=on", "dedupe"),
            ("dedupe=", "dedupe"),
        ] {
            let refusal = RowOptions::from_query(query).unwrap_err();
            assert_eq!((refusal.code(), refusal.field()), (ErrorCode::InvalidOption, Some(option)), "{query}");
            assert!(refusal.message().contains(option), "{query}");
        }
    }
}
