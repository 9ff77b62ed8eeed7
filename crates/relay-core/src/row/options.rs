//! The options of a request, from the query of its URL.

use std::str::FromStr;

use strum::EnumString;

use crate::error::{ErrorCode, RequestError};
use crate::text::{spell_invisible, truncate_chars};

/// The names of the options, in the order of [`RowOptions`].
const OPTIONS: [&str; 4] = ["blank", "long", "dedupe", "dry-run"];
/// Maximum length of a misspelt name in a message.
const MAX_SHOWN_CHARS: usize = 24;

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
    /// Whether the caller gets what would be sent, and nothing is sent (`dry-run=on`).
    pub dry_run: bool,
}

impl Default for RowOptions {
    fn default() -> Self {
        Self { blank: BlankPolicy::default(), long: LongTextPolicy::default(), dedupe: true, dry_run: false }
    }
}

impl RowOptions {
    /// Parses the options in a query. Other parameters are ignored.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidOption`] if an option has an unknown value, another spelling, or comes twice: a typing mistake
    /// that went unnoticed would wipe data, or send an e-mail twice.
    pub fn from_query(query: &str) -> Result<Self, RequestError> {
        let mut values: [Option<String>; OPTIONS.len()] = Default::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let known = OPTIONS.iter().zip(&mut values).find(|(option, _)| is_spelling_of(option, &name));
            let Some((option, slot)) = known else { continue };
            if name != *option {
                return Err(misspelt(option, &name));
            }
            if slot.replace(value.into_owned()).is_some() {
                return Err(repeated(option));
            }
        }
        let [blank, long, dedupe, dry_run] = values;
        Ok(Self {
            blank: parse_option(blank, "blank", "blank=omit or blank=clear")?,
            long: parse_option(long, "long", "long=reject or long=truncate")?,
            dedupe: match dedupe.as_deref() {
                None => true,
                Some("off") => false,
                Some(_) => return Err(unknown_value("dedupe", "dedupe=off")),
            },
            dry_run: match dry_run.as_deref() {
                None => false,
                Some("on") => true,
                Some(_) => return Err(unknown_value("dry-run", "dry-run=on")),
            },
        })
    }
}

/// Whether a parameter of the query was meant to be this option: the same but for case, and for what is no letter or digit.
fn is_spelling_of(option: &str, name: &str) -> bool {
    let letters =
        |text: &str| -> String { text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect() };
    letters(name) == letters(option)
}

fn parse_option<T: FromStr + Default>(value: Option<String>, option: &str, allowed: &str) -> Result<T, RequestError> {
    let parse = |value: String| value.parse().map_err(|_| unknown_value(option, allowed));
    value.map_or_else(|| Ok(T::default()), parse)
}

fn unknown_value(option: &str, allowed: &str) -> RequestError {
    let message = format!(
        "The option {option} in the URL has a value that the relay does not know: write {allowed} in the endpoint of the \
         Clay column, or leave the option out."
    );
    RequestError::new(ErrorCode::InvalidOption, message).with_field(option)
}

fn misspelt(option: &str, name: &str) -> RequestError {
    let name = truncate_chars(&spell_invisible(name), MAX_SHOWN_CHARS);
    let message = format!(
        "The option {option} in the URL is spelled \"{name}\": write it as {option}, in lower case and without spaces, in the \
         endpoint of the Clay column."
    );
    RequestError::new(ErrorCode::InvalidOption, message).with_field(option)
}

fn repeated(option: &str) -> RequestError {
    let message = format!(
        "The option {option} comes more than once in the URL, and only one can count: leave one of them in the endpoint of the \
         Clay column."
    );
    RequestError::new(ErrorCode::InvalidOption, message).with_field(option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_options_omit_blank_reject_long_and_deduplicate() {
        let expected =
            RowOptions { blank: BlankPolicy::Omit, long: LongTextPolicy::Reject, dedupe: true, dry_run: false };
        assert_eq!(RowOptions::from_query("").unwrap(), expected);
        assert_eq!(RowOptions::from_query("blank=omit&long=reject").unwrap(), expected);
        assert_eq!(RowOptions::default(), expected);
    }

    #[test]
    fn all_query_options_are_parsed() {
        let options = RowOptions::from_query("blank=clear&long=truncate&dedupe=off").unwrap();
        assert_eq!(
            options,
            RowOptions { blank: BlankPolicy::Clear, long: LongTextPolicy::Truncate, dedupe: false, dry_run: false }
        );
        assert_eq!(RowOptions::from_query("bl%61nk=cle%61r").unwrap().blank, BlankPolicy::Clear);
    }

    #[test]
    fn unknown_query_parameters_are_ignored() {
        assert_eq!(RowOptions::from_query("utm=x&&=&dedupes=on&longer=1").unwrap(), RowOptions::default());
    }

    #[test]
    fn repeated_option_is_rejected_naming_it() {
        for (query, option) in [
            ("blank=clear&blank=omit", "blank"),
            ("blank=clear&blank=clear", "blank"),
            ("long=truncate&blank=omit&long=truncate", "long"),
            ("dedupe=off&dedupe=off", "dedupe"),
        ] {
            let error = RowOptions::from_query(query).unwrap_err();
            assert_eq!((error.code(), error.field()), (ErrorCode::InvalidOption, Some(option)), "{query}");
            assert!(error.message().contains("more than once"), "{error:?}");
        }
    }

    #[test]
    fn option_in_another_spelling_is_rejected_naming_it() {
        for (query, option) in [
            ("Blank=clear", "blank"),
            ("BLANK=clear", "blank"),
            ("+blank=clear", "blank"),
            ("blank%20=clear", "blank"),
            ("?blank=clear", "blank"),
            ("%3Fblank=clear", "blank"),
            ("blank[]=clear", "blank"),
            ("blank=omit&Blank=clear", "blank"),
            ("Long=truncate", "long"),
            ("de-dupe=off", "dedupe"),
            ("dryrun=on", "dry-run"),
            ("dry_run=on", "dry-run"),
        ] {
            let error = RowOptions::from_query(query).unwrap_err();
            assert_eq!((error.code(), error.field()), (ErrorCode::InvalidOption, Some(option)), "{query}");
            assert!(error.message().contains(&format!("write it as {option}")), "{error:?}");
        }
    }

    #[test]
    fn invisible_character_in_option_is_spelt() {
        for (query, shown) in
            [("bl%E2%80%8Bank=clear", "\"bl<U+200B>ank\""), ("blank%C2%A0=clear", "\"blank<U+00A0>\"")]
        {
            let error = RowOptions::from_query(query).unwrap_err();
            assert!(error.message().contains(shown), "{error:?}");
        }
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
            ("dry-run=maybe", "dry-run"),
            ("dry-run=off", "dry-run"),
        ] {
            let error = RowOptions::from_query(query).unwrap_err();
            assert_eq!((error.code(), error.field()), (ErrorCode::InvalidOption, Some(option)), "{query}");
            assert!(error.message().contains(option), "{query}");
        }
    }
}
