//! The fields that have rules of their own, except those that contain other fields.

use serde_json::Value;

use crate::placeholder::{has_uninserted_column, is_placeholder, is_placeholder_id};
use crate::row::email;
use crate::row::field_error::FieldError;
use crate::row::redacted_value::{RedactedValue, json_type_name};
use crate::row::values::{self, Cleaned};
use crate::text::trim_invisible;

/// `email`: an address, out of what may stand around it. Never emptied and never cut, because it identifies the contact.
pub(super) fn clean_email(value: Value) -> Result<Cleaned, FieldError> {
    let Some(value) = require_identity("email", value)? else { return Ok(Cleaned::Omit) };
    let Value::String(text) = &value else { return Err(FieldError::NotText(json_type_name(&value))) };
    values::check_len(trim_invisible(text)).map_err(FieldError::TooLongToTruncate)?;
    match email::parse_address(text) {
        Some(address) if address.unwrapped => Ok(Cleaned::SendAdjusted(address.text.into())),
        Some(address) => Ok(Cleaned::Send(address.text.into())),
        None => Err(FieldError::NotAnAddress(RedactedValue::new("email", &value))),
    }
}

/// `userId`: a text, trimmed, a number as text (Loops API reference, "Update a contact": a text).
/// A placeholder is no id: the next row with the same one would overwrite this contact.
pub(super) fn clean_user_id(value: Value) -> Result<Cleaned, FieldError> {
    let Some(value) = require_identity("userId", value)? else { return Ok(Cleaned::Omit) };
    let placeholder = || FieldError::PlaceholderId(RedactedValue::new("userId", &value));
    let id = match &value {
        Value::String(text) => trim_invisible(text),
        Value::Number(number) => without_zero_fraction(number.as_str()),
        Value::Bool(_) => return Err(placeholder()),
        other => return Err(FieldError::NotAnId(json_type_name(other))),
    };
    values::check_len(id).map_err(FieldError::TooLongToTruncate)?;
    if id.contains(char::REPLACEMENT_CHARACTER) {
        return Err(FieldError::UnreadableId);
    }
    if value.as_number().is_some_and(|number| !values::is_in_range(number.as_str())) {
        return Err(FieldError::OutOfRange(RedactedValue::new("userId", &value)));
    }
    if is_placeholder_id(id) { Err(placeholder()) } else { Ok(Cleaned::Send(id.into())) }
}

/// A number without a fraction of zeros, which a program adds that holds ids as floating-point numbers.
fn without_zero_fraction(number: &str) -> &str {
    match number.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
        _ => number,
    }
}

/// `eventName`: a text, trimmed, because Loops knows an event by its exact name. It has no colon, because Loops takes none,
/// and other spaces than that of ASCII become one, because nobody sees which it is.
pub(super) fn clean_event_name(value: Value) -> Result<Cleaned, FieldError> {
    let Some(value) = require_identity("eventName", value)? else { return Ok(Cleaned::Omit) };
    let Value::String(text) = &value else { return Err(FieldError::NotText(json_type_name(&value))) };
    let trimmed = trim_invisible(text);
    let name = trimmed.replace(|c: char| c.is_whitespace() && !c.is_ascii(), " ");
    values::check_len(&name).map_err(FieldError::TooLongToTruncate)?;
    if name.contains(':') {
        return Err(FieldError::ColonInEventName(RedactedValue::new("eventName", &value)));
    }
    if is_placeholder(&name) {
        return Err(FieldError::PlaceholderEventName(RedactedValue::new("eventName", &value)));
    }
    Ok(if name == trimmed { Cleaned::Send(name.into()) } else { Cleaned::SendAdjusted(name.into()) })
}

/// `subscribed` and `addToAudience`: true or false. A wrong guess would e-mail a contact that has unsubscribed, and so would
/// `null`, which resets `subscribed` to true.
pub(super) fn clean_boolean(field: &str, value: Value) -> Result<Cleaned, FieldError> {
    match reject_unresolved_column(field, value)? {
        None => Ok(Cleaned::Omit),
        Some(value) => Ok(Cleaned::Send(values::parse_boolean(field, &value)?.into())),
    }
}

/// Returns the value of a field that says which contact or event it is: there, a column's name is none in a longer text either.
fn require_identity(field: &str, value: Value) -> Result<Option<Value>, FieldError> {
    match values::require_value(field, value)? {
        Some(value) if value.as_str().is_some_and(|text| has_uninserted_column(trim_invisible(text))) => {
            Err(FieldError::ColumnNotInserted(RedactedValue::new(field, &value)))
        }
        value => Ok(value),
    }
}

/// Returns the value of a field in which a `/` at the start can only be a column whose name was typed; in other fields it
/// may be a path.
pub(super) fn reject_unresolved_column(field: &str, value: Value) -> Result<Option<Value>, FieldError> {
    match values::require_value(field, value)? {
        Some(value) if value.as_str().is_some_and(|text| trim_invisible(text).starts_with('/')) => {
            Err(FieldError::ColumnNotInserted(RedactedValue::new(field, &value)))
        }
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    #[test]
    fn email_is_address_that_was_found() {
        assert_eq!(clean_email(json!(" ada@example.com\n")), Ok(Cleaned::Send(json!("ada@example.com"))));
        for text in ["mailto:ada@example.com", "Ada <ada@example.com>"] {
            assert_eq!(clean_email(json!(text)), Ok(Cleaned::SendAdjusted(json!("ada@example.com"))), "{text:?}");
        }
        for text in ["ada", "ada@example.com/", "N/A"] {
            let error = FieldError::NotAnAddress(RedactedValue::new("email", &json!(text)));
            assert_eq!(clean_email(json!(text)), Err(error), "{text:?}");
        }
    }

    #[test]
    fn non_text_email_is_rejected() {
        for (value, kind) in [(json!(7), "a number"), (json!(true), "true or false"), (json!(["a@b.co"]), "a list")] {
            assert_eq!(clean_email(value), Err(FieldError::NotText(kind)));
        }
    }

    #[test]
    fn user_id_is_trimmed_text_or_digits_of_number() {
        let number = |json: &str| serde_json::from_str(json).unwrap();
        for (value, expected) in [
            (json!(" U-1 "), "U-1"),
            (json!("\u{a0}12345.0\n"), "12345.0"),
            (json!(123), "123"),
            (number("12345.0"), "12345"),
            (number("12345.00"), "12345"),
            (number("12345.50"), "12345.50"),
            (number("123456789012345678901"), "123456789012345678901"),
        ] {
            assert_eq!(clean_user_id(value), Ok(Cleaned::Send(json!(expected))));
        }
        for (value, kind) in [(json!([1]), "a list"), (json!({}), "an object")] {
            assert_eq!(clean_user_id(value), Err(FieldError::NotAnId(kind)));
        }
        assert_eq!(clean_user_id(json!("u\u{fffd}")), Err(FieldError::UnreadableId));
        assert!(matches!(clean_user_id(number("1e400")), Err(FieldError::OutOfRange(_))));
    }

    #[test]
    fn placeholder_is_no_user_id() {
        for json in ["\"N/A\"", "\" none\"", "\"-\"", "\"0\"", "0", "0.0", "-0", "-1", "-1.0", "true", "false"] {
            let value: Value = serde_json::from_str(json).unwrap();
            assert!(matches!(clean_user_id(value), Err(FieldError::PlaceholderId(_))), "{json}");
        }
    }

    #[test]
    fn identity_fields_are_never_cleared_or_truncated() {
        for clean in [clean_email, clean_user_id, clean_event_name] {
            assert_eq!(clean(json!(" ")), Ok(Cleaned::Omit));
            assert_eq!(clean(json!("undefined")), Ok(Cleaned::Omit));
            assert_eq!(clean(json!(null)), Ok(Cleaned::Omit));
            for column in
                ["/Column", " {{Column}} ", "a-{{Column}}", "a{{Column}}@b.co", "a-${column}", "a-%7B%7BColumn"]
            {
                let column = json!(column);
                assert_eq!(clean(column.clone()), Err(FieldError::ColumnNotInserted(RedactedValue::new("", &column))));
            }
            assert_eq!(clean(json!("x".repeat(499))), Err(FieldError::TooLongToTruncate(499)));
        }
    }

    #[test]
    fn event_name_is_trimmed_text_without_colon() {
        for text in [" signup ", "signup\n", "\u{a0}signup\u{200b}"] {
            assert_eq!(clean_event_name(json!(text)), Ok(Cleaned::Send(json!("signup"))), "{text:?}");
        }
        for text in ["sign\u{a0}up", "sign\u{2028}up"] {
            assert_eq!(clean_event_name(json!(text)), Ok(Cleaned::SendAdjusted(json!("sign up"))), "{text:?}");
        }
        for text in ["N/A", "none", "-", "0", "true", "unknown"] {
            assert!(matches!(clean_event_name(json!(text)), Err(FieldError::PlaceholderEventName(_))), "{text}");
        }
        assert_eq!(clean_event_name(json!(7)), Err(FieldError::NotText("a number")));
        for text in ["shop:signup", "signup:"] {
            assert!(matches!(clean_event_name(json!(text)), Err(FieldError::ColonInEventName(_))), "{text}");
        }
    }

    #[test]
    fn subscribed_must_be_boolean_or_blank() {
        assert_eq!(clean_boolean("subscribed", json!("TRUE")), Ok(Cleaned::Send(json!(true))));
        assert_eq!(clean_boolean("subscribed", json!(false)), Ok(Cleaned::Send(json!(false))));
        assert_eq!(clean_boolean("subscribed", json!("")), Ok(Cleaned::Omit));
        assert_eq!(
            clean_boolean("subscribed", json!("no")),
            Err(FieldError::NotABoolean(RedactedValue::new("", &json!("no"))))
        );
        for column in [json!("{{Subscribed}}"), json!(" /Subscribed")] {
            assert_eq!(
                clean_boolean("subscribed", column.clone()),
                Err(FieldError::ColumnNotInserted(RedactedValue::new("", &column)))
            );
        }
    }
}
