//! A scan of a JSON text, valid or not, that tells the inside of strings from the outside.

use crate::row::sanitizer::HALF_SURROGATE;
use crate::text::is_blank;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CharContext {
    /// Outside every string.
    Outside,
    OpeningQuote,
    /// Inside a string.
    Inside,
    /// Inside a string, just after a backslash.
    Escaped,
    ClosingQuote,
}

/// Returns each character of a text with its byte offset and its context.
pub(super) fn char_contexts(text: &str) -> impl Iterator<Item = (usize, char, CharContext)> {
    let mut context = CharContext::Outside;
    let mut after_backslash = false;
    text.char_indices().map(move |(at, character)| {
        let in_string = matches!(context, CharContext::OpeningQuote | CharContext::Inside | CharContext::Escaped);
        context = match (in_string, character) {
            (false, '"') => CharContext::OpeningQuote,
            (false, _) => CharContext::Outside,
            (true, _) if after_backslash => CharContext::Escaped,
            (true, '"') => CharContext::ClosingQuote,
            (true, _) => CharContext::Inside,
        };
        after_backslash = context == CharContext::Inside && character == '\\';
        (at, character, context)
    })
}

/// Returns the text with every control character inside its strings written by `write`, or nothing if it has none.
///
/// One that follows a backslash stays: `\` and a line break together are invalid JSON, not a line break.
pub(super) fn without_raw_controls(text: &str, write: fn(&mut String, char)) -> Option<String> {
    let is_raw = |character: char, context| character < ' ' && context == CharContext::Inside;
    char_contexts(text).find(|(_, character, context)| is_raw(*character, *context))?;
    let mut rewritten = String::with_capacity(text.len() + 16);
    for (_, character, context) in char_contexts(text) {
        if is_raw(character, context) {
            write(&mut rewritten, character);
        } else {
            rewritten.push(character);
        }
    }
    Some(rewritten)
}

/// Returns the text with spaces in place of what only looks like one between its tokens, and [`HALF_SURROGATE`] in place
/// of every escape that is half a surrogate pair; or nothing if it has neither. The text is as long as before.
pub(super) fn with_readable_characters(text: &str) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    let mut pair_end = 0;
    for (at, character, context) in char_contexts(text) {
        match (context, character) {
            (CharContext::Outside, ' ' | '\t' | '\n' | '\r') => {}
            (CharContext::Outside, c) if is_blank(c) => bytes.get_mut(at..at + c.len_utf8())?.fill(b' '),
            (CharContext::Escaped, 'u') if at >= pair_end => match (surrogate_at(text, at), surrogate_at(text, at + 6))
            {
                (Some(0xd800..0xdc00), Some(0xdc00..)) => pair_end = at + 7,
                (Some(_), _) => {
                    let digits = format!("{:04x}", u32::from(HALF_SURROGATE));
                    bytes.get_mut(at + 1..at + 5)?.copy_from_slice(digits.as_bytes());
                }
                (None, _) => {}
            },
            _ => {}
        }
    }
    (bytes != text.as_bytes()).then(|| String::from_utf8(bytes).ok())?
}

/// Returns the surrogate whose escape has its `u` there.
fn surrogate_at(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at.checked_sub(1)?..)?.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok().filter(|unit| (0xd800..0xe000).contains(unit))
}

/// Returns the offset of the first list or object that is nested in `levels` others.
pub(super) fn deeper_than(levels: usize, text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, character, context) in char_contexts(text) {
        match (context, character) {
            (CharContext::Outside, '[' | '{') if depth == levels => return Some(at),
            (CharContext::Outside, '[' | '{') => depth += 1,
            (CharContext::Outside, ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_contents_are_distinguished_from_surroundings() {
        let drawn: String = char_contexts(r#"{"a\"b":"\\"}x"#)
            .map(|(_, _, context)| match context {
                CharContext::Outside => '.',
                CharContext::OpeningQuote => '<',
                CharContext::Inside => 'i',
                CharContext::Escaped => 'e',
                CharContext::ClosingQuote => '>',
            })
            .collect();
        assert_eq!(drawn, ".<iiei>.<ie>..");
    }

    #[test]
    fn control_characters_are_rewritten_only_inside_strings() {
        let space = |text: &mut String, _| text.push(' ');
        for (text, rewritten) in [
            ("{\n\"a\":\"x\ny\tz\"}\n", Some("{\n\"a\":\"x y z\"}\n")),
            ("{\"a\nb\":1}", Some("{\"a b\":1}")),
            ("\"\u{0}\u{1f}\u{7f}\"", Some("\"  \u{7f}\"")),
            ("{\"a\":\"x\\\ny\"}", None),
            ("{\n\"a\"\t: 1}", None),
        ] {
            assert_eq!(without_raw_controls(text, space).as_deref(), rewritten, "{text:?}");
        }
    }

    #[test]
    fn what_looks_like_a_space_between_tokens_becomes_spaces() {
        assert_eq!(
            with_readable_characters("\u{feff}{\u{a0}\"a\u{a0}b\"\u{200b}:\u{0}1}\u{2028}").as_deref(),
            Some("   {  \"a\u{a0}b\"   : 1}   ")
        );
        assert_eq!(with_readable_characters("{\n\t\"\u{200b}\": 1\r\n}"), None);
    }

    #[test]
    fn escape_of_half_a_surrogate_pair_is_replaced() {
        for (text, rewritten) in [
            (r#""\ud83d""#, Some(r#""\ufdd0""#)),
            (r#""\uDE00x\ud83d\ud83d\ude00""#, Some(r#""\ufdd0x\ufdd0\ud83d\ude00""#)),
            (r#"{"\ud83d\n":1}"#, Some(r#"{"\ufdd0\n":1}"#)),
            (r#""\ud83d\ude00\ude00""#, Some(r#""\ud83d\ude00\ufdd0""#)),
            (r#""\ud83d\ude00 \\ud83d \u00e9""#, None),
            (r#""\ud8"#, None),
        ] {
            assert_eq!(with_readable_characters(text).as_deref(), rewritten, "{text}");
        }
    }

    #[test]
    fn nesting_depth_ignores_brackets_inside_strings() {
        assert_eq!(deeper_than(2, r#"{"a":[1,2],"b":["[[["]}"#), None);
        assert_eq!(deeper_than(2, r#"{"a":[1,[2]]}"#), Some(8));
        assert_eq!(deeper_than(32, &"[".repeat(32)), None);
        assert_eq!(deeper_than(32, &"[".repeat(33)), Some(32));
    }
}
