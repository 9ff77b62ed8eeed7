//! A row of a Clay table, read generously and sent strictly.
//!
//! Clay sends what a person typed between quotes: blanks as `null`, `""` or the word `undefined`, booleans and numbers
//! as texts, objects as texts, line breaks as they are, and a column's name where its value should be. Loops takes a
//! flat JSON object. [`Row::clean`] makes the one from the other, or says in a sentence what to mend in Clay; a [`Row`]
//! that exists can be sent.

mod cleaner;
mod coerce;
mod error_location;
mod field_error;
mod fields;
mod lenient_json;
mod nested;
mod options;
mod parse;
mod redacted_value;
mod scanner;
pub mod schema;
#[cfg(test)]
mod tests;
mod values;

use serde_json::{Map, Value};
use strum::IntoStaticStr;

use crate::contact::ContactKey;
use crate::error::RequestError;
use crate::row::schema::ContactSchema;
use cleaner::RowCleaner;
pub use options::{BlankPolicy, LongTextPolicy, RowOptions};

/// What a row is to become in Loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum RowKind {
    /// A contact, created or updated (Loops API reference, "Update a contact").
    Contact,
    /// An event (Loops API reference, "Send event").
    Event,
}

impl RowKind {
    /// The field `row` of a log line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A row that Loops can take.
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
    /// Makes a row of a body, where nothing is known of the account's properties. Cleaning what was cleaned changes
    /// nothing.
    ///
    /// # Errors
    /// A refusal with the code and the name of the first field at fault, and a message that names all of them.
    pub fn clean(kind: RowKind, body: &[u8], options: RowOptions) -> Result<Self, RequestError> {
        Self::clean_with_schema(kind, body, options, None)
    }

    /// The same for an account with these properties, step by step: the body is read, texts that hold objects are
    /// unfolded, fields are counted, each is cleaned by the rule for its name and fitted to its property's type, and
    /// what must be there is asked for.
    ///
    /// # Errors
    /// As [`clean`](Self::clean).
    pub fn clean_with_schema(
        kind: RowKind,
        body: &[u8],
        options: RowOptions,
        schema: Option<&ContactSchema>,
    ) -> Result<Self, RequestError> {
        let mut received_fields = parse::parse_fields(body)?;
        nested::parse_embedded_objects(kind, &mut received_fields);
        nested::check_field_count(kind, &received_fields)?;
        let mut cleaner = RowCleaner::new(kind, options, schema);
        for (name, value) in received_fields {
            cleaner.clean_field(name, value);
        }
        cleaner.require_identity();
        cleaner.require_event_name();
        let (fields, adjusted) = cleaner.into_parts()?;
        Ok(Self { kind, fields, adjusted })
    }

    /// What it is to become.
    #[must_use]
    pub const fn kind(&self) -> RowKind {
        self.kind
    }

    /// The contact's address.
    #[must_use]
    pub fn email(&self) -> Option<&str> {
        self.get_str("email")
    }

    /// The contact's id with the sender.
    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        self.get_str("userId")
    }

    /// The event's name.
    #[must_use]
    pub fn event_name(&self) -> Option<&str> {
        self.get_str("eventName")
    }

    /// The event's properties.
    #[must_use]
    pub fn event_properties(&self) -> Option<&Map<String, Value>> {
        self.fields.get("eventProperties")?.as_object()
    }

    /// Whom it is about: the address in lower case, or the user id where there is none. A row has one of the two.
    #[must_use]
    pub fn contact(&self) -> ContactKey {
        match (self.email(), self.user_id()) {
            (Some(email), _) => ContactKey::from_email(email),
            (None, user_id) => ContactKey::from_user_id(user_id.unwrap_or_default()),
        }
    }

    /// Says where the contact came from, in a row that does not say it itself, be it with `null`.
    pub fn add_source(&mut self, source: &str) {
        self.fields.entry("source").or_insert_with(|| source.into());
    }

    /// The names of the fields that were left out as blank, or cut, in the order they came; those inside another one
    /// with its name before theirs, as in `eventProperties.plan`.
    #[must_use]
    pub fn adjusted(&self) -> &[String] {
        &self.adjusted
    }

    /// The row as compact JSON, the fields in the order they came.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        // Keys are texts and the writer is memory: there is nothing that could fail.
        serde_json::to_vec(&self.fields).unwrap_or_default()
    }

    fn get_str(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }
}
