//! Whole rows: every line of the contract.

use serde_json::Value;

use super::super::*;
use crate::error::{ErrorCode, RequestError};

const OMIT: RowOptions = RowOptions { blank: Blank::Omit, long: Long::Reject, dedupe: true };
const CLEAR: RowOptions = RowOptions { blank: Blank::Clear, long: Long::Reject, dedupe: true };
const TRUNCATE: RowOptions = RowOptions { blank: Blank::Omit, long: Long::Truncate, dedupe: true };

fn row(kind: RowKind, body: &str, options: RowOptions) -> Row {
    Row::clean(kind, body.as_bytes(), options).unwrap_or_else(|refusal| panic!("{body}: {refusal:?}"))
}

fn sent(row: &Row) -> String {
    String::from_utf8(row.to_body()).unwrap()
}

/// A contact's row with these fields after its address; without the address in what is sent.
fn contact(fields: &str, options: RowOptions) -> String {
    let row = row(RowKind::Contact, &format!(r#"{{"email":"a@b.co",{fields}}}"#), options);
    sent(&row).replacen(r#""email":"a@b.co""#, "", 1).replacen("{,", "{", 1)
}

fn refused(kind: RowKind, body: &str) -> RequestError {
    Row::clean(kind, body.as_bytes(), OMIT).unwrap_err()
}

/// The code and the field of the refusal of a row with this field.
fn error(kind: RowKind, field: &str) -> (ErrorCode, String) {
    let refusal = refused(kind, &format!(r#"{{"email":"a@b.co","eventName":"e",{field}}}"#));
    (refusal.code(), refusal.field().unwrap_or_default().to_owned())
}

#[test]
fn what_needs_no_cleaning_is_passed_on_untouched_and_in_order() {
    let body = r#"{"z":" x ","email":"a@b.co","a":true,"n":1.50,"firstName":"Ada \"A\" é\n","notes":"/home"}"#;
    assert_eq!(sent(&row(RowKind::Contact, body, OMIT)), body);
}

#[test]
fn numbers_are_kept_digit_for_digit() {
    let fields = r#""a":123456789012345678901,"b":1.0,"c":1E5,"d":-0,"e":1e999,"f":0.10"#;
    assert_eq!(contact(fields, OMIT), format!("{{{fields}}}"));
    assert_eq!(contact(r#""userId":123456789012345678901"#, OMIT), r#"{"userId":"123456789012345678901"}"#);
}

#[test]
fn blanks_are_left_out_and_named() {
    let body = r#"{"email":"a@b.co","userId":"","a":null,"b":" ","c":"null","d":"undefined","e":0}"#;
    let row = row(RowKind::Contact, body, OMIT);
    assert_eq!(sent(&row), r#"{"email":"a@b.co","e":0}"#);
    assert_eq!(row.adjusted(), ["userId", "a", "b", "c", "d"]);
}

#[test]
fn blanks_are_sent_as_null_where_the_caller_wants_them_emptied() {
    let body = r#"{"email":"a@b.co","userId":null,"eventName":"e","a":"","subscribed":"","mailingLists":{"l":null,"m":true},
                   "eventProperties":{"plan":"null","seats":3}}"#;
    let row = row(RowKind::Event, body, CLEAR);
    let expected = r#"{"email":"a@b.co","eventName":"e","a":null,"subscribed":null,"mailingLists":{"m":true},"eventProperties":{"plan":null,"seats":3}}"#;
    assert_eq!(sent(&row), expected);
    assert_eq!(row.adjusted(), ["userId", "mailingLists.l"]);
}

#[test]
fn subscribed_becomes_a_boolean_and_is_never_added() {
    assert_eq!(contact(r#""subscribed":"FALSE""#, OMIT), r#"{"subscribed":false}"#);
    assert_eq!(error(RowKind::Contact, r#""subscribed":"yes""#), (ErrorCode::InvalidField, "subscribed".to_owned()));
}

#[test]
fn fields_that_hold_others_may_be_held_by_a_text() {
    for (arrived, expected) in [
        (r#""mailingLists":"{\"a\":\"true\"}""#, r#""mailingLists":{"a":true}"#),
        (r#""mailingLists":"[\"a\"]""#, r#""mailingLists":{"a":true}"#),
        (r#""eventProperties":"{\"plan\":\"pro\"}""#, r#""eventProperties":{"plan":"pro"}"#),
    ] {
        let start = r#"{"email":"a@b.co","eventName":"e","#;
        let row = row(RowKind::Event, &format!("{start}{arrived}}}"), OMIT);
        assert_eq!(sent(&row), format!("{start}{expected}}}"));
    }
}

#[test]
fn event_properties_of_a_contact_are_a_field_like_any_other() {
    assert_eq!(contact(r#""eventProperties":"{}""#, OMIT), r#"{"eventProperties":"{}"}"#);
    assert_eq!(
        error(RowKind::Contact, r#""eventProperties":{"a":1}"#),
        (ErrorCode::InvalidField, "eventProperties".to_owned())
    );
}

#[test]
fn lists_and_objects_in_other_fields_are_refused() {
    for value in ["[]", r#"{"a":1}"#, r#"{"$serde_json::private::Number":"1"}"#] {
        assert_eq!(
            error(RowKind::Contact, &format!(r#""tags":{value}"#)),
            (ErrorCode::InvalidField, "tags".to_owned())
        );
    }
}

#[test]
fn long_texts_are_refused_with_their_length_or_cut_to_exactly_498() {
    let long = "é".repeat(600);
    let body = format!(r#"{{"email":"a@b.co","eventName":"e","bio":"{long}","eventProperties":{{"bio":"{long}"}}}}"#);
    let refusal = refused(RowKind::Event, &body);
    assert_eq!((refusal.code(), refusal.field()), (ErrorCode::ValueTooLong, Some("bio")));
    assert!(refusal.message().contains("bio has 600 characters"), "{refusal:?}");

    let row = row(RowKind::Event, &body, TRUNCATE);
    let cut = format!("{}…", "é".repeat(497));
    assert_eq!(row.text("bio"), Some(cut.as_str()));
    assert_eq!(row.event_properties().unwrap().get("bio"), Some(&Value::from(cut)));
    assert_eq!(row.adjusted(), ["bio", "eventProperties.bio"]);
}

#[test]
fn what_tells_rows_apart_is_never_cut() {
    let long = "x".repeat(600);
    for body in [
        format!(r#"{{"email":"{long}@b.co","eventName":"e"}}"#),
        format!(r#"{{"userId":"{long}","eventName":"e"}}"#),
        format!(r#"{{"userId":{},"eventName":"e"}}"#, "7".repeat(600)),
        format!(r#"{{"email":"a@b.co","eventName":"{long}"}}"#),
    ] {
        let refusal = Row::clean(RowKind::Event, body.as_bytes(), TRUNCATE).unwrap_err();
        assert_eq!(refusal.code(), ErrorCode::ValueTooLong, "{refusal:?}");
    }
}

#[test]
fn a_row_is_about_somebody() {
    for body in ["{}", r#"{"email":""}"#, r#"{"email":null,"userId":"undefined"}"#, r#"{"email":"a@b.co","email":" "}"#]
    {
        let refusal = refused(RowKind::Contact, body);
        assert_eq!((refusal.code(), refusal.field()), (ErrorCode::MissingField, Some("email")), "{body}");
    }
    let refusal = refused(RowKind::Contact, r#"{"email":"/Email"}"#);
    assert_eq!((refusal.code(), refusal.field()), (ErrorCode::ColumnNotInserted, Some("email")));
    assert!(!refusal.message().contains("missing"), "a field that was refused is not missing as well: {refusal:?}");
}

#[test]
fn a_contact_under_a_misspelt_name_is_misspelt_and_not_missing_as_well() {
    let properties = ContactSchema::read(br#"[{"key":"plan","type":"string"}]"#).unwrap();
    for (name, meant) in [("Email", "email"), ("user_id", "userId")] {
        let body = format!(r#"{{"{name}":"a@b.co"}}"#);
        let refusal = Row::clean_with_schema(RowKind::Contact, body.as_bytes(), OMIT, Some(&properties)).unwrap_err();
        assert_eq!((refusal.code(), refusal.field()), (ErrorCode::InvalidField, Some(name)));
        let told = format!("{name} is not a property of contacts in Loops, but {meant} is");
        assert!(refusal.message().starts_with(&told), "{refusal:?}");
        assert!(!refusal.message().contains("missing"), "{refusal:?}");
    }
}

#[test]
fn an_event_has_a_name() {
    for (name, code) in [
        ("", ErrorCode::MissingField),
        (r#","eventName":" ""#, ErrorCode::MissingField),
        (r#","eventName":null"#, ErrorCode::MissingField),
        (r#","eventName":7"#, ErrorCode::InvalidField),
        (r#","eventName":"/Event""#, ErrorCode::ColumnNotInserted),
    ] {
        let refusal = refused(RowKind::Event, &format!(r#"{{"email":"a@b.co"{name}}}"#));
        assert_eq!((refusal.code(), refusal.field()), (code, Some("eventName")), "{name}");
    }
}

#[test]
fn all_faults_are_named_and_the_first_names_the_refusal() {
    let refusal = refused(RowKind::Event, r#"{"tags":[],"email":"ada lovelace","eventProperties":{"plan":{}},"ok":1}"#);
    assert_eq!((refusal.code(), refusal.field()), (ErrorCode::InvalidField, Some("tags")));
    assert!(refusal.message().contains("tags, email, eventProperties.plan, eventName."), "{refusal:?}");
    assert!(refusal.message().contains("tags arrived as a list"), "{refusal:?}");
}

#[test]
fn the_same_contact_has_the_same_key() {
    let of = |body| row(RowKind::Contact, body, OMIT).contact();
    assert_eq!(of(r#"{"email":" Ada@Example.com ","userId":"u1"}"#), ContactKey::from_email("ada@example.com"));
    assert_eq!(of(r#"{"email":"","userId":7}"#), ContactKey::from_user_id("7"));
}

#[test]
fn a_source_is_added_only_where_the_row_has_none() {
    for (body, options, expected) in [
        (r#"{"email":"a@b.co"}"#, OMIT, r#"{"email":"a@b.co","source":"Clay"}"#),
        (r#"{"source":"mine","email":"a@b.co"}"#, OMIT, r#"{"source":"mine","email":"a@b.co"}"#),
        (r#"{"source":"","email":"a@b.co"}"#, OMIT, r#"{"email":"a@b.co","source":"Clay"}"#),
        (r#"{"source":"","email":"a@b.co"}"#, CLEAR, r#"{"source":null,"email":"a@b.co"}"#),
    ] {
        let mut row = row(RowKind::Contact, body, options);
        row.add_source("Clay");
        assert_eq!(sent(&row), expected);
    }
}

#[test]
fn printing_a_row_tells_nobodys_data() {
    let row = row(RowKind::Contact, r#"{"email":"ada@example.com","company":"Analytical"}"#, OMIT);
    assert_eq!(format!("{row:?}"), "Row { kind: Contact, fields: 2, .. }");
}

#[test]
fn a_row_of_the_largest_size_is_judged_at_once() {
    let fields = |value: &str| (0..8_000).map(|n| format!(r#""f{n}":{value},"#)).collect::<String>();
    for lists in [format!(r#"{{{}"z":7}}"#, fields(r#""maybe""#)), format!("[{}7]", "7,".repeat(100_000))] {
        let row = format!(r#"{{"mailingLists":{lists},"email":"a@b.co"}}"#);
        let refusal = refused(RowKind::Contact, &row);
        assert_eq!((refusal.code(), refusal.field()), (ErrorCode::InvalidField, Some("mailingLists")));
    }
    let many = format!(r#"{{{}"email":"a@b.co"}}"#, fields("[[[]]]"));
    assert_eq!(refused(RowKind::Contact, &many).code(), ErrorCode::InvalidField);
    let deep = format!(r#"{{"a":{}"{}"{}}}"#, "[".repeat(31), "x".repeat(250_000), "]".repeat(31));
    assert_eq!(refused(RowKind::Contact, &deep).field(), Some("a"));
}
