//! The fields that have rules of their own, but for those that hold other fields.

use serde_json::Value;

use super::Kind;
use crate::row::field_error::{Problem, kind_of};
use crate::row::options::RowOptions;
use crate::row::redacted_value::Arrived;
use crate::row::values::{self, Outcome};

/// `email`: an address without the white space around it. Never emptied, never cut: it says whom the row is about.
pub(super) fn email(value: Value) -> Result<Outcome, Problem> {
    let Some(value) = inserted("email", value)? else {
        return Ok(Outcome::LeaveOut);
    };
    let Value::String(text) = &value else {
        return Err(Problem::NotText(kind_of(&value)));
    };
    let address = text.trim();
    values::fits(address).map_err(Problem::TooLongForAName)?;
    if looks_like_an_address(address) {
        Ok(Outcome::Send(address.into()))
    } else {
        Err(Problem::NotAnAddress(Arrived::of("email", &value)))
    }
}

/// `userId`: a text as it is, a number as the text of its digits (Loops API reference, "Update a contact": a text).
pub(super) fn user_id(value: Value) -> Result<Outcome, Problem> {
    let text = match inserted("userId", value)? {
        None => return Ok(Outcome::LeaveOut),
        Some(Value::String(text)) => text,
        Some(Value::Number(number)) => number.to_string(),
        Some(other) => return Err(Problem::NotAnId(kind_of(&other))),
    };
    values::fits(&text).map_err(Problem::TooLongForAName)?;
    Ok(Outcome::Send(text.into()))
}

/// `eventName`: a text, which an event must have. A contact may have a property of that name.
pub(super) fn event_name(kind: Kind, value: Value, options: RowOptions) -> Result<Outcome, Problem> {
    match inserted("eventName", value)? {
        None => Ok(Outcome::LeaveOut),
        Some(Value::String(text)) => {
            values::fits(&text).map_err(Problem::TooLongForAName)?;
            Ok(Outcome::Send(text.into()))
        }
        Some(other) if kind == Kind::Event => Err(Problem::NotText(kind_of(&other))),
        Some(other) => values::ordinary("eventName", other, options),
    }
}

/// `subscribed`: true or false. A wrong guess would write to somebody who does not want it.
pub(super) fn subscribed(value: Value, options: RowOptions) -> Result<Outcome, Problem> {
    match inserted("subscribed", value)? {
        None => Ok(values::blank(options)),
        Some(value) => Ok(Outcome::Send(values::boolean("subscribed", &value)?.into())),
    }
}

/// The value of a field where a `/` at the start is a column that was typed by name: elsewhere it may be a path.
pub(super) fn inserted(field: &str, value: Value) -> Result<Option<Value>, Problem> {
    match values::filled(field, value)? {
        Some(value) if value.as_str().is_some_and(|text| text.trim_start().starts_with('/')) => {
            Err(Problem::NotInserted(Arrived::of(field, &value)))
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
            assert_eq!(email(json!(text)), Ok(Outcome::Send(json!("ada@example.com"))), "{text:?}");
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
            assert_eq!(email(json!(text)), Err(Problem::NotAnAddress(Arrived::of("email", &json!(text)))), "{text:?}");
        }
    }

    #[test]
    fn an_address_is_a_text() {
        for (value, kind) in [(json!(7), "a number"), (json!(true), "true or false"), (json!(["a@b.co"]), "a list")] {
            assert_eq!(email(value), Err(Problem::NotText(kind)));
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
            assert_eq!(user_id(value), Ok(Outcome::Send(json!(expected))));
        }
        for (value, kind) in [(json!(true), "true or false"), (json!([1]), "a list"), (json!({}), "an object")] {
            assert_eq!(user_id(value), Err(Problem::NotAnId(kind)));
        }
    }

    #[test]
    fn what_tells_rows_apart_is_never_emptied_cut_or_typed_by_name() {
        let named = |value| event_name(Kind::Event, value, GENEROUS);
        for field in [email, user_id, named] {
            assert_eq!(field(json!(" ")), Ok(Outcome::LeaveOut));
            assert_eq!(field(json!("undefined")), Ok(Outcome::LeaveOut));
            assert_eq!(field(json!(null)), Ok(Outcome::LeaveOut));
            for typed in [json!("/Column"), json!(" {{Column}} ")] {
                assert_eq!(field(typed.clone()), Err(Problem::NotInserted(Arrived::of("", &typed))));
            }
            assert_eq!(field(json!("x".repeat(499))), Err(Problem::TooLongForAName(499)));
        }
    }

    #[test]
    fn an_events_name_is_a_text_and_a_contacts_property_of_that_name_need_not_be() {
        assert_eq!(event_name(Kind::Event, json!(7), GENEROUS), Err(Problem::NotText("a number")));
        assert_eq!(event_name(Kind::Contact, json!(7), GENEROUS), Ok(Outcome::Send(json!(7))));
        assert_eq!(event_name(Kind::Contact, json!([]), GENEROUS), Err(Problem::Compound("a list")));
        assert_eq!(event_name(Kind::Event, json!(" signup "), GENEROUS), Ok(Outcome::Send(json!(" signup "))));
    }

    #[test]
    fn subscribed_is_true_or_false_or_blank() {
        let options = RowOptions::default();
        assert_eq!(subscribed(json!("TRUE"), options), Ok(Outcome::Send(json!(true))));
        assert_eq!(subscribed(json!(false), options), Ok(Outcome::Send(json!(false))));
        assert_eq!(subscribed(json!(""), options), Ok(Outcome::LeaveOut));
        assert_eq!(subscribed(json!(""), GENEROUS), Ok(Outcome::Send(Value::Null)));
        assert_eq!(subscribed(json!("no"), options), Err(Problem::NotABoolean(Arrived::of("", &json!("no")))));
        for typed in [json!("{{Subscribed}}"), json!(" /Subscribed")] {
            assert_eq!(subscribed(typed.clone(), options), Err(Problem::NotInserted(Arrived::of("", &typed))));
        }
    }
}
