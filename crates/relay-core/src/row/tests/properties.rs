//! What holds for any body, clean, odd or broken.

use proptest::prelude::*;
use serde_json::Value;

use super::super::*;
use crate::idempotency::IdempotencyKey;
use crate::text::MAX_MESSAGE_CHARS;

/// JSON of a value as it may stand in a cell, whole or broken.
fn value() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        any::<String>(),
        "[ a-zé@./\"\\\\{}\\[\\]\n\t:]{0,12}",
        ("[aé😀 ]", 490_usize..510).prop_map(|(text, times)| text.repeat(times)),
        proptest::sample::select(vec![
            "",
            " ",
            "null",
            "undefined",
            "true",
            "False",
            "[object Object]",
            "{{Column}}",
            "/Column",
            "a@b.co",
            " a@b.co ",
            "{\"a\":\"\",\"b\":1E5}",
            "[\"a\",\" b \"]",
            "{\"a\":\"TRUE\"}",
        ])
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        8 => text.prop_map(|text| Value::from(text).to_string()),
        1 => "[ -~\n]{0,8}",
        2 => proptest::sample::select(vec!["null", "true", "false", "-0", "1E5", "1.0", "123456789012345678901", "1e999"])
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((name(), inner), 0..3).prop_map(|fields| object(&fields)),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    let known = vec!["email", "userId", "eventName", "subscribed", "mailingLists", "eventProperties", "source", "plan"];
    prop_oneof![4 => proptest::sample::select(known).prop_map(str::to_owned), 1 => "[ a-zé{}]{0,4}"]
}

fn object(fields: &[(String, String)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
    format!("{{{}}}", fields.join(","))
}

/// A field with a value that suits it, as JSON.
fn suitable_field() -> impl Strategy<Value = (String, String)> {
    let fields = vec![
        ("subscribed", r#"" TRUE""#),
        ("subscribed", "null"),
        ("mailingLists", r#"{"a":"False","b":"","c":true}"#),
        ("mailingLists", r#"[" a ","","b"]"#),
        ("mailingLists", r#""[\"a\"]""#),
        ("mailingLists", r#"{"a":null}"#),
        ("eventProperties", r#"{"plan":"pro","seats":1E5,"note":" "}"#),
        ("eventProperties", r#""{\"plan\":\"two\nlines\"}""#),
        ("eventProperties", r#""undefined""#),
        ("userId", "123456789012345678901"),
        ("company", "\"two\nlines\""),
        ("company", r#"" undefined ""#),
        ("seats", "1E5"),
    ];
    let text = "[aé😀 {}/]{480,520}".prop_map(|text| ("bio".to_owned(), Value::from(text).to_string()));
    let digits = (490_usize..503).prop_map(|count| ("company".to_owned(), "9".repeat(count)));
    prop_oneof![
        6 => proptest::sample::select(fields).prop_map(|(name, value)| (name.to_owned(), value.to_owned())),
        1 => text,
        1 => digits,
    ]
}

/// A body with a good chance of being clean: most rows are about somebody, and some are held by a string.
fn body() -> impl Strategy<Value = String> {
    let identity = proptest::sample::select(vec![
        vec![],
        vec![("email", "\"a@b.co\"")],
        vec![("email", "\" a@b.co\""), ("eventName", "\"e\"")],
        vec![("userId", "7"), ("eventName", "\" e \"")],
    ]);
    let field = prop_oneof![4 => suitable_field(), 1 => (name(), value())];
    (identity, proptest::collection::vec(field, 0..6), 0..6).prop_map(|(identity, mut fields, held)| {
        fields.extend(identity.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        let body = object(&fields);
        if held == 0 { Value::from(body).to_string() } else { body }
    })
}

fn kind() -> impl Strategy<Value = RowKind> {
    proptest::sample::select(vec![RowKind::Contact, RowKind::Event])
}

fn options() -> impl Strategy<Value = RowOptions> {
    let blank = proptest::sample::select(vec![Blank::Omit, Blank::Clear]);
    let long = proptest::sample::select(vec![Long::Reject, Long::Truncate]);
    (blank, long, any::<bool>()).prop_map(|(blank, long, dedupe)| RowOptions { blank, long, dedupe })
}

/// What is known of the account: nothing, or types for some of the fields above.
fn account() -> impl Strategy<Value = Option<ContactSchema>> {
    let kinds = || proptest::sample::select(vec!["string", "number", "boolean", "date", "colour"]);
    let list = (kinds(), kinds(), kinds(), kinds()).prop_map(|(plan, company, seats, bio)| {
        let listed = [("plan", plan), ("company", company), ("seats", seats), ("bio", bio)];
        let listed = listed.map(|(name, kind)| format!(r#"{{"key":"{name}","type":"{kind}"}}"#));
        ContactSchema::read(format!("[{}]", listed.join(",")).as_bytes())
    });
    prop_oneof![1 => Just(None), 2 => list]
}

/// A property of an event, as it may be typed in two rows that say the same.
fn property_typed_twice() -> impl Strategy<Value = (String, String)> {
    let blanks = || proptest::sample::select(vec!["null", "\"\"", "\" \"", "\"null\"", "\"undefined\""]);
    let number = "-?(0|[1-9][0-9]{0,18})".prop_flat_map(|number| {
        let forms = vec![
            number.clone(),
            format!("{number}.0"),
            format!("{number}.000"),
            format!("{number}e0"),
            format!("{number}E+00"),
            format!("\"{number}\""),
            format!("\"{number}.0\""),
        ];
        (proptest::sample::select(forms.clone()), proptest::sample::select(forms))
    });
    let text = "[a-zé \n\"]{0,12}[a-zé]"
        .prop_map(|text| (Value::from(text.clone()).to_string(), Value::from(text).to_string()));
    let boolean = any::<bool>().prop_map(|boolean| (boolean.to_string(), format!("\"{boolean}\"")));
    prop_oneof![3 => number, 3 => text, 1 => boolean, 2 => (blanks(), blanks()).prop_map(|(one, other)| (one.into(), other.into()))]
}

/// The key of an event with these properties, written in this order, with this between the tokens.
fn key_of(properties: &[(String, String)], between: &str, more: &str) -> IdempotencyKey {
    let properties: Vec<String> = properties
        .iter()
        .map(|(name, value)| format!("{between}{}{between}:{between}{value}{between}", Value::from(name.as_str())))
        .collect();
    let body = format!(
        "{{{more}\"eventProperties\":{between}{{{}}},\"email\":\"A@b.co\",{between}\"eventName\":\"e\"}}",
        properties.join(",")
    );
    let row = Row::clean(RowKind::Event, body.as_bytes(), RowOptions::default()).unwrap();
    IdempotencyKey::derive(row.event_name().unwrap(), row.email(), row.user_id(), row.event_properties())
}

/// The length of the longest text in a value.
fn longest_text(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.iter().map(longest_text).max().unwrap_or_default(),
        Value::Object(fields) => fields.values().map(longest_text).max().unwrap_or_default(),
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_cleaned_or_refused(bytes: Vec<u8>, kind in kind(), options in options(), account in account()) {
        let _ = Row::clean_with_schema(kind, &bytes, options, account.as_ref());
    }

    #[test]
    fn any_text_that_resembles_json_is_cleaned_or_refused(text in "[\\[\\]{}:,\"\\\\u0-9a-fé\n\t tr]{0,60}", kind in kind()) {
        for body in [format!("{{\"a\":{text}"), format!("{{\"a\":{text}}}"), format!("\"{{\\\"a\\\":{text}}}\""), text] {
            let _ = Row::clean(kind, body.as_bytes(), RowOptions::default());
        }
    }

    #[test]
    fn a_refusal_is_short(body in body(), kind in kind(), options in options(), account in account()) {
        if let Err(refusal) = Row::clean_with_schema(kind, body.as_bytes(), options, account.as_ref()) {
            prop_assert!(refusal.message().chars().count() <= MAX_MESSAGE_CHARS);
            prop_assert!(refusal.field().is_none_or(|field| field.chars().count() <= 60));
        }
    }

    #[test]
    fn cleaning_what_was_cleaned_changes_nothing(body in body(), kind in kind(), options in options(), account in account()) {
        if let Ok(row) = Row::clean_with_schema(kind, body.as_bytes(), options, account.as_ref()) {
            let again = Row::clean_with_schema(kind, &row.to_body(), options, account.as_ref());
            prop_assert_eq!(again.map(|again| again.to_body()), Ok(row.to_body()));
        }
    }

    #[test]
    fn no_field_is_invented(body in body(), kind in kind(), options in options(), account in account()) {
        if let Ok(row) = Row::clean_with_schema(kind, body.as_bytes(), options, account.as_ref()) {
            let arrived = parse::parse_fields(body.as_bytes()).unwrap();
            for name in row.fields.keys() {
                prop_assert!(arrived.contains_key(name), "{}", name);
            }
        }
    }

    #[test]
    fn no_text_is_longer_than_loops_takes(body in body(), kind in kind(), options in options(), account in account()) {
        if let Ok(row) = Row::clean_with_schema(kind, body.as_bytes(), options, account.as_ref()) {
            for value in row.fields.values() {
                prop_assert!(longest_text(value) <= values::TEXT_CHARACTERS);
            }
        }
    }

    #[test]
    fn a_clean_row_is_about_somebody_and_an_event_has_a_name(body in body(), kind in kind(), options in options(), account in account()) {
        if let Ok(row) = Row::clean_with_schema(kind, body.as_bytes(), options, account.as_ref()) {
            prop_assert!(row.email().is_some() || row.user_id().is_some());
            prop_assert!(kind == RowKind::Contact || row.event_name().is_some());
        }
    }

    #[test]
    fn the_key_of_an_event_does_not_change_with_order_spacing_or_the_way_a_value_was_typed(
        properties in proptest::collection::btree_map("[a-zA-Zé ]{1,6}", property_typed_twice(), 0..6),
        turn in 0usize..6,
        between in "[ \n\t]{0,2}",
    ) {
        let one: Vec<(String, String)> = properties.iter().map(|(name, (one, _))| (name.clone(), one.clone())).collect();
        let mut other: Vec<(String, String)> = properties.iter().map(|(name, (_, other))| (name.clone(), other.clone())).collect();
        other.rotate_left(turn.min(properties.len()));
        other.push(("blank in one row only".to_owned(), "null".to_owned()));
        let more = r#""company":"Ltd","mailingLists":["a"],"#;
        prop_assert_eq!(key_of(&one, "", ""), key_of(&other, &between, more));
    }

    #[test]
    fn a_property_more_is_another_event(
        properties in proptest::collection::btree_map("[a-zA-Z]{1,6}", property_typed_twice(), 0..6),
        value in "[a-z]{1,6}x",
    ) {
        let one: Vec<(String, String)> = properties.into_iter().map(|(name, (one, _))| (name, one)).collect();
        let mut more = one.clone();
        more.push(("a name of its own".to_owned(), format!("\"{value}\"")));
        prop_assert_ne!(key_of(&one, "", ""), key_of(&more, "", ""));
    }
}
