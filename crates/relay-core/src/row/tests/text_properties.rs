//! Properties of what Loops gets, for texts in any part of a row that are made of what is not wanted in one.

use proptest::prelude::*;
use serde_json::Value;

use super::super::*;
use super::{kind, options};
use crate::text::{find_sheet_error, fits_every_count, is_blank, trim_invisible};

/// Parts of a text as JSON writes it between quotes; the odd ones raw and as escapes.
const PARTS: [&str; 58] = [
    "a",
    "B c",
    "é",
    "李",
    "😀",
    "5",
    ",",
    " ",
    "-",
    ".co",
    "@",
    "x@b.co",
    "null",
    "true",
    "\\u200b",
    "\u{200b}",
    "\u{feff}",
    "\u{ad}",
    "\u{200d}",
    "\u{200c}",
    "\u{202e}",
    "\u{2066}",
    "\u{3164}",
    "\u{ffa0}",
    "\u{2800}",
    "\u{fe0f}",
    "\u{e0067}\u{e007f}",
    "\u{a0}",
    "\\t",
    "\n",
    "\\r\\n",
    "\u{2028}",
    "\u{180e}",
    "\u{600}",
    "\\u0000",
    "\u{0}",
    "\\u001b",
    "\\b",
    "\u{7f}",
    "\u{85}",
    "\\u000b",
    "\\ud83d",
    "\\ude00",
    "\\ud83d\\ude00",
    "\u{fffd}",
    "\u{fdd0}",
    "\\\"",
    "\\\\",
    "[object Object]",
    "[object ",
    "{{",
    "}}",
    "#REF!",
    "#N/A",
    "/",
    "❤",
    "\u{1f3f4}",
    "\u{d4d}",
];

/// The content of a text, short, or long enough to be cut.
fn text() -> impl Strategy<Value = String> {
    let part = || proptest::sample::select(PARTS.to_vec()).prop_map(str::to_owned);
    let any_character = any::<char>().prop_map(|c| {
        let quoted = Value::from(c.to_string()).to_string();
        quoted.trim_matches('"').replace('"', "\\\"")
    });
    let short = || proptest::collection::vec(prop_oneof![8 => part(), 1 => any_character.clone()], 0..6);
    let long = (part(), 230_usize..520).prop_map(|(part, times)| part.repeat(times));
    prop_oneof![
        5 => short().prop_map(|parts| parts.concat()),
        1 => (short(), long, short()).prop_map(|(before, long, after)| before.concat() + &long + &after.concat()),
    ]
}

/// A field whose name, value, or what is in it, is made of such texts.
fn field() -> impl Strategy<Value = String> {
    let named = |name: &'static str| text().prop_map(move |text| format!(r#""{name}":"{text}""#));
    prop_oneof![
        4 => named("bio"),
        1 => named("email"),
        1 => named("userId"),
        1 => named("eventName"),
        1 => named("source"),
        1 => named("subscribed"),
        1 => named("eventProperties"),
        1 => named("mailingLists"),
        2 => (text(), text()).prop_map(|(name, value)| format!(r#""{name}":"{value}""#)),
        3 => (text(), text()).prop_map(|(name, value)| format!(r#""eventProperties":{{"{name}":"{value}","bio":"{value}"}}"#)),
        1 => text().prop_map(|id| format!(r#""mailingLists":{{"{id}":true}}"#)),
        1 => text().prop_map(|id| format!(r#""mailingLists":["{id}","a"]"#)),
    ]
}

/// A row that has an address and a name of an event, with a few such fields.
fn body() -> impl Strategy<Value = String> {
    (proptest::collection::vec(field(), 1..4), proptest::sample::select(vec!["", "\u{a0}", "\u{200b}\n"])).prop_map(
        |(fields, blank)| {
            format!(r#"{blank}{{{blank}"email":{blank}"\u200ba@b.co","eventName"{blank}:"e ",{}}}"#, fields.join(","))
        },
    )
}

/// The schema of the account: none, or with a type for `bio`.
fn schema() -> impl Strategy<Value = Option<ContactSchema>> {
    proptest::sample::select(vec![None, Some("string"), Some("number"), Some("boolean"), Some("date")])
        .prop_map(|kind| ContactSchema::parse(format!(r#"[{{"key":"bio","type":"{}"}}]"#, kind?).as_bytes()))
}

/// All names and texts of a row, each with whether it is a value that may be cut.
fn texts(fields: &Map<String, Value>) -> Vec<(&str, bool)> {
    let mut texts = Vec::new();
    for (name, value) in fields {
        texts.push((name.as_str(), false));
        match value {
            Value::String(text) => texts.push((text, !matches!(name.as_str(), "email" | "userId" | "eventName"))),
            Value::Object(nested) => texts.extend(self::texts(nested)),
            _ => {}
        }
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn sent_texts_have_nothing_unwanted(body in body(), kind in kind(), options in options(), account in schema()) {
        let Ok(row) = Row::clean(kind, body.as_bytes(), options, account.as_ref()) else { return Ok(()) };
        for (text, may_be_cut) in texts(&row.fields) {
            prop_assert!(!text.starts_with(is_blank), "{text:?}");
            prop_assert_eq!(trim_invisible(text), text);
            prop_assert!(!text.contains(|c: char| c.is_control() && !"\t\n\r".contains(c)), "{text:?}");
            prop_assert!(!text.contains(['\u{fdd0}']), "{text:?}");
            prop_assert!(!text.contains("[object Object]"), "{text:?}");
            prop_assert_eq!(find_sheet_error(text), None, "{:?}", text);
            if may_be_cut && options.long == LongTextPolicy::Truncate {
                let json = serde_json::to_string(text).unwrap();
                prop_assert!(fits_every_count(text) && json.encode_utf16().count() <= 500, "{text:?}");
            }
        }
        // serde_json takes no half of a surrogate pair.
        prop_assert!(serde_json::from_slice::<Value>(&row.to_body()).is_ok());
    }

    #[test]
    fn cleaning_such_texts_again_changes_nothing(body in body(), kind in kind(), options in options(), account in schema()) {
        let Ok(row) = Row::clean(kind, body.as_bytes(), options, account.as_ref()) else { return Ok(()) };
        let again = Row::clean(kind, &row.to_body(), options, account.as_ref());
        prop_assert_eq!(again.as_ref().map(Row::to_body), Ok(row.to_body()));
    }
}
