//! Properties of the cleaning that hold for any body, valid or not.

use proptest::prelude::*;
use serde_json::Value;

use super::super::*;
use super::{kind, options};
use crate::idempotency::IdempotencyKey;
use crate::text::MAX_MESSAGE_CHARS;

/// JSON of a cell's value, valid or not.
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

/// A field with a valid value, as JSON.
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

/// A body that is often valid: most rows have a contact, and some are inside a JSON string.
fn body() -> impl Strategy<Value = String> {
    let identity = proptest::sample::select(vec![
        vec![],
        vec![("email", "\"a@b.co\"")],
        vec![("email", "\" a@b.co\""), ("eventName", "\"e\"")],
        vec![("userId", "7"), ("eventName", "\" e \"")],
    ]);
    let field = prop_oneof![4 => suitable_field(), 1 => (name(), value())];
    (identity, proptest::collection::vec(field, 0..6), 0..6).prop_map(|(identity, mut fields, selector)| {
        fields.extend(identity.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        let body = object(&fields);
        if selector == 0 { Value::from(body).to_string() } else { body }
    })
}

/// The schema of the account: none, or with types for some of the fields above.
fn schema() -> impl Strategy<Value = Option<ContactSchema>> {
    let kinds = || proptest::sample::select(vec!["string", "number", "boolean", "date", "colour"]);
    let list = (kinds(), kinds(), kinds(), kinds()).prop_map(|(plan, company, seats, bio)| {
        let items = [("plan", plan), ("company", company), ("seats", seats), ("bio", bio)];
        let items = items.map(|(name, kind)| format!(r#"{{"key":"{name}","type":"{kind}"}}"#));
        ContactSchema::parse(format!("[{}]", items.join(",")).as_bytes())
    });
    prop_oneof![1 => Just(None), 2 => list]
}

/// A property of an event in two equivalent spellings.
fn equivalent_property_pair() -> impl Strategy<Value = (String, String)> {
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

/// Returns the key of an event with these properties in this order, and this white space between the tokens.
fn key_of(properties: &[(String, String)], whitespace: &str, extra_fields: &str) -> IdempotencyKey {
    let properties: Vec<String> = properties
        .iter()
        .map(|(name, value)| {
            format!("{whitespace}{}{whitespace}:{whitespace}{value}{whitespace}", Value::from(name.as_str()))
        })
        .collect();
    let body = format!(
        "{{{extra_fields}\"eventProperties\":{whitespace}{{{}}},\"email\":\"A@b.co\",{whitespace}\"eventName\":\"e\"}}",
        properties.join(",")
    );
    let row = Row::clean(RowKind::Event, body.as_bytes(), RowOptions::default(), None).unwrap();
    IdempotencyKey::derive(row.event_name().unwrap(), row.email(), row.user_id(), row.event_properties())
}

/// Returns the length of the longest text in a value.
fn max_text_len(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.iter().map(max_text_len).max().unwrap_or_default(),
        Value::Object(fields) => fields.values().map(max_text_len).max().unwrap_or_default(),
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_cleaned_or_rejected(bytes: Vec<u8>, kind in kind(), options in options(), account in schema()) {
        let _ = Row::clean(kind, &bytes, options, account.as_ref());
    }

    #[test]
    fn json_like_text_is_cleaned_or_rejected(text in "[\\[\\]{}:,\"\\\\u0-9a-fé\n\t tr]{0,60}", kind in kind()) {
        for body in [format!("{{\"a\":{text}"), format!("{{\"a\":{text}}}"), format!("\"{{\\\"a\\\":{text}}}\""), text] {
            let _ = Row::clean(kind, body.as_bytes(), RowOptions::default(), None);
        }
    }

    #[test]
    fn request_error_message_and_field_are_short(body in body(), kind in kind(), options in options(), account in schema()) {
        if let Err(error) = Row::clean(kind, body.as_bytes(), options, account.as_ref()) {
            prop_assert!(error.message().chars().count() <= MAX_MESSAGE_CHARS);
            prop_assert!(error.field().is_none_or(|field| field.chars().count() <= 60));
        }
    }

    #[test]
    fn cleaning_is_idempotent(body in body(), kind in kind(), options in options(), account in schema()) {
        if let Ok(row) = Row::clean(kind, body.as_bytes(), options, account.as_ref()) {
            let again = Row::clean(kind, &row.to_body(), options, account.as_ref());
            prop_assert_eq!(again.map(|again| again.to_body()), Ok(row.to_body()));
        }
    }

    #[test]
    fn cleaned_row_has_only_received_fields(body in body(), kind in kind(), options in options(), account in schema()) {
        if let Ok(row) = Row::clean(kind, body.as_bytes(), options, account.as_ref()) {
            let parsed = json::parse::parse_fields(body.as_bytes()).unwrap();
            for name in row.fields.keys() {
                prop_assert!(parsed.keys().any(|received| received.trim() == name), "{}", name);
            }
        }
    }

    #[test]
    fn cleaned_text_is_within_loops_limit(body in body(), kind in kind(), options in options(), account in schema()) {
        if let Ok(row) = Row::clean(kind, body.as_bytes(), options, account.as_ref()) {
            for value in row.fields.values() {
                prop_assert!(max_text_len(value) <= values::MAX_TEXT_CHARS);
            }
        }
    }

    #[test]
    fn clean_row_has_identity_and_clean_event_has_name(body in body(), kind in kind(), options in options(), account in schema()) {
        if let Ok(row) = Row::clean(kind, body.as_bytes(), options, account.as_ref()) {
            prop_assert!(row.email().is_some() || row.user_id().is_some());
            prop_assert!(kind == RowKind::Contact || row.event_name().is_some());
        }
    }

    #[test]
    fn event_key_ignores_order_whitespace_and_value_spelling(
        properties in proptest::collection::btree_map("[a-zA-Zé](?: ?[a-zA-Zé]){0,5}", equivalent_property_pair(), 0..6),
        edge in "[ \u{a0}\u{200b}]{0,2}",
        rotation in 0usize..6,
        whitespace in "[ \n\t]{0,2}",
    ) {
        let one: Vec<(String, String)> = properties.iter().map(|(name, (one, _))| (name.clone(), one.clone())).collect();
        let mut other: Vec<(String, String)> = properties.iter().map(|(name, (_, other))| (format!("{edge}{name}{edge}"), other.clone())).collect();
        other.rotate_left(rotation.min(properties.len()));
        other.push(("blank in one row only".to_owned(), "null".to_owned()));
        let extra_fields = r#""company":"Ltd","mailingLists":["a"],"#;
        prop_assert_eq!(key_of(&one, "", ""), key_of(&other, &whitespace, extra_fields));
    }

    #[test]
    fn additional_property_changes_event_key(
        properties in proptest::collection::btree_map("[a-zA-Z]{1,6}", equivalent_property_pair(), 0..6),
        value in "[a-z]{1,6}x",
    ) {
        let one: Vec<(String, String)> = properties.into_iter().map(|(name, (one, _))| (name, one)).collect();
        let mut extended = one.clone();
        extended.push(("a name of its own".to_owned(), format!("\"{value}\"")));
        prop_assert_ne!(key_of(&one, "", ""), key_of(&extended, "", ""));
    }
}
