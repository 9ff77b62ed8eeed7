//! One contact of a simulated team.

use serde_json::{Map, Value, json};

use crate::loops::validation::ContactFields;

/// The `source` of a contact that was made without one (Loops, API reference: update a contact).
const DEFAULT_SOURCE: &str = "API";

/// A contact as Loops keeps it.
#[derive(Debug)]
pub(crate) struct Contact {
    id: String,
    email: String,
    user_id: Option<String>,
    subscribed: bool,
    lists: Vec<String>,
    properties: Map<String, Value>,
}

impl Contact {
    /// A new contact, subscribed unless the call says otherwise (Loops, API reference: create a contact).
    pub(crate) fn new(email: String, fields: ContactFields) -> Self {
        let mut contact =
            Self { id: new_id(), email, user_id: None, subscribed: true, lists: Vec::new(), properties: Map::new() };
        contact.apply(fields);
        contact
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether this is the contact with the address. Loops does not say whether the case counts; here it does not.
    pub(crate) fn has_email(&self, email: &str) -> bool {
        self.email.to_lowercase() == email.to_lowercase()
    }

    pub(crate) fn has_user_id(&self, user_id: &str) -> bool {
        self.user_id.as_deref() == Some(user_id)
    }

    /// Overwrites what the call names, the other id included, and empties what it calls `null` (Loops, API
    /// reference: update a contact). What it does not name stays.
    pub(crate) fn apply(&mut self, fields: ContactFields) {
        if let Some(email) = fields.email {
            self.email = email;
        }
        if let Some(user_id) = fields.user_id {
            self.user_id = Some(user_id);
        }
        if let Some(subscribed) = fields.subscribed {
            self.subscribed = subscribed;
        }
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

    /// The contact as Loops shows it: custom properties at the root, and only those that are set (Loops, API
    /// reference: find a contact).
    pub(crate) fn to_json(&self) -> Value {
        let standard_property = |key: &str, default: Value| self.properties.get(key).cloned().unwrap_or(default);
        let mut contact = Map::new();
        contact.insert("id".to_owned(), json!(self.id));
        contact.insert("email".to_owned(), json!(self.email));
        contact.insert("firstName".to_owned(), standard_property("firstName", Value::Null));
        contact.insert("lastName".to_owned(), standard_property("lastName", Value::Null));
        contact.insert("source".to_owned(), standard_property("source", json!(DEFAULT_SOURCE)));
        contact.insert("subscribed".to_owned(), json!(self.subscribed));
        contact.insert("userGroup".to_owned(), standard_property("userGroup", json!("")));
        contact.insert("userId".to_owned(), json!(self.user_id));
        for (key, value) in self.custom_properties() {
            contact.insert(key.clone(), value.clone());
        }
        let lists: Map<String, Value> = self.lists.iter().map(|list| (list.clone(), Value::Bool(true))).collect();
        contact.insert("mailingLists".to_owned(), Value::Object(lists));
        // Only contacts that came through a form with double opt-in have one.
        contact.insert("optInStatus".to_owned(), Value::Null);
        Value::Object(contact)
    }

    /// The properties that Loops does not bring along.
    pub(crate) fn custom_properties(&self) -> impl Iterator<Item = (&String, &Value)> {
        const STANDARD: [&str; 4] = ["firstName", "lastName", "source", "userGroup"];
        self.properties.iter().filter(|(key, _)| !STANDARD.contains(&key.as_str()))
    }
}

/// An id that looks like Loops' own: 25 lower-case letters and digits that begin with `c`.
fn new_id() -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    std::iter::once('c').chain(random.chars().take(24)).collect()
}
