//! Lenient parsing of a body: Clay inserts the values of columns into a text that its user typed.

use serde_json::{Map, Value};

use crate::error::{ErrorCode, RequestError};
use crate::placeholder::is_placeholder;
use crate::row::field_error::display_name;
use crate::row::json::error_location::{line_and_column, nearest_field, offset_in_string};
use crate::row::json::lenient_json::{self, JsonError, JsonErrorKind};
use crate::row::json::syntax_cause::{SyntaxCause, find_cause};
use crate::row::redacted_value::json_type_name;
use crate::text::trim_invisible;

/// Parses the fields of a row: a JSON object, or a JSON string that contains one.
pub(in crate::row) fn parse_fields(body: &[u8]) -> Result<Map<String, Value>, RequestError> {
    let text = decode_utf8(body)?;
    match lenient_json::parse_lenient(text) {
        _ if trim_invisible(text).is_empty() => Err(empty_body()),
        _ if trim_invisible(text).starts_with("```") => Err(code_fence()),
        Err(_) if is_word(text) && is_placeholder(text) => Err(placeholder()),
        _ if !looks_like_json(trim_invisible(text).as_bytes()) => Err(not_json()),
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(Value::String(embedded)) => parse_embedded(text, &embedded),
        Ok(other) => Err(not_an_object(&other)),
        Err(error) => Err(json_error((text, error.offset), text, &error)),
    }
}

/// Whether a body is a word or several and not an object, in which a value may be missing: `{"email":}`.
fn is_word(text: &str) -> bool {
    text.contains(char::is_alphanumeric) && !text.contains('{')
}

/// Parses the object in `embedded`, the decoded content of the JSON string `text`.
fn parse_embedded(text: &str, embedded: &str) -> Result<Map<String, Value>, RequestError> {
    let inner = lenient_json::without_byte_order_mark(embedded);
    match lenient_json::parse_lenient(inner) {
        _ if trim_invisible(inner).is_empty() => Err(empty_body()),
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(not_an_object(&other)),
        Err(error) => {
            let source_offset = offset_in_string(text, embedded.len() - inner.len() + error.offset);
            Err(json_error((text, source_offset), inner, &error))
        }
    }
}

fn decode_utf8(body: &[u8]) -> Result<&str, RequestError> {
    std::str::from_utf8(body).map(lenient_json::without_byte_order_mark).map_err(|error| {
        if !looks_like_json(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)) {
            return not_json();
        }
        let readable = String::from_utf8_lossy(body);
        let text = lenient_json::without_byte_order_mark(&readable);
        let offset = error.valid_up_to().saturating_sub(readable.len() - text.len());
        json_error((text, offset), text, &JsonError { offset, kind: JsonErrorKind::Syntax("not UTF-8".to_owned()) })
    })
}

/// Whether a body begins as JSON does. A form, XML, compressed data and UTF-16 do not.
fn looks_like_json(body: &[u8]) -> bool {
    body.trim_ascii_start().first().is_none_or(|byte| b"{[\"-tfn".contains(byte) || byte.is_ascii_digit())
}

fn code_fence() -> RequestError {
    RequestError::new(
        ErrorCode::InvalidJson,
        "The body begins with a code fence (```), which is not JSON: in Clay, let the column give the object alone, or take the \
         two lines with ``` out with a formula.",
    )
}

fn placeholder() -> RequestError {
    RequestError::new(
        ErrorCode::InvalidJson,
        "The body is a placeholder, such as undefined or [object Object], and not JSON: in Clay, write a JSON object into the \
         Body of the column, such as {\"email\": \"…\"}, and insert the columns into it with /.",
    )
}

fn not_json() -> RequestError {
    RequestError::new(
        ErrorCode::InvalidJson,
        "The body is not JSON but something else, such as a form, XML or compressed data: in Clay, the Body of the HTTP API \
         column must be JSON, an object such as {\"email\": \"…\"} with the columns inserted with /.",
    )
}

fn empty_body() -> RequestError {
    RequestError::new(
        ErrorCode::InvalidJson,
        "The body is empty, so there is no contact to send: in Clay, write a JSON object into the Body of the column, such \
         as {\"email\": \"…\"}, and insert the columns into it with /.",
    )
}

fn not_an_object(value: &Value) -> RequestError {
    let message = format!(
        "The body is {} and not a JSON object, so no value has a field's name: in Clay, write the Body of the column as one \
         object, such as {{\"email\": \"…\"}}.",
        json_type_name(value)
    );
    RequestError::new(ErrorCode::InvalidJson, message)
}

/// Returns the error of `json`, whose position in the body is `position`: a text and an offset in it.
fn json_error(position: (&str, usize), json: &str, error: &JsonError) -> RequestError {
    let (line, column) = line_and_column(position.0, position.1);
    let near_field = nearest_field(json, error.offset).map(|name| display_name(&name));
    let location_suffix = near_field.as_ref().map(|name| format!(", near the field \"{name}\"")).unwrap_or_default();
    let message = match &error.kind {
        JsonErrorKind::Syntax(reason) => {
            let SyntaxCause { what, advice } = find_cause(json, error.offset, reason);
            format!(
                "The body is not valid JSON at line {line}, column {column}{location_suffix} ({what}): in Clay, {advice}."
            )
        }
        JsonErrorKind::TooDeep => format!(
            "The body is nested more than {} levels deep at line {line}, column {column}{location_suffix}, and Loops takes no list or \
             object in a property: in Clay, insert a part of that column instead of all of it.",
            lenient_json::MAX_DEPTH
        ),
    };
    let error = RequestError::new(ErrorCode::InvalidJson, message);
    match near_field {
        Some(name) => error.with_field(name),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> String {
        Value::Object(parse_fields(body.as_bytes()).unwrap()).to_string()
    }

    fn parse_error(body: impl AsRef<[u8]>) -> RequestError {
        let error = parse_fields(body.as_ref()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidJson);
        error
    }

    #[test]
    fn object_in_any_clay_encoding_is_parsed() {
        for body in [
            r#"{"a":"x\ny"}"#,
            "\u{feff}{\"a\":\"x\\ny\"}",
            " {\n\"a\": \"x\ny\"\n}\n",
            r#""{\"a\":\"x\\ny\"}""#,
            r#" "{\n\"a\":\"x\ny\"}" "#,
            "\"{\\\"a\\\":\\\"x\ny\\\"}\"",
            "\u{feff}\"\u{feff}{\\\"a\\\":\\\"x\\\\ny\\\"}\"",
        ] {
            assert_eq!(parse(body), r#"{"a":"x\ny"}"#, "{body}");
        }
    }

    #[test]
    fn syntax_error_reports_line_column_and_nearest_field() {
        for (body, position, field) in [
            ("{\"email\":\"a@b.co\",\n \"bio\":\"He said \"hi\"\"}", "line 2, column 18", Some("bio")),
            ("{\"bio\":\"two\nlines\", \"x\": y}", "line 2, column 14", Some("x")),
            (r#"{"email":,"b":1}"#, "line 1, column 10", Some("email")),
            ("{\"é\": 'x'}", "line 1, column 7", Some("é")),
            (r#"{"email":"a@b.co""#, "line 1, column 17", Some("email")),
            (r#"{"a":1}{"b":2}"#, "line 1, column 8", Some("a")),
            (r#""{\"email\": x}""#, "line 1, column 14", Some("email")),
            ("\"{\\\"a\\\":\\\"é\n\\\",\\n\\\"b\\\":}\"", "line 2, column 12", Some("b")),
            ("\"hello\"", "line 1, column 2", None),
        ] {
            let error = parse_error(body);
            assert!(
                error.message().contains(&format!("{position}{}", if field.is_some() { "," } else { " " })),
                "{error:?}"
            );
            assert_eq!(error.field(), field, "{error:?}");
            assert!(error.message().contains("in Clay, "), "{error:?}");
        }
    }

    #[test]
    fn non_utf8_error_reports_position() {
        let error = parse_error(b"\xef\xbb\xbf{\"bio\":\"caf\xe9\"}");
        assert_eq!(error.field(), Some("bio"));
        assert!(error.message().contains("line 1, column 12, near the field \"bio\" (not UTF-8)"), "{error:?}");
    }

    #[test]
    fn non_json_body_error_says_json_is_required() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let bodies: [&[u8]; 9] = [
            b"hello",
            b"email=ada%40example.com&plan=pro",
            b" \n<row><email>a@b.co</email></row>",
            b"\xef\xbb\xbf<row/>",
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
            &utf16("\u{feff}{}"),
            b"'{}'",
            b"}",
            b"\xe9",
        ];
        for body in bodies {
            let error = parse_error(body);
            assert!(error.message().starts_with("The body is not JSON but something else"), "{body:?} {error:?}");
            assert!(error.message().contains("the Body of the HTTP API column must be JSON"), "{error:?}");
            assert_eq!(error.field(), None);
        }
        for body in [&b"{\"a\":x}"[..], b"[", b"\"", b"-", b"7x", b"tru", b"fals", b"nul", b"\xef\xbb\xbf{\xe9"] {
            assert!(parse_error(body).message().starts_with("The body is not valid JSON at line 1"), "{body:?}");
        }
    }

    #[test]
    fn empty_body_has_its_own_error_message() {
        for body in ["", " \n", "\u{feff}", "\"\"", "\" \""] {
            assert!(parse_error(body).message().starts_with("The body is empty"), "{body:?}");
        }
    }

    #[test]
    fn placeholder_in_place_of_body_is_named() {
        for body in ["undefined", "None", "NaN", "#N/A", "[object Object]", " n/a\n"] {
            assert!(parse_error(body).message().starts_with("The body is a placeholder"), "{body}");
        }
    }

    #[test]
    fn object_without_value_is_no_placeholder() {
        for (body, cause) in [
            (r#"{"email":}"#, "a value is missing after the colon"),
            ("{\"email\":\"\"", "a bracket that closes is missing"),
            ("{email}", "a name without quotes"),
            ("{{Email}}", "a column's name that was typed"),
        ] {
            let error = parse_error(body);
            assert!(error.message().starts_with("The body is not valid JSON at line 1"), "{error:?}");
            assert!(error.message().contains(cause), "{error:?}");
        }
    }

    #[test]
    fn non_object_json_is_rejected() {
        for (body, kind) in [
            ("[{}]", "a list"),
            ("null", "null"),
            ("7", "a number"),
            ("true", "true or false"),
            (r#""[1]""#, "a list"),
            (r#""\"{}\"""#, "a text"),
        ] {
            assert!(
                parse_error(body).message().starts_with(&format!("The body is {kind} and not a JSON object")),
                "{body}"
            );
        }
    }

    #[test]
    fn long_field_name_is_truncated_in_field_and_message() {
        let error = parse_error(format!("{{\"{}\":x}}", "n".repeat(1000)));
        assert_eq!(error.field().map(|field| field.chars().count()), Some(60));
        assert!(error.message().ends_with("around a text column."), "{error:?}");
        for rest in ["True", "", "\"\\q\"", "\"\"x\"\"", "\"x", "undefined", "{{Column}}", "1,000", "'x'"] {
            let error = parse_error(format!("{}{{\"{}\":{rest}}}", "\n".repeat(100_000), "n".repeat(1000)));
            assert!(error.message().ends_with('.'), "{error:?}");
        }
    }

    #[test]
    fn code_fence_is_named() {
        for body in ["```json\n{\"email\":\"a@b.co\"}\n```", "\"```json\\n{}\\n```\""] {
            assert!(parse_error(body).message().contains("a code fence (```)"), "{body}");
        }
    }

    #[test]
    fn deeply_nested_body_does_not_overflow_stack() {
        for bracket in ["[", "{\"a\":", "{", "\"["] {
            parse_error(bracket.repeat(256 * 1024 / bracket.len()));
        }
        let (opening, closing) = ("[".repeat(128 * 1024), "]".repeat(128 * 1024));
        let error = parse_error(format!("{{\"{}\":{opening}{closing}}}", "n".repeat(60)));
        assert!(error.message().contains("nested more than 32 levels deep at line 1, column 96, near"), "{error:?}");
        assert!(error.message().ends_with("in Clay, insert a part of that column instead of all of it."), "{error:?}");
        assert!(!error.message().contains("quotes") && !error.message().contains("not valid"), "{error:?}");
        let embedded = format!("\"{{\\\"a\\\":{opening}{closing}}}\"");
        assert_eq!(parse_error(embedded).field(), Some("a"));
    }
}
