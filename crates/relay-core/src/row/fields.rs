//! The fields that have rules of their own, except those that contain other fields.

use serde_json::Value;

use super::RowKind;
use crate::row::field_error::FieldError;
use crate::row::options::RowOptions;
use crate::row::redacted_value::{RedactedValue, json_type_name};
use crate::row::values::{self, Cleaned};

/// `email`: an address, trimmed. Never emptied and never cut, because it identifies the contact.
pub(super) fn clean_email(value: Value) -> Result<Cleaned, FieldError> {
    let Some(value) = reject_unresolved_column("email", value)? else { return Ok(Cleaned::Omit) };
    let Value::String(text) = &value else { return Err(FieldError::NotText(json_type_name(&value))) };
    let address = text.trim();
    values::check_len(address).map_err(FieldError::TooLongToTruncate)?;
    if looks_like_an_address(address) {
        Ok(Cleaned::Send(address.into()))
    } else {
        Err(FieldError::NotAnAddress(RedactedValue::new("email", &value)))
    }
}

/// `userId`: a text as it is, a number as text (Loops API reference, "Update a contact": a text).
pub(super) fn clean_user_id(value: Value) -> Result<Cleaned, FieldError> {
    let text = match reject_unresolved_column("userId", value)? {
        None => return Ok(Cleaned::Omit),
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => return Err(FieldError::NotAnId(json_type_name(&other))),
    };
    values::check_len(&text).map_err(FieldError::TooLongToTruncate)?;
    Ok(Cleaned::Send(text.into()))
}

/// `eventName`: a text, which an event must have. For a contact it may be a property.
pub(super) fn clean_event_name(kind: RowKind, value: Value, options: RowOptions) -> Result<Cleaned, FieldError> {
    match reject_unresolved_column("eventName", value)? {
        None => Ok(Cleaned::Omit),
        Some(Value::String(text)) => {
            values::check_len(&text).map_err(FieldError::TooLongToTruncate)?;
            Ok(Cleaned::Send(text.into()))
        }
        Some(other) if kind == RowKind::Event => Err(FieldError::NotText(json_type_name(&other))),
        Some(other) => values::clean_value("eventName", other, options),
    }
}

/// `subscribed`: true or false. A wrong guess would e-mail a contact that has unsubscribed.
pub(super) fn clean_subscribed(value: Value, options: RowOptions) -> Result<Cleaned, FieldError> {
    match reject_unresolved_column("subscribed", value)? {
        None => Ok(values::clean_blank(options)),
        Some(value) => Ok(Cleaned::Send(values::parse_boolean("subscribed", &value)?.into())),
    }
}

/// Returns the value of a field in which a `/` at the start can only be a column whose name was typed; in other fields it
/// may be a path.
pub(super) fn reject_unresolved_column(field: &str, value: Value) -> Result<Option<Value>, FieldError> {
    match values::require_value(field, value)? {
        Some(value) if value.as_str().is_some_and(|text| text.trim_start().starts_with('/')) => {
            Err(FieldError::ColumnNotInserted(RedactedValue::new(field, &value)))
        }
        value => Ok(value),
    }
}

/// Whether a text could be an address. It rejects only what cannot be one at all.
fn looks_like_an_address(text: &str) -> bool {
    let is_forbidden =
        |character: char| character.is_whitespace() || character.is_control() || r#"<>,;:"()[]\"#.contains(character);
    let Some((name, domain)) = text.split_once('@') else { return false };
    let dotted = domain.contains('.') && !domain.starts_with('.') && !domain.ends_with('.');
    !name.is_empty() && !domain.contains('@') && dotted && !text.chars().any(is_forbidden)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::row::{BlankPolicy, LongTextPolicy};

    const LENIENT: RowOptions = RowOptions { blank: BlankPolicy::Clear, long: LongTextPolicy::Truncate, dedupe: true };

    #[test]
    fn email_is_trimmed() {
        for text in ["ada@example.com", " ada@example.com\n", "\u{a0}ada@example.com\t"] {
            assert_eq!(clean_email(json!(text)), Ok(Cleaned::Send(json!("ada@example.com"))), "{text:?}");
        }
    }

    #[test]
    fn email_requires_one_at_sign_and_dotted_domain() {
        for text in ["a@b.co", "Ada.Lovelace+x@sub.example.co.uk", "o'hara/x@b.co", "é@exämple.de", "a@b..c"] {
            assert!(looks_like_an_address(text), "{text}");
        }
        for text in [
            "ada",
            "@b.co",
            "a@",
            "a@b",
            "a@.co",
            "a@b.",
            "a@b.co@c.co",
            "a b@c.co",
            "a@b .co",
            "a@b.co,c@d.co",
            "Ada <a@b.co>",
            "mailto:a@b.co",
            "a@b.co;",
            "\"a\"@b.co",
            "(a)@b.co",
            "a@[1.2.3.4]",
            "a\\b@c.co",
            "a\u{0}@b.co",
            "a\u{2003}b@c.co",
        ] {
            assert_eq!(
                clean_email(json!(text)),
                Err(FieldError::NotAnAddress(RedactedValue::new("email", &json!(text)))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn non_text_email_is_rejected() {
        for (value, kind) in [(json!(7), "a number"), (json!(true), "true or false"), (json!(["a@b.co"]), "a list")] {
            assert_eq!(clean_email(value), Err(FieldError::NotText(kind)));
        }
    }

    #[test]
    fn user_id_keeps_text_and_converts_number_to_digits() {
        for (value, expected) in [
            (json!(" U-1 "), " U-1 "),
            (json!(123), "123"),
            (serde_json::from_str("123456789012345678901").unwrap(), "123456789012345678901"),
            (serde_json::from_str("-0").unwrap(), "-0"),
        ] {
            assert_eq!(clean_user_id(value), Ok(Cleaned::Send(json!(expected))));
        }
        for (value, kind) in [(json!(true), "true or false"), (json!([1]), "a list"), (json!({}), "an object")] {
            assert_eq!(clean_user_id(value), Err(FieldError::NotAnId(kind)));
        }
    }

    #[test]
    fn identity_fields_are_never_cleared_or_truncated() {
        let clean_name = |value| clean_event_name(RowKind::Event, value, LENIENT);
        for clean in [clean_email, clean_user_id, clean_name] {
            assert_eq!(clean(json!(" ")), Ok(Cleaned::Omit));
            assert_eq!(clean(json!("undefined")), Ok(Cleaned::Omit));
            assert_eq!(clean(json!(null)), Ok(Cleaned::Omit));
            for column in [json!("/Column"), json!(" {{Column}} ")] {
                assert_eq!(clean(column.clone()), Err(FieldError::ColumnNotInserted(RedactedValue::new("", &column))));
            }
            assert_eq!(clean(json!("x".repeat(499))), Err(FieldError::TooLongToTruncate(499)));
        }
    }

    #[test]
    fn event_name_must_be_text_only_for_events() {
        assert_eq!(clean_event_name(RowKind::Event, json!(7), LENIENT), Err(FieldError::NotText("a number")));
        assert_eq!(clean_event_name(RowKind::Contact, json!(7), LENIENT), Ok(Cleaned::Send(json!(7))));
        assert_eq!(clean_event_name(RowKind::Contact, json!([]), LENIENT), Err(FieldError::NotScalar("a list")));
        assert_eq!(clean_event_name(RowKind::Event, json!(" signup "), LENIENT), Ok(Cleaned::Send(json!(" signup "))));
    }

    #[test]
    fn subscribed_must_be_boolean_or_blank() {
        let options = RowOptions::default();
        assert_eq!(clean_subscribed(json!("TRUE"), options), Ok(Cleaned::Send(json!(true))));
        assert_eq!(clean_subscribed(json!(false), options), Ok(Cleaned::Send(json!(false))));
        assert_eq!(clean_subscribed(json!(""), options), Ok(Cleaned::Omit));
        assert_eq!(clean_subscribed(json!(""), LENIENT), Ok(Cleaned::Send(Value::Null)));
        assert_eq!(
            clean_subscribed(json!("no"), options),
            Err(FieldError::NotABoolean(RedactedValue::new("", &json!("no"))))
        );
        for column in [json!("{{Subscribed}}"), json!(" /Subscribed")] {
            assert_eq!(
                clean_subscribed(column.clone(), options),
                Err(FieldError::ColumnNotInserted(RedactedValue::new("", &column)))
            );
        }
    }
}
