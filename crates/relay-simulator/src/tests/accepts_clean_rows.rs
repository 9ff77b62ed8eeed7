//! Loops accepts the length and the type of every value of a clean row, whatever the row was before.

use proptest::prelude::*;
use relay_core::row::{BlankPolicy, LongTextPolicy, Row, RowKind, RowOptions};
use serde_json::Value;

use crate::loops::validation as rules;

fn any_value() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        4 => "[ a-zé@./\n\"]{0,20}",
        1 => ("[aé😀 \"\\\\]", 495_usize..505).prop_map(|(text, times)| text.repeat(times)),
        2 => proptest::sample::select(vec!["", "null", "true", "FALSE", "{\"a\":true}", "[\"a\"]", "42", "2026-01-31"])
            .prop_map(str::to_owned),
    ];
    let number = prop_oneof!["-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?(e[0-9]{1,3})?", "[1-9][0-9]{497,503}"];
    let leaf = prop_oneof![
        5 => text.prop_map(|text| Value::from(text).to_string()),
        2 => number,
        1 => proptest::sample::select(vec!["null", "true", "false"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(1, 6, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((any_name(), inner), 0..3).prop_map(|fields| to_json_object(&fields)),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    let known = vec!["userId", "subscribed", "mailingLists", "eventProperties", "source", "plan", "firstName"];
    prop_oneof![
        8 => proptest::sample::select(known).prop_map(str::to_owned),
        1 => "[a-zé ]{0,5}",
        1 => "[a-z]".prop_flat_map(|letter| (496_usize..501).prop_map(move |times| letter.repeat(times))),
    ]
}

fn to_json_object(fields: &[(String, String)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
    format!("{{{}}}", fields.join(","))
}

fn any_options() -> impl Strategy<Value = RowOptions> {
    let blank = proptest::sample::select(vec![BlankPolicy::Omit, BlankPolicy::Clear]);
    let long = proptest::sample::select(vec![LongTextPolicy::Reject, LongTextPolicy::Truncate]);
    (blank, long).prop_map(|(blank, long)| RowOptions { blank, long, dedupe: true, dry_run: false })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn loops_accepts_every_clean_row(
        fields in proptest::collection::vec((any_name(), any_value()), 0..4),
        event: bool,
        options in any_options(),
    ) {
        let mut fields = fields;
        fields.push(("email".to_owned(), "\" Ada@example.com\"".to_owned()));
        fields.push(("eventName".to_owned(), "\"e\"".to_owned()));
        let kind = if event { RowKind::Event } else { RowKind::Contact };
        if let Ok(row) = Row::clean(kind, to_json_object(&fields).as_bytes(), options, None) {
            let body = row.to_body();
            let error = if event { rules::parse_event(&body).err() } else { rules::parse_contact(&body).err() };
            prop_assert!(error.is_none(), "{error:?}: {}", String::from_utf8_lossy(&body));
        }
    }
}
