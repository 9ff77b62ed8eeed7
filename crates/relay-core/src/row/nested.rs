//! Fields that contain other fields: before the cleaning, those that came as text are parsed, and all are counted.

use serde_json::{Map, Value};

use super::RowKind;
use crate::error::{ErrorCode, RequestError};
use crate::row::field_error::display_name;
use crate::row::json::lenient_json;
use crate::row::sanitizer::Sanitizer;

/// Maximum number of fields in a row, those in `eventProperties` and the ids of `mailingLists` included: more than an
/// account can define in Loops, and few enough to be cleaned without delay.
const MAX_FIELDS: usize = 500;

/// Parses the fields that contain others where they came as text, and sanitizes what is in them.
pub(super) fn parse_nested_fields(kind: RowKind, fields: &mut Map<String, Value>, sanitizer: &mut Sanitizer) {
    parse_embedded_objects(kind, fields);
    for name in nested_fields(kind) {
        if let Some(value) = fields.get_mut(*name) {
            *value = sanitizer.sanitize_nested(name, value.take());
        }
    }
}

/// Replaces the text in a nested field by the object or list that it contains. A formula column in Clay can only give
/// text.
fn parse_embedded_objects(kind: RowKind, fields: &mut Map<String, Value>) {
    for name in nested_fields(kind) {
        let Some(Value::String(text)) = fields.get(*name) else { continue };
        let embedded = lenient_json::parse_lenient(lenient_json::without_byte_order_mark(text));
        if let (Ok(value @ (Value::Object(_) | Value::Array(_))), Some(field)) = (embedded, fields.get_mut(*name)) {
            *field = value;
        }
    }
}

/// Rejects a row with too many fields.
pub(super) fn check_field_count(kind: RowKind, fields: &Map<String, Value>) -> Result<(), RequestError> {
    let mut count = fields.len();
    let mut excess_field = fields.keys().nth(MAX_FIELDS).map(String::as_str);
    for name in nested_fields(kind) {
        count += fields.get(*name).map_or(0, nested_count);
        if count > MAX_FIELDS {
            excess_field = excess_field.or(Some(*name));
        }
    }
    let Some(excess_field) = excess_field else { return Ok(()) };
    let message = format!(
        "The row has {count} fields and the relay takes {MAX_FIELDS}, those in eventProperties and the ids of mailingLists \
         included: in Clay, take the ones that Loops does not know out of the Body of the column."
    );
    Err(RequestError::new(ErrorCode::InvalidField, message).with_field(display_name(excess_field)))
}

fn nested_count(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    }
}

/// A contact has no event properties: there, a field of that name is an ordinary one.
const fn nested_fields(kind: RowKind) -> &'static [&'static str] {
    match kind {
        RowKind::Contact | RowKind::Create => &["mailingLists"],
        RowKind::Delete => &[],
        RowKind::Email => &["dataVariables", "attachments"],
        RowKind::Event => &["mailingLists", "eventProperties"],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse_nested(kind: RowKind, value: Value) -> Value {
        let mut fields = Map::from_iter([("eventProperties".to_owned(), value)]);
        parse_embedded_objects(kind, &mut fields);
        fields.remove("eventProperties").unwrap()
    }

    #[test]
    fn text_with_object_or_list_is_replaced_by_parsed_value() {
        for (text, expected) in [
            (r#"{"plan":"pro"}"#, json!({"plan": "pro"})),
            ("\u{feff} {\"note\":\"two\nlines\"} ", json!({"note": "two\nlines"})),
            (r#"["a"]"#, json!(["a"])),
        ] {
            assert_eq!(parse_nested(RowKind::Event, json!(text)), expected, "{text}");
        }
    }

    #[test]
    fn other_text_is_unchanged() {
        for text in ["", "null", "7", "pro", "{plan}", "{{Properties}}", "[object Object]", r#""{}""#] {
            assert_eq!(parse_nested(RowKind::Event, json!(text)), json!(text));
        }
        assert_eq!(parse_nested(RowKind::Contact, json!("{}")), json!("{}"));
    }

    #[test]
    fn mailing_list_ids_count_towards_field_limit() {
        let object = |count: usize| Value::Object((0..count).map(|n| (format!("l{n}"), json!(true))).collect());
        let list = |count: usize| Value::from((0..count).map(|n| format!("l{n}")).collect::<Vec<_>>());
        for lists in [object, list] as [fn(usize) -> Value; 2] {
            let row = |count| {
                Map::from_iter([("email".to_owned(), json!("a@b.co")), ("mailingLists".to_owned(), lists(count))])
            };
            for kind in [RowKind::Contact, RowKind::Event] {
                assert!(check_field_count(kind, &row(498)).is_ok());
                let error = check_field_count(kind, &row(499)).unwrap_err();
                assert_eq!((error.code(), error.field()), (ErrorCode::InvalidField, Some("mailingLists")));
                assert!(error.message().starts_with("The row has 501 fields"), "{error:?}");
            }
        }
    }

    #[test]
    fn row_over_500_fields_with_nested_ones_is_rejected() {
        let object = |count: usize| (0..count).map(|n| (format!("f{n}"), json!(n))).collect::<Map<_, _>>();
        let with_properties = |top: usize, inner: usize| {
            let mut fields = object(top - 1);
            fields.insert("eventProperties".to_owned(), Value::Object(object(inner)));
            fields
        };
        assert!(check_field_count(RowKind::Contact, &object(500)).is_ok());
        assert!(check_field_count(RowKind::Event, &with_properties(250, 250)).is_ok());
        for (kind, fields, expected_field) in
            [(RowKind::Contact, object(501), "f500"), (RowKind::Event, with_properties(250, 251), "eventProperties")]
        {
            let error = check_field_count(kind, &fields).unwrap_err();
            assert_eq!((error.code(), error.field()), (ErrorCode::InvalidField, Some(expected_field)));
            assert!(error.message().starts_with("The row has 501 fields"), "{error:?}");
        }
    }
}
