use super::*;
use crate::error::ErrorCode;
use crate::row::json::lenient_json;

/// Returns what is sent of one field, or the code and the field of its error.
fn cleaned(name: &str, value: &str) -> Result<Option<String>, (ErrorCode, String)> {
    let mut cleaner = RowCleaner::new(RowKind::Event, RowOptions::default(), None);
    cleaner.clean_field(name.to_owned(), lenient_json::parse_lenient(value).unwrap());
    match cleaner.into_parts() {
        Ok((fields, _)) => Ok(fields.get(name).map(Value::to_string)),
        Err(error) => Err((error.code(), error.field().unwrap_or_default().to_owned())),
    }
}

#[test]
fn mailing_lists_are_cleaned_to_object_of_booleans() {
    for (json, expected) in [
        (r#"{"a":true,"b":" False","c":"","d":null}"#, Some(r#"{"a":true,"b":false}"#)),
        (r#"["a"," b ","",null,"a"]"#, Some(r#"{"a":true,"b":true}"#)),
        (r#"{" a ":true,"b\n":false,"a":false}"#, Some(r#"{"a":false,"b":false}"#)),
        ("{}", None),
        ("[]", None),
        (r#"{"a":""}"#, None),
        (r#"{"":true}"#, None),
        (r#""""#, None),
    ] {
        assert_eq!(cleaned("mailingLists", json), Ok(expected.map(str::to_owned)), "{json}");
    }
}

#[test]
fn blank_list_ids_are_reported_as_adjusted() {
    for (value, expected) in [
        (
            r#"{"a":true," ":true,"undefined":true,"b":""}"#,
            &["mailingLists.", "mailingLists.undefined", "mailingLists.b"][..],
        ),
        (r#"["a"," ","undefined",null,""]"#, &["mailingLists.", "mailingLists.undefined"]),
    ] {
        let mut cleaner = RowCleaner::new(RowKind::Contact, RowOptions::default(), None);
        cleaner.clean_field("mailingLists".to_owned(), lenient_json::parse_lenient(value).unwrap());
        assert_eq!(cleaner.into_parts().unwrap().1, expected, "{value}");
    }
}

#[test]
fn ambiguous_mailing_lists_are_rejected() {
    for (json, code, field) in [
        (r#"{"a":"yes"}"#, ErrorCode::InvalidField, "mailingLists.a"),
        (r#"{"a":1}"#, ErrorCode::InvalidField, "mailingLists.a"),
        (r#"{"a":{}}"#, ErrorCode::InvalidField, "mailingLists.a"),
        (r#"{"a":"{{List}}"}"#, ErrorCode::ColumnNotInserted, "mailingLists.a"),
        (r#"{"a":"/List"}"#, ErrorCode::ColumnNotInserted, "mailingLists.a"),
        (r#""/List Ids""#, ErrorCode::ColumnNotInserted, "mailingLists"),
        (r#"{"{{List}}":true}"#, ErrorCode::ColumnNotInserted, "mailingLists.{{List}}"),
        (r#"["{{List}}"]"#, ErrorCode::ColumnNotInserted, "mailingLists"),
        ("[1]", ErrorCode::InvalidField, "mailingLists"),
        ("true", ErrorCode::InvalidField, "mailingLists"),
        (r#""list""#, ErrorCode::InvalidField, "mailingLists"),
        (r#""['a']""#, ErrorCode::InvalidField, "mailingLists"),
        (r#""[object Object]""#, ErrorCode::ColumnNotInserted, "mailingLists"),
    ] {
        assert_eq!(cleaned("mailingLists", json), Err((code, field.to_owned())), "{json}");
    }
}

#[test]
fn list_id_is_never_truncated() {
    let id = "l".repeat(499);
    let too_long = |field: &str| Err((ErrorCode::ValueTooLong, field.to_owned()));
    assert_eq!(cleaned("mailingLists", &format!(r#"["{id}"]"#)), too_long("mailingLists"));
    let field = display_name(&format!("mailingLists.{id}"));
    assert_eq!(cleaned("mailingLists", &format!(r#"{{"{id}":true}}"#)), too_long(&field));
}

#[test]
fn event_properties_follow_row_rules_without_special_names() {
    for (json, expected) in [
        (r#"{"plan":"pro","n":1E5}"#, Some(r#"{"plan":"pro","n":1E5}"#)),
        (
            r#"{"plan":"","email":"no address","subscribed":"yes"}"#,
            Some(r#"{"email":"no address","subscribed":"yes"}"#),
        ),
        (r#"{"email":"/a"}"#, Some(r#"{"email":"/a"}"#)),
        (r#"{"plan":" "}"#, None),
        ("{}", None),
        ("null", None),
    ] {
        assert_eq!(cleaned("eventProperties", json), Ok(expected.map(str::to_owned)), "{json}");
    }
}

#[test]
fn event_property_name_over_498_characters_is_rejected() {
    let longest = format!(r#"{{"{}":1}}"#, "n".repeat(498));
    assert_eq!(cleaned("eventProperties", &longest), Ok(Some(longest)));
    let longer = "n".repeat(499);
    let result = cleaned("eventProperties", &format!(r#"{{"{longer}":1}}"#));
    assert_eq!(result, Err((ErrorCode::ValueTooLong, display_name(&format!("eventProperties.{longer}")))));
    assert_eq!(cleaned("eventProperties", &format!(r#"{{"{longer}":""}}"#)), Ok(None));
}

#[test]
fn event_properties_must_be_flat_object() {
    for (json, code, field) in [
        (r#"{"plan":[]}"#, ErrorCode::InvalidField, "eventProperties.plan"),
        (r#"{"plan":{}}"#, ErrorCode::InvalidField, "eventProperties.plan"),
        (r#"{"plan":"{{Plan}}"}"#, ErrorCode::ColumnNotInserted, "eventProperties.plan"),
        ("[]", ErrorCode::InvalidField, "eventProperties"),
        (r#""pro""#, ErrorCode::InvalidField, "eventProperties"),
        ("7", ErrorCode::InvalidField, "eventProperties"),
        (r#""{{Properties}}""#, ErrorCode::ColumnNotInserted, "eventProperties"),
    ] {
        assert_eq!(cleaned("eventProperties", json), Err((code, field.to_owned())), "{json}");
    }
}
