//! A JSON parser for Clay rows, which accepts raw control characters in strings and locates errors.
//!
//! Values are parsed from their raw text, because serde_json's own [`Value`] takes an object with a certain key for a
//! number and writes `1E5` as `1e+5`.

use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use crate::json_fields::JsonFields;
use crate::row::json::scanner;

/// Maximum nesting. Loops takes none below `eventProperties` and `mailingLists`.
pub(in crate::row) const MAX_DEPTH: usize = 32;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct JsonError {
    /// The invalid byte, or the end of the text if something is missing there.
    pub(in crate::row) offset: usize,
    pub(in crate::row) kind: JsonErrorKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JsonErrorKind {
    /// The text is not JSON, for a reason in a few words that quote nothing of it.
    Syntax(String),
    /// The text is JSON, but nested too deep.
    TooDeep,
}

impl JsonError {
    fn new(text: &str, part: &str, error: &serde_json::Error) -> Self {
        let start = part.as_ptr().addr().saturating_sub(text.as_ptr().addr());
        let offset = if error.is_eof() {
            part.len()
        } else {
            let line_start: usize = part.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
            (line_start + error.column()).saturating_sub(1)
        };
        let reason = error.to_string();
        let reason = match reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason) {
            // For `nope` serde_json reports that it expects the rest of `null`.
            "expected ident" => "expected value",
            reason => reason,
        };
        Self { offset: text.floor_char_boundary(start + offset), kind: JsonErrorKind::Syntax(reason.to_owned()) }
    }
}

/// Parses a JSON text; if it is invalid, parses it once more with the line breaks, tabs and other control characters
/// inside its strings escaped, and with what [`scanner::with_readable_characters`] replaces.
pub(crate) fn parse_lenient(text: &str) -> Result<Value, JsonError> {
    let strict = parse_strict(text);
    if strict.is_ok() {
        return strict;
    }
    let readable = scanner::with_readable_characters(text);
    let text = readable.as_deref().unwrap_or(text);
    match scanner::without_raw_controls(text, escape) {
        None if readable.is_none() => strict,
        None => parse_strict(text),
        Some(escaped) => parse_strict(&escaped).map_err(|error| locate_error(text).unwrap_or(error)),
    }
}

pub(in crate::row) fn without_byte_order_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn escape(text: &mut String, control: char) {
    text.push_str(&format!("\\u{:04x}", u32::from(control)));
}

/// Finds the error in a text with raw control characters. Each of them is replaced by one byte, so that offsets stay.
fn locate_error(text: &str) -> Option<JsonError> {
    parse_strict(&scanner::without_raw_controls(text, |text, _| text.push(' '))?).err()
}

fn parse_strict(text: &str) -> Result<Value, JsonError> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| JsonError::new(text, text, &error))?;
    if let Some(offset) = scanner::deeper_than(MAX_DEPTH, text) {
        return Err(JsonError { offset, kind: JsonErrorKind::TooDeep });
    }
    parse_value(text, raw)
}

/// Parses a value, which is a part of `text`. Recursion is bounded by [`MAX_DEPTH`].
fn parse_value(text: &str, raw: &RawValue) -> Result<Value, JsonError> {
    let json = raw.get();
    let error = |error| JsonError::new(text, json, &error);
    match json.bytes().next() {
        Some(b'{') => {
            let JsonFields::<String>(fields) = serde_json::from_str(json).map_err(error)?;
            let parsed = fields.into_iter().map(|(name, raw)| Ok((name, parse_value(text, raw)?)));
            Ok(Value::Object(parsed.collect::<Result<Map<_, _>, _>>()?))
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json).map_err(error)?;
            Ok(Value::Array(items.into_iter().map(|raw| parse_value(text, raw)).collect::<Result<_, _>>()?))
        }
        Some(b'"') => Ok(Value::String(serde_json::from_str(json).map_err(error)?)),
        Some(b't') => Ok(Value::Bool(true)),
        Some(b'f') => Ok(Value::Bool(false)),
        Some(b'n') => Ok(Value::Null),
        // The raw text is a valid number, and parsing it would normalise its exponent.
        _ => Ok(Value::Number(Number::from_string_unchecked(json.to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_offset(text: &str) -> usize {
        parse_lenient(text).unwrap_err().offset
    }

    #[test]
    fn number_spelling_is_preserved() {
        let text = r#"{"a":123456789012345678901,"b":1.0,"c":1E5,"d":-0,"e":1e999,"f":[1E+05]}"#;
        assert_eq!(parse_lenient(text).unwrap().to_string(), text);
    }

    #[test]
    fn serde_json_private_keys_have_no_special_meaning() {
        for text in [
            r#"{"$serde_json::private::Number":"1"}"#,
            r#"{"a":{"$serde_json::private::RawValue":"{\"b\":1}"}}"#,
            r#"{"a":[{"$serde_json::private::Number":"x"}]}"#,
        ] {
            assert_eq!(parse_lenient(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn repeated_key_uses_last_value() {
        assert_eq!(parse_lenient(r#"{"a":1,"b":2,"a":3}"#).unwrap().to_string(), r#"{"a":3,"b":2}"#);
        assert_eq!(parse_lenient(r#"{"a":1,"\u0061":2}"#).unwrap().to_string(), r#"{"a":2}"#);
    }

    #[test]
    fn raw_control_characters_in_strings_are_accepted() {
        let parsed = parse_lenient("{\n\t\"a\":\"x\ny\tz\r\u{0}\u{1f}\",\"b\nc\":1}").unwrap();
        assert_eq!(parsed, serde_json::json!({"a": "x\ny\tz\r\u{0}\u{1f}", "b\nc": 1}));
    }

    #[test]
    fn what_looks_like_a_space_between_tokens_is_accepted() {
        let parsed = parse_lenient("\u{feff}{\n\u{a0}\u{a0}\"a\"\u{200b}:\u{3000}[1,\u{ad}2]\u{0}}\u{85}").unwrap();
        assert_eq!(parsed, serde_json::json!({"a": [1, 2]}));
    }

    #[test]
    fn half_surrogate_pair_is_accepted_in_names_and_values() {
        let parsed = parse_lenient(r#"{"a\ud83d":["\ude00x","\ud83d\ude00"]}"#).unwrap();
        assert_eq!(parsed, serde_json::json!({"a\u{fdd0}": ["\u{fdd0}x", "😀"]}));
    }

    #[test]
    fn error_offset_points_at_offending_byte() {
        for (text, offset) in [
            (r#"{"a":x}"#, 5),
            (r#"{"a":"He said "hi""}"#, 15),
            (r#"{"a":1,}"#, 7),
            ("{\n \"é\":1,\n b:2}", 12),
            (r#"{"a":"\q"}"#, 7),
            ("{\u{a0}\"a\":\"\\ud83d\",\u{200b}b:2}", 19),
            (r#"{"a":1} x"#, 8),
            (r#"{"a":01}"#, 6),
            ("{\"a\":\"x\ny\",\"b\":x}", 15),
            ("{\"a\":\"x\\\ny\"}", 8),
        ] {
            assert_eq!(error_offset(text), offset, "{text}");
        }
    }

    #[test]
    fn truncated_json_error_is_at_end_of_text() {
        for text in ["{", r#"{"a":"x"#, r#"{"a":[1,"#, "{\"a\":\"x\ny", "{\"a\":1,\n"] {
            assert_eq!(error_offset(text), text.len(), "{text}");
        }
    }

    #[test]
    fn syntax_error_description_has_no_position() {
        for (text, reason) in [(r#"{"a" 1}"#, "expected `:`"), (r#"{"a": nope}"#, "expected value")] {
            assert_eq!(parse_lenient(text).unwrap_err().kind, JsonErrorKind::Syntax(reason.to_owned()));
        }
    }

    #[test]
    fn nesting_over_32_levels_is_rejected() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse_lenient(&nested(32)).is_ok());
        let error = parse_lenient(&nested(33)).unwrap_err();
        assert_eq!((error.offset, error.kind), (32, JsonErrorKind::TooDeep));
    }
}
