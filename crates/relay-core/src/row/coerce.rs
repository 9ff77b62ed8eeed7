//! Conversion of cleaned values to the types of their properties in Loops: what Clay sends as text may be a number, a
//! boolean or a date there.

use std::ops::RangeInclusive;

use jiff::SignedDuration;
use jiff::civil::{self, DateTime};
use jiff::fmt::temporal::Pieces;
use serde_json::{Number, Value};

use crate::row::field_error::FieldError;
use crate::row::json::lenient_json;
use crate::row::redacted_value::RedactedValue;
use crate::row::schema::PropertyType;
use crate::row::values::{self, Cleaned};

/// Numbers below this are not dates in milliseconds, which would be before 1973, but years, days or seconds.
const MIN_EPOCH_MILLIS: f64 = 1e11;
/// The milliseconds of the years 0 to 9999, the ones that a date can be written in. Numbers beyond are micro- or nanoseconds.
const EPOCH_MILLIS: RangeInclusive<f64> = -62_167_219_200_000.0..=253_402_300_799_999.0;
/// The largest offset of a time zone.
const MAX_OFFSET: SignedDuration = SignedDuration::from_hours(14);
const EPOCH: DateTime = civil::date(1970, 1, 1).at(0, 0, 0, 0);

/// Converts a value to the type of its property.
pub(super) fn coerce(field: &str, cleaned: Cleaned, expected: PropertyType) -> Result<Cleaned, FieldError> {
    let (Cleaned::Send(value) | Cleaned::SendAdjusted(value)) = &cleaned else { return Ok(cleaned) };
    let wrong_type = || FieldError::WrongType(RedactedValue::new(field, value), expected);
    let coerced = match (expected, value) {
        (PropertyType::Text, Value::Number(_) | Value::Bool(_)) => Some(to_text(value)?),
        (PropertyType::Date, Value::Number(number)) if !is_epoch_millis(number.as_str()) => {
            return Err(wrong_type());
        }
        (_, Value::Null)
        | (PropertyType::Text | PropertyType::Other, _)
        | (PropertyType::Number | PropertyType::Date, Value::Number(_)) => None,
        (PropertyType::Boolean, value) => Some(values::parse_boolean(field, value).map_err(|_| wrong_type())?.into()),
        (PropertyType::Number, Value::String(text)) => Some(Value::Number(parse_number(text).ok_or_else(wrong_type)?)),
        (PropertyType::Date, Value::String(text)) => Some(parse_date(text).ok_or_else(wrong_type)?),
        (PropertyType::Number | PropertyType::Date, _) => return Err(wrong_type()),
    };
    Ok(coerced.map_or(cleaned, Cleaned::Send))
}

/// A number or a boolean as text. It is never cut, because a part of a number would be another one.
fn to_text(value: &Value) -> Result<Value, FieldError> {
    let text = value.to_string();
    values::check_len(&text).map_err(FieldError::TooLongToTruncate)?;
    Ok(text.into())
}

/// Parses a text that is a JSON number, digit for digit.
fn parse_number(text: &str) -> Option<Number> {
    match lenient_json::parse_lenient(text.trim()) {
        Ok(Value::Number(number)) => Some(number),
        _ => None,
    }
}

/// Parses a date to milliseconds since 1970, from any of the forms that Loops reads (Loops docs, "Contact properties":
/// dates): `2026-01-31`, `2026-01-31 08:30`, with seconds and fractions of them, and with an offset (UTC without one);
/// milliseconds as text.
fn parse_date(text: &str) -> Option<Value> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return parse_number(text).filter(|number| is_epoch_millis(number.as_str())).map(Value::Number);
    }
    let day = text.get(..10).filter(|day| day.bytes().filter(|byte| *byte == b'-').count() == 2)?;
    let day: civil::Date = day.parse().ok()?;
    // Not jiff's timestamps: they end a day before 9999-12-31, the last date in this form.
    let since_epoch = match text.get(10..)? {
        "" => day.to_datetime(civil::Time::midnight()).duration_since(EPOCH),
        rest if !rest.starts_with(['T', 't', ' ']) => return None,
        _ => parse_timestamp(&Pieces::parse(text).ok()?)?,
    };
    EPOCH_MILLIS
        .contains(&since_epoch.as_millis_f64())
        .then(|| i64::try_from(since_epoch.as_millis()).ok())?
        .map(Value::from)
}

/// Returns the time since 1970 of a date with a time. Loops reads offsets, but not names of zones.
fn parse_timestamp(pieces: &Pieces<'_>) -> Option<SignedDuration> {
    let since_epoch = pieces.date().to_datetime(pieces.time()?).duration_since(EPOCH);
    match pieces.to_numeric_offset() {
        Some(offset) if SignedDuration::from_secs(offset.seconds().into()).abs() > MAX_OFFSET => None,
        Some(offset) => since_epoch.checked_sub(SignedDuration::from_secs(offset.seconds().into())),
        None => pieces.to_time_zone().ok().filter(Option::is_none).map(|_| since_epoch),
    }
}

/// Whether a number can be a date in milliseconds, and not in another unit.
fn is_epoch_millis(number: &str) -> bool {
    number.parse().is_ok_and(|millis| (MIN_EPOCH_MILLIS..=*EPOCH_MILLIS.end()).contains(&millis))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn coerced(value: Value, expected: PropertyType) -> Option<Value> {
        match coerce("f", Cleaned::Send(value), expected) {
            Ok(Cleaned::Send(value)) => Some(value),
            Ok(other) => panic!("{other:?}"),
            Err(FieldError::WrongType(_, reported)) if reported == expected => None,
            Err(other) => panic!("{other:?}"),
        }
    }

    fn parse_json(json: &str) -> Value {
        lenient_json::parse_lenient(json).unwrap()
    }

    #[test]
    fn number_as_text_is_coerced_with_digits_preserved() {
        for (input, sent) in [
            (json!("42"), Some("42")),
            (json!(" -1.50 "), Some("-1.50")),
            (json!("123456789012345678901"), Some("123456789012345678901")),
            (json!("1E5"), Some("1E5")),
            (parse_json("1.0"), Some("1.0")),
            (json!(null), Some("null")),
            (json!("about 40"), None),
            (json!("1,000"), None),
            (json!("042"), None),
            (json!("+1"), None),
            (json!("[1]"), None),
            (json!(true), None),
        ] {
            assert_eq!(coerced(input, PropertyType::Number), sent.map(parse_json), "{sent:?}");
        }
    }

    #[test]
    fn boolean_as_text_is_coerced_in_any_case() {
        for (input, sent) in [
            (json!("true"), Some(json!(true))),
            (json!(" FALSE "), Some(json!(false))),
            (json!(true), Some(json!(true))),
            (json!(null), Some(json!(null))),
            (json!("yes"), None),
            (json!(1), None),
        ] {
            assert_eq!(coerced(input, PropertyType::Boolean), sent);
        }
    }

    #[test]
    fn date_is_coerced_to_epoch_milliseconds() {
        let midnight = 1_769_817_600_000_i64;
        let half_past_eight = midnight + (8 * 60 + 30) * 60_000;
        for (input, sent) in [
            (json!("2026-01-31"), Some(json!(midnight))),
            (json!(" 2026-01-31 "), Some(json!(midnight))),
            (json!("2026-01-31 08:30"), Some(json!(half_past_eight))),
            (json!("2026-01-31T08:30"), Some(json!(half_past_eight))),
            (json!("2026-01-31T08:30:00.5"), Some(json!(half_past_eight + 500))),
            (json!("2026-01-31T08:30:00Z"), Some(json!(half_past_eight))),
            (json!("2026-01-31T10:30:00+02:00"), Some(json!(half_past_eight))),
            (json!("2026-01-31 10:30:00.250+02:00"), Some(json!(half_past_eight + 250))),
            (json!("1769817600000"), Some(json!(midnight))),
            (json!(midnight), Some(json!(midnight))),
            (json!("9999-12-31"), Some(json!(253_402_214_400_000_i64))),
            (json!("9999-12-31T23:59:59Z"), Some(json!(253_402_300_799_000_i64))),
            (json!("9999-12-31T10:00:00+02:00"), Some(json!(253_402_214_400_000_i64 + 8 * 3_600_000))),
            (json!("1969-12-31"), Some(json!(-86_400_000))),
            (json!("1970-01-02"), Some(json!(86_400_000))),
            (json!("-86400000"), None),
            (json!(-86_400_000), None),
            (json!(-1), None),
            (json!(-1_769_817_600_000_i64), None),
            (json!("100000000000"), Some(json!(100_000_000_000_i64))),
            (json!("99999999999"), None),
            (json!(99_999_999_999_i64), None),
            (json!("2026"), None),
            (json!(2026), None),
            (json!(46_053), None),
            (json!(1_769_817_600), None),
            (parse_json("1.7698176e12"), Some(parse_json("1.7698176e12"))),
            (json!(253_402_300_799_999_i64), Some(json!(253_402_300_799_999_i64))),
            (json!(253_402_300_800_000_i64), None),
            (json!(1_769_817_600_000_000_i64), None),
            (json!("1769817600000000"), None),
            (json!("1769817600000000000"), None),
            (json!(-1_769_817_600_000_000_i64), None),
            (json!(1_769_817_600.5), None),
            (json!(46_053.25), None),
            (parse_json("1e400"), None),
            (json!("2026-01-31T08:30:00+14:00"), Some(json!(half_past_eight - 14 * 3_600_000))),
            (json!("2026-01-31T08:30:00+14:01"), None),
            (json!("2026-01-31T08:30:00+25:00"), None),
            (json!("2026-01-31T08:30:00-24:00"), None),
            (json!("9999-12-31T23:59:59-01:00"), None),
            (json!("2026-01-31T08:30[Europe/Paris]"), None),
            (json!("2026-02-30"), None),
            (json!("31.01.2026"), None),
            (json!("01/31/2026"), None),
            (json!("20260131T083000Z"), None),
            (json!("2026-01-31x"), None),
            (json!("2026-01-31[Europe/Paris]"), None),
            (json!("soon"), None),
            (json!("-"), None),
            (json!("é2026-01-31"), None),
            (json!(true), None),
        ] {
            let display = input.to_string();
            assert_eq!(coerced(input, PropertyType::Date), sent, "{display}");
        }
    }

    #[test]
    fn number_or_boolean_is_coerced_to_text() {
        for (input, sent) in
            [(parse_json("1.50"), json!("1.50")), (json!(true), json!("true")), (json!("x"), json!("x"))]
        {
            assert_eq!(coerced(input, PropertyType::Text), Some(sent));
        }
    }

    #[test]
    fn number_coerced_to_text_over_498_characters_is_rejected() {
        let digits = |count: usize| parse_json(&"9".repeat(count));
        assert_eq!(coerced(digits(498), PropertyType::Text), Some(json!("9".repeat(498))));
        for count in [499, 500] {
            let result = coerce("f", Cleaned::Send(digits(count)), PropertyType::Text);
            assert_eq!(result, Err(FieldError::TooLongToTruncate(count)));
        }
    }

    #[test]
    fn unknown_property_type_accepts_any_value() {
        for value in [json!("x"), json!(7), json!(false), json!(null)] {
            assert_eq!(coerced(value.clone(), PropertyType::Other), Some(value));
        }
    }

    #[test]
    fn omitted_and_truncated_values_keep_their_state() {
        assert_eq!(coerce("f", Cleaned::Omit, PropertyType::Number), Ok(Cleaned::Omit));
        let cut = || Cleaned::SendAdjusted(json!("long…"));
        assert_eq!(coerce("f", cut(), PropertyType::Text), Ok(cut()));
        assert!(coerce("f", cut(), PropertyType::Number).is_err());
    }
}
