//! Walks over a JSON text, whole or broken, knowing only what is inside its strings and what is outside.

/// Where a character stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CharContext {
    /// Outside every string.
    Outside,
    /// The quote that opens a string.
    Opens,
    /// Inside a string.
    Inside,
    /// Inside a string, just after a backslash.
    Escaped,
    /// The quote that closes a string.
    Closes,
}

/// The characters of a text, where they are, and where they stand.
pub(super) fn char_contexts(text: &str) -> impl Iterator<Item = (usize, char, CharContext)> {
    let mut last = CharContext::Outside;
    let mut escapes = false;
    text.char_indices().map(move |(at, character)| {
        let within = matches!(last, CharContext::Opens | CharContext::Inside | CharContext::Escaped);
        last = match (within, character) {
            (false, '"') => CharContext::Opens,
            (false, _) => CharContext::Outside,
            (true, _) if escapes => CharContext::Escaped,
            (true, '"') => CharContext::Closes,
            (true, _) => CharContext::Inside,
        };
        escapes = last == CharContext::Inside && character == '\\';
        (at, character, last)
    })
}

/// The text with every control character inside its strings written by `write`, or nothing where it has none.
///
/// One that follows a backslash stays: `\` and a line break together are broken JSON, not a line break.
pub(super) fn without_raw_controls(text: &str, write: fn(&mut String, char)) -> Option<String> {
    let is_raw = |character: char, place| character < ' ' && place == CharContext::Inside;
    char_contexts(text).find(|(_, character, place)| is_raw(*character, *place))?;
    let mut rewritten = String::with_capacity(text.len() + 16);
    for (_, character, place) in char_contexts(text) {
        if is_raw(character, place) {
            write(&mut rewritten, character);
        } else {
            rewritten.push(character);
        }
    }
    Some(rewritten)
}

/// Where the first list or object opens that stands inside `levels` others.
pub(super) fn deeper_than(levels: usize, text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, character, place) in char_contexts(text) {
        match (place, character) {
            (CharContext::Outside, '[' | '{') if open == levels => return Some(at),
            (CharContext::Outside, '[' | '{') => open += 1,
            (CharContext::Outside, ']' | '}') => open = open.saturating_sub(1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_told_from_what_is_around_them() {
        let drawn: String = char_contexts(r#"{"a\"b":"\\"}x"#)
            .map(|(_, _, place)| match place {
                CharContext::Outside => '.',
                CharContext::Opens => '<',
                CharContext::Inside => 'i',
                CharContext::Escaped => 'e',
                CharContext::Closes => '>',
            })
            .collect();
        assert_eq!(drawn, ".<iiei>.<ie>..");
    }

    #[test]
    fn control_characters_are_rewritten_inside_strings_only() {
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
    fn brackets_count_outside_strings_only() {
        assert_eq!(deeper_than(2, r#"{"a":[1,2],"b":["[[["]}"#), None);
        assert_eq!(deeper_than(2, r#"{"a":[1,[2]]}"#), Some(8));
        assert_eq!(deeper_than(32, &"[".repeat(32)), None);
        assert_eq!(deeper_than(32, &"[".repeat(33)), Some(32));
    }
}
