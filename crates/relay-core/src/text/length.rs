//! The length of a text as Loops may count it, and the cut to it.
//!
//! "500 characters with the quotes" (Loops docs, API intro, "Debugging") may mean characters, UTF-16 units, or the length
//! of the JSON text, `JSON.stringify(text).length`. The last is never smaller than the others.

use unicode_segmentation::UnicodeSegmentation as _;

/// Maximum length of the JSON text.
const MAX_JSON_UNITS: usize = 500;
const QUOTES: usize = 2;
const ELLIPSIS: char = '…';

/// Whether a text is within the limit by every count.
pub(crate) fn fits_every_count(text: &str) -> bool {
    QUOTES + json_units(text) <= MAX_JSON_UNITS
}

/// Returns as much of a text as fits by every count with a `…` after it. Characters that belong together are never
/// parted, so nothing is returned where the first of them are too many.
pub(crate) fn cut_to_every_count(text: &str) -> Option<String> {
    let mut units = QUOTES + ELLIPSIS.len_utf16();
    let fitting = text.graphemes(true).take_while(|grapheme| {
        units += json_units(grapheme);
        units <= MAX_JSON_UNITS
    });
    let cut: String = fitting.collect();
    (!cut.is_empty()).then(|| cut + ELLIPSIS.encode_utf8(&mut [0; 3]))
}

/// Returns the UTF-16 units of a text in a JSON string, as `JSON.stringify` writes it (ECMA-262, QuoteJSONString).
fn json_units(text: &str) -> usize {
    let units = |character: char| match character {
        '"' | '\\' | '\u{8}' | '\t' | '\n' | '\u{c}' | '\r' => 2,
        '\0'..='\u{1f}' => 6,
        _ => character.len_utf16(),
    };
    text.chars().map(units).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_pairs_count_as_json_writes_them() {
        for (text, units) in
            [("aé", 2), ("😀", 2), ("\"\\\n\t\r", 10), ("\u{0}\u{1f}", 12), ("\u{7f}\u{2028}/", 3), ("", 0)]
        {
            assert_eq!(json_units(text), units, "{text:?}");
        }
    }

    #[test]
    fn text_is_within_limit_up_to_498_units() {
        assert!(fits_every_count(&"x".repeat(498)) && fits_every_count(&"\n".repeat(249)));
        for text in ["x".repeat(499), "😀".repeat(250), format!("{}\"", "x".repeat(497))] {
            assert!(!fits_every_count(&text));
        }
    }

    #[test]
    fn cut_text_is_as_long_as_fits() {
        for (character, kept) in [("x", 497), ("é", 497), ("😀", 248), ("\"", 248), ("e\u{301}", 248), ("\r\n", 124)]
        {
            let cut = cut_to_every_count(&character.repeat(600)).unwrap();
            assert_eq!(cut, format!("{}…", character.repeat(kept)));
            assert!(fits_every_count(&cut));
        }
    }

    #[test]
    fn characters_that_belong_together_are_not_parted() {
        for together in ["👨\u{200d}👩\u{200d}👧", "🇩🇪", "e\u{301}\u{323}", "👍🏽", "1\u{fe0f}\u{20e3}", "நி"]
        {
            for before in 480..498 {
                let before = "x".repeat(before);
                let cut = cut_to_every_count(&format!("{before}{}", together.repeat(20))).unwrap();
                let end = cut.strip_suffix('…').unwrap().strip_prefix(&before).unwrap_or_default();
                assert_eq!(end.replace(together, ""), "");
            }
        }
    }

    #[test]
    fn one_character_with_too_many_marks_is_not_cut() {
        assert_eq!(cut_to_every_count(&format!("e{}", "\u{301}".repeat(600))), None);
        assert_eq!(cut_to_every_count(&format!("ae{}", "\u{301}".repeat(600))).as_deref(), Some("a…"));
    }
}
