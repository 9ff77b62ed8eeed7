//! A scan of a JSON text, valid or not, that tells the inside of strings from the outside.

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
    fn nesting_depth_ignores_brackets_inside_strings() {
        assert_eq!(deeper_than(2, r#"{"a":[1,2],"b":["[[["]}"#), None);
        assert_eq!(deeper_than(2, r#"{"a":[1,[2]]}"#), Some(8));
        assert_eq!(deeper_than(32, &"[".repeat(32)), None);
        assert_eq!(deeper_than(32, &"[".repeat(33)), Some(32));
    }
}
