//! Texts that stand for a missing value: what spreadsheets, programs and people write where there is none.
//!
//! As an identity such a text makes one contact, one event or one list of all rows that lack it. The page
//! `docs/clay-columns.md` has the same list.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use crate::text::{find_sheet_error, has_object, is_only_sheet_errors, trim_invisible};

/// The words, in lower case and without anything but letters and digits: `na` is `N/A`, `#N/A`, `n.a.` and `<NA>`.
const WORDS: [&str; 74] = [
    // Blanks of programming languages, databases and their exports.
    "na",
    "none",
    "null",
    "nil",
    "nan",
    "undefined",
    "void",
    "inf",
    "infinity",
    "1ind",
    "1qnan",
    "objectobject",
    "dbnull",
    "npnan",
    "pdna",
    "0e0",
    "true",
    "false",
    // Blanks that people write.
    "yes",
    "no",
    "empty",
    "blank",
    "missing",
    "unknown",
    "unspecified",
    "notset",
    "notfound",
    "notavailable",
    "notapplicable",
    "notprovided",
    "notspecified",
    "notassigned",
    "nodata",
    "novalue",
    "noid",
    "noemail",
    "nouser",
    "nonefound",
    "unavailable",
    "unassigned",
    "redacted",
    "unbekannt",
    "inconnu",
    "desconocido",
    "sconosciuto",
    "нет",
    "不明",
    "tbd",
    "tba",
    "todo",
    "loading",
    // People without an account.
    "anon",
    "anonymous",
    "guest",
    "notauthenticated",
    "notloggedin",
    // The name of the column in place of its value.
    "id",
    "uid",
    "uuid",
    "guid",
    "email",
    "emailaddress",
    "userid",
    "contactid",
    "customerid",
    "distinctid",
    "anonymousid",
    "externalid",
    "recordid",
    "rowid",
    "listid",
    "idempotencykey",
    // A template that nobody filled in.
    "youruserid",
    "replaceme",
];
/// Abbreviations of `not available` in other languages, written like the words. Without signs they may be initials.
const ABBREVIATIONS: [&str; 5] = ["nd", "ka", "so", "nvt", "нд"];
/// The words that only a program writes, and that so stand for a missing part of a longer text.
const BLANKS_OF_PROGRAMS: [&str; 5] = ["undefined", "null", "nan", "none", "nil"];

/// Whether a text stands for a missing value. Case, width, and everything around and between its letters and digits, does
/// not matter: a text that has none at all (`-`, `?`, `[]`) is a placeholder too, and so are zeros, and an error of a
/// spreadsheet (`#REF!`).
pub(crate) fn is_placeholder(text: &str) -> bool {
    let text = &*narrow(trim_invisible(text));
    let word: String = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    // Blanks of a database's export and of pandas, which in another spelling may be names, and the index of what was not found.
    let is_sign = matches!(text, "\\N" | "NaT" | "-1" | "-1.0");
    is_only_sheet_errors(text)
        || is_sign
        || has_object(text)
        || word.chars().all(|c| c == '0')
        || WORDS.contains(&word.as_str())
        || (ABBREVIATIONS.contains(&word.as_str()) && word.len() < text.len())
}

/// Whether a text that is to tell rows apart is the same in all rows that lack their value: a placeholder, parts of which
/// none is a value, or a text with the error of a sheet in it.
pub(crate) fn is_placeholder_id(text: &str) -> bool {
    is_placeholder(text) || lacks_its_parts(&narrow(text)) || find_sheet_error(text).is_some()
}

/// Whether a text was put together of parts, and has only placeholders for them, or beside the blank of a program
/// nothing that differs from row to row, which is a digit or an `@`: `null-null`, `row-undefined`.
fn lacks_its_parts(text: &str) -> bool {
    const SEPARATORS: &str = "-_:./|+#,;~";
    let is_blank = |part: &&str| BLANKS_OF_PROGRAMS.contains(&part.to_lowercase().as_str());
    let parts = || text.split(|c: char| c.is_whitespace() || SEPARATORS.contains(c));
    parts().all(is_placeholder)
        || (parts().any(|part| is_blank(&part)) && !text.contains(|c: char| c == '@' || c.is_numeric()))
}

/// Returns a text with the characters of ASCII in place of their wide forms (Unicode Standard, 18.5).
fn narrow(text: &str) -> Cow<'_, str> {
    const WIDE: RangeInclusive<char> = '\u{ff01}'..='\u{ff5e}';
    if !text.contains(|c| WIDE.contains(&c)) {
        return text.into();
    }
    let narrow = |c: char| match u32::from(c).checked_sub(0xfee0).and_then(char::from_u32) {
        Some(ascii) if WIDE.contains(&c) => ascii,
        _ => c,
    };
    text.chars().map(narrow).collect::<String>().into()
}

/// Whether a text contains a column's name in place of its value, or what JavaScript writes for an object.
pub(crate) fn has_uninserted_column(text: &str) -> bool {
    const ENCODED_BRACES: &str = "%7b%7b";
    text.starts_with('/')
        || text.contains("{{")
        || text.contains("${")
        || text.to_ascii_lowercase().contains(ENCODED_BRACES)
        || has_object(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_stands_for_missing_value_is_placeholder() {
        for text in [
            "N/A",
            "#N/A",
            "n.a.",
            " NA ",
            "<NA>",
            "None",
            "NULL",
            "(null)",
            "<null>",
            "<nil>",
            "nan",
            "-NaN",
            "NaT",
            "undefined",
            "\"undefined\"",
            "'none'",
            "“N/A”",
            "Unknown",
            "Not Found",
            "not_available",
            "user_id",
            "User ID",
            "userId",
            "[object Object]",
            "[object Object],[object Object]",
            "#REF!",
            "#NAME?",
            "\\N",
            "-",
            "--",
            "–",
            "—",
            "_",
            ".",
            "...",
            "?",
            "[]",
            "{}",
            "\"\"",
            "0",
            "00",
            "0.0",
            "-0",
            "-1",
            "00000000-0000-0000-0000-000000000000",
            "true",
            "FALSE",
            "-Infinity",
            "\u{200b}N/A\u{feff}",
            "Ｎ／Ａ",
            "ｎｕｌｌ",
            "－",
            "DBNull",
            "np.nan",
            "pd.NA",
            "No User",
            "None found",
            "[redacted]",
            "n/d",
            "n.d.",
            "k.A.",
            "s/o",
            "n.v.t.",
            "Н/Д",
            "нет",
            "不明",
            "YOUR_USER_ID",
            "replace-me",
            "0e0",
            "",
        ] {
            assert!(is_placeholder(text), "{text:?}");
        }
    }

    #[test]
    fn plausible_id_is_no_placeholder() {
        for text in [
            "1",
            "42",
            "-42",
            "10",
            "#1",
            "0a",
            "nano",
            "nina",
            "anna",
            "nat1",
            "guest-7",
            "Noah",
            "nobody",
            "id1",
            "user-id-7",
            "n",
            "N",
            "a",
            "李",
            "nullable",
            "u_unknown",
            "0x1f",
            "100",
            "001",
            "user_2NNEqL2nrIRdJ",
            "nd",
            "ka",
            "SO",
            "n/d/7",
            "test",
            "default",
            "admin",
            "ｕ１",
            "不明７",
        ] {
            assert!(!is_placeholder(text), "{text:?}");
        }
    }

    #[test]
    fn text_without_real_part_lacks_its_parts() {
        for text in [
            "undefined-undefined",
            "null_null",
            "null null",
            "null,null",
            "None_None",
            "NaN-NaN-NaN",
            "ｎｕｌｌ－ｎｕｌｌ",
            "none:0",
            "--",
            "row-undefined",
            "signup:null",
            "a.b.NaN",
            "row-#REF!",
            "12-#N/A",
        ] {
            assert!(is_placeholder_id(text), "{text}");
        }
        for text in
            ["row-7", "7-undefined", "ada@example.com-null", "welcome-email", "no-reply", "none-7", "a-b", "#N/A-team"]
        {
            assert!(!is_placeholder_id(text), "{text}");
        }
    }

    #[test]
    fn words_are_normalized_and_stand_in_documentation() {
        let page = include_str!("../../../docs/clay-columns.md").to_lowercase();
        let page: String = page.chars().filter(|c| c.is_alphanumeric() || *c == '`').collect();
        for word in WORDS.into_iter().chain(ABBREVIATIONS) {
            assert!(word.chars().all(|c| c.is_alphanumeric() && !c.is_uppercase()), "{word}");
            assert!(page.contains(&format!("`{word}`")), "{word} is not on the page");
        }
    }
}
