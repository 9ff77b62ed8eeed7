//! The fields that have rules of their own, but for those that hold other fields.

use serde_json::Value;

use super::RowKind;
use crate::row::field_error::{FieldError, json_type_name};
use crate::row::options::RowOptions;
use crate::row::redacted_value::RedactedValue;
use crate::row::values::{self, Cleaned};

/// `email`: an address without the white space around it. Never emptied, never cut: it says whom the row is about.
pub(super) fn email(value: Value) -> Result<Cleaned, FieldError> {
    let Some(value) = reject_unresolved_column("email", value)? else {
        return Ok(Cleaned::LeaveOut);
    };
    let Value::String(text) = &value else {
        return Err(FieldError::NotText(json_type_name(&value)));
    };
    let address = text.trim();
    values::check_len(address).map_err(FieldError::TooLongForAName)?;
    if looks_like_an_address(address) {
        Ok(Cleaned::Send(address.into()))
    } else {
        Err(FieldError::NotAnAddress(RedactedValue::of("email", &value)))
    }
}

/// `userId`: a text as it is, a number as the text of its digits (Loops API reference, "Update a contact": a text).
pub(super) fn user_id(value: Value) -> Result<Cleaned, FieldError> {
    let text = match reject_unresolved_column("userId", value)? {
        None => return Ok(Cleaned::LeaveOut),
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => return Err(FieldError::NotAnId(json_type_name(&other))),
    };
    values::check_len(&text).map_err(FieldError::TooLongForAName)?;
    Ok(Cleaned::Send(text.into()))
}

/// `eventName`: a text, which an event must have. A contact may have a property of that name.
pub(super) fn event_name(kind: RowKind, value: Value, options: RowOptions) -> Result<Cleaned, FieldError> {
    match reject_unresolved_column("eventName", value)? {
        None => Ok(Cleaned::LeaveOut),
        Some(Value::String(text)) => {
            values::check_len(&text).map_err(FieldError::TooLongForAName)?;
            Ok(Cleaned::Send(text.into()))
        }
        Some(other) if kind == RowKind::Event => Err(FieldError::NotText(json_type_name(&other))),
        Some(other) => values::clean_value("eventName", other, options),
    }
}

/// `subscribed`: true or false. A wrong guess would write to somebody who does not want it.
pub(super) fn subscribed(value: Value, options: RowOptions) -> Result<Cleaned, FieldError> {
    match reject_unresolved_column("subscribed", value)? {
        None => Ok(values::blank(options)),
        Some(value) => Ok(Cleaned::Send(values::boolean("subscribed", &value)?.into())),
    }
}

/// The value of a field where a `/` at the start is a column that was typed by name: elsewhere it may be a path.
pub(super) fn reject_unresolved_column(field: &str, value: Value) -> Result<Option<Value>, FieldError> {
    match values::require_value(field, value)? {
        Some(value) if value.as_str().is_some_and(|text| text.trim_start().starts_with('/')) => {
            Err(FieldError::NotInserted(RedactedValue::of(field, &value)))
        }
        value => Ok(value),
    }
}

/// Whether Loops could take a text for an address: strict about what can be no address at all, and nothing more.
fn looks_like_an_address(text: &str) -> bool {
    let odd =
        |character: char| character.is_whitespace() || character.is_control() || r#"<>,;:"()[]\"#.contains(character);
    let Some((name, domain)) = text.split_once('@') else {
        return false;
    };
    let dotted = domain.contains('.') && !domain.starts_with('.') && !domain.ends_with('.');
    !name.is_empty() && !domain.contains('@') && dotted && !text.chars().any(odd)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::row::{Blank, Long};

    const GENEROUS: RowOptions = RowOptions { blank: Blank::Clear, long: Long::Truncate, dedupe: true };

    #[test]
    fn an_address_loses_the_white_space_around_it() {
        for text in ["ada@example.com", " ada@example.com\n", "\u{a0}ada@example.com\t"] {
            assert_eq!(email(json!(text)), Ok(Cleaned::Send(json!("ada@example.com"))), "{text:?}");
        }
    }

    #[test]
    fn an_address_has_one_at_sign_and_a_domain_with_a_dot() {
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
                email(json!(text)),
                Err(FieldError::NotAnAddress(RedactedValue::of("email", &json!(text)))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn an_address_is_a_text() {
        for (value, kind) in [(json!(7), "a number"), (json!(true), "true or false"), (json!(["a@b.co"]), "a list")] {
            assert_eq!(email(value), Err(FieldError::NotText(kind)));
        }
    }

    #[test]
    fn a_user_id_is_kept_as_it_is_and_a_number_becomes_its_digits() {
        for (value, expected) in [
            (json!(" U-1 "), " U-1 "),
            (json!(123), "123"),
            (serde_json::from_str("123456789012345678901").unwrap(), "123456789012345678901"),
            (serde_json::from_str("-0").unwrap(), "-0"),
        ] {
            assert_eq!(user_id(value), Ok(Cleaned::Send(json!(expected))));
        }
        for (value, kind) in [(json!(true), "true or false"), (json!([1]), "a list"), (json!({}), "an object")] {
            assert_eq!(user_id(value), Err(FieldError::NotAnId(kind)));
        }
    }

    #[test]
    fn what_tells_rows_apart_is_never_emptied_cut_or_typed_by_name() {
        let named = |value| event_name(RowKind::Event, value, GENEROUS);
        for field in [email, user_id, named] {
            assert_eq!(field(json!(" ")), Ok(Cleaned::LeaveOut));
            assert_eq!(field(json!("undefined")), Ok(Cleaned::LeaveOut));
            assert_eq!(field(json!(null)), Ok(Cleaned::LeaveOut));
            for typed in [json!("/Column"), json!(" {{Column}} ")] {
                assert_eq!(field(typed.clone()), Err(FieldError::NotInserted(RedactedValue::of("", &typed))));
            }
            assert_eq!(field(json!("x".repeat(499))), Err(FieldError::TooLongForAName(499)));
        }
    }

    #[test]
    fn an_events_name_is_a_text_and_a_contacts_property_of_that_name_need_not_be() {
        assert_eq!(event_name(RowKind::Event, json!(7), GENEROUS), Err(FieldError::NotText("a number")));
        assert_eq!(event_name(RowKind::Contact, json!(7), GENEROUS), Ok(Cleaned::Send(json!(7))));
        assert_eq!(event_name(RowKind::Contact, json!([]), GENEROUS), Err(FieldError::NotScalar("a list")));
        assert_eq!(event_name(RowKind::Event, json!(" signup "), GENEROUS), Ok(Cleaned::Send(json!(" signup "))));
    }

    #[test]
    fn subscribed_is_true_or_false_or_blank() {
        let options = RowOptions::default();
        assert_eq!(subscribed(json!("TRUE"), options), Ok(Cleaned::Send(json!(true))));
        assert_eq!(subscribed(json!(false), options), Ok(Cleaned::Send(json!(false))));
        assert_eq!(subscribed(json!(""), options), Ok(Cleaned::LeaveOut));
        assert_eq!(subscribed(json!(""), GENEROUS), Ok(Cleaned::Send(Value::Null)));
        assert_eq!(subscribed(json!("no"), options), Err(FieldError::NotABoolean(RedactedValue::of("", &json!("no")))));
        for typed in [json!("{{Subscribed}}"), json!(" /Subscribed")] {
            assert_eq!(subscribed(typed.clone(), options), Err(FieldError::NotInserted(RedactedValue::of("", &typed))));
        }
    }
}
