//! Texts of strangers on a terminal, which takes some characters for commands and others for another order of the letters.

use std::borrow::Cow;

use serde::Serialize;

/// Escapes control characters but line breaks and tabs, and marks of writing direction, as `\u{9b}`. The colours of this program
/// stay: they change nothing else.
pub fn escape_for_terminal(text: &str) -> Cow<'_, str> {
    const COLORS: [&str; 4] = ["\u{1b}[0m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m"];
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let (mut escaped, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(first) = rest.chars().next() {
        let color = COLORS.into_iter().find(|color| rest.starts_with(color));
        let length = color.map_or(first.len_utf8(), str::len);
        match color {
            None if is_unsafe(first) => escaped.extend(first.escape_unicode()),
            _ => escaped.push_str(rest.get(..length).unwrap_or_default()),
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    Cow::Owned(escaped)
}

/// Escapes the same characters in a JSON document, where they can only be part of a text. Its value is the same.
pub fn escape_json_for_terminal(json: &str) -> Cow<'_, str> {
    if !json.contains(is_unsafe) {
        return Cow::Borrowed(json);
    }
    let escape = |c: char| if is_unsafe(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Cow::Owned(json.chars().map(escape).collect())
}

/// Returns records as elements of a JSON array that is printed part by part, with the same characters escaped.
///
/// # Errors
/// When a record cannot be written as JSON.
pub fn json_elements_for_terminal(records: &[impl Serialize], are_first: bool) -> serde_json::Result<String> {
    let mut elements = String::new();
    for record in records {
        elements.push_str(if are_first && elements.is_empty() { "\n" } else { ",\n" });
        elements.push_str(&serde_json::to_string_pretty(record)?);
    }
    Ok(escape_json_for_terminal(&elements).into_owned())
}

/// Whether a terminal may take a character for a command, or for a mark of writing direction (Unicode, `Bidi_Control`). All are
/// below U+10000.
fn is_unsafe(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_direction_marks_are_escaped() {
        let text = "\u{1b}]0;title\u{7} \u{9b}2J \u{202e}evil\u{2066} \r\u{8}x\u{7f}";
        let escaped = escape_for_terminal(text);
        assert_eq!(escaped, r"\u{1b}]0;title\u{7} \u{9b}2J \u{202e}evil\u{2066} \u{d}\u{8}x\u{7f}");
    }

    #[test]
    fn ordinary_text_and_own_colors_are_unchanged() {
        for text in ["Zoë ✓\n\tעברית 👩\u{200d}💻", "\u{1b}[32mok\u{1b}[0m  \u{1b}[31mfail\u{1b}[0m"] {
            assert_eq!(escape_for_terminal(text), text);
        }
        assert_eq!(escape_for_terminal("\u{1b}[32mok\u{1b}[0m\u{1b}[2J"), "\u{1b}[32mok\u{1b}[0m\\u{1b}[2J");
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({"body": "\u{9b}2J\u{202e}x\u{1b}\n", "id": "Zoë"});
        let json = serde_json::to_string_pretty(&value).unwrap();
        let escaped = escape_json_for_terminal(&json);
        assert!(!escaped.contains(is_unsafe) && escaped.contains(r"\u009b2J\u202ex"), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }

    #[test]
    fn elements_printed_in_parts_are_one_array() {
        let parts = [["a", "\u{9b}"], ["b", "c"]].map(|part| part.to_vec());
        let first = json_elements_for_terminal(&parts[0], true).unwrap();
        let array = format!("[{first}{}\n]", json_elements_for_terminal(&parts[1], false).unwrap());
        assert_eq!(serde_json::from_str::<Vec<String>>(&array).unwrap(), parts.concat());
        assert!(!array.contains('\u{9b}'));
        assert_eq!(json_elements_for_terminal(&[""; 0], true).unwrap(), "");
    }
}
