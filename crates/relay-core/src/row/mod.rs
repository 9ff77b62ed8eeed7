//! A row of a Clay table, parsed leniently and sent strictly.
//!
//! Clay inserts the values of columns into a text that its user typed: blanks arrive as `null`, `""` or the word
//! `undefined`, booleans, numbers and objects as texts, line breaks as they are, and a column's name where its value
//! should be. Loops takes a flat JSON object. [`Row::clean`] makes the one from the other, or says in a sentence what to
//! change in Clay; a [`Row`] that exists can be sent.
//!
//! See docs/adr/0009-row-cleaning.md.

mod cleaner;
mod coerce;
mod email;
mod field_error;
mod field_errors;
mod fields;
pub(crate) mod json;
mod names;
mod nested;
mod options;
mod redacted_value;
mod sanitizer;
pub mod schema;
#[cfg(test)]
mod tests;
mod values;

use serde_json::{Map, Value};
use strum::IntoStaticStr;

use crate::contact::ContactKey;
use crate::error::RequestError;
use crate::idempotency::IdempotencyKey;
use crate::row::schema::ContactSchema;
use cleaner::RowCleaner;
pub use options::{BlankPolicy, LongTextPolicy, RowOptions};
use sanitizer::Sanitizer;

/// What a row becomes in Loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum RowKind {
    /// A contact, created or updated (Loops API reference, "Update a contact").
    Contact,
    /// An event (Loops API reference, "Send event").
    Event,
    /// A contact that is new (Loops API reference, "Create a contact").
    Create,
    /// The deletion of a contact (Loops API reference, "Delete a contact").
    Delete,
    /// A transactional e-mail (Loops API reference, "Send a transactional email").
    Email,
}

impl RowKind {
    /// The kind as logs show it, in the field `row`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A row that can be sent to Loops.
#[derive(Clone)]
pub struct Row {
    kind: RowKind,
    fields: Map<String, Value>,
    adjusted: Vec<String>,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Row").field("kind", &self.kind).field("fields", &self.fields.len()).finish_non_exhaustive()
    }
}

impl Row {
    /// Makes a row of a body, with the properties of the account if they are known. A cleaned row is not changed by
    /// cleaning it again.
    ///
    /// # Errors
    /// An error with the code and the name of the first invalid field, and a message that names all of them.
    pub fn clean(
        kind: RowKind,
        body: &[u8],
        options: RowOptions,
        schema: Option<&ContactSchema>,
    ) -> Result<Self, RequestError> {
        let mut sanitizer = Sanitizer::default();
        let mut received_fields = sanitizer.sanitize_fields(json::parse::parse_fields(body)?);
        nested::parse_nested_fields(kind, &mut received_fields, &mut sanitizer);
        nested::check_field_count(kind, &received_fields)?;
        let mut cleaner = RowCleaner::new(kind, options, schema).with_sanitized(sanitizer.into_adjusted());
        for (name, value) in received_fields {
            cleaner.clean_field(name, value);
        }
        cleaner.require_identity();
        cleaner.require_name();
        let (fields, adjusted) = cleaner.into_parts()?;
        Ok(Self { kind, fields, adjusted })
    }

    /// What it becomes.
    pub const fn kind(&self) -> RowKind {
        self.kind
    }

    /// The contact's address.
    pub fn email(&self) -> Option<&str> {
        self.get_str("email")
    }

    /// The contact's user id.
    pub fn user_id(&self) -> Option<&str> {
        self.get_str("userId")
    }

    /// The event's name.
    pub fn event_name(&self) -> Option<&str> {
        self.get_str("eventName")
    }

    /// The event's properties.
    pub fn event_properties(&self) -> Option<&Map<String, Value>> {
        self.fields.get("eventProperties")?.as_object()
    }

    /// The id of the transactional e-mail.
    pub fn transactional_id(&self) -> Option<&str> {
        self.get_str("transactionalId")
    }

    /// The data variables of the transactional e-mail.
    pub fn data_variables(&self) -> Option<&Map<String, Value>> {
        self.fields.get("dataVariables")?.as_object()
    }

    /// The key that follows from the content of an event or an e-mail.
    pub fn derive_key(&self) -> IdempotencyKey {
        let (email, name) = (self.email(), self.event_name().unwrap_or_default());
        match self.transactional_id() {
            Some(id) if self.kind == RowKind::Email => {
                IdempotencyKey::derive_for_email(id, email.unwrap_or_default(), self.data_variables())
            }
            _ => IdempotencyKey::derive(name, email, self.user_id(), self.event_properties()),
        }
    }

    /// Key of its contact. A row has an address or a user id.
    pub fn contact(&self) -> ContactKey {
        let from_user_id = || ContactKey::from_user_id(self.user_id().unwrap_or_default());
        self.email().map_or_else(from_user_id, ContactKey::from_email)
    }

    /// Adds the contact's source, unless the row has one already or can have none. A blank one that would have emptied it is
    /// left out.
    pub fn add_source(&mut self, source: &str) {
        if matches!(self.kind, RowKind::Delete | RowKind::Email) {
            return;
        }
        let field = self.fields.entry("source").or_insert(Value::Null);
        if field.is_null() {
            *field = source.into();
        }
    }

    /// The names of the fields that were left out, cut, unwrapped, or rid of characters that no value needs, in their
    /// order; nested ones as paths, such as `eventProperties.plan`.
    pub fn adjusted(&self) -> &[String] {
        &self.adjusted
    }

    /// The row as compact JSON, the fields in their order.
    pub fn to_body(&self) -> Vec<u8> {
        // Keys are texts and the writer is memory, so this does not fail.
        serde_json::to_vec(&self.fields).unwrap_or_default()
    }

    fn get_str(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }
}
