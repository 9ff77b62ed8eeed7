//! The cleaning of a row, field by field.

#[cfg(test)]
mod tests;
mod transactional;

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
            ("transactionalId", RowKind::Email) => transactional::clean_id(value),
            ("addToAudience", RowKind::Email) => fields::clean_boolean(&name, value),
            ("dataVariables", RowKind::Email) => self.clean_data_variables(value),
            ("attachments", RowKind::Email) => transactional::clean_attachments(value),
            (_, RowKind::Email) => self.refuse_unless_blank(&name, value),
            ("userId", _) => self.clean_user_id(value),
            (_, RowKind::Delete) => self.refuse_unless_blank(&name, value),
            ("eventName", RowKind::Event) => fields::clean_event_name(value),
            ("subscribed", _) => fields::clean_boolean(&name, value),
            ("mailingLists", _) => self.clean_mailing_lists(value),
            ("eventProperties", RowKind::Event) => self.clean_event_properties(value),
            _ => self.clean_property(&name, value),
        };
        if let Some(value) = self.apply(names::shown_name(&name), result) {
            self.fields.insert(name, value);
        }
    }

    /// Records that the row has no contact, or two identities where Loops takes one. A field that was rejected is not missing.
    pub(super) fn require_identity(&mut self) {
        let (has_email, has_user_id) = (self.is_handled("email"), self.is_handled("userId"));
        match self.kind {
            RowKind::Create | RowKind::Email if !has_email => self.errors.push("email", FieldError::MissingEmail),
            RowKind::Delete if has_email && has_user_id => self.errors.push("userId", FieldError::TwoIdentities),
            _ if has_email || has_user_id => {}
            _ => match self.placeholder_id.take() {
                Some(error) => self.errors.push("userId", error),
                None => self.errors.push("email", FieldError::MissingIdentity),
            },
        }
    }

    /// Records that the event has no name, or the e-mail no id.
    pub(super) fn require_name(&mut self) {
        match self.kind {
            RowKind::Event if !self.is_handled("eventName") => {
                self.errors.push("eventName", FieldError::MissingEventName);
            }
            RowKind::Email if !self.is_handled("transactionalId") => {
                self.errors.push("transactionalId", FieldError::MissingTransactionalId);
            }
            RowKind::Contact | RowKind::Event | RowKind::Create | RowKind::Delete | RowKind::Email => {}
        }
    }

    fn is_handled(&self, name: &str) -> bool {
        self.fields.contains_key(name) || self.errors.contains(name) || self.errors.suggests(name)
    }

    /// A field that the call does not have.
    fn refuse_unless_blank(&self, name: &str, value: Value) -> Result<Cleaned, FieldError> {
        let error = names::misplaced_field(self.kind, name).unwrap_or(FieldError::NoName);
        values::require_value(name, value)?.map_or(Ok(Cleaned::Omit), |_| Err(error))
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

    /// `dataVariables`: an object of texts, numbers and lists.
    fn clean_data_variables(&mut self, value: Value) -> Result<Cleaned, FieldError> {
        let variables = match values::require_value("dataVariables", value)? {
            None => return Ok(Cleaned::Omit),
            Some(Value::Object(variables)) => variables,
            Some(other) => return Err(FieldError::NotProperties(RedactedValue::new("dataVariables", &other))),
        };
        let mut cleaned = Map::new();
        for (name, value) in variables {
            let path = format!("dataVariables.{}", names::shown_name(&name));
            let result = transactional::clean_variable(&path, &name, &value, self.options);
            // What is inside a list is reported as the list.
            let inner = format!("{path}.");
            if !self.sanitized.contains(&path) && self.sanitized.iter().any(|field| field.starts_with(&inner)) {
                self.sanitized.insert(path.clone());
            }
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
