//! Rules for texts: which characters nobody sees, what formulas leave behind, and how texts are counted and cut.

mod invisible;
mod leftovers;
mod length;

pub use invisible::is_blank;
pub(crate) use invisible::{remove_invisible, spell_invisible, trim_invisible};
pub(crate) use leftovers::{find_sheet_error, has_object, is_column_name, is_only_sheet_errors};
pub(crate) use length::{cut_to_every_count, fits_every_count};

/// Maximum length of a message (Clay docs, "Formula generator": a cell's preview of an error shows 300 characters).
pub(crate) const MAX_MESSAGE_CHARS: usize = 300;

/// Returns at most `max_chars` Unicode characters of `text`, the last being `…` if something was cut.
pub(crate) fn truncate_chars(text: &str, max_chars: usize) -> String {
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    text.chars().take(max_chars.saturating_sub(1)).chain(['…']).take(max_chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_within_limit_is_unchanged() {
        assert_eq!(truncate_chars("café", 4), "café");
    }

    #[test]
    fn longer_text_is_truncated_to_exact_length() {
        assert_eq!(truncate_chars("cafés", 4), "caf…");
        assert_eq!(truncate_chars("cafés", 0), "");
    }
}
