//! Why a text is not JSON, in the words of who wrote it, and what to do in Clay.

use crate::row::json::scanner::{self, CharContext};
use crate::text::is_blank;

/// What is wrong, and what to do. Both are short enough for a message with a position and a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxCause {
    /// What is wrong at the position. It quotes nothing of the text but a sign, or a word of another language.
    pub(super) what: String,
    /// What to do in Clay.
    pub(super) advice: &'static str,
}

const QUOTE_TEXT: &str = "insert each column with / and put one pair of double quotes around a text column";
const WORDS_OF_JSON: [&str; 3] = ["true", "false", "null"];
/// What other languages and sheets write for a blank, in lower case.
const FOREIGN_BLANKS: [&str; 9] = ["none", "nan", "nil", "undefined", "infinity", "n/a", "#n/a", "na", "nat"];
const CURLY_QUOTES: [char; 8] = ['“', '”', '„', '‟', '″', '＂', '«', '»'];
const SINGLE_QUOTES: [char; 4] = ['\'', '‘', '’', '`'];

/// Finds the cause of an error at a byte of a text. `reason` is serde_json's, and serves where nothing more is known.
pub(super) fn find_cause(text: &str, offset: usize, reason: &str) -> SyntaxCause {
    let (before, rest) = text.split_at_checked(offset).unwrap_or((text, ""));
    let found = match rest.chars().next() {
        _ if reason == "not UTF-8" => None,
        _ if rest.starts_with("```") => Some(CODE_FENCE),
        _ if reason == "trailing characters" && has_quotes_around(text) => Some(QUOTED_BODY),
        _ if reason.contains("escape") || before.ends_with('\\') => Some(BACKSLASH_IN_TEXT),
        None => end_cause(text),
        Some(next) => sign_cause(before, next, rest).or_else(|| token_cause(before, next, rest, reason)),
    };
    let (what, advice) = match found {
        Some((what, advice)) => (what.to_owned(), advice),
        None if reason == "not UTF-8" => (reason.to_owned(), QUOTE_TEXT),
        None => word_cause(before, rest).unwrap_or_else(|| (reason.to_owned(), QUOTE_TEXT)),
    };
    SyntaxCause { what, advice }
}

type Cause = (&'static str, &'static str);

const BACKSLASH_IN_TEXT: Cause = (
    "a backslash in a text, which JSON reads together with the next character",
    "write it twice, or insert a formula column that replaces it",
);
const CURLY_QUOTE: Cause =
    ("a curly quote instead of a straight one", "type the double quotes around names and values again, as \"");
const CODE_FENCE: Cause = ("a code fence (```)", "take the two lines with ``` out with a formula");
const QUOTE_IN_TEXT: Cause = (
    "a double quote inside a text, or two at its edge",
    "put one pair of double quotes around the column, and take those in its text out with a formula",
);
const QUOTED_BODY: Cause =
    ("double quotes around the whole Body", "take the quotes before the first { and after the last } off");
const TYPED_COLUMN: Cause =
    ("a column's name that was typed", "insert the column with / and put one pair of double quotes around it");
const UNQUOTED_TEXT: Cause = ("a text without quotes around it", QUOTE_TEXT);

/// Whether an object has quotes before its first bracket, which make a text of the beginning of it.
fn has_quotes_around(text: &str) -> bool {
    let text = text.trim_start_matches(is_blank);
    text.starts_with('"') && text.trim_start_matches(|c| c == '"' || is_blank(c)).starts_with('{')
}

/// The text ends too early.
fn end_cause(text: &str) -> Option<Cause> {
    let (_, _, context) = scanner::char_contexts(text).last()?;
    match context {
        CharContext::Outside | CharContext::ClosingQuote => {
            Some(("a bracket that closes is missing", "write the Body up to its last }"))
        }
        _ if last_string(text).is_some_and(|string| string.contains(CURLY_QUOTES)) => Some(CURLY_QUOTE),
        _ => Some((
            "a text that begins with a double quote does not end with one",
            "put one pair of double quotes around each text column",
        )),
    }
}

/// A sign that stands nowhere in JSON outside texts, or not there.
fn sign_cause(before: &str, next: char, rest: &str) -> Option<Cause> {
    let previous = before.trim_end_matches(is_blank).chars().next_back();
    match (previous, next) {
        _ if CURLY_QUOTES.contains(&next) => Some(CURLY_QUOTE),
        _ if SINGLE_QUOTES.contains(&next) => {
            Some(("a single quote", "put double quotes around names and values, not single ones"))
        }
        (_, '\\') => {
            Some(("a backslash outside a text", "write the quotes of the Body without a backslash before them"))
        }
        (Some(','), '}' | ']') => {
            Some(("a comma after the last field", "take the comma before the closing bracket out"))
        }
        (Some(',' | '{' | '['), ',') => Some(("a comma with no field before it", "take the comma out")),
        (Some(':'), ',' | '}' | ']') => Some((
            "a value is missing after the colon, as of a blank column without quotes",
            "put double quotes around the column",
        )),
        (Some('{'), '{') | (_, '/') if !rest.starts_with("//") && !rest.starts_with("/*") => Some(TYPED_COLUMN),
        (_, '/' | '#') if !rest.starts_with("#N") => Some(("a comment", "take it out, because JSON has none")),
        (_, ';') => Some(("a semicolon", "write a comma between two fields")),
        (_, '=') => Some(("an equals sign", "write a colon between a name and its value")),
        _ => None,
    }
}

/// A name, a text or a number in the wrong form.
fn token_cause(before: &str, next: char, rest: &str, reason: &str) -> Option<Cause> {
    let expects_end = reason.starts_with("expected `,`");
    let follows_text = before.ends_with('"') && next != '"';
    match reason {
        _ if expects_end && last_string(before).is_some_and(|string| string.contains(CURLY_QUOTES)) => {
            Some(CURLY_QUOTE)
        }
        _ if expects_end && (follows_text || before.ends_with("\"\"")) => Some(QUOTE_IN_TEXT),
        _ if expects_end && next == '"' => {
            Some(("a comma is missing between two fields", "write a comma after each field but the last"))
        }
        _ if expects_end && before.ends_with(|c: char| c.is_alphanumeric() || c == '.') => Some(UNQUOTED_TEXT),
        "key must be a string" if next.is_ascii_digit() => {
            Some(("a number with a comma in it", "put double quotes around the column, or insert it without the comma"))
        }
        "key must be a string" if next.is_alphabetic() || next == '_' || next == '$' => {
            Some(("a name without quotes", "put double quotes around the name before each colon"))
        }
        "expected `:`" => Some(("a name without a colon after it", "write \"name\": before each value")),
        "trailing characters" => Some(("something after the end of the object", "take what follows the last } out")),
        _ if reason == "invalid number" || rest.starts_with(['+', '.', '$', '€', '£']) => {
            Some(("a number in another form than JSON's", "put double quotes around the column"))
        }
        _ => None,
    }
}

/// A word of another language, a sign that is not shown, or a text without quotes.
fn word_cause(before: &str, rest: &str) -> Option<(String, &'static str)> {
    let ends_word = |c: char| is_blank(c) || ",:{}[]\"".contains(c);
    let start = before.trim_end_matches(|c: char| !ends_word(c)).len();
    let beginning = before.get(start..).unwrap_or_default();
    let word = format!("{beginning}{}", rest.split(ends_word).next().unwrap_or_default());
    let lower = word.to_lowercase();
    let first = word.chars().next()?;
    if WORDS_OF_JSON.contains(&lower.as_str()) {
        return Some((
            format!("{word} instead of {lower}"),
            "write it in lower case, or put double quotes around the column",
        ));
    }
    if FOREIGN_BLANKS.contains(&lower.trim_start_matches('-')) {
        return Some((
            format!("{word}, which JSON does not know"),
            "write null, or put double quotes around the column",
        ));
    }
    if !first.is_alphanumeric() && !first.is_ascii() {
        return Some((
            format!("the character U+{:04X}, which is no white space", u32::from(first)),
            "type that line again",
        ));
    }
    first.is_alphabetic().then(|| (UNQUOTED_TEXT.0.to_owned(), UNQUOTED_TEXT.1))
}

/// The content of the last text, from its opening quote on.
fn last_string(text: &str) -> Option<&str> {
    let mut start = None;
    for (at, _, context) in scanner::char_contexts(text) {
        if context == CharContext::OpeningQuote {
            start = Some(at);
        }
    }
    text.get(start?..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::json::lenient_json::{self, JsonErrorKind};

    fn cause(text: &str) -> SyntaxCause {
        let error = lenient_json::parse_lenient(text).unwrap_err();
        let JsonErrorKind::Syntax(reason) = error.kind else { panic!("{text}") };
        find_cause(text, error.offset, &reason)
    }

    #[test]
    fn cause_of_invalid_json_is_named() {
        for (text, what) in [
            (r#"{"a":1,}"#, "a comma after the last field"),
            (r#"{"a":[1,]}"#, "a comma after the last field"),
            ("{\"a\":\"x\",\n}", "a comma after the last field"),
            (r#"{"a":1,,"b":2}"#, "a comma with no field before it"),
            (r#"{,"b":2}"#, "a comma with no field before it"),
            ("{“a”:1}", "a curly quote"),
            ("{\"a\":“x”}", "a curly quote"),
            ("{\"a\":\"x”}", "a curly quote"),
            ("{\"a\":\"x”, \"b\":1}", "a curly quote"),
            ("{'a':1}", "a single quote"),
            (r#"{"a":'x'}"#, "a single quote"),
            (r#"{"a":‘x’}"#, "a single quote"),
            (r#"{a:1}"#, "a name without quotes"),
            (r#"{"b":1, a_b: 2}"#, "a name without quotes"),
            (r#"{"a":True}"#, "True instead of true"),
            (r#"{"a":FALSE}"#, "FALSE instead of false"),
            (r#"{"a":NULL}"#, "NULL instead of null"),
            (r#"{"a":None}"#, "None, which JSON does not know"),
            (r#"{"a":NaN}"#, "NaN, which JSON does not know"),
            (r#"{"a":nan}"#, "nan, which JSON does not know"),
            (r#"{"a":-Infinity}"#, "a number in another form"),
            (r#"{"a":undefined}"#, "undefined, which JSON does not know"),
            (r#"{"a":N/A}"#, "N/A, which JSON does not know"),
            (r#"{"a":#N/A}"#, "#N/A, which JSON does not know"),
            (r#"{"a":"C:\Users"}"#, "a backslash in a text"),
            ("{\"a\":\"x\\\ny\"}", "a backslash in a text"),
            (r#"{"a":"\u12"}"#, "a backslash in a text"),
            (r#"{\"a\":1}"#, "a backslash outside a text"),
            (r#"{"a":}"#, "a value is missing after the colon"),
            (r#"{"a":,"b":1}"#, "a value is missing after the colon"),
            (r#"{"a":{{Column}}}"#, "a column's name that was typed"),
            (r#"{"a":/Column}"#, "a column's name that was typed"),
            ("{// note\n\"a\":1}", "a comment"),
            (r#"{"a":1 /* note */}"#, "a comment"),
            (r#"{"a":"He said "hi""}"#, "a double quote inside a text"),
            (r#"{"a":""x""}"#, "a double quote inside a text"),
            (r#"{"a":"x" "b":1}"#, "a comma is missing"),
            ("{\"a\":1\n\"b\":1}", "a comma is missing"),
            (r#"{"a":hello}"#, "a text without quotes"),
            (r#"{"a":7 people}"#, "a text without quotes"),
            (r#"{"a":7@x.co}"#, "a text without quotes"),
            (r#"{"a":李}"#, "a text without quotes"),
            (r#"{"a":1,000}"#, "a number with a comma"),
            (r#"{"a":01}"#, "a number in another form"),
            (r#"{"a":+1}"#, "a number in another form"),
            (r#"{"a":$5}"#, "a number in another form"),
            (r#"{"a":.5}"#, "a number in another form"),
            (r#"{"a" 1}"#, "a name without a colon"),
            (r#"{"a"=1}"#, "an equals sign"),
            (r#"{"a":1;"b":2}"#, "a semicolon"),
            (r#"{"a":1}}"#, "something after the end"),
            (r#"{"a":1"#, "a bracket that closes is missing"),
            (r#"{"a":"x"#, "a text that begins with a double quote"),
            (r#""{"a":1}""#, "double quotes around the whole Body"),
            ("\"{\n \"a\": \"x\"\n}\"", "double quotes around the whole Body"),
            (r#"""{"a":1}"""#, "double quotes around the whole Body"),
            (r#""a" {"a":1}"#, "something after the end"),
            ("{\"a\":1,\u{2192}}", "U+2192"),
            ("{\u{2022} \"a\":1}", "U+2022"),
        ] {
            let cause = cause(text);
            assert!(cause.what.contains(what), "{text}: {cause:?}");
        }
    }

    #[test]
    fn cause_is_short() {
        for text in [
            r#"{"a":True}"#,
            r#"{"a":}"#,
            r#"{"a":"\q"}"#,
            r#"{"a":""x""}"#,
            r#"{"a":"x"#,
            r#"{"a":undefined}"#,
            "{→}",
            r#""{"a":1}""#,
        ] {
            let SyntaxCause { what, advice } = cause(text);
            assert!(what.chars().count() + advice.chars().count() <= 145, "{what}: {advice}");
        }
    }
}
