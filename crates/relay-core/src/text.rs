//! Texts that people read: how they are kept short.

/// The most characters that a Clay cell shows of an answer (Clay docs, "Formula generator": the error message preview is 300 characters).
pub const MAX_MESSAGE_CHARS: usize = 300;

/// At most `characters` Unicode characters of `text`, the last being `…` where something was cut.
#[must_use]
pub fn truncate_chars(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(characters.saturating_sub(1)).collect();
    if characters > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fits_is_left_alone() {
        assert_eq!(truncate_chars("café", 4), "café");
    }

    #[test]
    fn a_longer_text_is_cut_to_the_exact_number_of_characters() {
        assert_eq!(truncate_chars("cafés", 4), "caf…");
        assert_eq!(truncate_chars("cafés", 0), "");
    }
}
