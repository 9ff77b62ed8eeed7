//! The rules that hold for every value, at the top level of a row and inside `eventProperties`.

use serde_json::Value;

use crate::row::field_error::{Problem, kind_of};
use crate::row::options::{Blank, Long, RowOptions};
use crate::row::redacted_value::Arrived;
use crate::text::shorten;

/// The longest text that is sent: Loops takes 500 characters of a value, its quotes included (Loops docs, API intro,
/// "Debugging").
pub(super) const TEXT_CHARACTERS: usize = 498;
/// The longest number that is sent, for the same reason.
const NUMBER_CHARACTERS: usize = 500;

/// What is done with a value that has nothing wrong with it.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// It is sent like this.
    Send(Value),
    /// It is sent like this, and something was cut off.
    Cut(Value),
    /// It is blank, and left out.
    LeaveOut,
}

/// What is done with a value for whose field there is no rule.
pub(super) fn ordinary(field: &str, value: Value, options: RowOptions) -> Result<Outcome, Problem> {
    let Some(value) = filled(field, value)? else {
        return Ok(blank(options));
    };
    match value {
        Value::String(text) => match (fits(&text), options.long) {
            (Ok(()), _) => Ok(Outcome::Send(Value::String(text))),
            (Err(_), Long::Truncate) => Ok(Outcome::Cut(Value::String(shorten(&text, TEXT_CHARACTERS)))),
            (Err(length), Long::Reject) => Err(Problem::TooLong(length)),
        },
        Value::Array(_) | Value::Object(_) => Err(Problem::Compound(kind_of(&value))),
        Value::Number(number) if number.as_str().len() > NUMBER_CHARACTERS => {
            Err(Problem::TooLongForAName(number.as_str().len()))
        }
        scalar => Ok(Outcome::Send(scalar)),
    }
}

/// The same for a value with a name of its own: Loops counts the characters of names like those of values.
pub(super) fn named(path: &str, name: &str, value: Value, options: RowOptions) -> Result<Outcome, Problem> {
    match ordinary(path, value, options)? {
        Outcome::LeaveOut => Ok(Outcome::LeaveOut),
        sent => fits(name).map(|()| sent).map_err(Problem::NameTooLong),
    }
}

/// The value, if it is not blank and a column's name was not typed in its place.
pub(super) fn filled(field: &str, value: Value) -> Result<Option<Value>, Problem> {
    match &value {
        Value::Null => Ok(None),
        Value::String(text) if is_blank(text) => Ok(None),
        Value::String(text) if is_column_name(text) => Err(Problem::NotInserted(Arrived::of(field, &value))),
        _ => Ok(Some(value)),
    }
}

/// What is done with a blank value that may be emptied in Loops.
pub(super) const fn blank(options: RowOptions) -> Outcome {
    match options.blank {
        Blank::Omit => Outcome::LeaveOut,
        Blank::Clear => Outcome::Send(Value::Null),
    }
}

/// Whether a text says nothing. A quoted chip of an empty cell may arrive as the words `null` and `undefined`.
pub(super) fn is_blank(text: &str) -> bool {
    matches!(text.trim(), "" | "null" | "undefined")
}

/// Whether a text is what Clay sends for a column that was typed by name, or for an object in a formula (Clay docs,
/// "HTTP API": token and formula mode).
pub(super) fn is_column_name(text: &str) -> bool {
    let text = text.trim();
    text == "[object Object]" || (text.starts_with("{{") && text.ends_with("}}"))
}

/// A boolean, or a text that says one.
pub(super) fn boolean(field: &str, value: &Value) -> Result<bool, Problem> {
    match value {
        Value::Bool(boolean) => Ok(*boolean),
        Value::String(text) if text.trim().eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.trim().eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(Problem::NotABoolean(Arrived::of(field, value))),
    }
}

/// Whether Loops takes a text of that length, and the length if not.
pub(super) fn fits(text: &str) -> Result<(), usize> {
    // Bytes are never fewer than characters, so most texts need no counting.
    if text.len() <= TEXT_CHARACTERS {
        return Ok(());
    }
    match text.chars().count() {
        0..=TEXT_CHARACTERS => Ok(()),
        length => Err(length),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::row::lenient_json;

    fn options(blank: Blank, long: Long) -> RowOptions {
        RowOptions { blank, long, ..RowOptions::default() }
    }

    fn cleaned(value: Value) -> Result<Outcome, Problem> {
        ordinary("f", value, RowOptions::default())
    }

    #[test]
    fn blanks_are_left_out_or_sent_as_null() {
        let clear = options(Blank::Clear, Long::Reject);
        for value in
            [json!(null), json!(""), json!(" \n\t\u{a0}"), json!("null"), json!(" undefined "), json!("undefined")]
        {
            assert_eq!(cleaned(value.clone()), Ok(Outcome::LeaveOut), "{value}");
            assert_eq!(ordinary("f", value.clone(), clear), Ok(Outcome::Send(Value::Null)), "{value}");
        }
    }

    #[test]
    fn what_only_looks_blank_is_passed_on() {
        for value in [json!("NULL"), json!("null and void"), json!("0"), json!(0), json!(false), json!("-")] {
            assert_eq!(cleaned(value.clone()), Ok(Outcome::Send(value)));
        }
    }

    #[test]
    fn a_column_that_was_not_inserted_is_noticed() {
        for text in ["[object Object]", " [object Object]\n", "{{Company}}", " {{ Company Name }} ", "{{}}"] {
            assert_eq!(cleaned(json!(text)), Err(Problem::NotInserted(Arrived::of("f", &json!(text)))), "{text}");
        }
        for text in ["see [object Object]", "{{Company", "Hi {{name}}", "{Company}", "/Company", "[object object]"] {
            assert_eq!(cleaned(json!(text)), Ok(Outcome::Send(json!(text))), "{text}");
        }
    }

    #[test]
    fn a_text_has_at_most_498_characters() {
        let longest = "é".repeat(498);
        let longer = format!("{longest}é");
        assert_eq!(cleaned(json!(longest)), Ok(Outcome::Send(json!(longest))));
        assert_eq!(cleaned(json!(longer)), Err(Problem::TooLong(499)));
        let cut = format!("{}…", "é".repeat(497));
        assert_eq!(ordinary("f", json!(longer), options(Blank::Omit, Long::Truncate)), Ok(Outcome::Cut(json!(cut))));
    }

    #[test]
    fn a_number_has_at_most_500_characters() {
        let number = |digits: usize| lenient_json::read_generously(&"7".repeat(digits)).unwrap();
        assert_eq!(cleaned(number(500)), Ok(Outcome::Send(number(500))));
        assert_eq!(cleaned(number(501)), Err(Problem::TooLongForAName(501)));
    }

    #[test]
    fn lists_and_objects_are_refused() {
        assert_eq!(cleaned(json!([])), Err(Problem::Compound("a list")));
        assert_eq!(cleaned(json!({"a": 1})), Err(Problem::Compound("an object")));
    }

    #[test]
    fn a_boolean_may_come_as_text_in_any_case() {
        for (value, expected) in [
            (json!(true), Ok(true)),
            (json!(" True\n"), Ok(true)),
            (json!("FALSE"), Ok(false)),
            (json!("yes"), Err(Problem::NotABoolean(Arrived::of("f", &json!("yes"))))),
            (json!(1), Err(Problem::NotABoolean(Arrived::of("f", &json!(1))))),
            (json!([true]), Err(Problem::NotABoolean(Arrived::of("f", &json!([true]))))),
        ] {
            assert_eq!(boolean("f", &value), expected, "{value}");
        }
    }
}
