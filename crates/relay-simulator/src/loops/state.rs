//! The contacts, events and properties of a simulated team, and the calls that created them.

use std::collections::HashMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::loops::contact::Contact;
use crate::loops::error::LoopsError;
use crate::loops::validation::{self as rules, ContactFields};

/// Time for which a used key is remembered (Loops, API reference: send an event).
const IDEMPOTENCY_KEY_TTL: SignedDuration = SignedDuration::from_hours(24);
/// Maximum length of a key (Loops, API reference: send an event).
const MAX_KEY_LEN: usize = 100;

/// An accepted event.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedEvent {
    /// The whole body, parsed.
    pub body: Value,
    /// Its `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Time of its acceptance.
    pub received_at: Timestamp,
}

/// A call that got a 2xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedCall {
    /// Path without the query, such as `/api/v1/contacts/update`.
    pub path: String,
    /// The body, byte for byte.
    pub body: Bytes,
    /// Its `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// The team that the API key belongs to.
#[derive(Debug, Default)]
pub(crate) struct Team {
    pub(crate) contacts: Vec<Contact>,
    pub(crate) events: Vec<ReceivedEvent>,
    pub(crate) calls: Vec<ReceivedCall>,
    used_keys: HashMap<String, Timestamp>,
    /// Names and types of the properties that a call created.
    created_properties: Vec<(String, String)>,
}

impl Team {
    /// Creates a property (Loops, API reference: create a contact property).
    pub(crate) fn create_property(&mut self, (name, kind): (String, String)) -> Result<(), LoopsError> {
        if self.created_properties.iter().any(|(declared, _)| *declared == name) {
            return Err(LoopsError::bad_request(format!("Property {name} already exists")));
        }
        self.created_properties.push((name, kind));
        Ok(())
    }

    /// Updates or creates a contact (Loops, API reference: update a contact), and returns its id.
    pub(crate) fn update(&mut self, fields: ContactFields) -> Result<String, LoopsError> {
        let email = fields.email.as_deref();
        let user_id = fields.user_id.as_deref();
        let mut matching = self.contacts.iter_mut().filter(|contact| {
            email.is_some_and(|email| contact.has_email(email))
                || user_id.is_some_and(|user_id| contact.has_user_id(user_id))
        });
        match (matching.next(), matching.next()) {
            (Some(_), Some(_)) => Err(LoopsError::bad_request("Multiple contacts found for the given criteria")),
            (Some(contact), None) => {
                contact.apply(fields);
                Ok(contact.id.clone())
            }
            (None, _) => self.insert_contact(fields),
        }
    }

    /// Creates a contact (Loops, API reference: create a contact), and returns its id.
    pub(crate) fn create(&mut self, fields: ContactFields) -> Result<String, LoopsError> {
        let Some(email) = &fields.email else {
            return Err(LoopsError::bad_request("email is required"));
        };
        let is_duplicate = |contact: &Contact| {
            contact.has_email(email) || fields.user_id.as_deref().is_some_and(|id| contact.has_user_id(id))
        };
        if self.contacts.iter().any(is_duplicate) {
            return Err(LoopsError::conflict("Email or userId is already on list"));
        }
        self.insert_contact(fields)
    }

    /// Returns a list with the contact that has the address or the user id (Loops, API reference: find a contact).
    pub(crate) fn find(&self, email: Option<&str>, user_id: Option<&str>) -> Result<Value, LoopsError> {
        let found = match (email, user_id) {
            (Some(email), None) => {
                rules::validate_email(email)?;
                self.contacts.iter().find(|contact| contact.has_email(email))
            }
            (None, Some(user_id)) => self.contacts.iter().find(|contact| contact.has_user_id(user_id)),
            _ => return Err(LoopsError::bad_request("Exactly one of email and userId is required")),
        };
        Ok(found.map(Contact::to_json).into_iter().collect())
    }

    /// Accepts an event and updates its contact (Loops, API reference: send an event).
    ///
    /// A key that was used within a day is rejected, whatever the body. Which responses use a key is not stated; here only a
    /// 200 does, because then the contact may have been e-mailed.
    pub(crate) fn send(&mut self, call: &ReceivedCall, now: Timestamp) -> Result<(), LoopsError> {
        let key = call.idempotency_key.as_deref();
        self.used_keys.retain(|_, used_at| now.duration_since(*used_at) < IDEMPOTENCY_KEY_TTL);
        if key.is_some_and(|key| key.chars().count() > MAX_KEY_LEN) {
            return Err(LoopsError::bad_request("Idempotency-Key is longer than 100 characters"));
        }
        if let Some(key) = key.filter(|key| self.used_keys.contains_key(*key)) {
            let message = format!("Request with idempotency key {key} has already been processed.");
            return Err(LoopsError::conflict(message));
        }
        let (fields, body) = rules::parse_event(&call.body)?;
        self.update(fields)?;
        if let Some(key) = key {
            self.used_keys.insert(key.to_owned(), now);
        }
        self.events.push(ReceivedEvent { body, idempotency_key: call.idempotency_key.clone(), received_at: now });
        Ok(())
    }

    /// The team's contact properties (Loops, API reference: list contact properties). Here a custom property exists as soon
    /// as a contact has it; what Loops does with an undeclared one is not stated.
    pub(crate) fn properties(&self, custom_only: bool) -> Value {
        // Loops lists its internal ones, those with `__`, as well.
        const STANDARD: [(&str, &str); 11] = [
            ("firstName", "string"),
            ("lastName", "string"),
            ("email", "string"),
            ("userGroup", "string"),
            ("userId", "string"),
            ("subscribed", "boolean"),
            ("createdAt", "date"),
            ("source", "string"),
            ("__domain", "string"),
            ("__marketing_audience", "string"),
            ("__critical_audience", "string"),
        ];
        let mut listed = Map::new();
        if !custom_only {
            listed.extend(STANDARD.iter().map(|(key, kind)| ((*key).to_owned(), property_json(key, kind))));
        }
        for (key, kind) in &self.created_properties {
            listed.insert(key.clone(), property_json(key, kind));
        }
        for (key, value) in self.contacts.iter().flat_map(Contact::custom_properties) {
            let kind = match value {
                Value::Number(_) => "number",
                Value::Bool(_) => "boolean",
                _ => "string",
            };
            listed.entry(key.clone()).or_insert_with(|| property_json(key, kind));
        }
        listed.into_iter().map(|(_, property)| property).collect()
    }

    /// Requires an address: an unknown `userId` alone creates no contact (Loops, API reference: update a contact).
    fn insert_contact(&mut self, fields: ContactFields) -> Result<String, LoopsError> {
        let Some(email) = fields.email.clone() else {
            return Err(LoopsError::bad_request("Contact not found."));
        };
        let contact = Contact::new(email, fields);
        let id = contact.id.clone();
        self.contacts.push(contact);
        Ok(id)
    }
}

fn property_json(key: &str, kind: &str) -> Value {
    json!({"key": key, "label": label(key), "type": kind})
}

/// Returns "Favorite color" for `favoriteColor` (Loops, API reference: list contact properties).
fn label(key: &str) -> String {
    let mut label = String::new();
    for character in key.chars() {
        if label.is_empty() {
            label.extend(character.to_uppercase());
        } else if character.is_uppercase() {
            label.push(' ');
            label.extend(character.to_lowercase());
        } else {
            label.push(character);
        }
    }
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: &'static str, key: &str) -> ReceivedCall {
        let (path, idempotency_key) = ("/api/v1/events/send".to_owned(), Some(key.to_owned()));
        ReceivedCall { path, body: Bytes::from_static(body.as_bytes()), idempotency_key }
    }

    #[test]
    fn idempotency_key_expires_after_24_hours() {
        let mut team = Team::default();
        let signup = call(r#"{"email":"alex@example.com","eventName":"signup"}"#, "one");
        let start = Timestamp::UNIX_EPOCH;
        assert_eq!(team.send(&signup, start), Ok(()));
        let conflict = LoopsError::conflict("Request with idempotency key one has already been processed.");
        assert_eq!(team.send(&signup, start + SignedDuration::from_secs(86_399)), Err(conflict));
        assert_eq!(team.send(&signup, start + SignedDuration::from_hours(24)), Ok(()));
        assert_eq!(team.events.len(), 2);
    }

    #[test]
    fn rejected_event_does_not_consume_its_key() {
        let mut team = Team::default();
        let now = Timestamp::UNIX_EPOCH;
        assert!(team.send(&call(r#"{"userId":"nobody","eventName":"signup"}"#, "one"), now).is_err());
        assert!(team.send(&call(r#"{"email":"alex@example.com"}"#, "one"), now).is_err());
        assert_eq!(team.send(&call(r#"{"email":"alex@example.com","eventName":"signup"}"#, "one"), now), Ok(()));
    }
}
