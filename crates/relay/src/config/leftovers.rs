//! What is left in a variable of the file or shell that it came from. A value with such a leftover would be taken as it is, and
//! match nothing: `docker --env-file` keeps quotes and comments, and nothing fills in `${…}` there.

use relay_core::text::is_blank;

/// The expected format of a variable that is only there under a name with something in front.
pub(super) const MISWRITTEN_NAME: &str =
    "set under this very name, without \"export\" or an invisible character in front of it";

/// Whether a variable is this one, with a leftover of the file it came from in its name: `export` in front, which only a shell
/// understands, or the mark that some editors put at the beginning of a file.
pub(super) fn is_miswritten(key: &str, name: &str) -> bool {
    key != name && key.strip_suffix(name).is_some_and(|prefix| matches!(prefix.trim(), "export" | "\u{feff}" | ""))
}

/// Returns the form that a value lacks because something of the file or shell that it came from is left in it.
pub fn find_leftover(name: &str, text: &str) -> Option<&'static str> {
    let is_quote = |c: char| matches!(c, '"' | '\'' | '`' | '´' | '«' | '»' | '＂' | '＇') || ('‘'..='‟').contains(&c);
    let quotes = text.chars().filter(|c| is_quote(*c)).count();
    // A text may end with a quoted word.
    let is_quoted = text.starts_with(is_quote) || (text.ends_with(is_quote) && quotes == 1);
    let is_reference = ["${", "$(", "{{"].iter().any(|start| text.starts_with(start));
    // Joiners and variation selectors are part of some emoji and scripts.
    let is_invisible = |c| is_blank(c) && !matches!(c, ' ' | '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}');
    if is_quoted {
        Some("written without quotes, which `docker --env-file` keeps as part of the value")
    } else if text.contains(is_invisible) {
        Some("written without invisible characters (byte order mark, zero-width space, tab, line break)")
    } else if text.contains(" # ") || text.ends_with(" #") {
        Some("written without a comment behind it, which `docker --env-file` keeps as part of the value")
    } else if text.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('=')) {
        Some("written without its own name as part of the value")
    } else if is_reference {
        Some("the value itself, because nothing fills in ${…}, $(…) or {{…}} here")
    } else {
        None
    }
}
