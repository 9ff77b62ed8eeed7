//! Reads a body generously: what Clay sends is what a person typed between quotes.

use serde_json::{Map, Value};

use crate::error::{ErrorCode, RequestError};
use crate::row::error_location;
use crate::row::field_error::{display_name, json_type_name};
use crate::row::lenient_json::{self, JsonError, JsonErrorKind};

/// The fields of a row: a JSON object, or a JSON string that holds one.
pub(super) fn parse_fields(body: &[u8]) -> Result<Map<String, Value>, RequestError> {
    let text = utf8(body)?;
    match lenient_json::parse_lenient(text) {
        _ if text.trim().is_empty() => Err(empty()),
        _ if !looks_like_json(text.as_bytes()) => Err(not_json()),
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(Value::String(held)) => parse_embedded(text, &held),
        Ok(other) => Err(not_an_object(&other)),
        Err(error) => {
            Err(syntax_error(text, error.offset, error_location::nearest_field(text, error.offset), &error.reason))
        }
    }
}

/// The fields of an object that the text of a JSON string holds.
fn parse_embedded(text: &str, held: &str) -> Result<Map<String, Value>, RequestError> {
    let inner = lenient_json::without_byte_order_mark(held);
    match lenient_json::parse_lenient(inner) {
        _ if inner.trim().is_empty() => Err(empty()),
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(not_an_object(&other)),
        Err(JsonError { offset, reason }) => {
            let written = error_location::offset_in_string(text, held.len() - inner.len() + offset);
            Err(syntax_error(text, written, error_location::nearest_field(inner, offset), &reason))
        }
    }
}

fn utf8(body: &[u8]) -> Result<&str, RequestError> {
    std::str::from_utf8(body).map(lenient_json::without_byte_order_mark).map_err(|error| {
        if !looks_like_json(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)) {
            return not_json();
        }
        let readable = String::from_utf8_lossy(body);
        let text = lenient_json::without_byte_order_mark(&readable);
        let offset = error.valid_up_to().saturating_sub(readable.len() - text.len());
        syntax_error(
            text,
            offset,
            error_location::nearest_field(text, offset),
            &JsonErrorKind::Broken("not UTF-8".to_owned()),
        )
    })
}

/// Whether a body begins as JSON does. A form, XML, and what is compressed or in UTF-16 do not.
fn looks_like_json(body: &[u8]) -> bool {
    body.trim_ascii_start().first().is_none_or(|byte| b"{[\"-tfn".contains(byte) || byte.is_ascii_digit())
}

fn not_json() -> RequestError {
    RequestError::new(
        ErrorCode::InvalidJson,
        "The body is not JSON but something else, such as a form, XML or compressed data: in Clay, the Body of the HTTP API \
         column must be JSON, an object such as {\"email\": \"…\"} with the columns inserted with /.",
    )
}

fn empty() -> RequestError {
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

fn syntax_error(text: &str, offset: usize, nearest: Option<String>, reason: &JsonErrorKind) -> RequestError {
    let (line, column) = error_location::line_and_column(text, offset);
    let nearest = nearest.map(|name| display_name(&name));
    let beside = nearest.as_ref().map(|name| format!(", near the field \"{name}\"")).unwrap_or_default();
    let message = match reason {
        JsonErrorKind::Broken(reason) => format!(
            "The body is not valid JSON at line {line}, column {column}{beside} ({reason}): in Clay, insert each column with \
             / and put one pair of double quotes around a text column."
        ),
        JsonErrorKind::TooDeep => format!(
            "The body is nested more than {} levels deep at line {line}, column {column}{beside}, and Loops takes no list or \
             object in a property: in Clay, insert a part of that column instead of all of it.",
            lenient_json::MAX_DEPTH
        ),
    };
    let refusal = RequestError::new(ErrorCode::InvalidJson, message);
    match nearest {
        Some(name) => refusal.with_field(name),
        None => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> String {
        Value::Object(parse_fields(body.as_bytes()).unwrap()).to_string()
    }

    fn refused(body: impl AsRef<[u8]>) -> RequestError {
        let refusal = parse_fields(body.as_ref()).unwrap_err();
        assert_eq!(refusal.code(), ErrorCode::InvalidJson);
        refusal
    }

    #[test]
    fn what_clay_makes_of_an_object_is_read() {
        for body in [
            r#"{"a":"x\ny"}"#,
            "\u{feff}{\"a\":\"x\\ny\"}",
            " {\n\"a\": \"x\ny\"\n}\n",
            r#""{\"a\":\"x\\ny\"}""#,
            r#" "{\n\"a\":\"x\ny\"}" "#,
            "\"{\\\"a\\\":\\\"x\ny\\\"}\"",
            "\u{feff}\"\u{feff}{\\\"a\\\":\\\"x\\\\ny\\\"}\"",
        ] {
            assert_eq!(read(body), r#"{"a":"x\ny"}"#, "{body}");
        }
    }

    #[test]
    fn other_broken_json_is_refused_with_line_column_and_nearest_field() {
        for (body, at, field) in [
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
            let refusal = refused(body);
            assert!(
                refusal.message().contains(&format!("{at}{}", if field.is_some() { "," } else { " " })),
                "{refusal:?}"
            );
            assert_eq!(refusal.field(), field, "{refusal:?}");
            assert!(refusal.message().contains("in Clay, insert each column with /"), "{refusal:?}");
        }
    }

    #[test]
    fn what_is_not_utf8_is_refused_where_it_stands() {
        let refusal = refused(b"\xef\xbb\xbf{\"bio\":\"caf\xe9\"}");
        assert_eq!(refusal.field(), Some("bio"));
        assert!(refusal.message().contains("line 1, column 12, near the field \"bio\" (not UTF-8)"), "{refusal:?}");
    }

    #[test]
    fn what_is_not_json_at_all_is_told_that_it_must_be() {
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
            let refusal = refused(body);
            assert!(refusal.message().starts_with("The body is not JSON but something else"), "{body:?} {refusal:?}");
            assert!(refusal.message().contains("the Body of the HTTP API column must be JSON"), "{refusal:?}");
            assert_eq!(refusal.field(), None);
        }
        for body in [&b"{\"a\":x}"[..], b"[", b"\"", b"-", b"7x", b"tru", b"fals", b"nul", b"\xef\xbb\xbf{\xe9"] {
            assert!(refused(body).message().starts_with("The body is not valid JSON at line 1"), "{body:?}");
        }
    }

    #[test]
    fn an_empty_body_has_its_own_sentence() {
        for body in ["", " \n", "\u{feff}", "\"\"", "\" \""] {
            assert!(refused(body).message().starts_with("The body is empty"), "{body:?}");
        }
    }

    #[test]
    fn json_that_is_no_object_is_refused() {
        for (body, kind) in [
            ("[{}]", "a list"),
            ("null", "null"),
            ("7", "a number"),
            ("true", "true or false"),
            (r#""[1]""#, "a list"),
            (r#""\"{}\"""#, "a text"),
        ] {
            assert!(
                refused(body).message().starts_with(&format!("The body is {kind} and not a JSON object")),
                "{body}"
            );
        }
    }

    #[test]
    fn a_long_name_is_cut_in_field_and_message() {
        let refusal = refused(format!("{{\"{}\":x}}", "n".repeat(1000)));
        assert_eq!(refusal.field().map(|field| field.chars().count()), Some(60));
        assert!(refusal.message().ends_with("around a text column."), "{refusal:?}");
    }

    #[test]
    fn a_body_of_brackets_ends_without_exhausting_the_stack() {
        for bracket in ["[", "{\"a\":", "{", "\"["] {
            refused(bracket.repeat(256 * 1024 / bracket.len()));
        }
        let (opening, closing) = ("[".repeat(128 * 1024), "]".repeat(128 * 1024));
        let refusal = refused(format!("{{\"{}\":{opening}{closing}}}", "n".repeat(60)));
        assert!(
            refusal.message().contains("nested more than 32 levels deep at line 1, column 96, near"),
            "{refusal:?}"
        );
        assert!(
            refusal.message().ends_with("in Clay, insert a part of that column instead of all of it."),
            "{refusal:?}"
        );
        assert!(!refusal.message().contains("quotes") && !refusal.message().contains("not valid"), "{refusal:?}");
        let held = format!("\"{{\\\"a\\\":{opening}{closing}}}\"");
        assert_eq!(refused(held).field(), Some("a"));
    }
}
