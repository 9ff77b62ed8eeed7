//! Characters that nobody sees, by the properties that Unicode gives them.
//!
//! They come along when a text is copied from a web page or a document. Two texts that look the same would be two
//! values, two contacts or two events.

use std::borrow::Cow;

use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, ExtendedPictographic, GeneralCategory,
    PrependedConcatenationMark,
};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Returns the text without white space and invisible characters at both edges. What is a part of the last visible
/// character stays: `❤️` would be another picture without its variation selector.
pub(crate) fn trim_invisible(text: &str) -> &str {
    let text = text.trim_start_matches(is_blank);
    let visible = text.trim_end_matches(is_blank);
    let rest = text.get(visible.len()..).unwrap_or_default();
    text.get(..visible.len() + suffix_len(visible, rest)).unwrap_or(visible)
}

/// Returns the text without the invisible characters in it. White space stays.
pub(crate) fn remove_invisible(text: &str) -> Cow<'_, str> {
    if text.contains(is_invisible) { text.replace(is_invisible, "").into() } else { text.into() }
}

/// Returns the text with the code of each character that nobody sees, or that looks like a space, in its place:
/// `a<U+200B>b`. So a message tells two texts apart that look the same.
pub(crate) fn spell_invisible(text: &str) -> Cow<'_, str> {
    let is_spelt = |c: char| is_invisible(c) || (c.is_whitespace() && !c.is_ascii());
    if !text.contains(is_spelt) {
        return text.into();
    }
    let spell = |c: char| if is_spelt(c) { format!("<U+{:04X}>", u32::from(c)) } else { c.into() };
    text.chars().map(spell).collect::<String>().into()
}

/// Whether nothing of a character is seen: a format or control character, a filler or a selector, but not white space.
///
/// General category `Cf` without the marks of Arabic and other scripts that enclose digits and are seen; `Cc`;
/// `Default_Ignorable_Code_Point`. The two blank symbols have no such property (Unicode Standard, chapters 21 and 23).
pub(crate) fn is_invisible(character: char) -> bool {
    const BRAILLE_BLANK: char = '\u{2800}';
    const NULL_NOTEHEAD: char = '\u{1d159}';
    match character {
        ' '..='~' => false,
        BRAILLE_BLANK | NULL_NOTEHEAD => true,
        _ if character.is_whitespace() => false,
        _ if CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character) => true,
        _ => match CodePointMapData::<GeneralCategory>::new().get(character) {
            GeneralCategory::Control => true,
            GeneralCategory::Format => !CodePointSetData::new::<PrependedConcatenationMark>().contains(character),
            _ => false,
        },
    }
}

/// Whether nothing of a character is seen, white space included.
pub fn is_blank(character: char) -> bool {
    character.is_whitespace() || is_invisible(character)
}

/// Returns how many bytes of `rest`, invisible characters that follow a visible text, are a part of its last character:
/// the selector of an emoji's form, the tags of a flag (Unicode Technical Standard 51, 1.4.5 and 1.4.6), and the joiner
/// that makes a letter of a consonant and a virama (Unicode Standard, 12.9).
fn suffix_len(visible: &str, rest: &str) -> usize {
    const FLAG: char = '\u{1f3f4}';
    const LAST_TAG: char = '\u{e007f}';
    let (Some(last), Some(next)) = (visible.chars().next_back(), rest.chars().next()) else { return 0 };
    let is_part = match next {
        '\u{fe0e}' | '\u{fe0f}' => CodePointSetData::new::<ExtendedPictographic>().contains(last),
        '\u{200c}' | '\u{200d}' => {
            CodePointMapData::<CanonicalCombiningClass>::new().get(last) == CanonicalCombiningClass::Virama
        }
        '\u{e0020}'..='\u{e007e}' if last == FLAG => {
            let tags = rest.trim_start_matches(|c| ('\u{e0020}'..='\u{e007e}').contains(&c));
            return if tags.starts_with(LAST_TAG) { rest.len() - tags.len() + LAST_TAG.len_utf8() } else { 0 };
        }
        _ => false,
    };
    if is_part { next.len_utf8() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of every kind at least one.
    const INVISIBLE: [char; 25] = [
        '\u{0}',
        '\u{1b}',
        '\u{7f}',
        '\u{9f}',
        '\u{ad}',
        '\u{34f}',
        '\u{61c}',
        '\u{115f}',
        '\u{1160}',
        '\u{17b4}',
        '\u{180e}',
        '\u{200b}',
        '\u{200d}',
        '\u{200f}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2800}',
        '\u{3164}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{fff9}',
        '\u{e0041}',
        '\u{e0100}',
    ];

    #[test]
    fn invisible_characters_and_white_space_are_trimmed() {
        for character in INVISIBLE.into_iter().chain("\t\n\r\u{85}\u{a0}\u{2003}\u{2028}\u{3000}".chars()) {
            for text in [
                format!("{character}a b"),
                format!("a b{character}"),
                format!(" {character} a b \u{200b}{character}\u{a0}{character}"),
            ] {
                assert_eq!(trim_invisible(&text), "a b", "{text:?}");
            }
            assert_eq!(trim_invisible(&character.to_string().repeat(3)), "", "{character:?}");
        }
    }

    #[test]
    fn invisible_characters_inside_are_not_trimmed() {
        for text in ["می\u{200c}خواهم", "👨\u{200d}👩\u{200d}👧", "1\u{fe0f}\u{20e3}", "a\u{ad}b", ""] {
            assert_eq!(trim_invisible(text), text);
        }
    }

    #[test]
    fn part_of_last_visible_character_is_not_trimmed() {
        let england = "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}";
        for text in ["I \u{2764}\u{fe0f}", "\u{a9}\u{fe0e}", england, "\u{d15}\u{d28}\u{d4d}\u{200d}"] {
            assert_eq!(trim_invisible(&format!("\u{200b}{text}\u{200d}\u{fe0f}\u{fe0f} ")), text);
        }
        for (text, trimmed) in [
            ("a\u{fe0f}", "a"),
            ("5\u{fe0f}", "5"),
            ("\u{2764}\u{200d}", "\u{2764}"),
            ("e\u{301}\u{200d}", "e\u{301}"),
            ("\u{1f3f4}\u{e0067}\u{e0062}", "\u{1f3f4}"),
        ] {
            assert_eq!(trim_invisible(text), trimmed);
        }
    }

    #[test]
    fn invisible_characters_are_removed_everywhere() {
        for character in INVISIBLE {
            assert_eq!(remove_invisible(&format!("{character}a{character}\u{a0}b{character}")), "a\u{a0}b");
        }
        assert!(matches!(remove_invisible("José 李\n"), Cow::Borrowed("José 李\n")));
    }

    #[test]
    fn invisible_characters_are_spelt_by_code() {
        assert_eq!(spell_invisible("a\u{200b}b\u{a0}\u{e0041}c d\n"), "a<U+200B>b<U+00A0><U+E0041>c d\n");
        assert!(matches!(spell_invisible("José 李\n"), Cow::Borrowed("José 李\n")));
    }

    #[test]
    fn visible_characters_are_not_invisible() {
        // Among them the Arabic number sign, which is `Cf` and is seen, and a replacement for what was unreadable.
        for character in "a é李😀\u{600}\u{6dd}\u{110bd}\u{fffd}\u{301}\u{20e3}\u{e000}".chars() {
            assert!(!is_invisible(character), "{character:?}");
        }
    }
}
