//! The key under which an event is sent once, however often its row is run.
//!
//! An event whose caller gives no key gets one that is derived from its content, after cleaning. `docs/event-keys.md`
//! describes how, so that another program can derive it too; `tests/fixtures/event_keys` checks that the two agree.
//!
//! The order of the properties, the spelling of numbers, quotes around them and the spelling of blanks do not matter.
//! Contact properties and mailing lists do not count: a row that was enriched in between is the same event.
//!
//! See docs/adr/0003-event-idempotency.md.

use std::str::FromStr as _;

use serde_json::{Map, Number, Value, json};
use sha2::{Digest, Sha256};

use crate::error::{ErrorCode, RequestError};
use crate::placeholder;

/// Name of the header that carries the key, to the relay and to Loops.
pub const HEADER: &str = "Idempotency-Key";
/// Maximum length of a key (Loops API reference, "Send event").
const MAX_KEY_LEN: usize = 100;
/// Maximum distance of a digit from the decimal point in a number that is written without an exponent.
const MAX_PLAIN_DIGITS: i64 = 60;
/// Exponents of this size and larger are not computed with.
const MAX_EXPONENT: u64 = 1_000_000_000_000_000;

/// Key of an event: the same on every attempt, on the fast path and from the queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Returns the caller's own key, from the values of all `Idempotency-Key` headers of a request.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidOption`] if it is not 1 to 100 visible ASCII characters, if there is more than one, or if it is
    /// a placeholder, which would be the key of every row that lacks its own.
    pub fn from_headers<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Option<Self>, RequestError> {
        let Some(value) = values.next() else { return Ok(None) };
        let key = std::str::from_utf8(value).unwrap_or_default();
        let is_visible = (1..=MAX_KEY_LEN).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        let message = if values.next().is_some() || key.contains(',') {
            // A gateway joins headers of one name with commas (RFC 9110 §5.3).
            "The header Idempotency-Key came more than once or has a comma, and an event has one key: leave one of them in the \
             column in Clay, and put no comma in it."
        } else if !is_visible {
            "The header Idempotency-Key must be 1 to 100 visible ASCII characters without spaces: shorten it, or \
             leave the header out to let the relay derive one."
        } else if placeholder::has_uninserted_column(key) {
            "The header Idempotency-Key has a column's name or [object Object] in it instead of the column's value: in Clay, \
             insert the column with / instead of typing its name."
        } else if placeholder::is_placeholder_id(key) {
            "The header Idempotency-Key is a placeholder such as N/A or undefined, so all rows without a value would be one \
             event: in Clay, run this column only if the key is filled, or leave the header out."
        } else {
            return Ok(Some(Self(key.to_owned())));
        };
        Err(RequestError::new(ErrorCode::InvalidOption, message).with_field(HEADER))
    }

    /// Derives the key of a cleaned event, as `docs/event-keys.md` describes.
    pub fn derive(
        event_name: &str,
        email: Option<&str>,
        user_id: Option<&str>,
        properties: Option<&Map<String, Value>>,
    ) -> Self {
        let email = email.unwrap_or_default().to_lowercase();
        let parts = json!(["1", event_name, email, user_id.unwrap_or_default(), canonical_pairs(properties)]);
        Self(format!("relay-{}", hex::encode(Sha256::digest(parts.to_string()))))
    }

    /// Derives the key of a cleaned transactional e-mail, as `docs/event-keys.md` describes.
    pub fn derive_for_email(transactional_id: &str, email: &str, variables: Option<&Map<String, Value>>) -> Self {
        let parts = json!(["email", transactional_id, email.to_lowercase(), canonical_pairs(variables)]);
        Self(format!("relay-{}", hex::encode(Sha256::digest(parts.to_string()))))
    }

    /// Key of an event that is sent whatever was sent before (`dedupe=off`); its attempts still share it.
    pub fn random(random: &str) -> Self {
        Self(format!("relay-once-{random}"))
    }

    /// Key of an event whose own derived key another event was sent under.
    pub(crate) fn for_conflict(&self) -> Self {
        Self(format!("relay-{}", hex::encode(Sha256::digest(["conflict", self.as_str()].join(" ")))))
    }

    /// Key from a store.
    pub fn from_stored(key: String) -> Self {
        Self(key)
    }

    /// The key as the header carries it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The fields that are not blank, with their values as text, in the order of their names.
fn canonical_pairs(fields: Option<&Map<String, Value>>) -> Vec<[String; 2]> {
    let fields = fields.into_iter().flatten();
    let mut pairs: Vec<_> = fields.filter_map(|(name, value)| Some([name.clone(), canonical_text(value)?])).collect();
    pairs.sort_unstable();
    pairs
}

/// A value as text, or nothing if it is blank.
fn canonical_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) if is_quoted_number(text) => Some(canonical_number(text)),
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(canonical_number(&number.to_string())),
        Value::Array(items) => Some(json!(items.iter().map(canonical_text).collect::<Vec<_>>()).to_string()),
        Value::Object(fields) => Some(json!(canonical_pairs(Some(fields))).to_string()),
        Value::Bool(_) => Some(value.to_string()),
    }
}

/// Whether a text is a number in the form in which the quotes around a column in Clay bring one. With an exponent it is
/// a code, a hash or a coupon more often than a number.
fn is_quoted_number(text: &str) -> bool {
    Number::from_str(text).is_ok() && !text.contains(['e', 'E'])
}

/// The plain form of a JSON number.
fn canonical_number(json: &str) -> String {
    let (sign, unsigned) = json.strip_prefix('-').map_or(("", json), |unsigned| ("-", unsigned));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return "0".to_owned();
    }
    let exponent = exponent.parse::<i64>().ok().filter(|exponent| exponent.unsigned_abs() < MAX_EXPONENT);
    let Some((exponent, fraction_len)) = exponent.zip(i64::try_from(fraction.len()).ok()) else {
        // Two spellings of such a number count as two numbers.
        return json.to_owned();
    };
    let trailing_zeros = i64::try_from(digits.len() - significant.len()).unwrap_or(i64::MAX);
    let power = exponent.saturating_sub(fraction_len).saturating_add(trailing_zeros);
    let length = i64::try_from(significant.len()).unwrap_or(i64::MAX);
    let point = length.saturating_add(power);
    if power.saturating_abs() > MAX_PLAIN_DIGITS || point.saturating_abs() > MAX_PLAIN_DIGITS {
        return format!("{sign}{significant}e{power}");
    }
    if power >= 0 {
        return format!("{sign}{significant}{}", repeat_zeros(power));
    }
    match usize::try_from(point).ok().and_then(|point| significant.split_at_checked(point)) {
        Some((whole, fraction)) if !whole.is_empty() => format!("{sign}{whole}.{fraction}"),
        _ => format!("{sign}0.{}{significant}", repeat_zeros(point.saturating_neg())),
    }
}

fn repeat_zeros(count: i64) -> String {
    "0".repeat(usize::try_from(count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(properties: &str) -> IdempotencyKey {
        let properties: Map<String, Value> = serde_json::from_str(properties).unwrap();
        IdempotencyKey::derive("signup", Some("ada@example.com"), None, Some(&properties))
    }

    #[test]
    fn derived_key_matches_documentation() {
        let text = r#"["1","signup","ada@example.com","",[["plan","pro"],["seats","5"]]]"#;
        let expected = format!("relay-{}", hex::encode(Sha256::digest(text)));
        assert_eq!(key(r#"{"seats":5,"plan":"pro"}"#).as_str(), expected);
        assert!(expected.len() <= MAX_KEY_LEN);
    }

    #[test]
    fn derived_key_ignores_property_order_and_value_spelling() {
        let expected = key(r#"{"seats":5,"plan":"pro","trial":true}"#);
        for equivalent in [
            r#"{"plan":"pro","seats":"5","trial":"true"}"#,
            r#"{ "trial" : true, "seats" : 5.0, "plan" : "pro" }"#,
            r#"{"trial":true,"seats":0.5e1,"plan":"pro","note":null}"#,
            r#"{"trial":true,"seats":"5.0","plan":"pro"}"#,
            r#"{"trial":true,"seats":50e-1,"plan":"pro"}"#,
        ] {
            assert_eq!(key(equivalent), expected, "{equivalent}");
        }
    }

    #[test]
    fn derived_key_differs_by_value_name_or_contact() {
        let key_of = |event, email, user| IdempotencyKey::derive(event, email, user, None);
        let keys = [
            key("{}"),
            key(r#"{"a":"1"}"#),
            key(r#"{"b":"1"}"#),
            key(r#"{"a":"1","b":"1"}"#),
            key_of("Signup", Some("ada@example.com"), None),
            key_of("signup", None, Some("ada@example.com")),
            key_of("signup", Some("ada@example.com"), Some("u1")),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(keys.iter().skip(index + 1).all(|other| other != one), "{index}");
        }
    }

    #[test]
    fn text_resembling_number_is_not_canonicalized() {
        for (one, other) in [
            ("\" 5\"", "5"),
            ("\"05\"", "5"),
            ("\"+5\"", "5"),
            ("\"5.\"", "5"),
            ("\".5\"", "0.5"),
            ("\"1,5\"", "1.5"),
            ("\"7e3\"", "7000"),
            ("\"7e3\"", "7e3"),
            ("\"5E0\"", "\"5\""),
        ] {
            assert_ne!(key(&format!("{{\"n\":{one}}}")), key(&format!("{{\"n\":{other}}}")), "{one}");
        }
    }

    #[test]
    fn derived_key_ignores_email_case() {
        let upper = IdempotencyKey::derive("signup", Some("ADA@Example.com"), None, None);
        assert_eq!(upper, IdempotencyKey::derive("signup", Some("ada@example.com"), None, Some(&Map::new())));
    }

    #[test]
    fn canonical_number_has_one_form() {
        for (json, canonical) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("100", "100"),
            ("1e2", "100"),
            ("100.0", "100"),
            ("-1.50", "-1.5"),
            ("0.05", "0.05"),
            ("5E-2", "0.05"),
            ("12.5e-1", "1.25"),
            ("123456789012345678901", "123456789012345678901"),
            ("1e999", "1e999"),
            ("10e998", "1e999"),
            ("1e-400", "1e-400"),
            ("1e99999999999999999999", "1e99999999999999999999"),
            ("1e1000000000000000", "1e1000000000000000"),
            ("1e999999999999999", "1e999999999999999"),
            ("0e99999999999999999999", "0"),
            ("1e+2", "100"),
        ] {
            assert_eq!(canonical_number(json), canonical, "{json}");
        }
    }

    #[test]
    fn header_key_must_be_1_to_100_visible_characters() {
        let from_header = |value: &str| IdempotencyKey::from_headers([value.as_bytes()].into_iter());
        assert!(from_header(&"k".repeat(100)).is_ok());
        for invalid in ["", "a b", "é", "a\tb", &"k".repeat(101)] {
            let error = from_header(invalid).unwrap_err();
            assert_eq!((error.code(), error.field()), (ErrorCode::InvalidOption, Some(HEADER)), "{invalid}");
        }
    }

    #[test]
    fn placeholder_or_column_name_is_no_header_key() {
        for invalid in [
            "undefined",
            "null",
            "N/A",
            "#N/A",
            "NaN",
            "-",
            "0",
            "true",
            "id",
            "/RowId",
            "{{RowID}}",
            "row-{{RowID}}",
            "${id}",
            "row-%7b%7BRowID%7D%7D",
            "[object-Object]",
            "undefined-undefined",
            "null_null",
            "row-undefined",
            "row-#REF!",
            "12-#N/A",
            "00000000-0000-0000-0000-000000000000",
        ] {
            let error = IdempotencyKey::from_headers([invalid.as_bytes()].into_iter()).unwrap_err();
            assert_eq!((error.code(), error.field()), (ErrorCode::InvalidOption, Some(HEADER)), "{invalid}");
            assert!(error.message().contains("in Clay"), "{error:?}");
        }
        for valid in ["k", "row-7", "ada@example.com-null", "welcome-email", "row:7/\"!~#;"] {
            assert!(IdempotencyKey::from_headers([valid.as_bytes()].into_iter()).is_ok(), "{valid}");
        }
    }

    #[test]
    fn two_header_keys_are_rejected_also_joined() {
        for values in [&["a", "b"][..], &["a", "a"], &["a,b"], &["a, b"], &["a,"]] {
            let error = IdempotencyKey::from_headers(values.iter().map(|value| value.as_bytes())).unwrap_err();
            assert_eq!((error.code(), error.field()), (ErrorCode::InvalidOption, Some(HEADER)), "{values:?}");
            assert!(error.message().contains("more than once"), "{error:?}");
        }
    }

    proptest! {
        #[test]
        fn canonical_number_preserves_value(number in any::<i64>(), shift in 0u32..30) {
            let scaled = format!("{number}{}e-{shift}", "0".repeat(usize::try_from(shift).unwrap()));
            prop_assert_eq!(canonical_number(&scaled), number.to_string());
        }

        #[test]
        fn derived_key_ignores_number_spelling(number in "-?(0|[1-9][0-9]{0,20})", zeros in 0usize..5, shift in 0u32..20) {
            let expected = key(&format!(r#"{{"a":"x","n":{number}}}"#));
            let zeros = "0".repeat(zeros);
            let shifted = format!("{number}{}e-{shift}", "0".repeat(usize::try_from(shift).unwrap()));
            let shifted = if number == "0" || number == "-0" { number.clone() } else { shifted };
            for typed in [number.clone(), format!("{number}.0{zeros}"), format!("{number}E+0{zeros}"), shifted] {
                let quoted = if typed.contains(['e', 'E']) { typed.clone() } else { format!("\"{typed}\"") };
                for written in [format!(r#"{{"n":{typed},"a":"x"}}"#), format!(r#"{{ "n" : {quoted} , "b": null, "a":"x" }}"#)] {
                    prop_assert_eq!(key(&written), expected.clone(), "{}", written);
                }
            }
        }

        #[test]
        fn canonical_number_is_short(json in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,25})?") {
            prop_assert!(canonical_number(&json).len() < 130);
        }
    }
}
