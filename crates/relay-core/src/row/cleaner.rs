//! The cleaning of a row, field by field.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::RowKind;
use crate::error::RequestError;
use crate::placeholder::is_placeholder;
use crate::row::coerce;
use crate::row::field_error::{FieldError, display_name};
use crate::row::field_errors::FieldErrors;
use crate::row::fields;
use crate::row::names;
use crate::row::options::RowOptions;
use crate::row::redacted_value::{RedactedValue, json_type_name};
use crate::row::schema::ContactSchema;
use crate::row::values::{self, Cleaned};
use crate::text::trim_invisible;

/// State of the cleaning. It does not stop at an error, because the message names all invalid fields.
#[derive(Debug)]
pub(super) struct RowCleaner<'a> {
    kind: RowKind,
    options: RowOptions,
    schema: Option<&'a ContactSchema>,
    fields: Map<String, Value>,
    /// The fields whose texts came with characters that no value needs.
    sanitized: BTreeSet<String>,
    adjusted: Vec<String>,
    errors: FieldErrors,
    /// The error of a `userId` that was left out as a placeholder, for a row that turns out to have no `email`.
    placeholder_id: Option<FieldError>,
}

impl<'a> RowCleaner<'a> {
    pub(super) fn new(kind: RowKind, options: RowOptions, schema: Option<&'a ContactSchema>) -> Self {
        Self {
            kind,
            options,
            schema,
            fields: Map::new(),
            sanitized: BTreeSet::new(),
            adjusted: Vec::new(),
            errors: FieldErrors::default(),
            placeholder_id: None,
        }
    }

    /// Reports these fields as adjusted, unless they are refused.
    pub(super) fn with_sanitized(self, sanitized: BTreeSet<String>) -> Self {
        Self { sanitized, ..self }
    }

    /// Cleans one field by the rule for its name.
    pub(super) fn clean_field(&mut self, name: String, value: Value) {
        let result = match (name.as_str(), self.kind) {
            ("email", _) => fields::clean_email(value),
            ("userId", _) => self.clean_user_id(value),
            ("eventName", RowKind::Event) => fields::clean_event_name(value),
            ("subscribed", _) => fields::clean_subscribed(value),
            ("mailingLists", _) => self.clean_mailing_lists(value),
            ("eventProperties", RowKind::Event) => self.clean_event_properties(value),
            _ => self.clean_property(&name, value),
        };
        if let Some(value) = self.apply(names::shown_name(&name), result) {
            self.fields.insert(name, value);
        }
    }

    /// Records that the row has no contact. A field that was rejected is not missing.
    pub(super) fn require_identity(&mut self) {
        let handled = |name| self.fields.contains_key(name) || self.errors.contains(name) || self.errors.suggests(name);
        if !handled("email") && !handled("userId") {
            match self.placeholder_id.take() {
                Some(error) => self.errors.push("userId", error),
                None => self.errors.push("email", FieldError::MissingIdentity),
            }
        }
    }

    /// Records that the event has no name.
    pub(super) fn require_event_name(&mut self) {
        let is_rejected = self.errors.contains("eventName") || self.errors.suggests("eventName");
        let handled = self.fields.contains_key("eventName") || is_rejected;
        if self.kind == RowKind::Event && !handled {
            self.errors.push("eventName", FieldError::MissingEventName);
        }
    }

    /// Returns the fields to send, and the names of those that were left out, cut or sanitized.
    pub(super) fn into_parts(self) -> Result<(Map<String, Value>, Vec<String>), RequestError> {
        match self.errors.to_request_error() {
            Some(error) => Err(error),
            None => Ok((self.fields, self.adjusted)),
        }
    }

    /// Records the result for a field, and returns the value to send.
    fn apply(&mut self, path: &str, result: Result<Cleaned, FieldError>) -> Option<Value> {
        match result {
            Ok(Cleaned::Send(value)) if !self.sanitized.contains(path) => return Some(value),
            Ok(Cleaned::Send(value) | Cleaned::SendAdjusted(value)) => {
                self.adjusted.push(display_name(path));
                return Some(value);
            }
            Ok(Cleaned::Omit) => self.adjusted.push(display_name(path)),
            Err(error) => self.errors.push(path, error),
        }
        None
    }

    /// Cleans a `userId`. A placeholder is left out; whether the row has an `email` instead is known at its end.
    fn clean_user_id(&mut self, value: Value) -> Result<Cleaned, FieldError> {
        match fields::clean_user_id(value) {
            Err(error @ FieldError::PlaceholderId(_)) => {
                self.placeholder_id = Some(error);
                Ok(Cleaned::Omit)
            }
            result => result,
        }
    }

    /// Cleans a property of the contact, and converts it to its type in Loops if that is known.
    fn clean_property(&self, name: &str, value: Value) -> Result<Cleaned, FieldError> {
        let expected = self.schema.and_then(|schema| schema.type_of(name));
        if expected.is_none()
            && let Some(error) = self.name_error(name)
        {
            return values::require_value(name, value)?.map_or(Ok(Cleaned::Omit), |_| Err(error));
        }
        let cleaned = values::clean_named(name, name, value, self.options)?;
        let coerced = match expected {
            Some(expected) => coerce::coerce(name, cleaned, expected)?,
            None => cleaned,
        };
        values::check_range(name, coerced)
    }

    /// Returns the error of a name that is not a property of the account.
    fn name_error(&self, name: &str) -> Option<FieldError> {
        let suggest = || self.schema.and_then(|schema| schema.suggest(name));
        names::misplaced_field(self.kind, name).or_else(|| Some(names::misspelt(name, suggest()?)))
    }

    /// `eventProperties`: an object whose values follow the same rules as the row's.
    fn clean_event_properties(&mut self, value: Value) -> Result<Cleaned, FieldError> {
        let properties = match values::require_value("eventProperties", value)? {
            None => return Ok(Cleaned::Omit),
            Some(Value::Object(properties)) => properties,
            Some(other) => return Err(FieldError::NotProperties(RedactedValue::new("eventProperties", &other))),
        };
        let mut cleaned = Map::new();
        for (name, value) in properties {
            let path = format!("eventProperties.{}", names::shown_name(&name));
            let result = clean_event_property(&path, &name, value, self.options);
            if let Some(value) = self.apply(&path, result) {
                cleaned.insert(name, value);
            }
        }
        Ok(non_empty(cleaned))
    }

    /// `mailingLists`: an object of booleans (Loops API reference, "Update a contact"), or a list of ids to add to.
    fn clean_mailing_lists(&mut self, value: Value) -> Result<Cleaned, FieldError> {
        match fields::reject_unresolved_column("mailingLists", value)? {
            // Loops takes no `null` there.
            None => Ok(Cleaned::Omit),
            Some(Value::Object(lists)) => Ok(self.parse_list_flags(lists)),
            Some(Value::Array(ids)) => Ok(self.parse_list_ids(ids)),
            Some(other) => Err(FieldError::NotMailingLists(RedactedValue::new("mailingLists", &other))),
        }
    }

    fn parse_list_flags(&mut self, lists: Map<String, Value>) -> Cleaned {
        let mut flags = Map::new();
        for (id, flag) in lists {
            let path = list_path(&id);
            let result = parse_list_flag(&path, &id, flag);
            if let Some(flag) = self.apply(&path, result) {
                flags.insert(trim_invisible(&id).to_owned(), flag);
            }
        }
        non_empty(flags)
    }

    fn parse_list_ids(&mut self, ids: Vec<Value>) -> Cleaned {
        let mut flags = Map::new();
        for id in ids {
            let path = list_path(id.as_str().unwrap_or_default());
            let is_adjusted = match parse_list_id(id) {
                Ok(None) => true,
                Ok(Some(id)) => {
                    flags.insert(id, true.into());
                    self.sanitized.contains(&path)
                }
                Err(error) => {
                    self.errors.push("mailingLists", error);
                    false
                }
            };
            // The same id is named once, as in an object.
            if is_adjusted && !self.adjusted.contains(&path) {
                self.adjusted.push(path);
            }
        }
        non_empty(flags)
    }
}

fn clean_event_property(path: &str, name: &str, value: Value, options: RowOptions) -> Result<Cleaned, FieldError> {
    match values::clean_named(path, name, value, options)? {
        Cleaned::Send(value) if name.is_empty() && !value.is_null() => Err(FieldError::NoName),
        _ if name.is_empty() => Ok(Cleaned::Omit),
        cleaned => values::check_range(path, cleaned),
    }
}

fn list_path(id: &str) -> String {
    format!("mailingLists.{}", trim_invisible(id))
}

/// Cleans the flag of a list. A blank one is never sent, because Loops takes only booleans.
fn parse_list_flag(path: &str, id: &str, flag: Value) -> Result<Cleaned, FieldError> {
    if parse_list_id(id.into())?.is_none() {
        return Ok(Cleaned::Omit);
    }
    match fields::reject_unresolved_column(path, flag)? {
        None => Ok(Cleaned::Omit),
        Some(flag) => Ok(Cleaned::Send(values::parse_boolean(path, &flag)?.into())),
    }
}

/// Parses the id of a list; returns nothing if it is blank. It is never cut: a part of it would be another list.
fn parse_list_id(id: Value) -> Result<Option<String>, FieldError> {
    match fields::reject_unresolved_column("mailingLists", id)? {
        None => Ok(None),
        Some(Value::String(text)) => {
            let id = trim_invisible(&text);
            values::check_len(id).map_err(FieldError::TooLongToTruncate)?;
            let is_id = id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
            if is_id && !is_placeholder(id) {
                return Ok(Some(id.to_owned()));
            }
            Err(FieldError::InvalidListId(RedactedValue::new("mailingLists", &id.into())))
        }
        Some(other) => Err(FieldError::NotAListId(json_type_name(&other))),
    }
}

fn non_empty(fields: Map<String, Value>) -> Cleaned {
    if fields.is_empty() { Cleaned::Omit } else { Cleaned::Send(Value::Object(fields)) }
}

#[cfg(test)]
mod tests {
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
}
