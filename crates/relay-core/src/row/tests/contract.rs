//! Tests of whole rows: every line of the contract.

use serde_json::Value;

use super::super::*;
use crate::error::{ErrorCode, RequestError};

const OMIT: RowOptions =
    RowOptions { blank: BlankPolicy::Omit, long: LongTextPolicy::Reject, dedupe: true, dry_run: false };
const CLEAR: RowOptions =
    RowOptions { blank: BlankPolicy::Clear, long: LongTextPolicy::Reject, dedupe: true, dry_run: false };
const TRUNCATE: RowOptions =
    RowOptions { blank: BlankPolicy::Omit, long: LongTextPolicy::Truncate, dedupe: true, dry_run: false };

fn row(kind: RowKind, body: &str, options: RowOptions) -> Row {
    Row::clean(kind, body.as_bytes(), options, None).unwrap_or_else(|error| panic!("{body}: {error:?}"))
}

fn body_string(row: &Row) -> String {
    String::from_utf8(row.to_body()).unwrap()
}

/// Returns what is sent of a contact with these fields, without its address.
fn contact(fields: &str, options: RowOptions) -> String {
    let row = row(RowKind::Contact, &format!(r#"{{"email":"a@b.co",{fields}}}"#), options);
    body_string(&row).replacen(r#""email":"a@b.co""#, "", 1).replacen("{,", "{", 1)
}

fn clean_error(kind: RowKind, body: &str) -> RequestError {
    Row::clean(kind, body.as_bytes(), OMIT, None).unwrap_err()
}

/// Returns the code and the field of the error of a row with this field.
fn error(kind: RowKind, field: &str) -> (ErrorCode, String) {
    let name = if kind == RowKind::Event { r#""eventName":"e","# } else { "" };
    let error = clean_error(kind, &format!(r#"{{"email":"a@b.co",{name}{field}}}"#));
    (error.code(), error.field().unwrap_or_default().to_owned())
}

#[test]
fn clean_row_is_sent_unchanged_in_field_order() {
    let body = r#"{"z":"x  y","email":"a@b.co","a":true,"n":1.50,"firstName":"Ada \"A\"\n é","notes":"/home"}"#;
    assert_eq!(body_string(&row(RowKind::Contact, body, OMIT)), body);
}

#[test]
fn number_digits_are_preserved() {
    let fields = r#""a":123456789012345678901,"b":1.0,"c":1E5,"d":-0,"e":1e308,"f":0.10"#;
    assert_eq!(contact(fields, OMIT), format!("{{{fields}}}"));
    assert_eq!(contact(r#""userId":123456789012345678901"#, OMIT), r#"{"userId":"123456789012345678901"}"#);
}

#[test]
fn blank_fields_are_omitted_and_reported_as_adjusted() {
    let body = r#"{"email":"a@b.co","userId":"","a":null,"b":" ","c":"null","d":"undefined","e":0}"#;
    let row = row(RowKind::Contact, body, OMIT);
    assert_eq!(body_string(&row), r#"{"email":"a@b.co","e":0}"#);
    assert_eq!(row.adjusted(), ["userId", "a", "b", "c", "d"]);
}

#[test]
fn blank_fields_are_sent_as_null_with_blank_clear() {
    let body = r#"{"email":"a@b.co","userId":null,"eventName":"e","a":"","source":" ","mailingLists":{"l":null,"m":true},
                   "eventProperties":{"plan":"null","seats":3}}"#;
    let row = row(RowKind::Event, body, CLEAR);
    let expected = r#"{"email":"a@b.co","eventName":"e","a":null,"source":null,"mailingLists":{"m":true},"eventProperties":{"plan":null,"seats":3}}"#;
    assert_eq!(body_string(&row), expected);
    assert_eq!(row.adjusted(), ["userId", "mailingLists.l"]);
}

#[test]
fn field_for_which_loops_takes_no_null_is_never_null() {
    for field in ["subscribed", "mailingLists", "eventProperties"] {
        for blank in ["null", r#""""#, r#"" ""#, r#""null""#, r#""undefined""#] {
            let body = format!(r#"{{"email":"a@b.co","eventName":"e","{field}":{blank}}}"#);
            let row = row(RowKind::Event, &body, CLEAR);
            assert_eq!(body_string(&row), r#"{"email":"a@b.co","eventName":"e"}"#, "{body}");
            assert_eq!(row.adjusted(), [field]);
        }
    }
}

#[test]
fn subscribed_is_coerced_to_boolean_and_never_added() {
    assert_eq!(contact(r#""subscribed":"FALSE""#, OMIT), r#"{"subscribed":false}"#);
    assert_eq!(error(RowKind::Contact, r#""subscribed":"yes""#), (ErrorCode::InvalidField, "subscribed".to_owned()));
}

#[test]
fn nested_fields_are_accepted_as_json_text() {
    for (input, expected) in [
        (r#""mailingLists":"{\"a\":\"true\"}""#, r#""mailingLists":{"a":true}"#),
        (r#""mailingLists":"[\"a\"]""#, r#""mailingLists":{"a":true}"#),
        (r#""eventProperties":"{\"plan\":\"pro\"}""#, r#""eventProperties":{"plan":"pro"}"#),
    ] {
        let start = r#"{"email":"a@b.co","eventName":"e","#;
        let row = row(RowKind::Event, &format!("{start}{input}}}"), OMIT);
        assert_eq!(body_string(&row), format!("{start}{expected}}}"));
    }
}

#[test]
fn event_field_on_contact_route_names_event_route() {
    for field in
        [r#""eventProperties":"{}""#, r#""eventProperties":{"a":1}"#, r#""eventName":"e""#, r#""event_name":7"#]
    {
        let error = clean_error(RowKind::Contact, &format!(r#"{{"email":"a@b.co",{field}}}"#));
        assert_eq!(error.code(), ErrorCode::InvalidField, "{field}");
        assert!(error.message().contains("POST to /api/v1/events/send"), "{error:?}");
        assert!(error.depends_on_schema(), "a property of that name may be new");
    }
    assert_eq!(contact(r#""eventName":"","event_properties":null"#, CLEAR), "{}");
}

#[test]
fn misspelt_event_field_names_right_one() {
    for (fields, field, right) in [
        (r#""eventName":"e","eventproperties":"{}""#, "eventproperties", "eventProperties is"),
        (r#""eventName":"e","event_properties":{"a":1}"#, "event_properties", "eventProperties is"),
        (r#""Event Name":"e""#, "Event Name", "eventName is"),
    ] {
        let error = clean_error(RowKind::Event, &format!(r#"{{"email":"a@b.co",{fields}}}"#));
        assert_eq!((error.code(), error.field()), (ErrorCode::InvalidField, Some(field)));
        assert!(error.message().contains(right) && !error.message().contains("missing"), "{error:?}");
    }
}

#[test]
fn idempotency_key_in_body_names_header() {
    for kind in [RowKind::Contact, RowKind::Event] {
        for name in ["idempotencyKey", "Idempotency-Key", "idempotency_key"] {
            assert_eq!(error(kind, &format!(r#""{name}":"r-1""#)), (ErrorCode::InvalidField, name.to_owned()));
        }
    }
}

#[test]
fn property_of_account_is_no_misplaced_field() {
    let schema =
        ContactSchema::parse(br#"[{"key":"eventName","type":"string"},{"key":"user_id","type":"string"}]"#).unwrap();
    let body = r#"{"email":"a@b.co","eventName":"e","user_id":"7"}"#;
    let row = Row::clean(RowKind::Contact, body.as_bytes(), OMIT, Some(&schema)).unwrap();
    assert_eq!(body_string(&row), body);
}

#[test]
fn placeholder_user_id_is_omitted_or_rejected_without_email() {
    for id in [r#""N/A""#, r#""none""#, r#""-""#, "0", "0.0", "true"] {
        for body in [format!(r#"{{"userId":{id},"email":"a@b.co"}}"#), format!(r#"{{"email":"a@b.co","userId":{id}}}"#)]
        {
            let row = row(RowKind::Contact, &body, CLEAR);
            assert_eq!(
                (body_string(&row).as_str(), row.adjusted()),
                (r#"{"email":"a@b.co"}"#, &["userId".to_owned()][..])
            );
        }
        for body in [format!(r#"{{"userId":{id}}}"#), format!(r#"{{"userId":{id},"email":" "}}"#)] {
            let error = clean_error(RowKind::Contact, &body);
            assert_eq!((error.code(), error.field()), (ErrorCode::InvalidField, Some("userId")), "{body}");
            assert!(error.message().contains("stands for no id"), "{error:?}");
        }
        let error = clean_error(RowKind::Contact, &format!(r#"{{"userId":{id},"email":"ada"}}"#));
        assert_eq!(error.field(), Some("email"));
    }
}

#[test]
fn field_names_are_trimmed_and_last_of_equal_ones_counts() {
    let body = r#"{" email ":"a@b.co","plan":"free","plan\u200b":"pro","eventName":" e","eventProperties":{"n":1,"m":2,"\u00a0n ":3}}"#;
    let expected = r#"{"email":"a@b.co","plan":"pro","eventName":"e","eventProperties":{"n":3,"m":2}}"#;
    assert_eq!(body_string(&row(RowKind::Event, body, OMIT)), expected);
}

#[test]
fn field_without_name_is_rejected_unless_blank() {
    for field in [r#""":1"#, r#"" ":"x""#] {
        assert_eq!(error(RowKind::Contact, field), (ErrorCode::InvalidField, r#""""#.to_owned()));
        let nested = error(RowKind::Event, &format!(r#""eventProperties":{{{field}}}"#));
        assert_eq!(nested, (ErrorCode::InvalidField, r#"eventProperties."""#.to_owned()));
    }
    let blank = r#"{"email":"a@b.co","eventName":"e"," ":"","eventProperties":{"":null,"a":1}}"#;
    let expected = r#"{"email":"a@b.co","eventName":"e","eventProperties":{"a":1}}"#;
    assert_eq!(body_string(&row(RowKind::Event, blank, CLEAR)), expected);
}

#[test]
fn number_that_no_double_holds_is_rejected_everywhere() {
    for (field, name) in [
        (r#""n":1e400"#, "n"),
        (r#""n":-1e400"#, "n"),
        (r#""userId":1e400"#, "userId"),
        (r#""eventProperties":{"n":1e-400}"#, "eventProperties.n"),
    ] {
        assert_eq!(error(RowKind::Event, field), (ErrorCode::InvalidField, name.to_owned()), "{field}");
    }
    let schema = ContactSchema::parse(br#"[{"key":"seats","type":"number"}]"#).unwrap();
    let body = br#"{"email":"a@b.co","seats":"1e400"}"#;
    let error = Row::clean(RowKind::Contact, body, OMIT, Some(&schema)).unwrap_err();
    assert_eq!((error.code(), error.field()), (ErrorCode::InvalidField, Some("seats")));
}

#[test]
fn text_that_is_no_list_id_is_rejected() {
    for id in ["a/b", "a b", "a,b", "a;b", "N/A", "none", "0", "é", "https://x.co/l", "'a'"] {
        for lists in [format!(r#"["{id}"]"#), format!(r#"{{"{id}":true}}"#)] {
            let error = clean_error(RowKind::Contact, &format!(r#"{{"email":"a@b.co","mailingLists":{lists}}}"#));
            assert_eq!(error.code(), ErrorCode::InvalidField, "{lists}");
            assert!(error.message().contains("in place of a list's id"), "{error:?}");
        }
    }
    let error = clean_error(RowKind::Contact, r#"{"email":"a@b.co","mailingLists":["/List"]}"#);
    assert_eq!(error.code(), ErrorCode::ColumnNotInserted);
}

#[test]
fn list_or_object_in_ordinary_field_is_rejected() {
    for value in ["[]", r#"{"a":1}"#, r#"{"$serde_json::private::Number":"1"}"#] {
        assert_eq!(
            error(RowKind::Contact, &format!(r#""tags":{value}"#)),
            (ErrorCode::InvalidField, "tags".to_owned())
        );
    }
}

#[test]
fn long_text_is_rejected_with_length_or_truncated_to_498() {
    let long = "é".repeat(600);
    let body = format!(r#"{{"email":"a@b.co","eventName":"e","bio":"{long}","eventProperties":{{"bio":"{long}"}}}}"#);
    let error = clean_error(RowKind::Event, &body);
    assert_eq!((error.code(), error.field()), (ErrorCode::ValueTooLong, Some("bio")));
    assert!(error.message().contains("bio has 600 characters"), "{error:?}");

    let row = row(RowKind::Event, &body, TRUNCATE);
    let truncated = format!("{}…", "é".repeat(497));
    assert_eq!(row.get_str("bio"), Some(truncated.as_str()));
    assert_eq!(row.event_properties().unwrap().get("bio"), Some(&Value::from(truncated)));
    assert_eq!(row.adjusted(), ["bio", "eventProperties.bio"]);
}

#[test]
fn identity_fields_are_never_truncated() {
    let long = "x".repeat(600);
    for body in [
        format!(r#"{{"email":"{long}@b.co","eventName":"e"}}"#),
        format!(r#"{{"userId":"{long}","eventName":"e"}}"#),
        format!(r#"{{"userId":{},"eventName":"e"}}"#, "7".repeat(600)),
        format!(r#"{{"email":"a@b.co","eventName":"{long}"}}"#),
    ] {
        let error = Row::clean(RowKind::Event, body.as_bytes(), TRUNCATE, None).unwrap_err();
        assert_eq!(error.code(), ErrorCode::ValueTooLong, "{error:?}");
    }
}

#[test]
fn row_without_identity_is_rejected() {
    for body in ["{}", r#"{"email":""}"#, r#"{"email":null,"userId":"undefined"}"#, r#"{"email":"a@b.co","email":" "}"#]
    {
        let error = clean_error(RowKind::Contact, body);
        assert_eq!((error.code(), error.field()), (ErrorCode::MissingField, Some("email")), "{body}");
    }
    let error = clean_error(RowKind::Contact, r#"{"email":"/Email"}"#);
    assert_eq!((error.code(), error.field()), (ErrorCode::ColumnNotInserted, Some("email")));
    assert!(!error.message().contains("missing"), "a field that was refused is not missing as well: {error:?}");
}

#[test]
fn misspelt_identity_field_is_not_also_reported_missing() {
    let schema = ContactSchema::parse(br#"[{"key":"plan","type":"string"}]"#).unwrap();
    for (name, suggestion) in [("Email", "email"), ("e-mail", "email"), ("user_id", "userId")] {
        for schema in [None, Some(&schema)] {
            let body = format!(r#"{{"{name}":"a@b.co"}}"#);
            let error = Row::clean(RowKind::Contact, body.as_bytes(), OMIT, schema).unwrap_err();
            assert_eq!((error.code(), error.field()), (ErrorCode::InvalidField, Some(name)));
            let expected = format!("{name} is not a property of contacts in Loops, but {suggestion} is");
            assert!(error.message().starts_with(&expected), "{error:?}");
            assert!(!error.message().contains("missing"), "{error:?}");
        }
    }
}

#[test]
fn event_without_valid_name_is_rejected() {
    for (name, code) in [
        ("", ErrorCode::MissingField),
        (r#","eventName":" ""#, ErrorCode::MissingField),
        (r#","eventName":null"#, ErrorCode::MissingField),
        (r#","eventName":7"#, ErrorCode::InvalidField),
        (r#","eventName":"/Event""#, ErrorCode::ColumnNotInserted),
    ] {
        let error = clean_error(RowKind::Event, &format!(r#"{{"email":"a@b.co"{name}}}"#));
        assert_eq!((error.code(), error.field()), (code, Some("eventName")), "{name}");
    }
}

#[test]
fn error_lists_all_fields_and_uses_code_of_first() {
    let error =
        clean_error(RowKind::Event, r#"{"tags":[],"email":"ada lovelace","eventProperties":{"plan":{}},"ok":1}"#);
    assert_eq!((error.code(), error.field()), (ErrorCode::InvalidField, Some("tags")));
    assert!(error.message().contains("tags, email, eventProperties.plan, eventName."), "{error:?}");
    assert!(error.message().contains("tags arrived as a list"), "{error:?}");
}

#[test]
fn same_contact_has_same_key() {
    let contact_key = |body| row(RowKind::Contact, body, OMIT).contact();
    assert_eq!(
        contact_key(r#"{"email":" Ada@Example.com ","userId":"u1"}"#),
        ContactKey::from_email("ada@example.com")
    );
    assert_eq!(contact_key(r#"{"email":"","userId":7}"#), ContactKey::from_user_id("7"));
}

#[test]
fn source_is_added_only_if_absent() {
    for (body, options, expected) in [
        (r#"{"email":"a@b.co"}"#, OMIT, r#"{"email":"a@b.co","source":"Clay"}"#),
        (r#"{"source":"mine","email":"a@b.co"}"#, OMIT, r#"{"source":"mine","email":"a@b.co"}"#),
        (r#"{"source":"","email":"a@b.co"}"#, OMIT, r#"{"email":"a@b.co","source":"Clay"}"#),
        (r#"{"source":"","email":"a@b.co"}"#, CLEAR, r#"{"source":"Clay","email":"a@b.co"}"#),
    ] {
        let mut row = row(RowKind::Contact, body, options);
        row.add_source("Clay");
        assert_eq!(body_string(&row), expected);
    }
}

#[test]
fn row_debug_output_hides_field_values() {
    let row = row(RowKind::Contact, r#"{"email":"ada@example.com","company":"Analytical"}"#, OMIT);
    assert_eq!(format!("{row:?}"), "Row { kind: Contact, fields: 2, .. }");
}

#[test]
fn largest_invalid_row_is_rejected_without_delay() {
    let fields = |value: &str| (0..8_000).map(|n| format!(r#""f{n}":{value},"#)).collect::<String>();
    for lists in [format!(r#"{{{}"z":7}}"#, fields(r#""maybe""#)), format!("[{}7]", "7,".repeat(100_000))] {
        let row = format!(r#"{{"mailingLists":{lists},"email":"a@b.co"}}"#);
        let error = clean_error(RowKind::Contact, &row);
        assert_eq!((error.code(), error.field()), (ErrorCode::InvalidField, Some("mailingLists")));
    }
    let many = format!(r#"{{{}"email":"a@b.co"}}"#, fields("[[[]]]"));
    assert_eq!(clean_error(RowKind::Contact, &many).code(), ErrorCode::InvalidField);
    let deep = format!(r#"{{"a":{}"{}"{}}}"#, "[".repeat(31), "x".repeat(250_000), "]".repeat(31));
    assert_eq!(clean_error(RowKind::Contact, &deep).field(), Some("a"));
}
