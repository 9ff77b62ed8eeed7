//! What an e-mail address is, here and nowhere else.
//!
//! The check rejects only what cannot be an address that people have (RFC 5321 §4.1.2, RFC 1123 §2.1): quoted local parts and
//! numbers as domains are allowed by the grammar, and in a table they are mistakes.

use icu_properties::CodePointMapData;
use icu_properties::props::{CanonicalCombiningClass, GeneralCategory, GeneralCategoryGroup};

use crate::text::trim_invisible;

/// Maximum length of a part of a domain (RFC 1035 §2.3.4).
const MAX_LABEL_LEN: usize = 63;

/// An address that was found in a cell.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address<'a> {
    /// The address itself.
    pub(super) text: &'a str,
    /// Whether a name, angle brackets or `mailto:` was taken off.
    pub(super) unwrapped: bool,
}

/// Finds the address in a text: the text itself without white space around it, `<x>`, `Name <x>` or `mailto:x`.
pub(super) fn parse_address(text: &str) -> Option<Address<'_>> {
    let text = trim_invisible(text);
    let address = trim_invisible(without_scheme(without_name(text)?));
    is_address(address).then_some(Address { text: address, unwrapped: address != text })
}

/// Returns what stands in the angle brackets at the end of a text, or the text if it has none. A name with an address in
/// it leaves open which of the two is meant.
fn without_name(text: &str) -> Option<&str> {
    let Some(before) = text.strip_suffix('>') else { return Some(text) };
    let (name, address) = before.rsplit_once('<')?;
    let names_another = name.contains('@') && trim_quotes(name) != address;
    (!names_another && !name.contains(['<', '>', ';'])).then_some(address)
}

fn trim_quotes(name: &str) -> &str {
    trim_invisible(name).trim_matches(['"', '\''])
}

fn without_scheme(text: &str) -> &str {
    const SCHEME: &str = "mailto:";
    let text = trim_invisible(text);
    match text.split_at_checked(SCHEME.len()) {
        Some((scheme, address)) if scheme.eq_ignore_ascii_case(SCHEME) => address,
        _ => text,
    }
}

fn is_address(text: &str) -> bool {
    text.split_once('@').is_some_and(|(local_part, domain)| is_local_part(local_part) && is_domain(domain))
}

/// Whether a text may stand before the `@`: letters, digits and the signs of ASCII, dots only between others. It begins
/// with no sign that a path, a formula, a list or a quote left there.
fn is_local_part(text: &str) -> bool {
    let is_allowed = |c: char| match c {
        '\0'..='\u{7f}' => c.is_ascii_graphic() && !r#"<>,;:"()[]\`"#.contains(c),
        _ => is_letter(c),
    };
    text.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '+'))
        && !text.ends_with('\'')
        && text.split('.').all(|part| !part.is_empty())
        && text.chars().all(is_allowed)
}

/// Whether a text may be a domain of several labels, of which the last is not a number.
fn is_domain(text: &str) -> bool {
    let top_level = text.rsplit('.').next().unwrap_or_default();
    text.contains('.')
        && text.split('.').all(is_label)
        && top_level.chars().count() > 1
        && !top_level.chars().all(|c| c.is_ascii_digit())
}

/// Whether a text may be a label: letters, digits, and hyphens inside.
fn is_label(text: &str) -> bool {
    let is_allowed = |c: char| match c {
        '\0'..='\u{7f}' => c.is_ascii_alphanumeric() || c == '-',
        _ => is_letter(c),
    };
    (1..=MAX_LABEL_LEN).contains(&text.chars().count())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.chars().all(is_allowed)
}

/// Whether a character is a letter, a mark of its script, or a digit. An accent is a part of its letter (RFC 5891 §4.2.1:
/// NFC), so one that stands alone is a mistake.
fn is_letter(c: char) -> bool {
    const LETTERS: GeneralCategoryGroup = GeneralCategoryGroup::Letter
        .union(GeneralCategoryGroup::NonspacingMark)
        .union(GeneralCategoryGroup::SpacingMark)
        .union(GeneralCategoryGroup::DecimalNumber);
    // The classes of marks by where they stand; those of one script have a class of their own, or none (UAX #44, 5.7.4).
    const FIRST_OF_ACCENTS: CanonicalCombiningClass = CanonicalCombiningClass::AttachedBelowLeft;
    LETTERS.contains(CodePointMapData::<GeneralCategory>::new().get(c))
        && CodePointMapData::<CanonicalCombiningClass>::new().get(c) < FIRST_OF_ACCENTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(String, bool)> {
        parse_address(text).map(|address| (address.text.to_owned(), address.unwrapped))
    }

    #[test]
    fn address_is_trimmed() {
        for text in ["ada@example.com", " ada@example.com\n", "\u{a0}ada@example.com\t"] {
            assert_eq!(parse(text).map(|(address, _)| address).as_deref(), Some("ada@example.com"), "{text:?}");
        }
        assert_eq!(parse("ada@example.com"), Some(("ada@example.com".to_owned(), false)));
    }

    #[test]
    fn unusual_address_is_accepted_as_it_is() {
        for text in [
            "a@b.co",
            "Ada.Lovelace+x@sub.example.co.uk",
            "o'hara/x@b.co",
            "é@exämple.de",
            "李@例子.中国",
            "ada@उदाहरण.भारत",
            "नमस्ते@उदाहरण.भारत",
            "ada@xn--mnchen-3ya.example",
            "a!#$%&*+/=?^_{|}~-@b.co",
            "_a@b.co",
            "-a@b.co",
            "+a@b.co",
            "a@b-c.co",
            "a@3m.co",
            "1@2.xn--p1ai",
        ] {
            assert_eq!(parse(text), Some((text.to_owned(), false)), "{text}");
        }
    }

    #[test]
    fn wrapped_address_is_unwrapped() {
        for text in [
            "mailto:bo@example.com",
            "MailTo: bo@example.com",
            "<bo@example.com>",
            " < bo@example.com > ",
            "Bo Li <bo@example.com>",
            "\"Li, Bo\" <bo@example.com>",
            "Li, Bo <bo@example.com>",
            "bo@example.com <bo@example.com>",
            "'bo@example.com' <bo@example.com>",
            "Bo<mailto:bo@example.com>",
        ] {
            assert_eq!(parse(text), Some(("bo@example.com".to_owned(), true)), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_address_is_none() {
        for text in [
            "",
            "ada",
            "@b.co",
            "a@",
            "a@b",
            "a@.co",
            "a@b.",
            "a@b.co.",
            "a@b..co",
            "a@b.co@c.co",
            "a b@c.co",
            "a@b .co",
            "a@b. co",
            ".a@b.co",
            "a.@b.co",
            "a..b@c.co",
            ".@b.co",
            "\"a@b.co\"",
            "'a@b.co'",
            "“a@b.co”",
            "‘a@b.co’",
            "'a@b.co",
            "a'@b.co",
            "`a@b.co`",
            "\"a\"@b.co",
            "«a@b.co»",
            "a@b.co/",
            "a@b.co?",
            "a@b.co?subject=Hi",
            "mailto:a@b.co?subject=Hi",
            "mailto:",
            "mailto:mailto:a@b.co",
            "https://a@b.co",
            "a@b.co,",
            "a@b.co;",
            "a@b.co:",
            "a@b.co>",
            "<a@b.co",
            "a@b.co)",
            "(a@b.co)",
            "[a@b.co]",
            "[a@b.co](mailto:a@b.co)",
            "a@b.co,c@d.co",
            "a@b.co; c@d.co",
            "a@b.co c@d.co",
            "a@b.co/c@d.co",
            "c@d.co <a@b.co>",
            "A <a@b.co>; C <c@d.co>",
            "<>",
            "Bo <>",
            "Bo <a@b.co> x",
            "Bo <<a@b.co>>",
            "a@[1.2.3.4]",
            "a@1.2.3.4",
            "a@b.1",
            "a@b.c",
            "a@-b.co",
            "a@b-.co",
            "a@b_c.co",
            "a@b!c.co",
            "a@b,co",
            "a＠b.co",
            "a@b。co",
            "a@b．co",
            "a\\b@c.co",
            "a\u{2003}b@c.co",
            "N/A",
            "[object Object]@b.co",
            "o’hara@b.co",
            "a\u{fffd}@b.co",
            "a\u{fffc}@b.co",
            "a\u{e000}@b.co",
            "a😀@b.co",
            "e\u{301}@b.co",
            "//a@b.co",
            "/a@b.co",
            "*a@b.co",
            "=a@b.co",
            "%20a@b.co",
            "•a@b.co",
            "mailto://a@b.co",
            "a@b.com\u{301}",
            "a@e\u{301}.com",
            "a@b.c\u{20e3}o",
            "a@b.c\u{327}o",
            "a@b\u{fffd}.co",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        let label = "l".repeat(64);
        assert_eq!(parse(&format!("a@{label}.co")), None);
        assert!(parse(&format!("a@{}.co", &label[1..])).is_some());
    }
}
