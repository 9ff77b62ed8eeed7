//! The location of an error in a body, as a Clay user can find it: line, column, and the field beside it.

use crate::row::json::scanner::{self, CharContext};
use crate::text::is_blank;

/// Returns the line and the column, both from 1, of a byte of a text. A column is a character, as in editors.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    // If something is missing at the end of a text, its last character is what a user can look at.
    let last = text.char_indices().next_back().map_or(0, |(at, _)| at);
    let (before, _) = text.split_at_checked(offset.min(last)).unwrap_or((text, ""));
    let line = before.rsplit('\n').next().unwrap_or(before);
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// Returns the name of the last field whose colon is before that byte.
pub(super) fn nearest_field(text: &str, offset: usize) -> Option<String> {
    let mut string_start = 0;
    let mut last_string = None;
    let mut nearest = None;
    for (at, character, context) in scanner::char_contexts(text).take_while(|(at, ..)| *at < offset) {
        match (context, character) {
            (CharContext::OpeningQuote, _) => string_start = at,
            (CharContext::ClosingQuote, _) => last_string = text.get(string_start..=at),
            (CharContext::Outside, ':') => nearest = last_string.take().or(nearest),
            (CharContext::Outside, _) if !is_blank(character) => last_string = None,
            _ => {}
        }
    }
    nearest.map(|name| serde_json::from_str(name).unwrap_or_else(|_| name.trim_matches('"').to_owned()))
}

/// Returns the offset in `text`, a JSON string with or without white space around it, of a byte of its decoded content.
pub(super) fn offset_in_string(text: &str, decoded_offset: usize) -> usize {
    let mut position = text.find('"').map_or(0, |quote| quote + 1);
    let mut decoded_len = 0;
    while let Some((length, width)) = text.get(position..).and_then(first_char) {
        if decoded_len + width > decoded_offset {
            break;
        }
        position += length;
        decoded_len += width;
    }
    position
}

/// Returns the number of bytes of the first character of a string's content, as written and decoded.
fn first_char(content: &str) -> Option<(usize, usize)> {
    let Some(escape) = content.strip_prefix('\\') else {
        let width = content.chars().next()?.len_utf8();
        return Some((width, width));
    };
    let Some(digits) = escape.strip_prefix('u') else { return Some((2, 1)) };
    match u32::from_str_radix(digits.get(..4)?, 16).ok()? {
        0..0x80 => Some((6, 1)),
        0x80..0x800 => Some((6, 2)),
        0xd800..0xdc00 if is_second_half(digits.get(4..)?) => Some((12, 4)),
        _ => Some((6, 3)),
    }
}

/// Whether a content starts with the second half of a surrogate pair.
fn is_second_half(content: &str) -> bool {
    let digits = content.strip_prefix("\\u").and_then(|digits| digits.get(..4));
    digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()).is_some_and(|unit| (0xdc00..0xe000).contains(&unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_and_column_count_characters_from_1() {
        for (text, offset, expected) in [
            ("", 0, (1, 1)),
            ("ab", 1, (1, 2)),
            ("ab", 2, (1, 2)),
            ("a\nb", 2, (2, 1)),
            ("é\nüx", 5, (2, 2)),
            ("a\n", 2, (1, 2)),
        ] {
            assert_eq!(line_and_column(text, offset), expected, "{text:?} {offset}");
        }
    }

    #[test]
    fn nearest_field_is_last_complete_key_before_offset() {
        for (text, offset, expected) in [
            (r#"{"a":x}"#, 5, Some("a")),
            (r#"{"a": "b", c}"#, 11, Some("a")),
            (r#"{"a":1,"b" 2}"#, 11, Some("a")),
            (r#"{"a":1,"b"x:2}"#, 14, Some("a")),
            (r#"{"a":{"plan" : }}"#, 15, Some("plan")),
            (r#"{"a":["b", x]}"#, 11, Some("a")),
            (r#"{"a":"x: y"z"}"#, 11, Some("a")),
            (r#"{"\u00e9 \"q\"":x}"#, 17, Some("é \"q\"")),
            ("{\"a\nb\":x}", 7, Some("a\nb")),
            (r#"{"a"::1}"#, 5, Some("a")),
            (r"{x", 1, None),
            (r#"{"a""#, 4, None),
        ] {
            assert_eq!(nearest_field(text, offset).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn offset_in_string_maps_decoded_byte_to_source_byte() {
        let text = r#" "a\n\"é\u00e9\ud83d\ude00\u0041z" "#;
        let decoded: String = serde_json::from_str(text).unwrap();
        assert_eq!(decoded, "a\n\"éé😀Az");
        for (character, expected) in [('a', 2), ('\n', 3), ('"', 5), ('😀', 15), ('A', 27), ('z', 33)] {
            assert_eq!(offset_in_string(text, decoded.find(character).unwrap()), expected, "{character:?}");
        }
        assert_eq!(offset_in_string(text, decoded.len()), 34);
        assert_eq!(offset_in_string("\"a\nb\"", 2), 3);
    }
}
