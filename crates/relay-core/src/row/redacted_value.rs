//! A received value as messages show it: short, and never something that may be a secret.

use std::fmt;

use serde_json::Value;

use crate::text::{remove_invisible, spell_invisible, trim_invisible, truncate_chars};

/// Maximum length of a shown value: enough to recognize it in a table.
const MAX_SHOWN_CHARS: usize = 24;
/// Length from which a text of one word may be a key, and so may a word of letters and digits in a longer text.
const MIN_SECRET_LEN: usize = 20;
/// Parts of the names of fields whose values are never shown.
const SENSITIVE_NAMES: [&str; 7] = ["token", "secret", "password", "passwd", "apikey", "authorization", "credential"];

/// A value in words. It goes into the response to its sender, and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RedactedValue(String);

impl RedactedValue {
    pub(super) fn new(field: &str, value: &Value) -> Self {
        Self(match value {
            Value::String(text) if may_be_secret(field, text) => {
                format!("a text of {} characters", text.chars().count())
            }
            Value::String(text) => {
                let one_line = trim_invisible(text).replace(|c: char| c.is_ascii_control(), " ");
                format!("\"{}\"", truncate_chars(&spell_invisible(&one_line), MAX_SHOWN_CHARS))
            }
            Value::Number(_) | Value::Bool(_) => truncate_chars(&value.to_string(), MAX_SHOWN_CHARS),
            Value::Null | Value::Array(_) | Value::Object(_) => json_type_name(value).to_owned(),
        })
    }
}

impl fmt::Display for RedactedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text may be a key, a token or a password, by the name of its field or by its form.
fn may_be_secret(field: &str, text: &str) -> bool {
    // A character that nobody sees hides none.
    let text = &*remove_invisible(text);
    let name: String = field.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    SENSITIVE_NAMES.iter().any(|part| name.contains(part))
        || text.contains("whsec_")
        || text.to_ascii_lowercase().contains("bearer ")
        || has_secret_shape(text.trim())
        || text.split_whitespace().any(looks_like_secret)
}

/// Whether a word has the length and the characters of a key: base64, hexadecimal digits, a JWT with its dots, or a name
/// and a password with a colon between them.
fn has_secret_shape(word: &str) -> bool {
    word.len() >= MIN_SECRET_LEN && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:+/=".contains(c))
}

/// Whether a word in a longer text may be a key. A word without digits may just be long.
fn looks_like_secret(word: &str) -> bool {
    has_secret_shape(word) && word.chars().any(|c| c.is_ascii_digit()) && word.chars().any(|c| c.is_ascii_alphabetic())
}

/// Returns the JSON type of a value in words for messages.
pub(super) const fn json_type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn value_is_shortened_to_one_line() {
        for (value, expected) in [
            (json!("maybe"), "\"maybe\""),
            (json!(" two\nlines "), "\"two lines\""),
            (json!("é".repeat(25)), &format!("\"{}…\"", "é".repeat(23))),
            (json!("{{Company Name}}"), "\"{{Company Name}}\""),
            (json!("\u{feff}4\u{200b}2\u{a0}x"), "\"4<U+200B>2<U+00A0>x\""),
            (json!("AbCdEfGhIjKlMnOpQrS"), "\"AbCdEfGhIjKlMnOpQrS\""),
            (json!("ada.lovelace.x@example.c"), "\"ada.lovelace.x@example.c\""),
            (json!("an incomprehensibilities"), "\"an incomprehensibilities\""),
            (json!(7), "7"),
            (json!(true), "true"),
            (json!(["a"]), "a list"),
            (json!({"a": 1}), "an object"),
        ] {
            assert_eq!(RedactedValue::new("company", &value).to_string(), expected);
        }
    }

    #[test]
    fn possible_secret_is_redacted() {
        for (field, text) in [
            ("API Key", "k"),
            ("accessToken", "short"),
            ("company", "whsec_MfKQ9r8"),
            ("company", "Bearer abc"),
            ("subscribed", "a 0c1d2e3f4a5b6c7d8e9f key"),
            ("company", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"),
            ("company", "use eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl here"),
            ("company", " AbCdEfGhIjKlMnOpQrSt\n"),
            ("company", "name:a_pass-word+of/letters="),
            ("company", "12345678901234567890"),
            ("company", "12345678901\u{200b}234567890"),
        ] {
            let redacted = RedactedValue::new(field, &json!(text)).to_string();
            assert_eq!(redacted, format!("a text of {} characters", text.chars().count()));
        }
    }
}
