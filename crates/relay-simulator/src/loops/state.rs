//! The contacts, events and e-mails of a simulated team, and the calls that created them.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::loops::contact::Contact;
use crate::loops::error::LoopsError;
use crate::loops::idempotency::UsedKeys;
use crate::loops::properties::CreatedProperties;
use crate::loops::transactional::{self, EmailToSend};
use crate::loops::validation::{self as rules, ContactFields, ContactId};

/// How many contacts a team takes off the list of suppressed ones in 30 days: the number in Loops' example (Loops, API
/// reference: remove a contact from suppression list). No simulator runs for so long that one comes back.
const MAX_SUPPRESSION_REMOVALS: u32 = 100;

/// An accepted event or transactional e-mail.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedSend {
    /// Its `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Time of its acceptance.
    pub received_at: Timestamp,
    /// The whole body, parsed.
    pub body: Value,
}

/// What came last to a team, of each kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Audience {
    /// The contacts as Loops shows them, the newest first (Loops, API reference: find a contact).
    pub contacts: Vec<Value>,
    /// The events, in order.
    pub events: Vec<ReceivedSend>,
    /// The transactional e-mails, in order.
    pub emails: Vec<ReceivedSend>,
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
    pub(crate) events: Vec<ReceivedSend>,
    pub(crate) emails: Vec<ReceivedSend>,
    pub(crate) calls: Vec<ReceivedCall>,
    pub(crate) properties: CreatedProperties,
    used_keys: UsedKeys,
    suppressions_removed: u32,
}

impl Team {
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

    /// Returns what came last, at most `max` of each kind.
    pub(crate) fn audience(&self, max: usize) -> Audience {
        let latest =
            |received: &[ReceivedSend]| received.iter().skip(received.len().saturating_sub(max)).cloned().collect();
        Audience {
            contacts: self.contacts.iter().rev().take(max).map(Contact::to_json).collect(),
            events: latest(&self.events),
            emails: latest(&self.emails),
        }
    }

    /// Returns a list with the contact that has the id, empty if none has (Loops, API reference: find a contact).
    pub(crate) fn find(&self, id: &ContactId) -> Value {
        self.contacts.iter().filter(|contact| contact.has_id(id)).map(Contact::to_json).collect()
    }

    /// Deletes a contact (Loops, API reference: delete a contact).
    pub(crate) fn delete(&mut self, id: &ContactId) -> Result<(), LoopsError> {
        let position = self.contacts.iter().position(|contact| contact.has_id(id));
        self.contacts.remove(position.ok_or_else(LoopsError::contact_not_found)?);
        Ok(())
    }

    /// Whether a contact is suppressed (Loops, API reference: get suppression status for a contact).
    pub(crate) fn suppression(&self, id: &ContactId) -> Result<Value, LoopsError> {
        let contact = self.contacts.iter().find(|contact| contact.has_id(id));
        let contact = contact.ok_or_else(LoopsError::contact_not_found)?;
        Ok(json!({
            "contact": contact.to_identity_json(),
            "isSuppressed": contact.is_suppressed(),
            "removalQuota": self.removal_quota(),
        }))
    }

    /// Takes a contact off the list of suppressed ones (Loops, API reference: remove a contact from suppression list).
    pub(crate) fn remove_suppression(&mut self, id: &ContactId) -> Result<Value, LoopsError> {
        let contact = self.contacts.iter_mut().find(|contact| contact.has_id(id));
        let contact = contact.ok_or_else(LoopsError::contact_not_found)?;
        if self.suppressions_removed >= MAX_SUPPRESSION_REMOVALS {
            return Err(LoopsError::bad_request("Suppression removal limit reached"));
        }
        if !contact.remove_suppression() {
            return Err(LoopsError::bad_request("Contact is not suppressed"));
        }
        self.suppressions_removed = self.suppressions_removed.saturating_add(1);
        let message = "Email removed from suppression list.";
        Ok(json!({"success": true, "message": message, "removalQuota": self.removal_quota()}))
    }

    /// Accepts an event and updates its contact (Loops, API reference: send an event).
    pub(crate) fn send_event(&mut self, call: &ReceivedCall, now: Timestamp) -> Result<(), LoopsError> {
        self.used_keys.check(call.idempotency_key.as_deref(), now)?;
        let (fields, body) = rules::parse_event(&call.body)?;
        self.update(fields)?;
        self.used_keys.record(call.idempotency_key.as_deref(), now);
        self.events.push(ReceivedSend { body, idempotency_key: call.idempotency_key.clone(), received_at: now });
        Ok(())
    }

    /// Sends a transactional e-mail (Loops, API reference: send a transactional email).
    pub(crate) fn send_email(&mut self, call: &ReceivedCall, now: Timestamp) -> Result<(), LoopsError> {
        self.used_keys.check(call.idempotency_key.as_deref(), now)?;
        let EmailToSend { email, add_to_audience, body } = transactional::parse_send(&call.body)?;
        if add_to_audience && !self.contacts.iter().any(|contact| contact.has_email(&email)) {
            self.contacts.push(Contact::new(email, ContactFields::default()));
        }
        self.used_keys.record(call.idempotency_key.as_deref(), now);
        self.emails.push(ReceivedSend { body, idempotency_key: call.idempotency_key.clone(), received_at: now });
        Ok(())
    }

    fn removal_quota(&self) -> Value {
        let remaining = MAX_SUPPRESSION_REMOVALS.saturating_sub(self.suppressions_removed);
        json!({"limit": MAX_SUPPRESSION_REMOVALS, "remaining": remaining})
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

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
        assert_eq!(team.send_event(&signup, start), Ok(()));
        let conflict = LoopsError::conflict("Request with idempotency key one has already been processed.");
        assert_eq!(team.send_event(&signup, start + SignedDuration::from_secs(86_399)), Err(conflict));
        assert_eq!(team.send_event(&signup, start + SignedDuration::from_hours(24)), Ok(()));
        assert_eq!(team.events.len(), 2);
    }

    #[test]
    fn rejected_event_does_not_consume_its_key() {
        let mut team = Team::default();
        let now = Timestamp::UNIX_EPOCH;
        assert!(team.send_event(&call(r#"{"userId":"nobody","eventName":"signup"}"#, "one"), now).is_err());
        assert!(team.send_event(&call(r#"{"email":"alex@example.com"}"#, "one"), now).is_err());
        assert_eq!(team.send_event(&call(r#"{"email":"alex@example.com","eventName":"signup"}"#, "one"), now), Ok(()));
    }
}
