//! One contact of a simulated team.

use serde_json::{Map, Value, json};

use crate::loops::validation::{ContactFields, ContactId};

/// The `source` of a contact that was created without one (Loops, API reference: update a contact).
const DEFAULT_SOURCE: &str = "API";
/// Addresses of this domain bounce for good: their contacts begin suppressed (Loops, contact suppression).
const BOUNCING_DOMAIN: &str = "@bounces.example";

#[derive(Debug)]
pub(crate) struct Contact {
    pub(crate) id: String,
    email: String,
    user_id: Option<String>,
    subscribed: bool,
    suppressed: bool,
    lists: Vec<String>,
    properties: Map<String, Value>,
}

impl Contact {
    /// A new contact, subscribed unless the call says otherwise (Loops, API reference: create a contact).
    pub(crate) fn new(email: String, fields: ContactFields) -> Self {
        let mut contact = Self {
            id: new_id(),
            suppressed: email.to_lowercase().ends_with(BOUNCING_DOMAIN),
            email,
            user_id: None,
            subscribed: true,
            lists: Vec::new(),
            properties: Map::new(),
        };
        contact.apply(fields);
        contact
    }

    /// Compares addresses without their case. Whether Loops does is not stated.
    pub(crate) fn has_email(&self, email: &str) -> bool {
        self.email.to_lowercase() == email.to_lowercase()
    }

    pub(crate) fn has_user_id(&self, user_id: &str) -> bool {
        self.user_id.as_deref() == Some(user_id)
    }

    pub(crate) fn has_id(&self, id: &ContactId) -> bool {
        match id {
            ContactId::Email(email) => self.has_email(email),
            ContactId::UserId(user_id) => self.has_user_id(user_id),
        }
    }

    pub(crate) fn is_suppressed(&self) -> bool {
        self.suppressed
    }

    /// Ends the suppression, and returns whether there was one.
    pub(crate) fn remove_suppression(&mut self) -> bool {
        std::mem::take(&mut self.suppressed)
    }

    /// Sets the fields of a call, the other id included, and removes those that are `null` (Loops, API reference: update a
    /// contact).
    pub(crate) fn apply(&mut self, fields: ContactFields) {
        if let Some(email) = fields.email {
            self.email = email;
        }
        self.user_id = fields.user_id.or(self.user_id.take());
        self.subscribed = fields.subscribed.unwrap_or(self.subscribed);
        for (list, joined) in fields.lists {
            self.lists.retain(|other| *other != list);
            if joined {
                self.lists.push(list);
            }
        }
        for (key, value) in fields.properties {
            if value.is_null() {
                self.properties.shift_remove(&key);
            } else {
                self.properties.insert(key, value);
            }
        }
    }

    /// The contact as Loops shows it, with its custom properties at the root (Loops, API reference: find a contact).
    pub(crate) fn to_json(&self) -> Value {
        let property = |key: &str, default: Value| self.properties.get(key).cloned().unwrap_or(default);
        let mut contact: Map<String, Value> = Map::from_iter([
            ("id".to_owned(), json!(self.id)),
            ("email".to_owned(), json!(self.email)),
            ("firstName".to_owned(), property("firstName", Value::Null)),
            ("lastName".to_owned(), property("lastName", Value::Null)),
            ("source".to_owned(), property("source", json!(DEFAULT_SOURCE))),
            ("subscribed".to_owned(), json!(self.subscribed)),
            ("userGroup".to_owned(), property("userGroup", json!(""))),
            ("userId".to_owned(), json!(self.user_id)),
        ]);
        contact.extend(self.custom_properties().map(|(key, value)| (key.clone(), value.clone())));
        contact.insert("mailingLists".to_owned(), self.lists.iter().map(|list| (list.clone(), true)).collect());
        // Only contacts of a form with double opt-in have a status.
        contact.insert("optInStatus".to_owned(), Value::Null);
        Value::Object(contact)
    }

    /// The contact's ids (Loops, API reference: get suppression status for a contact).
    pub(crate) fn to_identity_json(&self) -> Value {
        json!({"id": self.id, "email": self.email, "userId": self.user_id})
    }

    pub(crate) fn custom_properties(&self) -> impl Iterator<Item = (&String, &Value)> {
        const STANDARD: [&str; 4] = ["firstName", "lastName", "source", "userGroup"];
        self.properties.iter().filter(|(key, _)| !STANDARD.contains(&key.as_str()))
    }
}

/// Returns an id that looks like Loops' own: 25 lower-case letters and digits that begin with `c`.
fn new_id() -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    std::iter::once('c').chain(random.chars().take(24)).collect()
}
