//! The rules for every value, at the top level of a row and inside `eventProperties`.

use serde_json::Value;

use crate::row::field_error::FieldError;
use crate::row::options::{BlankPolicy, LongTextPolicy, RowOptions};
use crate::row::redacted_value::{RedactedValue, json_type_name};
use crate::text::{
    cut_to_every_count, find_sheet_error, fits_every_count, has_object, is_column_name, is_only_sheet_errors,
    trim_invisible,
};

/// Maximum length of a text: Loops takes 500 characters of a value, its quotes included (Loops docs, API intro,
/// "Debugging").
pub(super) const MAX_TEXT_CHARS: usize = 498;
/// Maximum length of a number, which has no quotes.
const MAX_NUMBER_CHARS: usize = 500;

/// What is sent of a valid value.
#[derive(Debug, PartialEq)]
pub(super) enum Cleaned {
    Send(Value),
    /// The value was changed: its end was cut off, or what stood around it.
    SendAdjusted(Value),
    /// The value was blank.
    Omit,
}

/// Cleans a value whose field has no rule of its own.
pub(super) fn clean_value(field: &str, value: Value, options: RowOptions) -> Result<Cleaned, FieldError> {
    let Some(value) = require_value(field, value)? else { return Ok(clean_blank(options)) };
    match value {
        Value::String(text) => clean_text(field, text, options.long),
        Value::Array(_) | Value::Object(_) => Err(FieldError::NotScalar(json_type_name(&value))),
        Value::Number(number) if number.as_str().len() > MAX_NUMBER_CHARS => {
            Err(FieldError::TooLongToTruncate(number.as_str().len()))
        }
        scalar => Ok(Cleaned::Send(scalar)),
    }
}

/// Checks the length of a text, or cuts it to what Loops takes however it counts. What only a stricter count finds too
/// long is sent unless it is to be cut: Loops decides.
fn clean_text(field: &str, text: String, long: LongTextPolicy) -> Result<Cleaned, FieldError> {
    match (check_len(&text), long) {
        (Err(length), LongTextPolicy::Reject) => Err(FieldError::TooLong(length)),
        (_, LongTextPolicy::Truncate) if !fits_every_count(&text) => {
            let too_long = || FieldError::TooLongToTruncate(text.chars().count());
            let cut = cut_to_every_count(&text).ok_or_else(too_long)?;
            // What is left may be only a column's name.
            let cut = require_value(field, cut.into())?.ok_or_else(too_long)?;
            Ok(Cleaned::SendAdjusted(cut))
        }
        _ => Ok(Cleaned::Send(text.into())),
    }
}

/// Cleans a property's value and checks its name, which Loops counts like a value.
pub(super) fn clean_named(path: &str, name: &str, value: Value, options: RowOptions) -> Result<Cleaned, FieldError> {
    match clean_value(path, value, options)? {
        Cleaned::Omit => Ok(Cleaned::Omit),
        _ if is_column_name(name) || has_object(name) || find_sheet_error(name).is_some() => {
            Err(FieldError::NameNotInserted)
        }
        sent => check_len(name).map(|()| sent).map_err(FieldError::NameTooLong),
    }
}

/// Returns the value, or nothing if it is blank.
pub(super) fn require_value(field: &str, value: Value) -> Result<Option<Value>, FieldError> {
    match &value {
        Value::Null => Ok(None),
        Value::String(text) if is_blank(text) => Ok(None),
        Value::String(text) if is_column_name(text) || text.trim() == "[object Object]" => {
            Err(FieldError::ColumnNotInserted(RedactedValue::new(field, &value)))
        }
        Value::String(text) if has_object(text) => Err(FieldError::ObjectInText),
        Value::String(text) => match find_sheet_error(text) {
            Some(error) => Err(FieldError::SheetErrorInText(error)),
            None => Ok(Some(value)),
        },
        _ => Ok(Some(value)),
    }
}

/// Checks that a number which is sent is one that a reader of JSON can hold: not so large that it is infinite, and not so
/// small that it is zero (RFC 8259 §6).
pub(super) fn check_range(field: &str, cleaned: Cleaned) -> Result<Cleaned, FieldError> {
    match &cleaned {
        Cleaned::Send(value @ Value::Number(number)) if !is_in_range(number.as_str()) => {
            Err(FieldError::OutOfRange(RedactedValue::new(field, value)))
        }
        _ => Ok(cleaned),
    }
}

/// Whether a JSON number is one in double precision as well.
pub(super) fn is_in_range(number: &str) -> bool {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let is_zero = !mantissa.contains(|c: char| ('1'..='9').contains(&c));
    number.parse().is_ok_and(|double: f64| double.is_finite() && (double != 0.0 || is_zero))
}

/// Returns what is sent of a blank value that may be emptied in Loops.
pub(super) const fn clean_blank(options: RowOptions) -> Cleaned {
    match options.blank {
        BlankPolicy::Omit => Cleaned::Omit,
        BlankPolicy::Clear => Cleaned::Send(Value::Null),
    }
}

/// Whether a text is blank. A quoted column with an empty cell may arrive as the word `null` or `undefined`, and one of a
/// sheet as an error.
pub(super) fn is_blank(text: &str) -> bool {
    matches!(trim_invisible(text), "" | "null" | "undefined") || is_only_sheet_errors(text)
}

/// Parses a boolean, or a text that spells one.
pub(super) fn parse_boolean(field: &str, value: &Value) -> Result<bool, FieldError> {
    match value {
        Value::Bool(boolean) => Ok(*boolean),
        Value::String(text) if text.trim().eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.trim().eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(FieldError::NotABoolean(RedactedValue::new(field, value))),
    }
}

/// Returns the length of a text as the error if it is longer than Loops accepts.
pub(super) fn check_len(text: &str) -> Result<(), usize> {
    // Bytes are never fewer than characters, so most texts need no counting.
    if text.len() <= MAX_TEXT_CHARS {
        return Ok(());
    }
    match text.chars().count() {
        0..=MAX_TEXT_CHARS => Ok(()),
        length => Err(length),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::row::json::lenient_json;

    fn options(blank: BlankPolicy, long: LongTextPolicy) -> RowOptions {
        RowOptions { blank, long, ..RowOptions::default() }
    }

    fn cleaned(value: Value) -> Result<Cleaned, FieldError> {
        clean_value("f", value, RowOptions::default())
    }

    #[test]
    fn blank_value_is_omitted_or_sent_as_null() {
        let clear = options(BlankPolicy::Clear, LongTextPolicy::Reject);
        for value in [
            json!(null),
            json!(""),
            json!(" \n\t\u{a0}"),
            json!("\u{200b}"),
            json!("null"),
            json!(" undefined "),
            json!("#N/A"),
            json!("#REF! #REF!"),
        ] {
            assert_eq!(cleaned(value.clone()), Ok(Cleaned::Omit), "{value}");
            assert_eq!(clean_value("f", value.clone(), clear), Ok(Cleaned::Send(Value::Null)), "{value}");
        }
    }

    #[test]
    fn value_that_only_resembles_blank_is_sent() {
        for value in [json!("NULL"), json!("null and void"), json!("0"), json!(0), json!(false), json!("-")] {
            assert_eq!(cleaned(value.clone()), Ok(Cleaned::Send(value)));
        }
    }

    #[test]
    fn uninserted_column_is_detected() {
        for text in ["[object Object]", " [object Object]\n", "{{Company}}", " {{ Company Name }} ", "#{{Company}}."] {
            assert_eq!(
                cleaned(json!(text)),
                Err(FieldError::ColumnNotInserted(RedactedValue::new("f", &json!(text)))),
                "{text}"
            );
        }
        for text in ["{{Company", "Hi {{name}}", "{Company}", "/Company", "[object object]"] {
            assert_eq!(cleaned(json!(text)), Ok(Cleaned::Send(json!(text))), "{text}");
        }
    }

    #[test]
    fn leftover_inside_text_is_rejected() {
        for text in ["see [object Object]", "[object Object],[object Object]", "an [object Promise]"] {
            assert_eq!(cleaned(json!(text)), Err(FieldError::ObjectInText), "{text}");
        }
        assert_eq!(cleaned(json!("Total: #REF!")), Err(FieldError::SheetErrorInText("#REF!")));
    }

    #[test]
    fn leftover_as_name_of_property_is_rejected() {
        let named = |name, value: Value| clean_named("f", name, value, RowOptions::default());
        for name in ["{{Column}}", "[object Object]", "#REF!", "Sum #N/A"] {
            assert_eq!(named(name, json!(1)), Err(FieldError::NameNotInserted), "{name}");
            assert_eq!(named(name, json!("")), Ok(Cleaned::Omit), "{name}");
        }
    }

    #[test]
    fn text_too_long_only_by_stricter_count_is_sent_or_truncated() {
        let truncate = options(BlankPolicy::Omit, LongTextPolicy::Truncate);
        for (character, kept) in [("😀", 248), ("\"", 248), ("\n", 248)] {
            let text = format!("a{}", character.repeat(300));
            assert_eq!(cleaned(json!(text)), Ok(Cleaned::Send(json!(text))));
            let cut = format!("a{}…", character.repeat(kept));
            assert_eq!(clean_value("f", json!(text), truncate), Ok(Cleaned::SendAdjusted(json!(cut))));
        }
    }

    #[test]
    fn text_that_cannot_be_truncated_is_rejected() {
        let truncate = options(BlankPolicy::Omit, LongTextPolicy::Truncate);
        let marks = format!("e{}", "\u{301}".repeat(600));
        assert_eq!(clean_value("f", json!(marks), truncate), Err(FieldError::TooLongToTruncate(601)));
        let only_a_column_is_left = format!("{{{{{}}}}} words", "n".repeat(493));
        assert!(matches!(
            clean_value("f", json!(only_a_column_is_left), truncate),
            Err(FieldError::ColumnNotInserted(_))
        ));
    }

    #[test]
    fn text_over_498_characters_is_rejected_or_truncated() {
        let longest = "é".repeat(498);
        let longer = format!("{longest}é");
        assert_eq!(cleaned(json!(longest)), Ok(Cleaned::Send(json!(longest))));
        assert_eq!(cleaned(json!(longer)), Err(FieldError::TooLong(499)));
        let cut = format!("{}…", "é".repeat(497));
        assert_eq!(
            clean_value("f", json!(longer), options(BlankPolicy::Omit, LongTextPolicy::Truncate)),
            Ok(Cleaned::SendAdjusted(json!(cut)))
        );
    }

    #[test]
    fn number_over_500_characters_is_rejected() {
        let number = |digits: usize| lenient_json::parse_lenient(&"7".repeat(digits)).unwrap();
        assert_eq!(cleaned(number(500)), Ok(Cleaned::Send(number(500))));
        assert_eq!(cleaned(number(501)), Err(FieldError::TooLongToTruncate(501)));
    }

    #[test]
    fn number_that_no_double_holds_is_out_of_range() {
        for number in [
            "0",
            "-0.0",
            "0e99999999999999999999",
            "1.7976931348623157e308",
            "-1E308",
            "5e-324",
            "123456789012345678901",
        ] {
            assert!(is_in_range(number), "{number}");
        }
        for number in ["1e309", "-1e400", "1e99999999999999999999", "1e-400", &"9".repeat(400)] {
            assert!(!is_in_range(number), "{number}");
        }
    }

    #[test]
    fn list_or_object_value_is_rejected() {
        assert_eq!(cleaned(json!([])), Err(FieldError::NotScalar("a list")));
        assert_eq!(cleaned(json!({"a": 1})), Err(FieldError::NotScalar("an object")));
    }

    #[test]
    fn boolean_as_text_is_parsed_in_any_case() {
        for (value, expected) in [
            (json!(true), Ok(true)),
            (json!(" True\n"), Ok(true)),
            (json!("FALSE"), Ok(false)),
            (json!("yes"), Err(FieldError::NotABoolean(RedactedValue::new("f", &json!("yes"))))),
            (json!(1), Err(FieldError::NotABoolean(RedactedValue::new("f", &json!(1))))),
            (json!([true]), Err(FieldError::NotABoolean(RedactedValue::new("f", &json!([true]))))),
        ] {
            assert_eq!(parse_boolean("f", &value), expected, "{value}");
        }
    }
}
