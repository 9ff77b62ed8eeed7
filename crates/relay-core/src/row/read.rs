//! Reads a body generously: what Clay sends is what a person typed between quotes.

use serde_json::{Map, Value};

use super::json::{self, Fault};
use super::locate;
use super::problem::{kind_of, shown};
use crate::refusal::{Code, Refusal};

/// The fields of a row: a JSON object, or a JSON string that holds one.
pub(super) fn fields_of(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let text = utf8(body)?;
    match json::read_generously(text) {
        _ if text.trim().is_empty() => Err(empty()),
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(Value::String(held)) => fields_of_held(text, &held),
        Ok(other) => Err(no_object(&other)),
        Err(fault) => Err(broken(text, fault.offset, locate::nearest_field(text, fault.offset), &fault.reason)),
    }
}

/// The fields of an object that the text of a JSON string holds.
fn fields_of_held(text: &str, held: &str) -> Result<Map<String, Value>, Refusal> {
    let inner = json::without_byte_order_mark(held);
    match json::read_generously(inner) {
        _ if inner.trim().is_empty() => Err(empty()),
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(no_object(&other)),
        Err(Fault { offset, reason }) => {
            let written = locate::offset_in_string(text, held.len() - inner.len() + offset);
            Err(broken(text, written, locate::nearest_field(inner, offset), &reason))
        }
    }
}

fn utf8(body: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(body).map(json::without_byte_order_mark).map_err(|error| {
        let readable = String::from_utf8_lossy(body);
        let text = json::without_byte_order_mark(&readable);
        let offset = error.valid_up_to().saturating_sub(readable.len() - text.len());
        broken(text, offset, locate::nearest_field(text, offset), "not UTF-8")
    })
}

fn empty() -> Refusal {
    Refusal::new(
        Code::InvalidJson,
        "The body is empty, so there is no contact to send: in Clay, write a JSON object into the Body of the column, such \
         as {\"email\": \"…\"}, and insert the columns into it with /.",
    )
}

fn no_object(value: &Value) -> Refusal {
    let message = format!(
        "The body is {} and not a JSON object, so no value has a field's name: in Clay, write the Body of the column as one \
         object, such as {{\"email\": \"…\"}}.",
        kind_of(value)
    );
    Refusal::new(Code::InvalidJson, message)
}

fn broken(text: &str, offset: usize, nearest: Option<String>, reason: &str) -> Refusal {
    let (line, column) = locate::line_and_column(text, offset);
    let nearest = nearest.map(|name| shown(&name));
    let beside = nearest.as_ref().map(|name| format!(", near the field \"{name}\"")).unwrap_or_default();
    let message = format!(
        "The body is not valid JSON at line {line}, column {column}{beside} ({reason}): in Clay, insert each column with / \
         and put one pair of double quotes around a text column."
    );
    let refusal = Refusal::new(Code::InvalidJson, message);
    match nearest {
        Some(name) => refusal.with_field(name),
        None => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> String {
        Value::Object(fields_of(body.as_bytes()).unwrap()).to_string()
    }

    fn refused(body: impl AsRef<[u8]>) -> Refusal {
        let refusal = fields_of(body.as_ref()).unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidJson);
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
            ("hello", "line 1, column 1", None),
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
        assert!(refused(format!("{opening}{closing}")).message().contains("nested more than 32 levels deep"));
        let held = format!("\"{{\\\"a\\\":{opening}{closing}}}\"");
        assert_eq!(refused(held).field(), Some("a"));
    }
}
